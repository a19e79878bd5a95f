"""The command line: `boxsession serve` and what belongs to running it. What only one command needs is imported there."""
from __future__ import annotations

import argparse
import gc
import getpass
import os
import signal
import socket
import sys
from dataclasses import replace

from boxsession import config as settings
from boxsession.client import command as client
from boxsession.errors import BoxsessionError, ClientError, ConfigError
from boxsession.version import __version__

__all__ = ['main', 'parser']


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(prog='boxsession', description='A multi-client admin console for gevent programs.')
    top.add_argument('--version', action='version', version=f'boxsession {__version__}')
    commands = top.add_subparsers(dest='command', required=True, metavar='COMMAND')
    serve = commands.add_parser('serve', help='run the console in the foreground')
    serve.add_argument('-c', '--config', metavar='FILE', help='settings (see conf/boxsession.yml); none are needed')
    serve.add_argument('--listen', action='append', metavar='ADDRESS',
                       help='host:port, [v6]:port or unix:PATH, in place of those in FILE; may be given several times '
                            f'(default: {settings.DEFAULT_ADDRESS})')
    serve.add_argument('--no-triggers', action='store_true',
                       help='run no triggers on connect and disconnect, to get in when one of them locks everyone out')
    client.add_parser(commands, settings.DEFAULT_ADDRESS)
    passwd = commands.add_parser('passwd', help="set a user's password in the file that `store` names",
                                 description='Reads the new password from the terminal, or the first line of its input.')
    passwd.add_argument('-c', '--config', metavar='FILE', required=True, help='settings, with a `store`')
    passwd.add_argument('user', metavar='USER')
    check = commands.add_parser('check-config', help='say what is wrong with a config file')
    check.add_argument('file', metavar='FILE')
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs a command; gives the process's exit code."""
    grammar = parser()
    arguments, unknown = grammar.parse_known_args(argv)
    if unknown:
        getattr(arguments, 'error', grammar.error)(f'unrecognized arguments: {" ".join(unknown)}')
    if arguments.command == 'connect':
        return arguments.run(arguments)
    try:
        if arguments.command == 'check-config':
            settings.load(arguments.file)
            return 0
        if arguments.command == 'passwd':
            return _passwd(arguments)
        return _serve(arguments)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
    except BoxsessionError as error:
        print(f'boxsession: {error}', file=sys.stderr)
    return 1


def _serve(arguments) -> int:
    import gevent
    import gevent.event

    from boxsession import logs
    from boxsession.server import Console

    config = settings.load(arguments.config) if arguments.config else settings.read({})
    if arguments.listen:
        config = replace(config, listen=settings.read({'listen': arguments.listen}, '--listen').listen)
    try:
        logs.configure(config)
    except OSError as error:
        raise BoxsessionError(f'cannot open log.file {config["log.file"]}: {error.strerror}') from None
    console = Console(config=config, triggers=not arguments.no_triggers)
    stopping = gevent.event.Event()

    def stop():
        if stopping.is_set():
            os._exit(1)
        stopping.set()

    # Before anything listens: from the first ready line on, a signal finds its handler.
    handlers = [gevent.signal_handler(number, stop) for number in (signal.SIGTERM, signal.SIGINT)]
    handlers.append(gevent.signal_handler(signal.SIGHUP, console.reopen_logs))
    try:
        console.start()
        for listener in console.listeners:
            print(f'listening: {listener.config.protocol} {listener.address}', file=sys.stderr, flush=True)
        _spare_the_collector()
        _notify('READY=1')
        stopping.wait()
        _notify('STOPPING=1')
        console.stop()
    finally:
        for handler in handlers:
            handler.cancel()
    return 0


def _passwd(arguments) -> int:
    from boxsession.store import Store

    config = settings.load(arguments.config)
    if config['store'] is None:
        raise BoxsessionError(f'{arguments.config} names no `store`: the users of a server without one live in its memory')
    if not os.path.exists(config['store']):
        raise BoxsessionError(f'{config["store"]}: there is no such file; the server makes it when it first starts')
    if sys.stdin.isatty():
        password = getpass.getpass(f'New password for {arguments.user}: ')
        if getpass.getpass('Again: ') != password:
            raise BoxsessionError('the two are different: nothing was changed')
    else:
        password = sys.stdin.readline().rstrip('\r\n')
    store = Store(config['store'])
    try:
        store.transact(lambda access: access.set_password(arguments.user, password))
    except ClientError as error:
        raise BoxsessionError(f'no password is kept for {arguments.user}: there is no such user, or it is guest') from error
    finally:
        store.close()
    return 0


def _spare_the_collector() -> None:
    """Sessions leave no cycles worth a stop: Python's full collections, which take long with many sessions, are rare."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(2000, 10, 1000)


def _notify(state: str) -> None:
    """Tells systemd, where it asked for it (sd_notify(3))."""
    path = os.environ.get('NOTIFY_SOCKET')
    if not path:
        return
    if path.startswith('@'):
        path = '\0' + path[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(state.encode(), path)
        except OSError as error:
            print(f'boxsession: cannot notify systemd: {error.strerror}', file=sys.stderr)
