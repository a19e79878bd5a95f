"""Tracebacks of the exceptions of users' and the program's code."""
from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from boxsession.base.errors import Stopped, type_name

__all__ = ['of_others', 'traceback_text']

_PACKAGE = str(Path(__file__).resolve().parent.parent)
# Of a deeper stack, only the last frames are shown.
_FRAMES = 30


def of_others(found: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of this package at its beginning."""
    while found is not None and found.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        found = found.tb_next
    return found


def traceback_text(error: BaseException) -> str:
    """The traceback of an exception, without the frames of this package."""
    try:
        found = of_others(error.__traceback__)
        told = traceback.TracebackException(type(error), error, found, limit=-_FRAMES, compact=True)
        told.stack = traceback.StackSummary.from_list([
            frame for frame in told.stack if not frame.filename.startswith(_PACKAGE)])
        return ''.join(told.format())
    except Stopped:
        raise
    except BaseException:               # reading the exception runs code of the program
        return f'{type_name(error)}: its traceback cannot be shown\n'
