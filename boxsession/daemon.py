"""The process of `boxsession serve`: signals, log, reload, and messages to systemd."""
from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import gevent
import gevent.event
from gevent import getcurrent

from boxsession.base.address import socket_text
from boxsession.base.errors import BoxsessionError, ConfigError
from boxsession.embed import Console
from boxsession.operations import logs
from boxsession.operations.systemd import Heart, Notifier, inherited_sockets
from boxsession.settings.reader import Config, read

__all__ = ['Daemon']

log = logging.getLogger('boxsession')

# What systemd is told if limits.drain_seconds sets no limit, in seconds: a year.
_NO_LIMIT_SECONDS = 365 * 86400
# Seconds that on_disconnect triggers and the cleanup may take after limits.drain_seconds, before systemd kills the process.
_END_SECONDS = 20


class _StoppedAtStart(BaseException):
    """Thrown into the start of the console by a signal."""


class Daemon:
    """`boxsession serve`.

    Args:
        load: reads the settings; called at start and for each reload. None uses the defaults; then SIGHUP only reopens the
            log and audit files.
        triggers: False runs no triggers of box.session.

    Raises:
        BoxsessionError: a setting is wrong, the log cannot be opened, or systemd passed an unusable socket.
    """

    def __init__(self, load: Callable[[], Config] | None, *, triggers: bool = True):
        self._load = load
        self._notifier = Notifier()
        self._stopping = gevent.event.Event()
        self._why = ''                      # the signal that stops it
        self._starting: Any = None          # the greenlet that starts the console, while it does so
        self._reload_wanted = gevent.event.Event()
        inherited = inherited_sockets()
        config = load() if load else _served_by(inherited)
        _open_log(config)
        # If the watchdog aborts the process (SIGABRT), it prints the Python traceback first.
        faulthandler.enable()
        gevent.get_hub().print_exception = _log_exception
        self._console = Console(config=config, triggers=triggers, thread=False,
                                sockets=[entry.sock for entry in inherited])
        self._heart = Heart(self._notifier, self._status)

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains and returns. A second such signal exits at once, with code 1.

        A signal that arrives during the start stops the init script.

        Raises:
            BoxsessionError: as Console.start().
        """
        # Set before anything listens: whoever has read the first `listening:` line may send a signal.
        handlers = [gevent.signal_handler(number, self._stop, number.name) for number in (signal.SIGTERM, signal.SIGINT)]
        handlers.append(gevent.signal_handler(signal.SIGHUP, self._reload_wanted.set))
        handlers.append(gevent.signal_handler(signal.SIGUSR1, self._console.reopen_logs))
        reloader = None
        try:
            if not self._start():
                return
            _spare_the_collector()
            self._notifier.tell('READY=1')
            self._heart.start()
            reloader = gevent.spawn(self._reload_when_wanted)
            self._stopping.wait()
            self._notifier.tell('STOPPING=1')
            drain_seconds = self._console.settings['limits.drain_seconds'] or _NO_LIMIT_SECONDS
            self._notifier.tell(f'EXTEND_TIMEOUT_USEC={int((drain_seconds + _END_SECONDS) * 1e6)}')
            self._console.stop(self._why)
        finally:
            if reloader is not None:
                reloader.kill()
            self._heart.stop()
            for handler in handlers:
                handler.cancel()

    def _start(self) -> bool:
        """Starts the console. False if a signal has stopped it meanwhile."""
        init = self._console.config['init']
        if init:
            self._notifier.tell(f'STATUS=starting: the init script {init} runs')
        self._starting = getcurrent()
        try:
            self._console.start(self._tell_ready)
            return True
        except _StoppedAtStart:
            log.info('stopped: %s came before the start was complete', self._why)
            return False
        except BoxsessionError as error:
            if self._console.config['log.file'] != '-':         # otherwise the command line says it at the same place
                for problem in error.problems if isinstance(error, ConfigError) else [str(error)]:
                    log.error('cannot start: %s', problem)
            raise
        finally:
            self._starting = None

    def _stop(self, name):
        if self._stopping.is_set():
            log.warning('stopped at once: %s came again', name)
            logs.tell_repeated()
            os._exit(1)
        self._why = name
        self._stopping.set()
        if self._starting is not None:
            init = self._console.config['init']
            log.info('stopping: %s came during the start%s. A second signal exits at once', name,
                     f', waiting for the end of the init script {init}, which is cancelled' if init else '')
            gevent.get_hub().loop.run_callback(self._interrupt_start)

    def _interrupt_start(self):
        """In the hub, where the starting greenlet waits."""
        if self._starting is not None:
            self._starting.throw(_StoppedAtStart)

    def _tell_ready(self):
        self._tell_listening([])
        self._tell_metrics(None)

    def _tell_listening(self, before: Sequence):
        for listener in self._console.listeners:
            if listener.address not in before:
                print(f'listening: {listener.config.protocol} {listener.address}', file=sys.stderr, flush=True)

    def _tell_metrics(self, before):
        address = self._console.metrics_address
        if address is not None and address != before:
            print(f'listening: metrics {address}', file=sys.stderr, flush=True)

    def _status(self):
        count = len(self._console.sessions)
        doing = 'stopping' if self._stopping.is_set() else \
            f'listening on {", ".join(map(str, self._console.addresses))}'
        return f'{count} session{"" if count == 1 else "s"}; {doing}'

    # Reload

    def _reload_when_wanted(self):
        """The body of a greenlet. Signals that arrive during a reload cause one more reload after it."""
        while True:
            self._reload_wanted.wait()
            self._reload_wanted.clear()
            self._console.reopen_logs()
            if self._load is not None and not self._stopping.is_set():
                self._reload(self._load)

    def _reload(self, load: Callable[[], Config]) -> None:
        before, metrics = self._console.addresses, self._console.metrics_address
        self._notifier.tell_reloading()
        try:
            self._console.reload(load())
        except BoxsessionError as error:
            for problem in error.problems if isinstance(error, ConfigError) else [str(error)]:
                log.error('%s', problem)
            log.error('reload refused: the settings in force did not change. Correct the problems above and reload again')
        except Exception:
            log.exception('reload failed with an unexpected error')
        else:
            self._tell_listening(before)
            self._tell_metrics(metrics)
        if not self._stopping.is_set():
            self._notifier.tell('READY=1')
        self._heart.beat()


def _served_by(inherited) -> Config:
    """The settings without a config file: a text console on each socket that systemd passed, else the defaults."""
    addresses = [socket_text(entry.sock.getsockname()) for entry in inherited]
    return read({'listen': addresses} if addresses else {}, 'the sockets that systemd passed')


def _open_log(config):
    target = config['log.file']
    try:
        handler = logs.open_handler(target)
    except OSError as error:
        raise BoxsessionError(f'cannot open log.file {target}: {error.strerror}') from None
    logs.use(handler, config['log.level'], config['log.format'])


def _log_exception(context, kind, value, trace):
    """Replaces gevent's report of an exception that no greenlet caught."""
    log.error('unexpected error in %r', context, exc_info=(kind, value, trace))


def _spare_the_collector() -> None:
    """Makes full garbage collections of Python rare: with many sessions they block the event loop for long, and sessions
    leave few reference cycles to collect."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(2000, 10, 1000)
