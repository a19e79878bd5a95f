"""What a start would refuse, beyond the settings themselves: users, files, directories, packages. Nothing is changed.

Files that the caller may not read are skipped: the server may run as another user, who may read them.
"""
from __future__ import annotations

import errno
import importlib.util
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from boxsession.base.address import Address
from boxsession.base.errors import ListenError, StoreError
from boxsession.lua.bridge import compile_problem
from boxsession.net.tls import tls_context
from boxsession.settings import reader, table
from boxsession.users.access import Access, Level
from boxsession.users.store import stored

__all__ = ['file_problems', 'problems', 'user_problems']

_WRITTEN = ('store', 'audit.file', 'log.file')
_NOT_FOR_US = (errno.EACCES, errno.EPERM)
# A call of box.schema.user.create() whose name is no literal, so that only a run can tell it.
_CREATES_SOMEBODY = re.compile(r"""\bcreate\s*\(\s*(?!["'\[\s]|function\b)""")

# The dotted name of a setting, and what is wrong.
_Found = list[tuple[str, str]]


def file_problems(path: str) -> list[str]:
    """The problems of a config file, and those that a start with it would meet: one line each, with the line number."""
    examined = reader.examine(path)
    found = list(examined.problems)
    if examined.config is not None:
        told = {text for _, text in found}
        found += [(line, text) for line, text in _placed(examined.config, with_users=examined.has_users)
                  if text.partition(': ')[2] not in told]       # both look at listeners of admin
    return reader.told(found, path)


def problems(config: reader.Config, source: str) -> list[str]:
    """The problems that a start with `config` would meet: one line each, with the line number in the file `source`."""
    return reader.told(_placed(config), source)


def user_problems(config: reader.Config, access: Access, may_come: Callable[[str], bool] = lambda name: False) -> _Found:
    """The problems with the users of listeners: some do not exist, or may do too much for an open listener.

    Args:
        may_come: whether a user who does not exist may be created before the server listens.
    """
    found = []
    for number, listener in enumerate(config.listen):
        key = 'peers' if listener.peers else 'user'
        for name in listener.users:
            if access.user(name) is None and not may_come(name):
                store = '' if config['store'] else 'set `store` and '
                found.append((f'listen.{number}.{key}', f'{listener.address}: there is no user {name!r}: create it in the '
                              f'init script, or {store}run `boxsession passwd -c FILE --create {name}`, or take it out of '
                              f'`{key}`'))
        user = access.user(listener.user)
        if user and listener.is_open and access.level(user.id) == Level.FULL:
            found.append((f'listen.{number}.address', table.open_listener_problem(listener)))
        elif user and access.may_speak(user.id, 'python') and (problem := table.python_problem(listener)):
            found.append((f'listen.{number}.languages', problem))
    return found


def _placed(config: reader.Config, with_users: bool = True) -> list[reader.Problem]:
    found = [(name, problem) for name in _WRITTEN if (problem := _cannot_be_written(config[name]))]
    script = ''
    if config['init']:
        try:
            script, problem = _script(config['init'])
            if problem:
                found.append(('init', problem))
        except PermissionError:
            with_users = False
    if config['metrics.address']:
        if importlib.util.find_spec('prometheus_client') is None:
            found.append(('metrics.address', "needs prometheus-client, which is not installed: "
                          "pip install '.[metrics]' in a checkout"))
        if problem := _cannot_be_bound(Address.parse(config['metrics.address'])):
            found.append(('metrics.address', problem))
    for number, listener in enumerate(config.listen):
        if problem := _cannot_be_bound(listener.address):
            found.append((f'listen.{number}.address', problem))
        if listener.tls:
            try:
                tls_context(listener.tls, listener.address)
            except ListenError as error:
                if getattr(error.__cause__, 'errno', None) not in _NOT_FOR_US:
                    found.append((f'listen.{number}.tls', f'{listener.address}: {error.reason}'))
    if with_users and not any(name in ('init', 'store') for name, _ in found):
        found += _users(config, script)
    return [(_line(config, name), f'`{name.rpartition(".")[2] if name.startswith("listen.") else name}`: {problem}')
            for name, problem in found]


def _line(config, name) -> int | None:
    """The line of a setting in the file. A listener may be an address alone: then that is the line of all its settings."""
    return config.lines.get(name) or config.lines.get(name.rpartition('.')[0])


def _users(config, script) -> _Found:
    """The problems with users, as far as the store and the init script tell them without a run."""
    try:
        access = stored(config['store']) if config['store'] else Access()
    except StoreError as error:
        return [('store', str(error))]
    except FileNotFoundError:
        access = Access()
    except OSError:                     # only the server may read it; other reasons were found before
        return []
    creates_somebody = _CREATES_SOMEBODY.search(script) is not None

    def may_come(name):
        return creates_somebody or re.search(rf'(?<!\w){re.escape(name)}(?!\w)', script) is not None

    return user_problems(config, access, may_come)


def _cannot_be_written(path) -> str | None:
    if path is None or path == '-':
        return None
    if os.path.isdir(path):
        return f'{path} is a directory: expected a file'
    return _no_folder(path)


def _no_folder(path) -> str | None:
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.stat(folder + '/')
    except OSError as error:
        if error.errno not in _NOT_FOR_US:
            return f'{path}: its directory {folder} cannot be used: {error.strerror}'
    return None


def _cannot_be_bound(address: Address) -> str | None:
    """The problem of a unix socket's path."""
    if not address.path:
        return None
    try:
        if not stat.S_ISSOCK(os.stat(address.path).st_mode):
            return f'{address}: a file that is no socket is in the way: remove it, or use another path'
    except OSError:
        problem = _no_folder(address.path)
        return problem and f'{problem}. Create it (systemd creates the directory of `RuntimeDirectory=`)'
    return None


def _script(path) -> tuple[str, str | None]:
    """The text of the init script, and why it cannot run. Raises PermissionError if only the server may read it."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        if error.errno in _NOT_FOR_US:
            raise PermissionError from None
        return '', f'{path}: cannot be read: {error.strerror}'
    return text.decode(errors='replace'), compile_problem(text, path)
