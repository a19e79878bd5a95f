"""Runs a part of the tests under valgrind, and tells of each access to memory that was not theirs inside of lupa or Lua.
By hand, not in CI: a run takes minutes. Deadlines of tests may pass meanwhile; only what valgrind finds counts.

    python tests/under_valgrind.py                          border_calls.py, then the tests of the Lua state
    python tests/under_valgrind.py tests/lua/test_sandbox.py    arguments of pytest
"""
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
KINDS = {'InvalidRead', 'InvalidWrite', 'InvalidFree', 'InvalidJump', 'Overlap'}
# Greenlets copy their stacks: valgrind is to take no switch for one large frame.
OPTIONS = ['--xml=yes', '--max-stackframe=100000000', '--error-limit=no', '--undef-value-errors=no', '--num-callers=30',
           '--child-silent-after-fork=yes']
DEFAULT = [['tests/border_calls.py', '--calls', '40000'],
           ['-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider', 'tests/lua/test_known_bugs.py', 'tests/lua/test_lua.py']]


def errors(path):
    """The errors of a run whose stack goes through lupa: (kind, frames)."""
    for error in ElementTree.parse(path).iter('error'):
        frames = [(frame.findtext('fn', '?'), frame.findtext('obj', '')) for frame in error.iter('frame')]
        if error.findtext('kind') in KINDS and any('lua51' in obj for _, obj in frames):
            yield error.findtext('kind'), frames


def run(command, folder):
    path = Path(folder) / 'errors.xml'
    # Each object is a block of the C library's, not a part of one of Python's arenas.
    ran = subprocess.run(['valgrind', *OPTIONS, f'--xml-file={path}', sys.executable, *command], cwd=PROJECT, check=False,
                         env={**os.environ, 'PYTHONMALLOC': 'malloc', 'PYTHONPATH': str(PROJECT)})
    found = list(errors(path))
    print(f'{" ".join(command)}: exit code {ran.returncode}, {len(found)} errors in lupa', flush=True)
    for kind, frames in found:
        print(f'  {kind}: ' + ' < '.join(name for name, _ in frames[:8]))
    return not found and ran.returncode >= 0


def main():
    commands = [['-m', 'pytest', '-q', '-p', 'no:cacheprovider', *sys.argv[1:]]] if sys.argv[1:] else DEFAULT
    with tempfile.TemporaryDirectory() as folder:
        return 0 if all([run(command, folder) for command in commands]) else 1


if __name__ == '__main__':
    sys.exit(main())
