"""Compares replies of a real Tarantool and of boxsession, apart from known differences in wording."""
from __future__ import annotations

import base64
import re

import replay

# What the Lua engines word or format differently, as YAML and Lua output show it.
NAN = re.compile(rb'-nan')
BUILTIN = re.compile(rb'\[builtin:\w+\]:\d+: |builtin/[\w./]+:\d+: ')
POSITION = re.compile(rb'\[string \\?"(?s:.)*?"\]:\d+:\s')
ARGUMENT = re.compile(rb"((?:bad argument\s#\d+|wrong number of arguments)\s+to\s+)(''?|\\')[\w.?]*\2")
VARIABLE = re.compile(rb"(attempt to\s+[\w\s]+?)\s+(?:local|global|field|upvalue|method|constant)\s+(''?|\\')[^']*\2\s+"
                      rb"\((a\s+\w+\s+value)\)")
BASE64 = re.compile(rb'!!binary ([\w+/]+=*)|(?<=")([\w+/]{2,}=*)(?=")')


def decoded(match):
    try:
        return base64.b64decode(match.group(1) or match.group(2), validate=True)
    except ValueError:
        return match.group()


MARKS = [b'error', b'[string', b'bad argument', b'attempt to']


def unify(reply, worded):
    reply = NAN.sub(b'nan', replay.unify(reply))
    if worded:
        if reply.startswith(b'---'):
            reply = b' '.join(reply.split())
        reply = POSITION.sub(b'', reply)
    reply = NAN.sub(b'nan', BASE64.sub(decoded, reply))
    if worded:
        reply = BUILTIN.sub(b'', POSITION.sub(b'', reply))
        reply = VARIABLE.sub(rb'\1 \3', ARGUMENT.sub(rb"\1'?'", reply))
    return reply


def same(want, got):
    """As replay.same(), but also ignores the differences above, and the order of the keys of any map."""
    if want == got or replay.same(want, got):
        return True
    worded = any(mark in want + got for mark in MARKS)
    a, b = unify(want, worded), unify(got, worded)
    if a == b:
        return True
    return sorted(a) == sorted(b) and replay.documents(a) == replay.documents(b)
