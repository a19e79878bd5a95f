"""`\\profile` and box.inspect.profile: shares of functions and greenlets, the file, cancels, signals, rights."""
from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import gevent
import pytest
from waiting import wait_for

from boxsession.inspection import sampler as sampler_module
from boxsession.inspection.objects import Refused
from boxsession.inspection.profile import IDLE, UNSEEN, Profile
from boxsession.inspection.sampler import Sampler


def burn():
    end = time.thread_time() + 0.002
    while time.thread_time() < end:
        pass


def serve():
    while True:
        burn()
        gevent.sleep(0.001)


def hold():
    while True:
        time.sleep(0.005)
        gevent.sleep(0.001)


@pytest.fixture
def spawn():
    spawned = []
    yield lambda function: spawned.append(gevent.spawn(function))
    gevent.killall(spawned)


@pytest.fixture
def served(console):
    return console()


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    wait_for(lambda: sampler_module._current is None)
    wait_for(lambda: signal.getsignal(signal.SIGPROF) == signal.SIG_DFL)
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def functions(row):
    return {shown['function'].partition(':')[2]: shown for shown in row['functions']}


def made(seconds=0.5, rate=200, path=''):
    sampler = Sampler(seconds, rate, path)
    wait_for(lambda: sampler.result is not None)
    sampler.release()
    return sampler.result


class TestShares:
    def test_short_turns_are_seen(self, spawn):
        spawn(serve)
        row = made(1)
        assert row['method'].startswith('signal')
        found = functions(row)
        assert found['burn']['own_percent'] > 5 and found['serve']['total_percent'] > 5
        assert found['burn']['where'].startswith(__file__ + ':') and found['burn']['samples'] > 0
        assert any(greenlet['run'].endswith(':serve') and greenlet['percent'] > 5 for greenlet in row['greenlets'])
        assert row['busy_percent'] > 5

    def test_a_call_that_holds_the_loop(self, spawn):
        spawn(hold)
        row = made()
        found = functions(row)['hold']
        assert found['own_waiting_percent'] > 10 and row['held_waiting_percent'] > 10

    def test_an_idle_loop(self):
        row = made(0.2)
        assert row['idle_percent'] > 10 and row['samples'] > 0

    def test_a_loop_in_another_thread(self, monkeypatch):
        rows = []

        def run():
            gevent.spawn(serve)
            sampler = Sampler(0.5, 200)
            while sampler.result is None:
                gevent.sleep(0.01)
            rows.append(sampler.result)
            gevent.get_hub().destroy(True)

        thread = threading.Thread(target=run)
        thread.start()
        wait_for(lambda: not thread.is_alive())
        row, = rows
        assert row['method'].startswith('thread: ') and 'main thread' in row['method']
        assert row['busy_percent'] > 5

    def test_the_signal_of_the_program_is_left_alone(self, spawn):
        def of_program(*_):
            pass

        signal.signal(signal.SIGPROF, of_program)
        try:
            assert 'SIGPROF or its timer itself' in made(0.1)['method']
            assert signal.getsignal(signal.SIGPROF) is of_program
        finally:
            signal.signal(signal.SIGPROF, signal.SIG_DFL)

    def test_the_signal_that_the_program_takes_meanwhile_is_left_alone(self):
        def of_program(*_):
            pass

        sampler = Sampler(0.1, 100)
        signal.signal(signal.SIGPROF, of_program)
        signal.setitimer(signal.ITIMER_PROF, 1000)
        try:
            wait_for(lambda: sampler.result is not None)
            sampler.release()
            assert signal.getsignal(signal.SIGPROF) is of_program
            assert signal.getitimer(signal.ITIMER_PROF)[0] > 900
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, signal.SIG_DFL)

    def test_the_timer_of_the_program_is_left_alone(self):
        signal.setitimer(signal.ITIMER_PROF, 1000)
        try:
            assert 'SIGPROF or its timer itself' in made(0.1)['method']
            assert signal.getitimer(signal.ITIMER_PROF)[0] > 900
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


