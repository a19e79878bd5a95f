"""A service with faults, to look for with the console: memory that grows, greenlets that wait for each other, and a
function that holds the event loop. docs/worst_night.rst finds each.

    python examples/troubled.py
    boxsession connect unix:shop.sock           # in another shell, in the same folder
    boxsession connect unix:rescue.sock         # answers while the event loop is held, too
"""
import argparse
import itertools
import logging
import random
import signal

import gevent
from gevent.lock import BoundedSemaphore

from boxsession import Console

log = logging.getLogger('shop.orders')
numbers = itertools.count(1)


class Order:
    """One order of a customer."""

    def __init__(self, number, article):
        self.number = number
        self.article = article
        self.note = f'order {number} of {article} ' * 20


class Shop:
    """Takes orders. The stock and the till each have a lock."""

    def __init__(self):
        self.history = []                       # nobody ever removes anything
        self.stock_lock = BoundedSemaphore()
        self.till_lock = BoundedSemaphore()

    def order(self, article):
        """One request of a customer: takes the article, then the money."""
        order = Order(next(numbers), article)
        with self.stock_lock:
            gevent.sleep(0.001)
            with self.till_lock:
                gevent.sleep(0.001)
        self.history.append(order)
        log.debug('order %d is done', order.number)

    def refund(self, article):
        """Gives the money back, then the article: the locks in the other order."""
        with self.till_lock:
            gevent.sleep(0.002)
            with self.stock_lock:
                log.info('%s is refunded', article)

    def report(self):
        """Adds up the sales, page by page. It never finds the last page, and never waits for anything."""
        total = page = 0
        while page is not None:
            total += len(self.history[page * 50:page * 50 + 50])
            page += 1
        return total


shop = Shop()


def customers(each_second):
    """Sends requests, each in its own greenlet."""
    while True:
        gevent.spawn(shop.order, random.choice(['tea', 'milk', 'sugar']))
        gevent.sleep(1 / each_second)


def complaints(after):
    """Customers who want their money back."""
    gevent.sleep(after)
    while True:
        gevent.spawn(shop.refund, 'tea')
        gevent.sleep(0.05)


def main():
    options = argparse.ArgumentParser(description=__doc__.partition(':')[0])
    options.add_argument('--each-second', type=float, default=100, help='requests in each second')
    options.add_argument('--refunds-after', type=float, default=60, help='seconds until the first refund')
    arguments = options.parse_args()
    logging.basicConfig(level=logging.WARNING, format='%(asctime)s %(levelname)s %(name)s: %(message)s')
    console = Console(['unix:shop.sock', {'address': 'unix:rescue.sock', 'protocol': 'rescue'}], expose={'shop': shop})
    console.start()
    print('console on unix:shop.sock, rescue listener on unix:rescue.sock', flush=True)
    gevent.spawn(customers, arguments.each_second)
    gevent.spawn(complaints, arguments.refunds_after)
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, console.stop)
    console.serve_forever()


if __name__ == '__main__':
    main()
