"""A small gevent web service with a console, which shows its state and changes it.

    python examples/embed.py            # then, in two other shells:
    curl http://127.0.0.1:8080/report/7
    nc 127.0.0.1 3313                   # and type, for example:
        cache.stats()
        cache.forget('7')
        settings.set('ttl_seconds', 5)
        \\warm 1 20                     (\\help warm shows its help)
"""
import argparse
import signal
import time

import gevent
from gevent.pywsgi import WSGIServer

from boxsession import Console


class Cache:
    """A cache of reports by name; each expires after a time. Statements can call its public methods."""

    def __init__(self):
        self._entries = {}
        self._hits = self._misses = 0

    def report(self, name):
        """Returns the report `name`: from the cache, unless it has expired."""
        entry = self._entries.get(name)
        if entry is not None and entry[0] > time.monotonic():
            self._hits += 1
            return entry[1]
        self._misses += 1
        gevent.sleep(0.01)                      # in place of real work, such as a query
        text = f'report {name}\n'
        self._entries[name] = time.monotonic() + settings.get('ttl_seconds'), text
        return text

    def stats(self):
        return {'entries': len(self._entries), 'hits': self._hits, 'misses': self._misses}

    def names(self):
        return sorted(self._entries)

    def forget(self, name=None):
        """Removes one report, or all, and returns how many."""
        names = self.names() if name is None else [name]
        return sum(self._entries.pop(name, None) is not None for name in names)


class Settings:
    """Settings that can be changed while the service runs."""

    def __init__(self, **values):
        self._values = values

    def get(self, name):
        return self._values[name]

    def set(self, name, value):
        if name not in self._values:
            raise KeyError(f'unknown setting {name!r}: expected one of {", ".join(sorted(self._values))}')
        self._values[name] = value


settings = Settings(ttl_seconds=60)
cache = Cache()


def warm(first: int, last: int):
    """Makes the reports of a range of numbers, so that no request has to wait for them."""
    for number in range(first, last + 1):
        cache.report(str(number))
    return cache.stats()


def application(environ, start_response):
    _, _, name = environ['PATH_INFO'].rpartition('/')
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [cache.report(name).encode()]


def main():
    options = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    options.add_argument('--http', type=int, default=8080, help='port of the web service')
    options.add_argument('--console', default='127.0.0.1:3313', help='address of its console')
    arguments = options.parse_args()
    web = WSGIServer(('127.0.0.1', arguments.http), application, log=None)
    web.start()
    console = Console(listen=[arguments.console], expose={'cache': cache, 'settings': settings})
    console.command(warm)
    console.start()
    print(f'web on 127.0.0.1:{web.server_port}, console on {console.addresses[0]}', flush=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, console.stop)
    console.serve_forever()


if __name__ == '__main__':
    main()