class TestProfile:
    def frame(self):
        return self.inner()

    def inner(self):
        return __import__('sys')._getframe()

    def test_own_and_total(self):
        profile = Profile(seconds=10)
        stack = profile.stack(self.frame())
        profile.add(stack, ran=4)
        profile.add(stack[1:], ran=1, waited=1)
        profile.add(IDLE, waited=3)
        profile.add(UNSEEN, ran=1)
        row = profile.answer()
        found = functions(row)
        inner, outer = found['TestProfile.inner'] if 'TestProfile.inner' in found else found['inner'], \
            found.get('TestProfile.frame') or found['frame']
        assert (40, 40, 1) == (inner['own_percent'], inner['total_percent'], inner['samples'])
        assert (20, 60, 10) == (outer['own_percent'], outer['total_percent'], outer['own_waiting_percent'])
        assert row['idle_percent'] == 30 and row['samples'] == 4

    def test_very_many_stacks_take_bounded_room(self, monkeypatch):
        monkeypatch.setattr('boxsession.inspection.profile._STACKS', 10)
        profile = Profile(seconds=1)
        stack = profile.stack(self.frame())
        for number in range(1000):
            profile.add((*stack, *[stack[0]] * number), ran=0.001)
        assert len(profile._stacks) <= 11 and profile.samples == 1000

    def test_speedscope(self):
        profile = Profile(seconds=4)
        stack = profile.stack(self.frame())
        for _ in range(2000):
            profile.add(IDLE, waited=0.001)
            profile.add(stack, ran=0.001)
        shown = json.loads(''.join(profile.speedscope('n')))
        samples, weights = shown['profiles'][0]['samples'], shown['profiles'][0]['weights']
        names = [frame['name'] for frame in shown['shared']['frames']]
        assert len(samples) == len(weights) == 4000 and sum(weights) == pytest.approx(4)
        assert ['(idle)'] == [names[place] for place in samples[0]]
        assert names[samples[1][-1]].endswith('inner') and names[samples[1][-2]].endswith('frame')
        assert shown['profiles'][0]['endValue'] == pytest.approx(4)


def test_a_sample_that_comes_while_the_file_is_written():
    profile = Profile()
    profile.add(IDLE, waited=1.0)
    pieces = profile.speedscope('x')
    text = next(pieces)
    profile.add(UNSEEN, ran=1.0)
    found = json.loads(text + ''.join(pieces))
    assert len(found['profiles'][0]['samples']) == len(found['profiles'][0]['weights']) == 1


