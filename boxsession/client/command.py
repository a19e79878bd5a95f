"""The options of `boxsession connect`, and the choice between an interactive session and a script."""
from __future__ import annotations

import argparse
import sys

from boxsession.client.script import NO_SERVER, WRONG_USAGE, Source, run_script
from boxsession.client.streams import CannotWrite, Ended, end, say, set_up, signals
from boxsession.client.target import PASSWORD_VARIABLE, Target, WrongUsage
from boxsession.protocol.client import MAX_REPLY_BYTES

__all__ = ['WRONG_USAGE', 'add_parser', 'run_connect', 'say', 'wrong_usage']

_EPILOG = ('Exit codes: 0 if all statements succeeded; 1 if a statement ended in an error; 2 if there was no session, the '
           'connection was lost or --timeout was over; 3 for wrong usage, or if standard output cannot be written.')


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
    """Adds `connect` to the subcommands."""
    connect = commands.add_parser(
        'connect', help='connect to a console, to type statements or to run those of a script', epilog=_EPILOG,
        description='On a terminal, and without -e and -f, it opens an interactive session. Otherwise it runs the '
                    'statements of -e and -f, or of standard input, and exits.')
    connect.set_defaults(run=run_connect, error=lambda message: wrong_usage(connect, message))
    connect.error = lambda message: wrong_usage(connect, message)
    connect.add_argument('target', metavar='ADDRESS', nargs='?', default=default_address,
                         help='[USER@]host:port, [USER@][v6]:port or [USER@]unix:PATH; without a port, 3313 '
                              '(default: %(default)s)')
    script = connect.add_argument_group('scripts')
    script.add_argument('-e', '--execute', dest='statements', action='append', default=[], metavar='STATEMENT',
                        help='statement to run; may be given several times')
    script.add_argument('-f', '--file', metavar='FILE', help='file with statements, which run after those of -e; - is '
                                                             'standard input')
    script.add_argument('--output', choices=('yaml', 'json', 'lua'), default='yaml',
                        help='how the result or error of each statement is shown: as a YAML document, a line of JSON, or a '
                             'line of Lua (default: yaml)')
    script.add_argument('--raw', action='store_true',
                        help='show each value on its own line: strings as they are, other values as JSON; errors go only '
                             'to standard error')
    connect.add_argument('-l', '--language', choices=('lua', 'python'),
                         help='language of the statements (default: that in which the session begins)')
    script.add_argument('--keep-going', action='store_true', help='continue after a statement that ended in an error')
    script.add_argument('--timeout', type=_seconds, metavar='SECONDS',
                        help='time limit for the whole run, connecting included; then the running statement is cancelled')
    connect.add_argument('--max-reply', type=_bytes, metavar='BYTES', default=MAX_REPLY_BYTES,
                         help='longest reply that is accepted, in bytes; a longer one ends the session; 0 for no limit '
                              '(default: %(default)s)')
    access = connect.add_argument_group('login and TLS')
    access.add_argument('--password-file', metavar='FILE',
                        help="file with USER's password in its first line. Without it, the environment variable "
                             f'{PASSWORD_VARIABLE} is used; if that is not set, the password is asked for on the terminal')
    access.add_argument('--insecure', action='store_true',
                        help='send a password even if others can read it on the network')
    access.add_argument('--tls', action='store_true', help='use TLS; the other TLS options imply it')
    access.add_argument('--ca', metavar='FILE', help='certificates of the CAs that may have signed the certificate of the '
                                                     'server (default: those that the system trusts)')
    access.add_argument('--cert', metavar='FILE', help='client certificate')
    access.add_argument('--key', metavar='FILE', help='private key of the client certificate, if it is in another file')
    access.add_argument('--no-verify', action='store_true', help='accept any certificate of the server')
    people = connect.add_argument_group('interactive sessions')
    people.add_argument('--plain', action='store_true', help='edit lines with readline, without colours and menus')


def wrong_usage(parser: argparse.ArgumentParser, message: str) -> None:
    """Prints the usage and what is wrong, and exits."""
    parser.print_usage(sys.stderr)
    parser.exit(WRONG_USAGE, f'boxsession: {message}\n')


def run_connect(arguments: argparse.Namespace) -> int:
    """Runs the command and returns the exit code."""
    set_up()
    try:
        with signals(end):
            return _run(arguments)
    except WrongUsage as error:
        say(f'boxsession: {error}')
        return WRONG_USAGE
    except MemoryError:
        say('boxsession: not enough memory for the reply of the server; --max-reply BYTES limits replies')
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
        raise WrongUsage('--key needs --cert FILE, the certificate of this key')
    if arguments.tls or arguments.ca or arguments.cert or arguments.no_verify:
        target.use_tls(arguments.ca, arguments.cert, arguments.key, verify=not arguments.no_verify)
    target.insecure, target.max_reply, target.language = arguments.insecure, arguments.max_reply, arguments.language
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
