"""Modules, classes and functions are short. The docstring of a longer one says why: "Longer than usual: ..."."""
from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / 'boxsession'
# Lines.
MODULE, CLASS, FUNCTION = 400, 200, 60
REASON = 'Longer than usual: '


def things():
    """(name, number of lines, allowed number, docstring) of each module, class and function."""
    for path in sorted(PACKAGE.rglob('*.py')):
        name, text = str(path.relative_to(PACKAGE)), path.read_text()
        tree = ast.parse(text)
        yield name, text.count('\n'), MODULE, ast.get_docstring(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                most = CLASS if isinstance(node, ast.ClassDef) else FUNCTION
                yield f'{name} {node.name}', node.end_lineno - node.lineno + 1, most, ast.get_docstring(node)
    for path in sorted(PACKAGE.rglob('*.lua')):
        lines = path.read_text().splitlines()
        code = next(number for number, line in enumerate(lines) if not line.startswith('--'))
        yield str(path.relative_to(PACKAGE)), len(lines), MODULE, '\n'.join(line.lstrip('- ') for line in lines[:code])


def says_why(said):
    return any(line.startswith(REASON) for line in (said or '').splitlines())


def test_what_is_long_says_why():
    assert [] == [name for name, count, most, said in things() if count > most and not says_why(said)]


def test_only_what_is_long_says_so():
    assert [] == [name for name, count, most, said in things() if count <= most and says_why(said)]
