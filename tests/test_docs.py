"""The documents tell the truth: their sessions are typed, their lists compared with what is there."""
from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from test_layering import picture

import boxsession
from boxsession.settings.reader import load

PROJECT = Path(__file__).resolve().parent.parent
PROMPT, MORE = 'tarantool> ', '         > '
ADDRESS = re.compile(r'127\.0\.0\.1:\d+')


def sessions():
    """The sessions with prompts in the documents: (where, lines)."""
    for path in [PROJECT / 'README.rst', *sorted((PROJECT / 'docs').glob('*.rst'))]:
        block = []
        for number, line in enumerate([*path.read_text().splitlines(), 'end'], 1):
            if line.startswith('    '):
                block.append(line[4:])
            elif line:
                while block and not block[0].startswith(PROMPT):
                    block.pop(0)
                if block:
                    yield pytest.param(block, id=f'{path.name}:{number}')
                block = []


@pytest.mark.parametrize('lines', list(sessions()))
def test_a_session_goes_as_shown(console, connect, lines):
    client = connect(console())
    shown = '\n'.join(lines).rstrip() + '\n'
    typed = [line[len(PROMPT):] for line in lines if line.startswith((PROMPT, MORE))]
    client.send('\n'.join(typed) + '\n')
    client.end()
    answered = client.read_to_end().decode()
    # What the terminal shows: the prompts come from the server, what stands behind them is typed.
    expected = re.sub(f'^({re.escape(PROMPT)}|{re.escape(MORE)}).*\n', r'\1', shown, flags=re.MULTILINE)
    assert expected.startswith(PROMPT)      # the first is typed before there is one
    assert ADDRESS.sub('ADDRESS', expected[len(PROMPT):] + PROMPT) == ADDRESS.sub('ADDRESS', answered)


def test_there_are_sessions():
    assert len(list(sessions())) >= 3


def test_every_function_of_box_session_has_its_row(console, connect):
    names = connect(console()).value(
        'local names = {} for name in pairs(box.session) do names[#names + 1] = name end table.sort(names) return names')
    text = (PROJECT / 'docs' / 'compat.rst').read_text()
    for name in names:
        assert re.search(rf'\b{name}\b', text), name


def test_every_command_is_documented(console, connect):
    told = connect(console()).value('\\help')[0]
    text = (PROJECT / 'docs' / 'console.rst').read_text()
    for command in re.findall(r'^ +(\\\w+(?: \w+)?)', told, flags=re.MULTILINE):
        assert f'``{command}' in text, command


def test_help_fits_a_terminal(console, connect):
    from boxsession.client.terminal import _HELP
    told = connect(console()).value('\\help')[0]
    # In a reply it is indented by four.
    assert [] == [line for line in told.splitlines() if len(line) > 76]
    assert [] == [line for line in _HELP.splitlines() if len(line) > 80]


def test_what_is_generated_is_up_to_date():
    spec = importlib.util.spec_from_file_location('generate', PROJECT / 'docs' / 'generate.py')
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for path, text in generate.files().items():
        assert text == path.read_text(), f'{path}: run python docs/generate.py'


def test_every_command_of_the_command_line_is_told_of():
    from boxsession.cli import parser
    text = (PROJECT / 'docs' / 'configuration.rst').read_text()
    commands = next(action for action in parser()._actions if action.dest == 'command')
    for name in commands.choices:
        assert f'``boxsession {name}' in text


def test_every_public_name_of_console_is_told_of():
    text = (PROJECT / 'docs' / 'embedding.rst').read_text()
    for name in vars(boxsession.Console):
        if not name.startswith('_'):
            assert re.search(rf'``{name}(\(\w*\))?``', text), name


def test_the_page_on_embedding_has_a_test_that_passes(tmp_path):
    text = (PROJECT / 'docs' / 'embedding.rst').read_text()
    [block] = re.findall(r'\.\. code-block:: python\n\n((?:    .*\n|\n)+)', text)
    path = tmp_path / 'test_shown.py'
    path.write_text('\n'.join(line[4:] for line in block.splitlines()) + '\n')
    done = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(path)], capture_output=True,
                          text=True, timeout=50, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(PROJECT)})
    assert '2 passed' in done.stdout, done.stdout


def test_the_picture_of_the_rooms_is_the_table_that_holds():
    assert picture() in (PROJECT / 'docs' / 'design.rst').read_text(), 'python tests/test_layering.py prints it'


def test_the_docs_build(tmp_path):
    pytest.importorskip('sphinx')
    # In a process of its own: Sphinx warns of itself.
    done = subprocess.run([sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-b', 'html', '-d',
                           str(tmp_path / 'cache'), str(PROJECT / 'docs'), str(tmp_path / 'html')], capture_output=True,
                          text=True, timeout=50)
    assert (0, '') == (done.returncode, done.stderr)
    assert 'examples/embed.py' in (tmp_path / 'html' / 'embedding.html').read_text()


def test_the_version_has_its_changes():
    assert f'\n{boxsession.__version__} (' in (PROJECT / 'CHANGES.rst').read_text()


def test_what_is_exported_is_there():
    for name in boxsession.__all__:
        assert getattr(boxsession, name) is not None


def test_the_project_speaks_of_itself_alone():
    for path in PROJECT.rglob('*'):
        if path.suffix in {'.py', '.lua', '.rst', '.yml', '.service', '.sh', '.cfg', '.toml'} and '.venv' not in path.parts:
            assert not re.search(r'/(root|ho[m]e/\w+)/', path.read_text(errors='replace')), path


def recipes():
    """The config files that the pages show: (page, text)."""
    for path in sorted((PROJECT / 'docs').glob('*.rst')):
        for block in re.findall(r'::\n\n((?:    .*\n|\n)+)', path.read_text()):
            text = '\n'.join(line[4:] for line in block.splitlines())
            if text.lstrip().startswith(('listen:', 'store:', 'limits:')):
                yield pytest.param(text, id=f'{path.name}:{text[:30]!r}')


@pytest.mark.parametrize('text', list(recipes()))
def test_a_recipe_is_a_config_file(tmp_path, text):
    path = tmp_path / 'config.yml'
    # Groups are of another machine.
    path.write_text(re.sub('group: .*', 'group: 0', text))
    assert load(path).listen


def test_the_readmes_settings_users_and_metrics(serve, connect, tmp_path):
    text = (PROJECT / 'README.rst').read_text()
    section = text[text.index('Settings, users, metrics'):text.index('Embed\n-----')]
    config, script, commands = ('\n'.join(line[4:] for line in block.splitlines()) + '\n'
                                for block in re.findall(r'::\n\n((?:    .*\n|\n(?=    ))+)', section))
    (tmp_path / 'shop.yml').write_text(re.sub(r':(3313|9313)', ':0', config))
    (tmp_path / 'init.lua').write_text(script)
    assert [line.split()[0] for line in commands.splitlines()] == ['boxsession'] * 3 + ['curl']
    served = serve('-c', 'shop.yml')
    served.addresses()
    metrics = served.log_line('listening: metrics ').split()[-1]
    port = served.log_line('listening: console 127').rpartition(':')[2]
    client = connect(f'127.0.0.1:{port}')
    assert client.value('\\login web a long one') is True
    assert ['web', 'hello you'] == client.values("box.session.user(), greet('you')")
    assert 'denied' in client.error('box.cfg{}')
    assert 'admin' == connect(f'unix:{tmp_path}/admin.sock').value('box.session.user()')
    with urllib.request.urlopen(f'http://{metrics}/metrics', timeout=10) as response:
        assert b'boxsession_sessions' in response.read()
