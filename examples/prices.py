"""A service whose console takes statements in Python: docs/python.rst looks into it and mends it.

    python examples/prices.py
    boxsession connect unix:prices.sock         # in another shell, in the same folder
"""
import argparse
import dataclasses
import signal
import time

import gevent
from gevent.lock import BoundedSemaphore

from boxsession import Console


@dataclasses.dataclass
class Price:
    """What an article costs."""

    article: str
    cents: int
    until: float                # time.time() at which it has to be looked up again


class Prices:
    """Looks up prices, and keeps them for a while."""

    FLAGS = {'discount': False}

    def __init__(self):
        self.cache = {}
        self.lock = BoundedSemaphore()

    def price(self, article):
        """The price of an article in cents, for a request of a customer."""
        found = self.cache.get(article)
        if found is None or found.until < time.time():
            found = self.cache[article] = Price(article, self._look_up(article), time.time() + 60_000)   # meant: 60
        return found.cents * 9 // 10 if self.FLAGS['discount'] else found.cents

    def _look_up(self, article):
        return 100 * len(article)

    def import_prices(self, articles):
        """Takes new prices. It forgets that `price` of another class takes the same lock."""
        with self.lock:
            for article in articles:
                gevent.sleep(0.001)
                self.refresh(article)

    def refresh(self, article):
        """Looks one price up again."""
        with self.lock:
            self.cache[article] = Price(article, self._look_up(article), time.time() + 60)


def customers(prices):
    """Customers who ask for prices."""
    for number in range(1_000_000):
        prices.price(('tea', 'salt', 'pepper')[number % 3])
        gevent.sleep(0.01)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--console', default='unix:prices.sock', metavar='ADDRESS', help='default: %(default)s')
    options = parser.parse_args()
    prices = Prices()
    gevent.spawn(customers, prices)
    gevent.spawn(prices.import_prices, ['tea', 'salt'])
    console = Console(listen=[options.console], languages=['python', 'lua'], namespace={'prices': prices})
    console.start()
    print(f'console on {console.addresses[0]}', flush=True)
    gevent.signal_handler(signal.SIGTERM, console.stop)
    gevent.signal_handler(signal.SIGINT, console.stop)
    console.serve_forever()


if __name__ == '__main__':
    main()
