"""Consoles in programs of every kind: threads, asyncio, forks. What runs in which thread, and what a child gives up."""
from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from pathlib import Path

import gevent
import pytest
from gevent import monkey
from waiting import connected, running, wait_for

from boxsession import BoxsessionError, ConfigError, Console, ListenError, current_session
from boxsession.operations import monitor

PROJECT = Path(__file__).resolve().parent.parent


class Program:
    """A program in a process of its own, which listens at `admin.sock`. It ends when its standard input is closed."""

    def __init__(self, folder, code):
        self.folder = folder
        self._clients = []
        (folder / 'program.py').write_text(textwrap.dedent(code))
        self.process = subprocess.Popen(
            [sys.executable, 'program.py'], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, 'PYTHONPATH': str(PROJECT)})

    def client(self):
        self._clients.append(connected(self.folder / 'admin.sock', self.process))
        return self._clients[-1]

    def tell(self):
        """Sends the program a line."""
        self.process.stdin.write(b'\n')
        self.process.stdin.flush()

    def kill(self):
        for client in self._clients:
            client.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)         # its children, too
        self.process.communicate()

    def end(self):
        """Lets the program end. Returns what it has printed."""
        printed, _ = self.process.communicate(timeout=30)
        assert 0 == self.process.returncode, printed
        return printed.decode()


@pytest.fixture
def program(tmp_path):
    started = []

    def start(code):
        started.append(Program(tmp_path, code))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def in_thread(function, *args):
    """Calls a function in another thread, while the event loop of this one runs."""
    return gevent.get_hub().threadpool.apply(function, args)


