"""The docs are correct: their sessions are typed, their config files are started, their lists are compared."""
from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from conftest import need
from test_layering import picture

import boxsession
from boxsession.check import problems
from boxsession.settings.reader import load

PROJECT = Path(__file__).resolve().parent.parent
PAGES = [PROJECT / 'README.rst', *sorted((PROJECT / 'docs').glob('*.rst'))]
QUICKSTART = PROJECT / 'docs' / 'quickstart.rst'
PROMPT, MORE = 'tarantool> ', '         > '
ADDRESS = re.compile(r'127\.0\.0\.1:\d+')


def sessions():
    """The sessions with prompts in the documents: (where, lines)."""
    for path in PAGES:
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
    # The terminal shows prompts from the server, and after each the line that was typed.
    expected = re.sub(f'^({re.escape(PROMPT)}|{re.escape(MORE)}).*\n', r'\1', shown, flags=re.MULTILINE)
    assert expected.startswith(PROMPT)      # the first line is typed before the server sends prompts
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


def module_of(path):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_generated_is_up_to_date():
    for path, text in module_of(PROJECT / 'docs' / 'generate.py').files().items():
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
    # In a process of its own, because Sphinx itself causes warnings.
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


def literal_blocks(path):
    """The indented blocks of a page, in their order."""
    return ['\n'.join(line[4:] for line in block.splitlines()) + '\n'
            for block in re.findall(r'(?<=\n\n)((?:    .*\n|\n(?=    ))+)', path.read_text())]


def recipes():
    """The config files that the pages show, each with the init script that is the next block: (config, script)."""
    for path in PAGES:
        blocks = literal_blocks(path)
        for number, text in enumerate(blocks):
            if text.startswith(('listen:', 'store:', 'limits:', 'metrics:')):
                script = blocks[number + 1] if 'init.lua' in text else ''
                yield pytest.param(text, script, id=f'{path.name}:{number}')


@pytest.fixture(scope='module')
def certificates(tmp_path_factory):
    """A folder with the files of a TLS listener."""
    trustme = pytest.importorskip('trustme')
    folder = tmp_path_factory.mktemp('tls')
    authority = trustme.CA()
    server = authority.issue_cert('127.0.0.1')
    authority.cert_pem.write_to_path(str(folder / 'team.pem'))
    server.cert_chain_pems[0].write_to_path(str(folder / 'server.pem'))
    server.private_key_pem.write_to_path(str(folder / 'server.key'))
    return folder


@pytest.mark.parametrize(('text', 'script'), list(recipes()))
def test_a_recipe_is_right_and_starts_twice(tmp_path, monkeypatch, certificates, text, script):
    monkeypatch.chdir(tmp_path)
    for place in ('/etc/boxsession/', '/run/boxsession/', '/var/lib/boxsession/', '/var/log/boxsession/'):
        text = text.replace(place, '')
    # Ports and groups are another machine's.
    text = re.sub(r'(?<=\d):\d{4}', ':0', re.sub('group: .*', 'group: 0', text))
    text = re.sub(r'(?<=[ ])(?=(server|team)\.)', f'{certificates}/', text)
    Path('config.yml').write_text(text)
    if 'init.lua' in text:
        Path('init.lua').write_text(script)
    assert [] == problems(load('config.yml'), 'config.yml')
    for _ in range(2):
        console = boxsession.Console(config='config.yml')
        console.start()
        console.stop()


def test_there_are_recipes():
    assert len(list(recipes())) >= 8


def test_the_readmes_settings_users_and_metrics(serve, connect, tmp_path):
    config, script, commands = readme_blocks('Settings, users, metrics')
    (tmp_path / 'shop.yml').write_text(re.sub(r':(3313|9313)', ':0', config))
    (tmp_path / 'init.lua').write_text(script)
    assert [line.split()[0] for line in commands.splitlines()] == ['.venv/bin/boxsession'] * 3 + ['curl']
    for _ in range(2):
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
        assert 0 == served.stop()


def commands(path, *beginnings):
    """The shell commands of a page that begin with one of these texts: (command, output)."""
    for block in literal_blocks(path):
        for command, output in re.findall(r'^\$ (.+)\n((?:(?!\$ ).+\n)*)', block, flags=re.MULTILINE):
            if command.startswith(beginnings):
                yield command, output


def said(command, environment=None):
    """The output of a shell command, with numbers that vary replaced."""
    done = subprocess.run(['sh', '-c', command], capture_output=True, text=True, timeout=30, cwd=PROJECT,
                          env={**os.environ, **(environment or {})})
    assert (0, '') == (done.returncode, done.stderr), command
    return steady(done.stdout)


def steady(output):
    return re.sub(r'(session: |memory: )\d+', r'\1N', output)


@need('nc')
def test_the_quickstarts_commands(serve, tmp_path):
    port = serve('--listen', '127.0.0.1:0').addresses()[0].rpartition(':')[2]
    shown = [(command, output) for command, output in commands(QUICKSTART, 'printf', 'examples/')
             if '3313' in command]
    assert len(shown) == 2
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'        # a python3 with PyYAML
    for command, output in shown * 2:
        assert steady(output) == said(command.replace('3313', port), {'PATH': path})


@need('nc')
@need('curl')
def test_the_quickstarts_program():
    command = [sys.executable, 'examples/embed.py', '--http', '0', '--console', '127.0.0.1:0']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as program:
        try:
            web, port = re.findall(r':(\d+)', program.stdout.readline())
            [fetch] = commands(QUICKSTART, 'curl http://127.0.0.1:8080')
            [ask] = (shown for shown in commands(QUICKSTART, 'printf') if '3314' in shown[0])
            for command, output in (fetch, ask):
                assert output == said(command.replace('curl', 'curl -s').replace('8080', web).replace('3314', port))
        finally:
            program.terminate()
    assert 0 == program.returncode


def readme_blocks(section):
    """The blocks below a heading of README.rst."""
    text = (PROJECT / 'README.rst').read_text()
    body = text[text.index(f'{section}\n---'):]
    end = re.search(r'\n\n[^\n]+\n-+\n', body[len(section):])
    blocks = re.findall(r'::\n\n((?:    .*\n|\n(?=    ))+)', body[:end.start() + len(section) + 1])
    return ['\n'.join(line[4:] for line in block.splitlines()) + '\n' for block in blocks]


def test_the_readme_sets_up_a_fresh_machine():
    venv = 'python3 -m venv .venv && .venv/bin/pip install '
    [serve, *_] = readme_blocks('Install and serve')
    [test] = readme_blocks('Test')
    assert f"{venv}'.[client,metrics]' && .venv/bin/boxsession serve\n" == serve
    assert f"{venv}-e '.[test]' && .venv/bin/python -m pytest\n" == test


def test_the_picture_is_of_a_run():
    picture = module_of(PROJECT / 'docs' / 'picture.py')
    assert picture.picture() == picture.PICTURE.read_text(), 'run python docs/picture.py'


def test_every_page_has_a_next_step():
    for path in PAGES[1:]:
        if path.name != 'index.rst':
            assert '\nNext step\n---------\n' in path.read_text(), path.name


def test_the_pages_are_in_the_readme_and_the_index():
    readme, index = PAGES[0].read_text(), (PROJECT / 'docs' / 'index.rst').read_text()
    for path in PAGES[1:]:
        if path.name != 'index.rst':
            assert f'``docs/{path.name}``' in readme and f'\n   {path.stem}\n' in index, path.name
