"""Log lines: to standard error or a file that can be opened anew, as text or as JSON, each with its session."""
from __future__ import annotations

import json
import logging
import sys
import time
from logging.handlers import WatchedFileHandler

from boxsession.config import Config
from boxsession.session import current_session

__all__ = ['change', 'configure', 'reopen']


class _SessionFilter(logging.Filter):
    def filter(self, record):
        session = current_session()
        record.session = session.id if session is not None else 0
        return True


class _JsonFormatter(logging.Formatter):
    def format(self, record):
        entry = {'time': self.formatTime(record), 'level': record.levelname.lower(), 'logger': record.name,
                 'session': record.session, 'message': record.getMessage()}
        if record.exc_info:
            entry['exception'] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def configure(config: Config) -> None:
    """Sends what the package logs where the settings say.

    Raises:
        OSError: the file cannot be opened.
    """
    target = config['log.file']
    handler = logging.StreamHandler(sys.stderr) if target == '-' else WatchedFileHandler(target, encoding='utf-8')
    handler.addFilter(_SessionFilter())
    logger = logging.getLogger('boxsession')
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.propagate = False
    change(config['log.level'], config['log.format'])


def _formatter(name):
    formatter = _JsonFormatter() if name == 'json' else logging.Formatter(
        '%(asctime)s %(levelname)s [%(session)d] %(message)s')
    formatter.converter = time.gmtime
    formatter.default_time_format, formatter.default_msec_format = '%Y-%m-%dT%H:%M:%S', '%s.%03dZ'
    return formatter


def change(level: str, format_name: str) -> None:
    """Sets the level, and how lines are written by what configure() has set up; an embedding program's handlers stay."""
    logger = logging.getLogger('boxsession')
    logger.setLevel(level.upper())
    for handler in logger.handlers:
        if any(isinstance(filtered, _SessionFilter) for filtered in handler.filters):
            handler.setFormatter(_formatter(format_name))


def reopen() -> None:
    """Opens log files anew, after they were rotated."""
    for handler in logging.getLogger('boxsession').handlers:
        if isinstance(handler, WatchedFileHandler):
            handler.reopenIfNeeded()
