r"""`\threads`: threads of Python and of C, with odd names, also in a patched program."""
from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading

import gevent
import pytest
from gevent import monkey
from waiting import wait_for

from boxsession.inspection import threads


@pytest.fixture
def thread():
    """A thread that waits."""
    event = threading.Event()
    made = threading.Thread(target=event.wait, name='a worker', daemon=True)
    made.start()
    yield made
    event.set()
    made.join()


def listed():
    """Of the calling thread."""
    return threads.listed(monkey.get_original('_thread', 'get_ident')(), monkey.get_original('_thread', 'get_native_id')())


def row_of(rows, thread):
    row, = (row for row in rows if row['native_id'] == thread.native_id)
    return row


def test_the_loop_comes_first(console, connect, thread):
    found = connect(console()).values('\\threads')[0]
    assert found[0]['is_loop'] and any('inspection' in call for call in found[0]['stack'])
    assert ('MainThread', os.getpid()) == (found[0]['name'], found[0]['native_id'])
    row = row_of(found, thread)
    assert 'a worker' == row['name'] and row['is_daemon'] and any('wait' in call for call in row['stack'])


class Name(str):
    """Its code must not run."""

    def __str__(self):
        raise AssertionError('__str__ was called')

    __repr__ = __len__ = __getitem__ = __hash__ = __str__


class Odd:
    def __str__(self):
        raise AssertionError('__str__ was called')

    __repr__ = __len__ = __str__


@pytest.mark.parametrize(('name', 'shown'), [
    (Odd, '.Odd>'), (lambda: Name('x'), '.Name>'), (lambda: None, 'None'), (lambda: 'x' * 500, 'x' * 100),
    (lambda: 5, '5')])
def test_odd_names(thread, name, shown):
    thread._name = name()
    try:
        assert row_of(listed(), thread)['name'].endswith(shown)
    finally:
        thread._name = 'a worker'


def test_odd_names_are_answered(console, connect, thread):
    client = connect(console())
    try:
        for name in (Odd(), '\x1b[2J\n', '\ud800', 'é'):
            thread._name = name
            assert client.values('\\threads')[0][0]['is_loop']
    finally:
        thread._name = 'a worker'


def test_a_class_of_the_program_with_a_property(thread):
    class Worker(threading.Thread):
        @property
        def name(self):
            raise AssertionError('name was asked')

        native_id = daemon = name

    native_id = thread.native_id
    thread.__class__ = Worker
    try:
        row, = (row for row in listed() if row['native_id'] == native_id)
        assert 'a worker' == row['name']
    finally:
        thread.__class__ = threading.Thread


def test_a_thread_of_c_that_calls_python():
    """It belongs to no Thread object."""
    lock, libc = monkey.get_original('_thread', 'allocate_lock')(), ctypes.CDLL(None)
    entered = []

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    def body(_):
        entered.append(1)
        with lock:
            pass
    number = ctypes.c_ulong()
    with lock:
        assert 0 == libc.pthread_create(ctypes.byref(number), None, body, None)
        wait_for(lambda: entered)
        row, = (row for row in listed() if any(call.endswith('body') for call in row['stack']))
        assert ('', None) == (row['name'], row['native_id'])
    libc.pthread_join(number, None)


def test_a_thread_of_c():
    """It has never run Python: the system knows it."""
    libc = ctypes.CDLL(None)
    before = {row['native_id'] for row in listed()}
    number = ctypes.c_ulong()
    semaphore = ctypes.create_string_buffer(64)
    assert 0 == libc.sem_init(semaphore, 0, 0)
    body = ctypes.cast(libc.sem_wait, ctypes.c_void_p)
    assert 0 == libc.pthread_create(ctypes.byref(number), None, body, semaphore)
    try:
        row, = (row for row in listed() if row['native_id'] not in before)
        assert (None, []) == (row['id'], row['stack']) and row['name']
    finally:
        libc.sem_post(semaphore)
        libc.pthread_join(number, None)


PATCHED = """
from gevent import monkey
monkey.patch_all()
import os
import threading
import gevent
from boxsession.inspection import threads
threading.Thread(target=gevent.sleep, args=(100,), daemon=True).start()
gevent.get_hub().threadpool.spawn(lambda: monkey.get_original('time', 'sleep')(100))
gevent.sleep(0.01)
rows = threads.listed(monkey.get_original('_thread', 'get_ident')(), os.getpid())
assert rows[0]['is_loop'] and rows[0]['name'] == 'MainThread', rows
assert 1 == sum(row['is_loop'] for row in rows), rows
assert any('threadpool' in call for row in rows[1:] for call in row['stack']), rows
print('done', flush=True)
os._exit(0)
"""


def test_in_a_patched_program():
    done = subprocess.run([sys.executable, '-c', PATCHED], capture_output=True, text=True, timeout=30)
    assert 'done\n' == done.stdout, done.stderr


def test_of_very_many_threads_of_the_system_some_are_listed(monkeypatch):
    real = os.listdir
    monkeypatch.setattr(os, 'listdir', lambda path: [str(os.getpid())] * 500 if 'task' in path else real(path))
    assert 200 == len(threads._of_system(set()))


def test_in_another_thread_than_the_main_one():
    found = gevent.get_hub().threadpool.apply(listed)
    assert found[0]['is_loop'] and found[0]['native_id'] != os.getpid() and 'MainThread' != found[0]['name']