class TestThreads:
    def test_a_threaded_program_has_its_console_in_a_thread(self, program):
        started = program('''
            import sys, threading
            from boxsession import Console, current_session
            def who():
                return threading.current_thread() is threading.main_thread(), current_session().user
            console = Console(listen='unix:admin.sock', expose={'who': who})
            for _ in range(2):
                console.start()
                sys.stdin.readline()
                console.stop()
            console.start()
            print(len(console.addresses), flush=True)
            sys.stdin.read()
            ''')
        for _ in range(2):
            client = started.client()
            assert [False, 'admin'] == client.value('who()')
            started.tell()
            with pytest.raises(EOFError):
                client.document()
        assert [False, 'admin'] == started.client().value('who()')
        assert '1\n' == started.end()
        assert not (started.folder / 'admin.sock').exists()         # although nobody has called stop()

    @pytest.mark.parametrize('number, handler', [
        (signal.SIGTERM, 'lambda *_: sys.exit(3)'), (signal.SIGINT, 'signal.default_int_handler')])
    def test_what_a_signals_handler_raises_in_a_statement_ends_the_program(self, program, number, handler):
        started = program(f'''
            import signal, sys, gevent
            from boxsession import Console
            console = Console(listen='unix:admin.sock', languages=['python'])
            signal.signal({int(number)}, {handler})
            console.start()
            try:
                gevent.sleep(1000)
            except BaseException as error:
                print(type(error).__name__)
            ''')
        client = started.client()
        client.send("while True: print('begun')\n\n")
        assert b'begun' in client.document()
        started.process.send_signal(number)
        printed = 'SystemExit' if number == signal.SIGTERM else 'KeyboardInterrupt'
        # If the signal comes between two statements, gevent tells of it first.
        assert started.end().endswith(f'{printed}\n')

    def test_an_interrupt_that_a_statement_raises_is_its_own(self, program):
        started = program('''
            import sys
            import gevent
            from boxsession import Console
            console = Console(listen='unix:admin.sock', languages=['python'])
            console.start()
            gevent.get_hub().threadpool.apply(sys.stdin.read)
            ''')
        client = started.client()
        for _ in range(2):
            assert b'KeyboardInterrupt' in client.reply('raise KeyboardInterrupt')
            assert b'SystemExit' in client.reply('import sys; sys.exit(3)')
        assert started.end() == ''

    def test_serve_forever_ends_by_a_signals_handler(self, program):
        started = program('''
            import signal
            from boxsession import Console
            console = Console(listen='unix:admin.sock')
            signal.signal(signal.SIGTERM, lambda *_: console.stop())
            console.start()
            console.serve_forever()
            print('served')
            ''')
        assert 2 == started.client().value('1 + 1')
        started.process.terminate()
        assert 'served\n' == started.end()

    def test_the_thread_in_a_gevent_program(self, connect, tmp_path):
        thread = []
        console = Console(listen=f'unix:{tmp_path}/a.sock', thread=True, config={'limits': {'drain_seconds': 0.1}}, expose={
            'who': lambda: thread.append(monkey.get_original('_thread', 'get_ident')()), 'wait': gevent.sleep})
        files, threads = len(os.listdir('/proc/self/fd')), set(sys._current_frames())
        for number in range(2):
            console.start()
            client = connect(console)
            client.reply('who()')
            assert thread[-1] != threading.get_ident()
            console.command(lambda: 'added', f'added{number}')
            assert 'added' == client.value(f'\\added{number}')
            assert ['limits.fibers'] == console.reload({'limits': {'drain_seconds': 0.1, 'fibers': 7 + number}})
            assert 7 + number == client.value('box.cfg.limits.fibers')
            console.serve_metrics(f'unix:{tmp_path}/metrics.sock')
            console.reopen_logs()
            assert console.memory_used and console.is_accepting and len(console.sessions) == 1
            client.send('wait(1000)\n')
            wait_for(lambda: running(console))
            console.stop()
            client.close()
            assert not console.addresses
        wait_for(lambda: threads >= set(sys._current_frames()))
        assert files == len(os.listdir('/proc/self/fd'))

    def test_a_start_that_fails_leaves_no_thread(self, tmp_path):
        threads = set(sys._current_frames())
        for listen, error in [(f'unix:{tmp_path}/none/a.sock', ListenError), ({'address': '127.0.0.1:0', 'user': 'nobody'},
                                                                             ConfigError)]:
            with pytest.raises(error):
                Console(listen=listen, thread=True).start()
        wait_for(lambda: threads >= set(sys._current_frames()))

    def test_a_console_of_this_loop_is_called_from_a_thread(self, console, connect, tmp_path):
        served = console(expose={'who': lambda: threading.get_ident() == main})
        main = threading.get_ident()
        client = connect(served)
        in_thread(served.command, lambda: 'added', 'later')
        assert ['added', True] == [client.value('\\later'), client.value('who()')]
        assert ['limits.fibers'] == in_thread(served.reload, {'limits': {'drain_seconds': 0.2, 'share_percent': 0,
                                                                        'fibers': 7}})
        in_thread(served.stop)
        with pytest.raises(EOFError):
            client.document()
        in_thread(served.stop)

    def test_a_loop_that_does_not_run_is_told(self, console, monkeypatch):
        served = console()
        monkeypatch.setattr('boxsession.threads._BEGIN_SECONDS', 0.01)
        problems = []

        def stop():
            try:
                served.stop()
            except BoxsessionError as error:
                problems.append(str(error))

        stopping = threading.Thread(target=stop)
        stopping.start()
        stopping.join()             # this thread's loop cannot run meanwhile
        assert ['the event loop of the console has not run for 0.01 s: something blocks it, or it has ended'] == problems
        gevent.sleep(0)
        assert served.is_accepting

    def test_a_console_in_a_loop_that_never_runs_says_what_to_do(self, console, monkeypatch, caplog):
        monkeypatch.setattr(monitor, '_START_SECONDS', 0.01)
        console()
        end = threading.Event()
        while 'answers nobody' not in caplog.text:
            end.wait(0.01)
        [line] = [record.getMessage() for record in caplog.records if 'answers nobody' in record.getMessage()]
        assert 'pass thread=True' in line and f'{__file__}:' in line
        gevent.sleep(0.2)
        assert 1 == caplog.text.count('answers nobody')


