"""Reload: puts other settings in force in a running console. If one of them is not possible, none is changed.

Each part first acquires its resources (a file, an address) and registers how to release them. When all parts have
succeeded, all of them change over. The change-over neither fails nor waits.
"""
from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields

from boxsession.base.errors import BoxsessionError, ConfigError
from boxsession.net.listener import Listener
from boxsession.operations import logs
from boxsession.operations.audit import Audit
from boxsession.running import Running
from boxsession.settings import live, reader, table

__all__ = ['reload']

log = logging.getLogger('boxsession')

_LIVE = [setting.name for setting in table.SETTINGS if setting.is_live or setting.is_reloaded]
_FIXED = [setting.name for setting in table.SETTINGS if not (setting.is_live or setting.is_reloaded)]


@dataclass(frozen=True, slots=True)
class _Reload:
    """The arguments of the parts.

    Attributes:
        changes: settings whose value differs from the value loaded last, by dotted name.
        undo: parts add here the functions that release what they acquired; called if the reload fails.
        told: parts add here what changes in detail, a log line each.
    """

    running: Running
    config: reader.Config
    changes: dict
    undo: ExitStack
    told: list[str]


def reload(running: Running, old: reader.Config, config: reader.Config) -> list[str]:
    """Changes from the settings `old`, loaded last, to `config`: see `boxsession.embed.Console.reload`."""
    changes = {name: config[name] for name in _LIVE if config[name] != old[name]}
    names = list(changes)
    told = [f'{name} is set to {value} by a reload; it was {running.settings[name]}' for name, value in changes.items()]
    with ExitStack() as undo:
        job = _Reload(running, config, changes, undo, told)
        change_over = [part(job, names) for part in _PARTS]
        if not running.registry.is_accepting:       # a part may have waited (for a host name): stopped meanwhile
            raise BoxsessionError('the console is stopping: nothing was reloaded')
        undo.pop_all()
    for change in change_over:
        change()
    for line in told:
        log.info('%s', line)
    waiting = [name for name in _FIXED if config[name] != running.settings[name]]
    log.log(logging.WARNING if waiting else logging.INFO, 'reloaded: %s%s', ', '.join(names) or 'nothing has changed',
            f'; a restart is needed for {", ".join(waiting)}' if waiting else '')
    return names


# The parts: each acquires its resources, adds to `names` what it changes, and returns the function that changes over -----

def _settings(job, names) -> Callable[[], None]:
    try:
        job.running.check(job.changes)
    except live.Refused as problem:
        raise ConfigError([f'`{problem.name}` {problem.reason}']) from None
    return lambda: job.running.configure(job.changes)


def _log(job, names) -> Callable[[], None]:
    # A program that logs by handlers of its own keeps them.
    if 'log.file' not in job.changes or not logs.our_handlers():
        return _nothing
    target = job.changes['log.file']
    try:
        handler = logs.open_handler(target)
    except OSError as error:
        raise BoxsessionError(f'cannot open log.file {target}: {error.strerror}') from None
    job.undo.callback(handler.close)
    in_force = {**job.running.settings, **job.changes}
    return lambda: logs.use(handler, in_force['log.level'], in_force['log.format'])


def _audit(job, names) -> Callable[[], None]:
    if not {'audit.file', 'audit.required'} & job.changes.keys():
        return _nothing
    path, required = job.config['audit.file'], job.config['audit.required']
    try:
        fd = Audit.open(path)
    except OSError as error:
        raise BoxsessionError(f'cannot open audit.file {path}: {error.strerror}') from None
    if fd >= 0:
        job.undo.callback(os.close, fd)

    def change_over():
        if path is None:
            job.running.registry.record_running()
        job.running.audit.use(path, fd, required)
    return change_over


def _listeners(job, names) -> Callable[[], None]:
    running, wanted = job.running, job.config.listen
    running.accounts.refresh()
    running.check_users(job.config)
    found, removed = _match([listener for listener in running.listeners if not listener.is_temporary], wanted)
    result, told = [], []
    for config, old in zip(wanted, found, strict=True):
        if old is not None:
            # A changed listener is replaced by a new one, which takes over the socket at the change-over.
            result.append(old if old.is_as(config) else running.listeners.new(config))
        else:
            result.append(_bound(job, config, removed))
            told.append(f'added {result[-1].address}')
    # From here to the change-over, only clients that both configurations allow can connect: no client may get in by the
    # rights of one and be served by the other.
    replaced = [(new, old) for new, old in zip(result, found, strict=True) if old is not None and new is not old]
    for new, old in replaced:
        job.undo.callback(old.tighten(new.config))
        told.append(f'changed {old.address}')
        job.told.extend(_differences(new, old))
    told += [f'removed {listener.address}' for listener in removed]
    if told:
        names.append(f'listen ({", ".join(told)})')

    def change_over():
        for new, old in replaced:
            new.take_over(old)
        running.listeners.replace(result)
    return change_over


def _metrics(job, names) -> Callable[[], None]:
    if 'metrics.address' in job.changes:
        running, before = job.running, job.running.settings['metrics.address']
        running.serve_metrics(job.changes['metrics.address'])
        job.undo.callback(lambda: running.registry.is_accepting and running.serve_metrics(before))
    return _nothing


def _differences(new: Listener, old: Listener) -> list[str]:
    """The settings of a listener that a reload changes, as log lines."""
    def shown(name, value):
        if name == 'languages':
            return f'[{", ".join(value)}]'
        return f'{value:04o}' if name == 'mode' else value

    found = [(field.name, getattr(new.config, field.name), getattr(old.config, field.name)) for field in fields(new.config)]
    return [f'listen {old.address}: {name} is set to {shown(name, value)} by a reload; it was {shown(name, before)}'
            for name, value, before in found if value != before] or [f'listen {old.address}: the TLS files are read again']


def _match(listeners, wanted):
    """Returns, for each wanted configuration, the listener that already has its address, or None; and the other listeners.

    Listeners with equal settings are matched first: of several with port 0, each keeps its port.
    """
    left = [listener for listener in listeners]
    found: list[Listener | None] = [None] * len(wanted)
    for is_same in (lambda listener, config: listener.config == config,
                    lambda listener, config: listener.config.address == config.address):
        for number, config in enumerate(wanted):
            if found[number] is None:
                found[number] = next((listener for listener in left if is_same(listener, config)
                                      and not listener.has_lost_its_file), None)
                if found[number] is not None:
                    left.remove(found[number])
    return found, left


def _bound(job, config, removed) -> Listener:
    """A new, bound listener. If a listener to be removed has the same port (at an address that may overlap), both share
    the port until the change-over."""
    lenders = [old for old in removed if old.address.port and old.address.port == config.address.port
               and not old.is_inherited]
    for old in lenders:
        old.lend_port(True)
        job.undo.callback(old.lend_port, False)
    listener = job.running.listeners.bound(config, shares_port=bool(lenders))
    job.undo.callback(listener.stop)
    return listener


def _nothing():
    pass


# _settings comes after _audit: it makes the connections look whether auditing is on.
# _metrics is last: it changes over at once, because the old and the new server may use the same port.
_PARTS = (_log, _audit, _settings, _listeners, _metrics)
