"""boxsession/base/stacks.py: a stack that was read leaves nothing behind."""
from __future__ import annotations

import gc
import threading
import weakref

from boxsession.base.stacks import DEPTH, frames_of_thread


class Thing:
    pass


def read_and_drop():
    thing = Thing()
    assert frames_of_thread(threading.get_ident())
    return weakref.ref(thing)


def test_the_own_stack_is_not_kept_in_a_cycle():
    gc.disable()
    try:
        assert read_and_drop()() is None
    finally:
        gc.enable()


def test_a_deep_stack_is_cut():
    def deeper(count):
        return deeper(count - 1) if count else len(frames_of_thread(threading.get_ident()))

    assert DEPTH == deeper(DEPTH + 50)


def test_a_thread_that_does_not_exist_has_no_frames():
    assert [] == frames_of_thread(-1)