class TestDetection:
    def test_what_gevent_is_used_for(self, program):
        started = program('''
            import asyncio
            from boxsession import surroundings
            def without(): print(surroundings.is_without_gevent())
            without()
            def uses():
                import gevent.queue             # in a function: the program may use it, or not
            uses(), without()
            import gevent.queue
            without()
            del gevent
            from gevent.queue import Queue
            without()
            async def main(): without()
            asyncio.run(main())
            del Queue
            without()
            import gevent; gevent.get_hub()
            del gevent
            without()
            asyncio.run(main())
            from gevent import monkey; monkey.patch_all()
            asyncio.run(main())
            ''')
        assert 'True True False False True True False True False'.split() == started.end().split()


class TestAsyncio:
    def test_functions_run_in_the_asyncio_loop(self, program):
        started = program('''
            import asyncio, sys, threading
            from boxsession import Console, current_session

            async def main():
                async def ask(what):
                    await asyncio.sleep(0.01)
                    return what, asyncio.get_running_loop() is loop, current_session().user
                async def forever():
                    try:
                        await asyncio.sleep(1000)
                    except asyncio.CancelledError:
                        print('cancelled')
                        raise
                async def fail():
                    raise KeyError('k')
                def plain():
                    return asyncio.get_running_loop() is loop, current_session().id
                loop = asyncio.get_running_loop()
                console = Console(listen='unix:admin.sock', expose={
                    'ask': ask, 'forever': forever, 'fail': fail, 'plain': plain, 'quit': sys.exit, 'up': str.upper,
                    'stop': iter([]).__next__})
                console.command(ask)
                console.start()
                await asyncio.to_thread(sys.stdin.read)
                await asyncio.to_thread(console.stop)
            asyncio.run(main())
            ''')
        client = started.client()
        assert ['x', True, 'admin'] == client.value('ask("x")')
        assert ['y', True, 'admin'] == client.value('\\ask y')
        assert [[True, 1], 'UP'] == client.values('plain(), up("up")')
        assert "KeyError: 'k'" == client.error('fail()')
        assert 'SystemExit: 3' == client.error('quit(3)')
        assert 'StopIteration' == client.error('stop()')
        client.send('forever()\n')
        gevent.sleep(0.05)
        client.send(b'\x03')
        assert b'cancelled' in client.document()
        assert 2 == client.value('1 + 1')
        assert started.end().endswith('cancelled\n')

    def test_a_function_for_a_loop_that_waits_for_the_console(self, program):
        started = program('''
            import asyncio
            from boxsession import Console
            open('init.lua', 'w').write('_, problem = pcall(plain) print(1)')
            async def main():
                console = Console(listen='unix:admin.sock', expose={'plain': lambda: 1}, config={'init': 'init.lua'})
                console.start()
                await asyncio.to_thread(input)
                console.stop()
                console = Console(listen='unix:admin.sock', expose={'plain': lambda: 1}, config={'init': 'init.lua'},
                                  call_in=asyncio.get_running_loop())
                await asyncio.to_thread(console.start)
                await asyncio.to_thread(input)
            asyncio.run(main())
            ''')
        client = started.client()
        assert 'await asyncio.to_thread(console.stop)' in client.value('problem')
        started.tell()
        with pytest.raises(EOFError):
            client.document()
        assert [1] == started.client().values('problem')
        started.tell()
        started.end()


class TestCallIn:
    def test_functions_run_in_a_pool_of_threads(self, connect):
        def who():
            return threading.get_ident() == main, current_session().id

        main = threading.get_ident()
        held, go = threading.Event(), threading.Event()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            console = Console(listen='127.0.0.1:0', call_in=pool, expose={
                'who': who, 'block': lambda: held.set() or go.wait(30), 'shop': {'fail': {}.__getitem__}, 'cls': int})
            console.command(who)
            console.start()
            client, other = connect(console), connect(console)
            assert [[False, 1], 5] == client.values('who(), cls("5")')
            assert [False, 2] == other.value('\\who')
            assert "KeyError: 'k'" == client.error('shop.fail("k")')
            client.send('block()\n')
            wait_for(held.is_set)
            assert 2 == other.value('1 + 1')
            other.send('x = who()\n')
            wait_for(lambda: len(running(console)) == 2)
            other.send(b'\x03')             # it waits for the only thread
            assert b'cancelled' in other.document()
            go.set()
            assert b'true' in client.document()
            assert [None] == client.values('x')
            console.stop()

    def test_what_cannot_call(self):
        with pytest.raises(TypeError, match='call_in should be an asyncio loop or an executor'):
            Console(call_in=print)


