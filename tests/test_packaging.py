"""The wheel and the sdist that `python -m build` makes: each installs in a clean environment, and serves."""
from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import PROJECT

from boxsession.base.version import __version__

pytestmark = pytest.mark.slow
SECONDS = 120
SMOKE = '''
set -e
boxsession serve --listen unix:$PWD/socket &
trap 'kill %1; wait' EXIT
for _ in $(seq 200); do [ -S socket ] || sleep 0.1; done
boxsession connect unix:$PWD/socket --raw -e '1 + 1'
'''


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, **more)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """The files that the build made: the wheel and the sdist."""
    folder = tmp_path_factory.mktemp('build')
    # A copy of the files in git: a build writes into its folder, and includes untracked files.
    run('git', 'clone', '-q', str(PROJECT), str(folder / 'source'))
    changed = run('git', '-C', str(PROJECT), 'diff', 'HEAD', '--binary')
    if changed:
        run('git', '-C', str(folder / 'source'), 'apply', '-', input=changed)
    run(sys.executable, '-m', 'build', '-q', '-o', str(folder / 'made'), str(folder / 'source'))
    return folder / 'source', next((folder / 'made').glob('*.whl')), next((folder / 'made').glob('*.tar.gz'))


def known(source: Path, *patterns):
    return set(run('git', '-C', str(source), 'ls-files', '--', *patterns).split())


def test_the_wheel_has_every_file_of_the_package(built):
    source, wheel, _ = built
    names = set(zipfile.ZipFile(wheel).namelist())
    assert set() == known(source, 'boxsession') - names
    data = f'boxsession-{__version__}.data/data/share/boxsession/'
    assert {data + name.removeprefix('conf/') for name in known(source, 'conf')} <= names
    assert f'boxsession-{__version__}.dist-info/licenses/LICENSE' in names


def test_the_sdist_has_every_file_of_the_project(built):
    source, _, sdist = built
    with tarfile.open(sdist) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    assert set() == {name for name in known(source) if not name.startswith('.')} - names


def test_both_install_and_serve(built, tmp_path):
    _, wheel, sdist = built
    venv.create(tmp_path / 'venv', with_pip=True)
    scripts = tmp_path / 'venv' / 'bin'
    for number, file in enumerate((wheel, sdist)):
        more = ['--no-deps', '--force-reinstall'] if number else []
        run(scripts / 'pip', 'install', '-q', '--no-compile', *more, str(file), cwd=tmp_path)
        folder = tmp_path / str(number)
        folder.mkdir()
        assert '2\n' == run('bash', '-c', SMOKE, cwd=folder, env={'PATH': f'{scripts}:/usr/bin:/bin'})
        assert (tmp_path / 'venv' / 'share' / 'boxsession' / 'boxsession.yml').is_file()
