"""Checks of `boxsession check-config` beyond the settings themselves: files, directories, packages. They change nothing.

Files that the caller may not read are skipped: the server may run as another user, who may read them.
"""
from __future__ import annotations

import errno
import importlib.util
import os
from pathlib import Path

from boxsession.base.errors import ListenError
from boxsession.lua.bridge import compile_problem
from boxsession.net.tls import tls_context
from boxsession.settings.reader import Config

__all__ = ['problems']

_WRITTEN = ('store', 'audit.file', 'log.file')
_NOT_FOR_US = (errno.EACCES, errno.EPERM)


def problems(config: Config, source: str) -> list[str]:
    """The problems that a start with `config` would meet: one line each, with the line number in the file `source`."""
    found = [(name, problem) for name in _WRITTEN if (problem := _cannot_be_written(config[name]))]
    if config['init'] and (problem := _does_not_compile(config['init'])):
        found.append(('init', problem))
    if config['metrics.address'] and importlib.util.find_spec('prometheus_client') is None:
        found.append(('metrics.address', "needs prometheus-client, which is not installed: "
                      "pip install '.[metrics]' in a checkout"))
    for number, listener in enumerate(config.listen):
        if listener.tls:
            try:
                tls_context(listener.tls, listener.address)
            except ListenError as error:
                if getattr(error.__cause__, 'errno', None) not in _NOT_FOR_US:
                    found.append((f'listen.{number}.tls', f'{listener.address}: {error.reason}'))
    placed = [(config.lines.get(name, 0), name, problem) for name, problem in found]
    return [f'{source}:{line}: `{name.rpartition(".")[2] if name.startswith("listen.") else name}`: {problem}'
            for line, name, problem in sorted(placed)]


def _cannot_be_written(path) -> str | None:
    if path is None or path == '-':
        return None
    folder = os.path.dirname(os.path.abspath(path))
    try:
        if os.path.isdir(path):
            return f'{path} is a directory: expected a file'
        os.stat(folder + '/')
    except OSError as error:
        if error.errno not in _NOT_FOR_US:
            return f'{path}: its directory {folder} cannot be used: {error.strerror}'
    return None


def _does_not_compile(path) -> str | None:
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        return None if error.errno in _NOT_FOR_US else f'{path}: cannot be read: {error.strerror}'
    return compile_problem(text, path)
