"""The command line: `boxsession` and its subcommands. Each subcommand imports the modules that only it needs."""
from __future__ import annotations

import argparse
import errno
import os
import sys
from dataclasses import replace

from boxsession.base.errors import BoxsessionError, ConfigError, printable
from boxsession.base.version import __version__
from boxsession.client import command as client
from boxsession.client.target import ask_password, password_line
from boxsession.settings import reader, table

__all__ = ['main', 'parser']


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    top = argparse.ArgumentParser(prog='boxsession', description='A multi-client admin console for gevent programs.')
    top.add_argument('--version', action='version', version=f'boxsession {__version__}',
                     help='show the version and exit')
    commands = top.add_subparsers(dest='command', required=True, metavar='COMMAND')
    serve = commands.add_parser('serve', help='run the console in the foreground')
    serve.set_defaults(error=serve.error)
    serve.add_argument('-c', '--config', metavar='FILE',
                       help='config file (example: conf/boxsession.yml); without one, every setting has its default')
    serve.add_argument('--listen', action='append', metavar='ADDRESS',
                       help='address to listen on: host:port, [v6]:port or unix:PATH. Replaces `listen` of FILE; may be '
                            f'given several times (default: {table.DEFAULT_ADDRESS})')
    serve.add_argument('--no-triggers', action='store_true',
                       help='run no triggers of box.session: the way in if a trigger locks everyone out')
    client.add_parser(commands, table.DEFAULT_ADDRESS)
    _add_passwd(commands)
    check = commands.add_parser('check-config', help='check a config file, and print each problem with its line')
    check.set_defaults(error=check.error)
    check.add_argument('file', metavar='FILE', help='config file (example: conf/boxsession.yml)')
    return top


def _add_passwd(commands) -> None:
    passwd = commands.add_parser(
        'passwd', help="set a user's password, or create a user, in the file that the setting `store` names",
        description='Asks for the new password on the terminal. If standard input is no terminal, its first line is the '
                    'password. Works while the server runs, too.',
        epilog='The first admin: boxsession passwd -c FILE --create --grant super USER')
    passwd.set_defaults(error=passwd.error)
    passwd.add_argument('-c', '--config', metavar='FILE', required=True, help='config file; it must set `store`')
    passwd.add_argument('--create', action='store_true', help='create the user, and the store, if they do not exist')
    passwd.add_argument('--grant', action='append', default=[], metavar='NAME',
                        help='grant a role (super for all rights), or privileges on universe (execute; read,write); may be '
                             'given several times')
    passwd.add_argument('--no-password', action='store_true',
                        help='leave the password as it is: for users whom `peers` or `user` of a listener names')
    passwd.add_argument('user', metavar='USER', help='the user')


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns the exit code of the process."""
    had_output = sys.stdout is not None
    _open_standard_streams()
    try:
        code = _run(argv, had_output)
    except SystemExit as leaving:       # raised by argparse
        code = leaving.code if isinstance(leaving.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    return code if _flush() or code else client.WRONG_USAGE


def _right_form(command, unknown) -> str:
    """What an unknown argument probably means, and how that is written."""
    option, value = unknown[0].partition('=')[0], unknown[0]
    names_address = option in ('-p', '--port', '--host', '--address', '--addr', '--bind', '-b', '-l', '--socket')
    if command == 'serve' and (value.endswith(('.yml', '.yaml')) or os.path.isfile(value)):
        return '. A config file is named by -c FILE'
    if command == 'serve' and (names_address or not value.startswith('-')):
        return f'. An address is named by --listen ADDRESS, as in --listen {table.DEFAULT_ADDRESS} or --listen unix:PATH'
    if command == 'connect' and (names_address or value.isdecimal()):
        return f'. The address is one argument, as in {table.DEFAULT_ADDRESS} or unix:PATH'
    if command == 'check-config':
        return '. The file is the only argument: boxsession check-config FILE'
    if command == 'passwd' and not names_address:
        return '. The password is asked for on the terminal, or is the first line of standard input'
    return ''


def _open_standard_streams() -> None:
    """Opens /dev/null for each closed standard stream. Otherwise the next file or socket would become standard output."""
    for number, (name, mode) in enumerate((('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w'))):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)          # gets the lowest free descriptor: `number`
                os.set_inheritable(number, True)
                setattr(sys, name, open(number, mode, closefd=False))
            else:                                       # another file has this descriptor since the start
                setattr(sys, name, open(os.devnull, mode))


def _flush() -> bool:
    """Flushes standard output (of --help, for example). On failure prints an error and returns False.

    A broken pipe is no failure.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            client.say(f'boxsession: cannot write: {error.strerror}')
            return False
    return True


def _run(argv, had_output) -> int:
    grammar = parser()
    arguments, unknown = grammar.parse_known_args(argv)
    if unknown:
        arguments.error(f'unrecognized arguments: {printable(" ".join(unknown))}{_right_form(arguments.command, unknown)}')
    if arguments.command == 'connect':
        if not had_output:
            client.say('boxsession: standard output is closed, so results cannot be shown: open it, or redirect it to a '
                       'file')
            return client.WRONG_USAGE
        return arguments.run(arguments)
    try:
        if arguments.command == 'check-config':
            return _check(arguments)
        if arguments.command == 'passwd':
            return _passwd(arguments)
        return _serve(arguments)
    except ConfigError as error:
        for problem in error.problems:
            client.say(problem)
    except BoxsessionError as error:
        client.say(f'boxsession: {error}')
    return 1


def _serve(arguments) -> int:
    from boxsession.daemon import Daemon

    def load():
        config = reader.load(arguments.config) if arguments.config else reader.read({})
        if arguments.listen:
            config = replace(config, listen=reader.read({'listen': arguments.listen}, '--listen').listen)
        return config

    Daemon(load if arguments.config or arguments.listen else None, triggers=not arguments.no_triggers).run()
    return 0


def _check(arguments) -> int:
    from boxsession.check import file_problems

    found = file_problems(arguments.file)
    if found:
        raise ConfigError(found)
    return 0


def _passwd(arguments) -> int:
    from boxsession.users.passwd import set_user

    config = reader.load(arguments.config)
    if config['store'] is None:
        raise BoxsessionError(f'{arguments.config} does not set `store`: without it users exist only in the memory of the '
                              'server. Set `store` to a file, or change the password in a session with '
                              'box.schema.user.passwd()')
    if not arguments.create and not os.path.exists(config['store']):
        raise BoxsessionError(f'{config["store"]}: no such file. The server creates it at its first start: start it once, '
                              'or use --create')
    password = None if arguments.no_password else _new_password(arguments.user)
    set_user(config['store'], arguments.user, password, create=arguments.create, grants=arguments.grant)
    return 0


def _new_password(user) -> str:
    if not sys.stdin.isatty():
        try:
            return password_line(sys.stdin.buffer)
        except ValueError as error:
            raise BoxsessionError(f'standard input: {error}') from None
    password = ask_password(f'New password for {printable(user)}: ')
    if ask_password('Again: ') != password:
        raise BoxsessionError('the two passwords differ: nothing was changed')
    return password
