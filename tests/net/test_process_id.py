"""`%p` in the path of a unix socket: one address for each process, and the files that dead processes have left."""
from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from boxsession.base.address import Address


@pytest.fixture
def dead():
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, '-c', ''])
    process.wait()
    return process.pid


def leave(path):
    """A socket file on which no process listens."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


def test_a_console_and_its_metrics_listen_at_the_process_id(console, connect, tmp_path):
    served = console(listen=[f'unix:{tmp_path}/%p.sock'], metrics={'address': f'unix:{tmp_path}/%p-metrics.sock'})
    assert {f'{os.getpid()}.sock', f'{os.getpid()}-metrics.sock'} == set(os.listdir(tmp_path))
    assert f'unix:{tmp_path}/{os.getpid()}.sock' == str(served.addresses[0])
    assert str(served.addresses[0]) == connect(served).value('box.session.list()[1].listener')
    served.stop()
    assert [] == os.listdir(tmp_path)


def test_a_reload_finds_the_address_again(console, connect, tmp_path):
    served = console(listen=[f'unix:{tmp_path}/%p.sock'])
    client = connect(served)
    served.reload({})
    config = {'metrics': {'address': f'unix:{tmp_path}/%p.metrics'}}
    assert ['metrics.address'] == served.reload(config)
    assert [] == served.reload(config)
    assert f'unix:{tmp_path}/{os.getpid()}.metrics' == str(served.metrics_address)
    assert 2 == client.value('1 + 1')


def test_a_listener_of_a_statement(console, connect, tmp_path):
    client = connect(console(listen=['127.0.0.1:0']))
    client.reply(f"opened = require('console').listen('unix:{tmp_path}/%p.sock')")
    assert 2 == connect(f'unix:{tmp_path}/{os.getpid()}.sock').value('1 + 1')


def test_sockets_of_dead_processes_are_removed(console, tmp_path, dead):
    parent = os.getppid()
    kept = [f'{parent}.sock', f'{dead}.sock.old', f'x{dead}.sock', f'{dead}', '0.sock', '.sock', 'name.sock']
    for name in [f'{dead}.sock', f'{2**70}.sock', *kept]:
        leave(tmp_path / name)
    (tmp_path / f'{dead}1.sock').write_text('no socket')
    console(listen=[f'unix:{tmp_path}/%p.sock'])
    assert sorted([*kept, f'{dead}1.sock', f'{os.getpid()}.sock']) == sorted(os.listdir(tmp_path))


def test_a_socket_on_which_somebody_listens_is_kept(console, tmp_path, dead):
    """Its process may have another id here: it runs in another container."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / f'{dead}.sock'))
        other.listen()
        console(listen=[f'unix:{tmp_path}/%p.sock'])
        assert (tmp_path / f'{dead}.sock').exists()


def test_the_longest_process_id_fits():
    folder = '/' + 'x' * 92
    assert 107 == len(Address.parse(f'unix:{folder}/%p.sock.').for_process(4194304).path)
    with pytest.raises(ValueError, match='at most 107 bytes'):
        Address.parse(f'unix:{folder}y/%p.sock.')
