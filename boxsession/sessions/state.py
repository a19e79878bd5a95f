"""The states of a session, and the ways in which it ends. Pure."""
from __future__ import annotations

from enum import Enum

__all__ = ['ASLEEP', 'CLOSED', 'CLOSING', 'ENDS_ANSWERED', 'ENDS_NOW', 'IDLE', 'LIVES', 'NEXT', 'OPENING', 'RUNNING',
           'Ending', 'State', 'Step']


class State(Enum):
    """The activity of a session's greenlet."""

    __hash__ = object.__hash__      # Enum's hash is Python code, and each statement changes the state

    OPENING = 'opening'         # runs the on_connect triggers; the greeting is not sent yet
    IDLE = 'idle'               # waits for input; of a binary session: workers may run requests
    ASLEEP = 'asleep'           # idle for long: it has no greenlet
    RUNNING = 'running'         # runs statements, sends replies, or waits for its turn between two statements
    CLOSING = 'closing'         # runs the on_disconnect triggers; requests of a binary session may still run
    CLOSED = 'closed'           # runs and sends nothing more


class Step(Enum):
    """An event that changes the state."""

    __hash__ = object.__hash__

    WAIT = 'all statements have run'
    INPUT = 'its greenlet resumes: the client has sent something, or the session ends'
    SLEEP = 'its greenlet ends'
    CLOSE = 'the session is over'
    CLOSED = 'its last triggers have run'


class Ending(Enum):
    """The time when a session ends."""

    LIVES = 'not yet'
    ANSWERED = 'after the replies to all statements received'
    NOW = 'at once: it runs nothing more'


OPENING, IDLE, ASLEEP, RUNNING, CLOSING, CLOSED = State
LIVES, ENDS_ANSWERED, ENDS_NOW = Ending

# The steps that are possible in each state, and the next states.
NEXT: dict[State, dict[Step, State]] = {
    OPENING: {Step.WAIT: IDLE, Step.CLOSE: CLOSING},
    IDLE: {Step.INPUT: RUNNING, Step.SLEEP: ASLEEP, Step.CLOSE: CLOSING},
    ASLEEP: {Step.INPUT: RUNNING, Step.CLOSE: CLOSING},
    RUNNING: {Step.WAIT: IDLE, Step.CLOSE: CLOSING},
    CLOSING: {Step.CLOSED: CLOSED},
    CLOSED: {},
}
