"""Writes the generated files: docs/commands.rst, the settings in docs/configuration.rst, the backslash commands in
docs/console.rst, and conf/boxsession.yml.

    python docs/generate.py

A test compares these files with the output of this script.
"""
from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from boxsession.cli import parser
from boxsession.lua.commands import BUILT_IN
from boxsession.settings import reference

PROJECT = Path(__file__).resolve().parent.parent
_WIDTH = 120
_COMMANDS = PROJECT / 'docs' / 'commands.rst'
_CONFIGURATION = PROJECT / 'docs' / 'configuration.rst'
_CONSOLE = PROJECT / 'docs' / 'console.rst'
# The generated part ends before the next heading.
_SETTINGS = re.compile(r'(?<=\n)``name`` \+\n.*?(?=Who may reach it\n)', re.DOTALL)
# The generated part is between two comments.
_CONSOLE_COMMANDS = re.compile(
    r'(?<=\.\. The table of commands, made by docs/generate.py\n\n).*?(?=\.\. End of the table\n)', re.DOTALL)


def commands(grammar: argparse.ArgumentParser) -> str:
    """The page with every command and option, as rst.

    Made from the grammar, because the text of --help depends on the terminal and on the version of Python.
    """
    subparsers = next(action for action in grammar._actions if isinstance(action, argparse._SubParsersAction))
    lines = ['.. Made by docs/generate.py from what --help shows.', '', *_title('Commands', '='),
             'Every command and option, in the words of ``--help``. :doc:`configuration`, :doc:`connect` and',
             ':doc:`operations` explain what the commands do.', '']
    lines += _options(grammar._actions, subparsers)
    for choice in subparsers._choices_actions:
        name, command = f'{grammar.prog} {choice.dest}', subparsers.choices[choice.dest]
        purpose = f'{choice.help[0].upper()}{choice.help[1:]}.'
        lines += [*_title(name, '-'), '::', '', *_usage(name, command), '', *_text(purpose), '']
        if command.description:
            lines += [*_text(command.description), '']
        for group in command._action_groups:
            lines += _options(group._group_actions)
        if command.epilog:
            lines += [*_text(command.epilog), '']
    lines += [*_title('Next step', '-'), ':doc:`configuration` has the settings of the server.']
    return '\n'.join(lines).rstrip() + '\n'


def console_commands() -> str:
    """The commands of the text console, as rst."""
    lines = []
    for command in BUILT_IN:
        for number, (usage, purpose) in enumerate(command.forms, 1):
            forms = [f'\\{command.name} {usage}'.rstrip(), *(f'\\{alias}' for alias in command.aliases if number == 1)]
            lines += [', '.join(f'``{form}``' for form in forms), *_text(purpose, '    '), '']
        needs = 'Needs a right (see :doc:`security`).' if command.access else ''
        more = textwrap.wrap(' '.join(filter(None, [command.details, needs])), _WIDTH - 4)
        lines += [*(f'    {line}' for line in more), ''] if more else []
    return '\n'.join(lines) + '\n'


def _title(text, line) -> list[str]:
    return [text, line * len(text), '']


def _options(actions, *without) -> Iterator[str]:
    for action in actions:
        if action not in without and not isinstance(action, argparse._HelpAction):
            yield ', '.join(f'``{form}``' for form in _forms(action))
            yield from _text(action.help % vars(action), '    ')
            yield ''


def _forms(action) -> list[str]:
    """How an argument is typed: its options with their value, or its name."""
    value = '' if action.nargs == 0 else '|'.join(action.choices) if action.choices else action.metavar
    return [f'{option} {value}'.rstrip() for option in action.option_strings] or [value]


def _usage(name, command) -> list[str]:
    lines, line = [], f'    {name}'
    # Options before arguments, the usual order.
    for action in sorted(command._actions, key=lambda action: not action.option_strings):
        if isinstance(action, argparse._HelpAction):
            continue
        part = _forms(action)[0]
        if not action.required:
            part = f'[{part}]{"..." if isinstance(action, argparse._AppendAction) else ""}'
        if len(line) + len(part) >= _WIDTH:
            lines.append(line)
            line = ' ' * (4 + len(name))
        line += f' {part}'
    return [*lines, line]


def _text(text, indent='') -> list[str]:
    return textwrap.wrap(re.sub('`([^`]+)`', r'``\1``', text), _WIDTH, initial_indent=indent, subsequent_indent=indent,
                         break_on_hyphens=False)


def files() -> dict[Path, str]:
    """The text of each generated file."""
    return {
        _COMMANDS: commands(parser()),
        _CONFIGURATION: _SETTINGS.sub(lambda _: f'{reference.reference()}\n', _CONFIGURATION.read_text()),
        _CONSOLE: _CONSOLE_COMMANDS.sub(lambda _: console_commands(), _CONSOLE.read_text()),
        PROJECT / 'conf' / 'boxsession.yml': reference.default_file(),
    }


if __name__ == '__main__':
    for path, text in files().items():
        path.write_text(text)
