"""Messages for input of the text console that is not run."""
from __future__ import annotations

from boxsession.protocol.text import Cancelled, Foreign, TooLong, Unfinished

__all__ = ['problem_of', 'refusal_of']


def problem_of(event: TooLong | Unfinished | Cancelled) -> str:
    """The error text for a statement that is not run."""
    if isinstance(event, TooLong):
        return f'the statement is too long: more than {event.limit} bytes (limits.statement_bytes)'
    if isinstance(event, Unfinished):
        text = event.text[:80].decode(errors='backslashreplace')
        return f'the input ended inside a statement, which was not run: {text}'
    return 'the statement was cancelled'


def refusal_of(event: Foreign) -> tuple[str, str]:
    """Two texts for a line of another protocol: a description of it for the log, and the error for the client."""
    if event.limit:
        return (f'a first line of more than {event.limit} bytes (limits.statement_bytes)',
                f'the statement is too long: more than {event.limit} bytes (limits.statement_bytes); '
                'a first statement that is too long ends the session')
    if event.protocol:
        return event.protocol, f'this is no {event.protocol} server'
    return 'a line of another protocol', 'this is a console: it speaks no other protocol'
