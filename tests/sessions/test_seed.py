"""The manual page's example, typed through a real nc and a real telnet, and the shell example of the docs."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gevent
import pytest
import yaml
from conftest import PROJECT, need
from gevent import socket

TYPED = '''\
box.session.peer(session.id())
box.session.storage.random_memorandum = "Don't forget the eggs"
box.session.storage.radius_of_mars = 3396
m = ''
for k, v in pairs(box.session.storage) do
  m = m .. k .. '='.. v .. ' '
end
m
box.session.storage.radius_of_mars
'''
ANSWERS = [None, None, None, None, ["radius_of_mars=3396 random_memorandum=Don't forget the eggs "], [3396]]


def check(output):
    assert 128 <= len(output)
    peer, *answers = yaml.safe_load_all(output[128:])
    assert peer[0].startswith('127.0.0.1:')
    assert ANSWERS == answers


@pytest.fixture
def port(serve):
    return serve('--listen', '127.0.0.1:0').addresses()[0].rpartition(':')[2]


@need('nc')
@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_through_nc(port, end):
    done = subprocess.run(['nc', '-N', '127.0.0.1', port], input=TYPED.replace('\n', end).encode(), stdout=subprocess.PIPE,
                     timeout=20)
    check(done.stdout)
    assert b"---\n- 'radius_of_mars=3396 random_memorandum=Don''t forget the eggs '\n...\n" in done.stdout


@need('telnet')
@pytest.mark.parametrize('leave', ['~.\n', '\\quit\n'])
def test_through_telnet(port, leave):
    # telnet reads on when its input ends only while the server does not close: so the session is left by command.
    process = subprocess.Popen(['telnet', '127.0.0.1', port], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
    process.stdin.write(TYPED.encode())
    process.stdin.flush()
    output = b''
    with gevent.Timeout(30):
        while not output.endswith(b'---\n- 3396\n...\n'):
            output += read(process.stdout).replace(b'\r\n', b'\n')
        process.stdin.write(leave.encode())
        process.stdin.flush()
        rest = b''
        while piece := read(process.stdout):
            rest += piece
        process.wait()
    process.stdin.close()
    process.stdout.close()
    assert b'Connection closed by foreign host' in rest
    check(output[output.index(b'Tarantool 2.6.0'):])


def read(file):
    """The bytes that can be read, b'' at the end. Other greenlets run while it waits."""
    socket.wait_read(file.fileno())
    return os.read(file.fileno(), 65536)


@need('nc')
def test_the_shell_example(port):
    # Its python3 needs PyYAML: that of these tests has it.
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    done = subprocess.run([str(PROJECT / 'examples' / 'health.sh'), '127.0.0.1', port], stdout=subprocess.PIPE, timeout=20,
                          env={**os.environ, 'PATH': path})
    assert 0 == done.returncode
    lines = done.stdout.decode().splitlines()
    assert ['status: running', 'session: 1'] == lines[:2]
    assert lines[2].startswith('lua memory: ')


@need('nc')
def test_the_shell_example_tells_that_nobody_is_there():
    done = subprocess.run([str(PROJECT / 'examples' / 'health.sh'), '127.0.0.1', '1'], capture_output=True, timeout=20)
    assert (2, b'cannot connect to 127.0.0.1:1\n') == (done.returncode, done.stderr)
