"""A real Tarantool with a text console and a binary listener, for tests that compare boxsession with it."""
from __future__ import annotations

import socket
import subprocess
import time

START_SECONDS = 20

_SCRIPT = '''
-- Lua output of 2.6.0 is wrong once its serializer's settings are collected.
collectgarbage('stop')
box.cfg{listen = '127.0.0.1:%(binary)d', log = '%(folder)s/log',
        wal_mode = 'none', memtx_memory = 33554432, work_dir = '%(folder)s'}
box.schema.user.grant('guest', 'execute', 'universe')
box.schema.user.create('ops', {password = 'pass'}) box.schema.user.grant('ops', 'execute', 'universe')
function echo(...) return ... end
require('console').listen('127.0.0.1:%(port)d')
'''


class Tarantool:
    """A `tarantool` process.

    Args:
        folder: its working directory.

    Attributes:
        address: 'host:port' of its text console.
        binary_port: the port of its binary protocol, at 127.0.0.1.
    """

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as probe, socket.socket() as second:
            for sock in (probe, second):
                sock.bind(('127.0.0.1', 0))
            port, self.binary_port = probe.getsockname()[1], second.getsockname()[1]
        self.address = f'127.0.0.1:{port}'
        script = folder / 'init.lua'
        script.write_text(_SCRIPT % {'folder': folder, 'port': port, 'binary': self.binary_port})
        with open(folder / 'output', 'wb') as output:
            self.process = subprocess.Popen(['tarantool', str(script)], stdout=output, stderr=output,
                                            stdin=subprocess.DEVNULL, cwd=folder)
        self._wait(port)

    def _wait(self, port):
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(('127.0.0.1', port), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise AssertionError(f'no tarantool: {(self.folder / "output").read_text()}') from None
                time.sleep(0.02)

    def stop(self):
        self.process.kill()
        self.process.wait()