class TestCommand:
    def test_progress_and_result(self, served, connect, spawn):
        spawn(serve)
        client = connect(served)
        client.send('\\profile 1.3 200\n')
        push = client.document()
        assert push.startswith(b'%TAG !push!') and b'busy_percent' in push
        assert b':burn' in client.document()

    def test_a_function(self, served, connect):
        row = connect(served).values('box.inspect.profile(0.1, {hz = 50})')[0]
        assert row['seconds'] >= 0.1 and row['method']

    @pytest.mark.parametrize('line, said', [
        ('\\profile', 'Usage'), ('\\profile x', 'Usage'), ('\\profile 1 x', 'Usage'), ('\\profile 1 2 3', 'Usage'),
        ('\\profile 0', 'up to 600'), ('\\profile 601', 'up to 600'), ('\\profile nan', 'up to 600'),
        ('\\profile 1 0', '1 to 1000'), ('\\profile 1 1001', '1 to 1000'), ('\\profile 1 file=x', 'absolute path'),
        ('\\profile 1 file=/nosuch/x', 'cannot be made'), ('box.inspect.profile()', 'Usage'),
        ('box.inspect.profile(1, {hz = "x"})', 'Usage'), ('box.inspect.profile(1, {file = 1})', 'Usage')])
    def test_wrong_arguments(self, served, connect, line, said):
        assert said in connect(served).values(line)[0]['error']

    def test_the_file(self, served, connect, tmp_path, spawn):
        spawn(serve)
        path = tmp_path / 'a profile.json'
        client = connect(served)
        assert client.values(f'\\profile 0.3 file={path}')[0]['busy_percent'] > 5
        names = {frame['name'] for frame in json.loads(path.read_text())['shared']['frames']}
        assert any(name.endswith(':burn') for name in names)
        assert path.stat().st_mode & 0o777 == 0o600
        assert 'exists' in client.values(f'\\profile 0.3 file={path}')[0]['error']

    def test_a_link_is_not_followed(self, served, connect, tmp_path):
        link = tmp_path / 'link'
        link.symlink_to(tmp_path / 'target')
        assert 'exists' in connect(served).values(f'\\profile 0.1 file={link}')[0]['error']
        assert not (tmp_path / 'target').exists()

    def test_one_at_a_time_and_a_cancel_removes_the_file(self, served, connect, tmp_path):
        path = tmp_path / 'x.json'
        busy, client = connect(served), connect(served)
        busy.send(f'\\profile 500 file={path}\n')
        wait_for(lambda: path.exists())
        assert 'another profile runs' in client.values('\\profile 1')[0]['error']
        assert [True] == client.values(f'\\cancel {client.values("box.session.id()")[0] - 1}')
        wait_for(lambda: b'cancelled' in busy.document())      # pushes may come before
        wait_for(lambda: not path.exists())
        wait_for(lambda: sampler_module._current is None)
        assert client.values('\\profile 0.1')[0]['seconds'] >= 0.1

    @pytest.mark.parametrize('linger', [True, False])
    def test_a_client_that_is_gone(self, served, connect, tmp_path, monkeypatch, linger):
        monkeypatch.setattr(sampler_module, '_ALONE', 1000.0)
        path = tmp_path / 'x.json'
        client = connect(served)
        client.send(f'\\profile 500 file={path}\n')
        wait_for(lambda: path.exists())
        if not linger:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        client.close()
        wait_for(lambda: not path.exists())
        assert signal.getsignal(signal.SIGPROF) == signal.SIG_DFL

    def test_the_console_stops(self, served, connect, tmp_path):
        path = tmp_path / 'x.json'
        connect(served).send(f'\\profile 500 file={path}\n')
        wait_for(lambda: path.exists())
        served.stop()
        wait_for(lambda: not path.exists())
        assert signal.getsignal(signal.SIGPROF) == signal.SIG_DFL

    def test_it_needs_execute(self, served, connect):
        admin = connect(served)
        admin.reply("box.schema.user.create('reader', {password = 'x'})")
        admin.reply("box.schema.user.grant('reader', 'read', 'universe')")
        reader = connect(served)
        reader.reply('\\login reader x')
        assert 'denied' in reader.values('\\profile 0.1')[0]['error']
        assert 'denied' in reader.values('box.inspect.profile(0.1)')[0]['error']
        admin.reply("box.schema.user.grant('reader', 'execute', 'command', 'profile')")
        assert reader.values('\\profile 0.1')[0]['seconds'] >= 0.1


def test_nobody_asks_for_the_progress(monkeypatch, tmp_path):
    monkeypatch.setattr(sampler_module, '_ALONE', 0.1)
    path = tmp_path / 'x.json'
    sampler = Sampler(500, 100, str(path))
    wait_for(lambda: sampler.result is not None)
    assert {} == sampler.result and not path.exists()


def test_another_file_in_its_place_is_not_removed(tmp_path):
    path = tmp_path / 'x.json'
    sampler = Sampler(500, 100, str(path))
    os.unlink(path)
    path.write_text('of another')
    sampler.discard()
    wait_for(lambda: sampler.result is not None)
    assert path.read_text() == 'of another'


def test_no_room_on_the_disk():
    if not os.path.exists('/dev/full'):
        pytest.skip('no /dev/full')
    with pytest.raises(Refused, match='exists'):
        Sampler(0.1, 100, '/dev/full')


def test_a_write_that_fails(monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(28, 'No space left on device')
        yield

    monkeypatch.setattr(Profile, 'speedscope', fail)
    path = tmp_path / 'x.json'
    sampler = Sampler(0.05, 100, str(path))
    wait_for(lambda: sampler.result is not None)
    assert 'cannot be written: No space left' in sampler.problem and not path.exists()


PATCHED = '''
from gevent import monkey; monkey.patch_all()
import gevent, json, signal, time
from boxsession.inspection.sampler import Sampler

def burn():
    end = time.thread_time() + 0.002
    while time.thread_time() < end:
        pass

def serve():
    while True:
        burn()
        time.sleep(0.001)

gevent.spawn(serve)
sampler = Sampler(0.5, 200)
while sampler.result is None:
    time.sleep(0.01)
sampler.release()
assert signal.getsignal(signal.SIGPROF) == signal.SIG_DFL
print(json.dumps(sampler.result))
'''


def test_a_patched_program():
    done = subprocess.run([sys.executable, '-c', PATCHED], capture_output=True, text=True, timeout=30, check=True)
    row = json.loads(done.stdout)
    assert row['method'].startswith('signal') and functions(row)['burn']['own_percent'] > 5
