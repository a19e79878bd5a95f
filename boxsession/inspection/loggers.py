"""The program's loggers and their levels. Makes no logger, waits for no lock, and calls no code of the program.

The loggers' fields are read and written directly: a class of the program may have its own `setLevel`, and logging's lock
may be held by a greenlet that waits.
"""
from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from boxsession.inspection.shown import shown

__all__ = ['ROOT', 'Level', 'NotPossible', 'above', 'clear_caches', 'fields', 'find', 'hides', 'level_name', 'level_of',
           'listed', 'logging_lock', 'named', 'plain_level', 'read_duration', 'read_level']

ROOT = 'root'
# Names that an error suggests, names that are compared for that, and characters of each: the time is quadratic.
_NEAR, _COMPARED, _COMPARED_CHARACTERS = 5, 100, 60
# Between two pauses, so many loggers are looked at.
_STEP = 200
_NAME_SHOWN = 200
_DURATION = re.compile(r'([0-9]{1,7})(s|m|h)')
_SECONDS = {'s': 1, 'm': 60, 'h': 3600}
_MOST_SECONDS = 30 * 24 * 3600
_NUMBER = re.compile('[0-9]{1,6}')
_DURATION_EXPECTED = 'expected a time of up to 30 days, such as 30s, 10m or 2h'


class NotPossible(Exception):
    """The logger, level or time does not exist. The message says what was expected."""


# Loggers ---------------------------------------------------------------------------------------------------------------

def fields(logger: logging.Logger) -> dict[str, Any]:
    """A logger's fields, also if its class has properties."""
    found: dict[str, Any] = object.__getattribute__(logger, '__dict__')
    return found


def named() -> dict[str, logging.Logger]:
    """The loggers of the process by name. Names without a logger (logging.PlaceHolder) are left out."""
    found: dict[str, logging.Logger] = {ROOT: logging.root}
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if type(name) is str and issubclass(type(logger), logging.Logger):
            found[name] = logger        # type: ignore[assignment]
    return found


def find(name: str) -> logging.Logger:
    """The logger of this name.

    Raises:
        NotPossible: there is none.
    """
    logger = logging.root if name == ROOT else logging.root.manager.loggerDict.get(name)
    if logger is None or not issubclass(type(logger), logging.Logger):
        raise NotPossible(f'there is no logger {name[:_NAME_SHOWN]!r}{_near(name)}')
    return logger       # type: ignore[return-value]


def _near(name: str) -> str:
    """Similar names, as the end of an error."""
    known, folded = list(named()), name.lower()[:_NAME_SHOWN]
    last = folded.rpartition('.')[2]
    near = [other for other in known if folded in other.lower()] or \
        [other for other in known if last and last in other.lower()]
    near = sorted(near, key=len)[:_NEAR]
    if not near:
        alike = [other for other in known if other[:1].lower() == folded[:1]] or known
        short = [other for other in alike if len(other) <= _COMPARED_CHARACTERS][:_COMPARED]
        near = difflib.get_close_matches(folded[:_COMPARED_CHARACTERS], short, _NEAR)
    return ': ' + (f'similar names are {", ".join(near)}' if near else '\\log lists them')


def above(logger: logging.Logger) -> Iterator[logging.Logger]:
    """The logger, and those above it, as their records' levels are looked up."""
    current: Any = logger
    while current is not None:
        yield current
        current = fields(current).get('parent')


def listed(pattern: str, pause: Callable[[], None]) -> list[dict[str, Any]]:
    """The loggers with their levels, ordered by name, the root logger first.

    Args:
        pattern: the start of the names, or a pattern with *, ? and []; '' for all.
        pause: called between pieces of the list.

    Raises:
        NotPossible: no name is like that, or the pattern is too long.
    """
    if len(pattern) > _NAME_SHOWN:
        raise NotPossible(f'the name has {len(pattern)} characters: expected up to {_NAME_SHOWN}')
    loggers = named()
    is_glob = any(sign in pattern for sign in '*?[')
    names = sorted(name for name in loggers
                   if (fnmatchcase(name, pattern) if is_glob else name.startswith(pattern)))
    if not names:
        raise NotPossible(f'no logger has a name like {pattern[:_NAME_SHOWN]!r}' + ('' if is_glob else _near(pattern)))
    if ROOT in names:
        names.remove(ROOT)
        names.insert(0, ROOT)
    rows = []
    for number, name in enumerate(names):
        if number % _STEP == _STEP - 1:
            pause()
        rows.append(_row(name, loggers[name]))
    return rows


