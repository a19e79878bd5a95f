"""The cost of a profile at 100 Hz, and whether its shares are true.

`python benchmarks/profiling.py [--thread]`; with --thread the loop runs in another thread than the main one, where signals
do not work.

Cost: a service that always has work, in turn with and without a profile; work done in a second, medians of the rounds.
Truth: a service with functions of known shares of the time, in turns of 1 and 2 ms; one blocks the loop by time.sleep().
"""
from __future__ import annotations

import statistics
import sys
import threading
import time

import gevent

from boxsession.inspection.sampler import Sampler

ROUNDS, SECONDS, RATE = 60, 0.5, 100
TRUTH_SECONDS = 20
used = {'hot': 0.0, 'cool': 0.0, 'blocks': 0.0}
cpu = dict(used)


def level(depth):
    return sum(range(2000)) if depth == 0 else level(depth - 1)


def work(done):
    """Stacks of 20 calls, turns of about 1 ms."""
    while True:
        for _ in range(40):
            level(20)
        done[0] += 1
        gevent.sleep(0)


def cost():
    done = [0]
    workers = [gevent.spawn(work, done) for _ in range(10)]
    rates, used_by_turn = {False: [], True: []}, {False: [], True: []}
    for number in range(2 * ROUNDS):
        is_on = bool(number % 2)
        sampler = Sampler(SECONDS + 1, RATE) if is_on else None
        began, before, ran = time.monotonic(), done[0], time.process_time()
        gevent.sleep(SECONDS)
        used_by_turn[is_on].append((time.process_time() - ran) / (done[0] - before))
        rates[is_on].append((done[0] - before) / (time.monotonic() - began))
        if sampler is not None:
            sampler.discard()
            while sampler.result is None:
                gevent.sleep(0.01)
    gevent.killall(workers)
    without, with_it = statistics.median(rates[False]), statistics.median(rates[True])
    more = statistics.median(used_by_turn[True]) / statistics.median(used_by_turn[False]) - 1
    pairs = [1 - on / off for off, on in zip(rates[False], rates[True], strict=True)]
    print(f'cost at {RATE} Hz: {100 * (1 - with_it / without):.1f} % '
          f'({without:.0f} turns a second without, {with_it:.0f} with it; median of the pairs '
          f'{100 * statistics.median(pairs):.1f} %; processor time of the process for a turn: {100 * more:+.1f} %)')


def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def hot():
    burn(0.002)


def cool():
    burn(0.001)


def blocks():
    time.sleep(0.005)


def repeat(function, pause):
    while True:
        began, ran = time.monotonic(), time.thread_time()
        function()
        used[function.__name__] += time.monotonic() - began
        cpu[function.__name__] += time.thread_time() - ran
        gevent.sleep(pause)


def ran_in(profile, function):
    """The seconds that ran below a function."""
    return sum(sums.ran for stack, sums in profile._stacks.items() if id(function.__code__) in stack)


def truth():
    for function, pause in (hot, 0.0046), (cool, 0.009), (blocks, 0.045):
        gevent.spawn(repeat, function, pause)
    gevent.sleep(0.2)
    before, ran_before, began = dict(used), dict(cpu), time.monotonic()
    sampler = Sampler(TRUTH_SECONDS, RATE)
    while sampler.result is None:
        sampler.asked = time.monotonic()
        gevent.sleep(0.1)
    seconds = time.monotonic() - began
    shown = {row['function'].partition(':')[2]: row['total_percent'] for row in sampler.result['functions']}
    for function in hot, cool, blocks:
        name = function.__name__
        print(f'{name}: {100 * (used[name] - before[name]) / seconds:.1f} % of the time in truth, {shown.get(name, 0)} % '
              f'in the profile; ran {100 * (cpu[name] - ran_before[name]) / seconds:.1f} % in truth, '
              f'{100 * ran_in(sampler.profile, function) / seconds:.1f} % in the profile')
    print(f'busy: {sampler.result["busy_percent"]} %; idle: {sampler.result["idle_percent"]} %; {sampler.method}')


def main():
    truth()
    cost()


if __name__ == '__main__':
    if '--thread' in sys.argv:
        thread = threading.Thread(target=main)
        thread.start()
        thread.join()
    else:
        main()
