"""The table of session states, without a session."""
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from boxsession.sessions.state import ASLEEP, CLOSED, CLOSING, IDLE, NEXT, OPENING, RUNNING, State, Step


def test_each_state_has_its_row():
    assert set(State) == set(NEXT)


@given(st.lists(st.randoms(), max_size=30))
def test_whatever_comes_a_session_can_end_once(choices):
    """From each state that is reached: it is closed by two steps or less, and by nothing it comes back."""
    state, closings = OPENING, 0
    for random in choices:
        if not NEXT[state]:
            break
        step = random.choice(sorted(NEXT[state], key=lambda step: step.name))
        state = NEXT[state][step]
        closings += state is CLOSING
    assert closings == (state in (CLOSING, CLOSED))
    if state not in (CLOSING, CLOSED):
        state = NEXT[state][Step.CLOSE]
    assert state is CLOSED or NEXT[state] == {Step.CLOSED: CLOSED}


def test_only_who_waits_is_given_input_and_only_who_waits_awake_falls_asleep():
    assert {IDLE, ASLEEP} == {state for state, row in NEXT.items() if Step.INPUT in row}
    assert {IDLE} == {state for state, row in NEXT.items() if Step.SLEEP in row}
    assert all(row[Step.INPUT] is RUNNING for row in NEXT.values() if Step.INPUT in row)