def _row(name, logger):
    found = fields(logger)
    row = {'name': name[:_NAME_SHOWN], 'level': level_name(plain_level(found.get('level'))),
           'effective': level_name(level_of(logger)),
           'handlers': [shown(handler)[1:-1] for handler in list(found.get('handlers') or ())[:10]],
           'disabled': _flag(found.get('disabled')), 'propagate': _flag(found.get('propagate'))}
    below = plain_level(logging.root.manager.__dict__.get('_disable', 0))
    if below:
        row['disabled_up_to'] = level_name(below)       # logging.disable()
    return row


# Levels ----------------------------------------------------------------------------------------------------------------

def plain_level(level: Any) -> int:
    """A level as an int: the program may have set a member of an enum."""
    return int.__add__(level, 0) if issubclass(type(level), int) else 0


def _flag(value: Any) -> bool:
    return value is True or type(value) is int and value != 0


def level_of(logger: logging.Logger) -> int:
    """The level from which the logger lets records through: its own, or that of the next logger above with one."""
    return next((level for one in above(logger) for level in (plain_level(fields(one).get('level')),) if level), 0)


def hides(logger: logging.Logger, level: int) -> str:
    """Why records of this level do not come out of the logger, and what to do; '' if they do."""
    name = str(fields(logger).get('name'))[:_NAME_SHOWN]
    if _flag(fields(logger).get('disabled')):
        return f'the logger {name} is disabled: it lets nothing through'
    below = plain_level(logging.root.manager.__dict__.get('_disable', 0))
    if level <= below:
        return f'the program has turned off all records up to {level_name(below)} (logging.disable)'
    passes = level_of(logger)
    if level < passes:
        return (f'the logger {name} lets records from {level_name(passes)} on through: '
                f'\\log {name} {level_name(level).lower()} lets more through')
    return ''


def level_name(level: int) -> str:
    """A level's name, or its number."""
    name = logging._levelToName.get(level)
    return name if type(name) is str else str(level)


def read_level(text: str) -> int:
    """A level from its name or number; 'unset' for none.

    Raises:
        NotPossible: it is not a level.
    """
    if _NUMBER.fullmatch(text):
        return int(text)
    found = logging.NOTSET if text.lower() == 'unset' else logging._nameToLevel.get(text.upper())
    if type(found) is not int:
        names = ', '.join(name.lower() for number, name in sorted(logging._levelToName.items())
                          if number and type(name) is str)
        raise NotPossible(f'there is no level {text[:_NAME_SHOWN]!r}: expected {names}, a number, or unset')
    return found


def read_duration(text: str) -> int:
    """The seconds of a time such as 10m.

    Raises:
        NotPossible: it is not a time.
    """
    match = _DURATION.fullmatch(text)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= _MOST_SECONDS:
        raise NotPossible(f'{text[:_NAME_SHOWN]!r} is not a time: {_DURATION_EXPECTED}')
    return seconds


@contextmanager
def logging_lock() -> Iterator[bool]:
    """Holds the lock of logging's configuration, unless it is taken: then nothing waits. Gives whether it is held."""
    lock: Any = getattr(logging, '_lock', None)
    is_held = lock is not None and lock.acquire(blocking=False)
    try:
        yield is_held
    finally:
        if is_held:
            lock.release()


def clear_caches() -> bool:
    """Makes loggers notice changed levels. False: logging's lock was taken, so this must be done again in a moment.

    A logger that looks up a level in another thread meanwhile could keep the old one.
    """
    with logging_lock() as is_held:
        for logger in named().values():
            cache = fields(logger).get('_cache')
            if type(cache) is dict:
                cache.clear()
    return is_held


class Level:
    """The level of a logger, as a place of the journal (inspection/journal.py)."""

    def __init__(self, name: str, retry: Callable[[], None]):
        """`retry` is called if clear_caches() must be called again in a moment."""
        self._name = name
        self._retry = retry

    @property
    def key(self) -> tuple[str, str]:
        return 'level', self._name

    @property
    def what(self) -> str:
        return f'level of the logger {self._name}'

    def read(self) -> int | None:
        try:
            return plain_level(fields(find(self._name)).get('level'))
        except NotPossible:
            return None

    def write(self, value: int) -> None:
        fields(find(self._name))['level'] = value
        if not clear_caches():
            self._retry()

    @staticmethod
    def text(value: int) -> str:
        return level_name(value)
