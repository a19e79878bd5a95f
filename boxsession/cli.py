"""The command line: `boxsession serve` and what belongs to running it. What only one command needs is imported there."""
from __future__ import annotations

import argparse
import errno
import os
import sys
from dataclasses import replace

from boxsession.base.errors import BoxsessionError, ClientError, ConfigError
from boxsession.base.version import __version__
from boxsession.client import command as client
from boxsession.client.target import ask_password, password_line
from boxsession.settings import reader, table

__all__ = ['main', 'parser']


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(prog='boxsession', description='A multi-client admin console for gevent programs.')
    top.add_argument('--version', action='version', version=f'boxsession {__version__}',
                     help='tell the version')
    commands = top.add_subparsers(dest='command', required=True, metavar='COMMAND')
    serve = commands.add_parser('serve', help='run the console in the foreground')
    serve.add_argument('-c', '--config', metavar='FILE', help='settings (see conf/boxsession.yml); none are needed')
    serve.add_argument('--listen', action='append', metavar='ADDRESS',
                       help='host:port, [v6]:port or unix:PATH, in place of those in FILE; may be given several times '
                            f'(default: {table.DEFAULT_ADDRESS})')
    serve.add_argument('--no-triggers', action='store_true',
                       help='run no triggers on connect and disconnect, to get in when one of them locks everyone out')
    client.add_parser(commands, table.DEFAULT_ADDRESS)
    passwd = commands.add_parser('passwd', help="set a user's password in the file that `store` names",
                                 description='Reads the new password from the terminal, or the first line of its input.')
    passwd.add_argument('-c', '--config', metavar='FILE', required=True, help='settings, with a `store`')
    passwd.add_argument('user', metavar='USER', help='whose password')
    check = commands.add_parser('check-config', help='say what is wrong with a config file')
    check.add_argument('file', metavar='FILE', help='settings (see conf/boxsession.yml)')
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs a command; gives the process's exit code."""
    had_output = sys.stdout is not None
    _open_standard_streams()
    try:
        code = _run(argv, had_output)
    except SystemExit as leaving:       # argparse's
        code = leaving.code if isinstance(leaving.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    return code if _flush() or code else client.WRONG_USAGE


def _open_standard_streams() -> None:
    """Those that are closed lead to /dev/null: the next file or socket would become standard output otherwise."""
    for number, (name, mode) in enumerate((('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w'))):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)          # the lowest that is free, which is this one
                os.set_inheritable(number, True)
                setattr(sys, name, open(number, mode, closefd=False))
            else:                                       # a file that was opened meanwhile
                setattr(sys, name, open(os.devnull, mode))


def _flush() -> bool:
    """Writes what --help and the like have left in the buffers; False where they take no more, which is told."""
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
        getattr(arguments, 'error', grammar.error)(f'unrecognized arguments: {" ".join(unknown)}')
    if arguments.command == 'connect':
        if not had_output:
            client.say('boxsession: standard output is closed: there is nowhere to show results')
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
    from boxsession.check import problems

    found = problems(reader.load(arguments.file), arguments.file)
    if found:
        raise ConfigError(found)
    return 0


def _passwd(arguments) -> int:
    from boxsession.users.access import ADMIN
    from boxsession.users.schema import Schema
    from boxsession.users.store import Store

    config = reader.load(arguments.config)
    if config['store'] is None:
        raise BoxsessionError(f'{arguments.config} names no `store`: the users of a server without one live in its memory')
    if not os.path.exists(config['store']):
        raise BoxsessionError(f'{config["store"]}: there is no such file; the server makes it when it first starts')
    if sys.stdin.isatty():
        password = ask_password(f'New password for {arguments.user}: ')
        if ask_password('Again: ') != password:
            raise BoxsessionError('the two are different: nothing was changed')
    else:
        try:
            password = password_line(sys.stdin.buffer)
        except ValueError as error:
            raise BoxsessionError(f'standard input: {error}') from None
    store = Store(config['store'])
    try:
        store.transact(lambda access: Schema(access, ADMIN).user_passwd(arguments.user, password))
    except ClientError as error:
        raise BoxsessionError(f'no password is kept for {arguments.user}: there is no such user, or it is guest') from error
    finally:
        store.close()
    return 0
