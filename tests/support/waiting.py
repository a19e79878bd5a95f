"""Waiting for a state that another greenlet, thread or process brings about."""
from __future__ import annotations

import gevent
from text_client import Client

SECONDS = 30
_POLL_SECONDS = 0.005


def wait_for(condition, seconds=SECONDS, what=None):
    """Calls condition() again and again until its result is true; returns that result.

    Args:
        condition: a function without arguments. It may ask a server, or switch in another way.
        seconds: only keeps a failing test from hanging. No test may depend on how long something takes.
        what: a function without arguments that describes what did not come, for the error.

    Raises:
        AssertionError: the condition was not true in time.
    """
    late = gevent.Timeout(seconds)
    with late:
        try:
            while not (found := condition()):
                gevent.sleep(_POLL_SECONDS)
            return found
        except gevent.Timeout as error:
            if error is not late:
                raise
    raise AssertionError(f'not within {seconds} s: {what() if what else "what was waited for"}')


def running(console):
    """The connections of a console of this process on which a statement or a request runs."""
    return [connection for connection in console.connections() if connection.describe()['state'] == 'running']


def asleep(console):
    """The connections of a console of this process that have no greenlet, since they were idle for long."""
    return [connection for connection in console.connections() if connection.greenlet is None]


def connected(path, process=None):
    """A client of the unix socket at `path`, as soon as `process` listens there: its file is there a moment earlier."""
    def connect():
        assert process is None or process.poll() is None, 'the process has ended'
        try:
            return Client(f'unix:{path}')
        except (FileNotFoundError, ConnectionRefusedError):
            return None

    return wait_for(connect)
