"""Generates the commented config file and the list of settings in the documentation."""
from __future__ import annotations

from collections.abc import Iterable, Iterator

from boxsession.settings.table import FOR_UNIX_SOCKETS, LISTENER_SETTINGS, SETTINGS, Setting

__all__ = ['default_file', 'reference']


def _shown(setting: Setting) -> str:
    if setting.example:
        return setting.example
    if setting.default is None:
        return ''
    return str(setting.default).lower() if isinstance(setting.default, bool) else str(setting.default)


def default_file() -> str:
    """The content of conf/boxsession.yml: every setting with its help and its default."""
    lines = ['# Settings of boxsession with their defaults. To check a changed file: boxsession check-config FILE', '',
             'listen:']
    for number, setting in enumerate(LISTENER_SETTINGS):
        if number == 0:
            lines += [f'  # {setting.help}', f'  - {setting.name}: {_shown(setting)}']
        else:
            lines += _commented(setting, setting.name, '    ',
                                off=setting.default is None or setting.name in FOR_UNIX_SOCKETS)
    section = ''
    for setting in SETTINGS:
        prefix, _, key = setting.name.rpartition('.')
        if prefix != section:
            lines += ['', f'{prefix}:']
            section = prefix
        elif not prefix:
            lines.append('')
        lines += _commented(setting, key, '  ' if prefix else '', off=setting.default is None)
    return '\n'.join(lines) + '\n'


def reference() -> str:
    """The list of settings for docs/configuration.rst."""
    def entries(table: Iterable[Setting]) -> Iterator[str]:
        for setting in table:
            default = f' ({_shown(setting)})' if setting.default is not None else ''
            live = ' *' if setting.is_live else ' +' if setting.is_reloaded else ''
            yield f'``{setting.name}``{default}{live}\n    {setting.help}\n'

    return '\n'.join([*entries(SETTINGS), 'Each entry of ``listen`` is an address, or a mapping of these settings:\n',
                      *entries(LISTENER_SETTINGS)])


def _commented(setting: Setting, key: str, indent: str, off: bool) -> list[str]:
    """A setting's help and its line; `off` comments the line out: it shows an example, not the default."""
    return [f'{indent}# {setting.help}', f'{indent}{"# " if off else ""}{key}: {_shown(setting)}']
