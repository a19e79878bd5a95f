"""The grammar of `boxsession connect`, and which driver runs it."""
from __future__ import annotations

import argparse
import sys

from boxsession.client.script import NO_SERVER, WRONG_USAGE, Source, run_script
from boxsession.client.streams import CannotWrite, Ended, end, say, set_up, signals
from boxsession.client.target import PASSWORD_VARIABLE, Target, WrongUsage
from boxsession.protocol.client import MAX_REPLY_BYTES

__all__ = ['WRONG_USAGE', 'add_parser', 'run_connect', 'say', 'wrong_usage']

_EPILOG = ('Exits with 0 when all was well, 1 when a statement ended in an error, 2 when the server could not be reached '
           'or went away, 3 for wrong usage or standard output that cannot be written.')


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 1e9:
        raise ValueError
    return seconds


_seconds.__name__ = 'number of seconds'


def _bytes(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ValueError
    return int(text)


_bytes.__name__ = 'number of bytes'


def add_parser(commands, default_address: str) -> None:
    """Adds `connect` to the command line's commands."""
    connect = commands.add_parser(
        'connect', help='type statements into a console, or send it those of a script', epilog=_EPILOG,
        description='On a terminal, a session for people; with -e, -f or a pipe, for scripts.')
    connect.set_defaults(run=run_connect, error=lambda message: wrong_usage(connect, message))
    connect.error = lambda message: wrong_usage(connect, message)
    connect.add_argument('target', metavar='ADDRESS', nargs='?', default=default_address,
                         help='[USER@]host:port, [USER@][v6]:port or [USER@]unix:PATH (default: %(default)s)')
    script = connect.add_argument_group('scripts')
    script.add_argument('-e', '--execute', dest='statements', action='append', default=[], metavar='STATEMENT',
                        help='a statement to run; may be given several times')
    script.add_argument('-f', '--file', metavar='FILE', help='a file with statements, run after those of -e; - for '
                                                             'standard input')
    script.add_argument('--output', choices=('yaml', 'json', 'lua'), default='yaml',
                        help='how results and errors are shown: a YAML document, or a line of JSON or of Lua, for each '
                             'statement (default: yaml)')
    script.add_argument('--raw', action='store_true',
                        help='show each value on a line of its own, strings bare, all else as JSON; errors go to standard '
                             'error only')
    script.add_argument('--keep-going', action='store_true', help='go on after a statement that ended in an error')
    script.add_argument('--timeout', type=_seconds, metavar='SECONDS',
                        help='how long all of it may take; then the running statement is cancelled')
    connect.add_argument('--max-reply', type=_bytes, metavar='BYTES', default=MAX_REPLY_BYTES,
                         help='the longest reply that is taken, in bytes; a longer one ends the session; 0 for no limit '
                              '(default: %(default)s)')
    access = connect.add_argument_group('login and TLS')
    access.add_argument('--password-file', metavar='FILE',
                        help=f"USER's password: its first line (or the variable {PASSWORD_VARIABLE}; asked for on a "
                             'terminal)')
    access.add_argument('--insecure', action='store_true',
                        help='send a password also where others could read it on its way')
    access.add_argument('--tls', action='store_true', help='connect by TLS; the other TLS options imply it')
    access.add_argument('--ca', metavar='FILE', help="who has to have signed the server's certificate (default: whom the "
                                                     'system trusts)')
    access.add_argument('--cert', metavar='FILE', help='a client certificate')
    access.add_argument('--key', metavar='FILE', help='its key, where that is not in the same file')
    access.add_argument('--no-verify', action='store_true', help="trust any server's certificate")
    people = connect.add_argument_group('people')
    people.add_argument('--plain', action='store_true', help='a plain line to type in, without colours and menus')


def wrong_usage(parser: argparse.ArgumentParser, message: str) -> None:
    """Says what is wrong, and exits."""
    parser.print_usage(sys.stderr)
    parser.exit(WRONG_USAGE, f'boxsession: {message}\n')


def run_connect(arguments: argparse.Namespace) -> int:
    """Runs the command; gives the exit code."""
    set_up()
    try:
        with signals(end):
            return _run(arguments)
    except WrongUsage as error:
        say(f'boxsession: {error}')
        return WRONG_USAGE
    except MemoryError:
        say('boxsession: there is not enough memory for what the server sends (see --max-reply)')
        return NO_SERVER
    except CannotWrite as error:
        say(f'boxsession: {error}')
        return WRONG_USAGE
    except Ended as error:
        return error.code
    except KeyboardInterrupt:
        return 130


def _run(arguments) -> int:
    target = Target.parse(arguments.target)
    if arguments.key and not arguments.cert:
        raise WrongUsage('--key needs --cert')
    if arguments.tls or arguments.ca or arguments.cert or arguments.no_verify:
        target.use_tls(arguments.ca, arguments.cert, arguments.key, verify=not arguments.no_verify)
    target.insecure, target.max_reply = arguments.insecure, arguments.max_reply
    sources = [Source('' if len(arguments.statements) == 1 and not arguments.file else f'-e {number}', statement)
               for number, statement in enumerate(arguments.statements, 1)]
    if arguments.file is not None:
        sources.append(Source('' if arguments.file == '-' else arguments.file, path=arguments.file))
    is_terminal = not sources and sys.stdin.isatty() and sys.stdout.isatty()
    target.find_password(arguments.password_file)
    if is_terminal:
        from boxsession.client.terminal import run_terminal

        return run_terminal(target, form=arguments.output, plain=arguments.plain)
    return run_script(target, sources or [Source('')], form='raw' if arguments.raw else arguments.output,
                      keep_going=arguments.keep_going, timeout=arguments.timeout)