FORK = '''
    import os, sys
    import gevent
    from gevent import monkey
    {first}
    from gevent import socket
    from boxsession import Console
    console = Console(listen='unix:%p.sock', expose={{'pid': os.getpid}}, thread={thread},
                      config={{'store': 'users.db', 'audit': {{'file': 'audit'}}}})
    console.start()

    def connected(pid):
        client = socket.socket(socket.AF_UNIX)
        client.connect(f'{{pid}}.sock')
        client.recv(128)
        return client

    def ask(client, *statements):
        client.sendall(' '.join(statements).encode() + b'\\n')
        return client.recv(1000).decode().split()[2]

    def check(of, expected):
        assert str(expected) == of, (of, expected)

    with gevent.Timeout(20):
        parent, client = os.getpid(), connected(os.getpid())
        ask(client, 'fiber = require("fiber") fiber.create(function() while true do fiber.sleep(0.01) end end)', 'return 1')
        pid = os.fork()
        if pid:
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                gevent.sleep(0.01)
            check(ask(client, 'pid()'), parent)
            check(ask(connected(parent), 'pid()'), parent)
            client.sendall(b'\\\\quit\\n')
            check(client.recv(1).decode(), '')
            console.stop()
            check(str(os.path.exists(f'{{parent}}.sock')), False)
        else:
            gevent.sleep(0.05)
            check(str(console.is_accepting), False)
            check(str(console.addresses), [])
            console.stop()
            check(ask(connected(parent), 'pid()'), parent)
            console.start()
            check(ask(connected(os.getpid()), 'pid()'), os.getpid())
            ask(connected(os.getpid()), 'box.schema.user.create("child")', 'return 1')
            console.stop()
            print('child ends', flush=True)
            sys.exit()
'''


class TestForks:
    @pytest.mark.parametrize('thread, first', [
        (False, ''), (False, 'monkey.patch_all()'), (True, ''),
        # No hook of Python is called, as in a fork of a program in C:
        (False, 'from boxsession import forks; forks._registered.append(True)')],
        ids=['loop', 'patched', 'thread', 'in-c'])
    def test_a_child_gives_the_console_up_and_may_start_its_own(self, program, thread, first):
        printed = program(FORK.format(thread=thread, first=first)).end()
        assert 1 == printed.count('child ends')
        assert 1 == printed.count('does not serve it: clients still reach that process')

    def test_a_worker_pool_is_told_once(self, program):
        printed = program('''
            import multiprocessing, threading
            from boxsession import Console
            Console(listen='127.0.0.1:0').start()
            with multiprocessing.get_context('fork').Pool(3) as pool:
                print(pool.map(abs, range(10)))
                pool.close()
                pool.join()         # the end of the block would end a worker that has only begun
            ''').end()
        assert '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]' in printed
        assert 1 == printed.count('does not serve it')

    def test_a_program_that_is_run_is_no_such_child(self, program):
        printed = program('''
            from gevent import monkey; monkey.patch_all()
            import os, subprocess
            from boxsession import Console
            Console(listen='127.0.0.1:0').start()
            print(subprocess.check_output(['echo', 'runs']))
            print('then', flush=True)
            if not os.fork():
                os._exit(0)
            os.wait()
            ''').end()
        assert "b'runs" in printed.partition('then')[0] and 'does not serve it' not in printed.partition('then')[0]
        assert 1 == printed.partition('then')[2].count('does not serve it')
