"""What a session's greenlet does, and how the session ends. Pure."""
from __future__ import annotations

from enum import Enum

__all__ = ['ASLEEP', 'CLOSED', 'CLOSING', 'ENDS_ANSWERED', 'ENDS_NOW', 'IDLE', 'LIVES', 'NEXT', 'OPENING', 'RUNNING',
           'Ending', 'State', 'Step']


class State(Enum):
    """What a session's greenlet does."""

    __hash__ = object.__hash__      # Enum's is Python code, and each statement comes by here

    OPENING = 'opening'         # runs the on_connect triggers; the greeting is not out
    IDLE = 'idle'               # waits until its client sends; of binary sessions, while workers run the requests
    ASLEEP = 'asleep'           # idle for long, and has no greenlet
    RUNNING = 'running'         # runs what has come, sends replies, or waits for its turn between two statements
    CLOSING = 'closing'         # runs the on_disconnect triggers
    CLOSED = 'closed'           # nothing is run or sent any more


class Step(Enum):
    """What changes the state."""

    __hash__ = object.__hash__

    WAIT = 'there is nothing left to run'
    INPUT = 'its greenlet goes on: the client has sent something, or the session ends'
    SLEEP = 'its greenlet ends'
    CLOSE = 'it is over'
    CLOSED = 'its last triggers have run'


class Ending(Enum):
    """When a session ends."""

    LIVES = 'not yet'
    ANSWERED = 'as soon as everything that has come is answered'
    NOW = 'at once: it runs nothing more'


OPENING, IDLE, ASLEEP, RUNNING, CLOSING, CLOSED = State
LIVES, ENDS_ANSWERED, ENDS_NOW = Ending

# What follows a state. A step that is not here cannot come then.
NEXT: dict[State, dict[Step, State]] = {
    OPENING: {Step.WAIT: IDLE, Step.CLOSE: CLOSING},
    IDLE: {Step.INPUT: RUNNING, Step.SLEEP: ASLEEP, Step.CLOSE: CLOSING},
    ASLEEP: {Step.INPUT: RUNNING, Step.CLOSE: CLOSING},
    RUNNING: {Step.WAIT: IDLE, Step.CLOSE: CLOSING},
    CLOSING: {Step.CLOSED: CLOSED},
    CLOSED: {},
}
