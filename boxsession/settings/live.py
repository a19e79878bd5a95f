"""Changes to the settings of a running server (box.cfg)."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from boxsession.settings.table import SETTINGS

__all__ = ['Refused', 'changes', 'nested']


class Refused(Exception):
    """A setting cannot be changed.

    Attributes:
        name: dotted name of the setting.
        reason: why, without the name; None: no running server can change this setting.
    """

    def __init__(self, name: str, reason: str | None):
        super().__init__(f'{name}: {reason}')
        self.name = name
        self.reason = reason


def changes(data: Mapping[str, Any]) -> dict[str, Any]:
    """Checks changes to settings and returns them by dotted name.

    Args:
        data: settings by dotted name, or a mapping of settings by section name.

    Raises:
        Refused: a setting is unknown, has a wrong value, or cannot be changed while the server runs.
    """
    by_name = {setting.name: setting for setting in SETTINGS}
    sections = {name.partition('.')[0] for name in by_name if '.' in name}
    flat = {}
    for key, value in data.items():
        if key in sections and isinstance(value, Mapping):
            flat.update({f'{key}.{inner}': inner_value for inner, inner_value in value.items()})
        elif key in sections and isinstance(value, list) and not value:     # an empty Lua table: no settings
            continue
        elif key in sections:
            raise Refused(str(key), 'should be a table of settings')
        else:
            flat[str(key)] = value
    checked = {}
    for name, value in flat.items():
        setting = by_name.get(name)
        if setting is None and name != 'listen':
            raise Refused(name, 'unexpected option')
        if setting is None or not setting.is_live:
            raise Refused(name, None)
        try:
            checked[name] = setting.check(value)
        except ValueError as error:
            raise Refused(name, f'should be {error}') from None
    return checked


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turns settings by dotted name into one mapping per section. Leaves out those that are None."""
    shown: dict[str, Any] = {}
    for name, value in values.items():
        section, _, key = name.rpartition('.')
        if value is not None:
            (shown.setdefault(section, {}) if section else shown)[key] = value
    return shown
