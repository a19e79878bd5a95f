"""The user of a session: by listener, peer, certificate, login or su; and the arguments of triggers."""
from __future__ import annotations

import os

import pytest
import trustme
from gevent import socket, ssl
from text_client import Client
from waiting import running, wait_for

from boxsession import ConfigError, ListenError


@pytest.fixture
def start(console):
    """A factory of consoles with these listeners: start([...], script=Lua, audit=...)."""
    return lambda listen, **config: console(listen=listen, **config)


OPS = "box.schema.user.create('ops', {password = 'pass word'}) box.schema.user.grant('ops', 'execute', 'universe')"


class TestLogin:
    def test_a_password_makes_it_anothers_session(self, start, connect):
        served = start([{'address': '127.0.0.1:0', 'user': 'guest'}], script=OPS)
        client = connect(served)
        client.reply('mine = 1 box.session.storage.kept = 2')
        assert ['guest', 'guest', 0, 0] == client.values(
            'box.session.user(), box.session.effective_user(), box.session.uid(), box.session.euid()')
        assert client.value('\\login ops pass word') is True
        assert ['ops', 'ops', 32, 32] == client.values(
            'box.session.user(), box.session.effective_user(), box.session.uid(), box.session.euid()')
        assert 2 == client.value('box.session.storage.kept')
        assert client.value('mine') is None
        assert 'ops' == client.value('box.session.list()[1].user')

    @pytest.mark.parametrize('line', ['\\login', '\\login ops', '\\login  '])
    def test_usage(self, console, connect, line):
        client = connect(console())
        assert 'Usage: \\login USER PASSWORD' == client.error(line)

    @pytest.mark.parametrize(('user', 'password'), [
        ('ops', 'pass'), ('ops', 'pass word '), ('nobody', 'pass word'), ('guest', 'x'), ('admin', 'x'), ('public', 'x'),
        ('super', 'x')])
    def test_a_wrong_one_does_not(self, start, connect, user, password):
        client = connect(start([{'address': '127.0.0.1:0', 'user': 'guest'}], script=OPS))
        assert f"Incorrect password supplied for user '{user}'" == client.error(f'\\login {user} {password}')
        assert 'guest' == client.value('box.session.user()')

    def test_the_password_of_guest_is_empty(self, start, connect):
        served = start(['127.0.0.1:0'], script=OPS)
        client = connect(served)
        for line in [r'\login guest', r'\login guest ']:
            assert client.value(line) is True
            assert 'guest' == client.value('box.session.user()')
            client.reply(r'\login ops pass word')
        assert not served._running.counters.hits['failed_logins']
        connect(served).reply("box.schema.user.disable('guest')")
        assert "Session access to universe '' is denied for user 'guest'" == client.error(r'\login guest')

    def test_no_other_password_is_empty_by_itself(self, start, connect):
        client = connect(start(['127.0.0.1:0'], script="box.schema.user.create('bare')"))
        for user in ('bare', 'admin', 'public', 'super'):
            assert f"Incorrect password supplied for user '{user}'" == client.error(f'\\login {user} ')

    def test_who_is_disabled_stays_out(self, start, connect):
        client = connect(start([{'address': '127.0.0.1:0', 'user': 'guest'}],
                               script=(OPS + " box.schema.user.disable('ops')")))
        assert "Session access to universe '' is denied for user 'ops'" == client.error('\\login ops pass word')

    def test_failures_wait_and_others_do_not(self, start, connect, monkeypatch):
        served = start([{'address': '127.0.0.1:0', 'user': 'guest'}], script=OPS)
        throttle = served._running.accounts._throttle
        one, other = connect(served), connect(served)
        monkeypatch.setattr(throttle, '_first', 0.1)
        one.error('\\login ops x')
        assert one.value('\\login ops pass word') is True
        # From here on no login delay ends while the test runs.
        monkeypatch.setattr(throttle, '_first', throttle.longest - 1)
        one.error('\\login ops x')
        one.send('\\login ops pass word\n')
        wait_for(lambda: running(served))
        assert 2 == other.value('1 + 1')
        assert [1] == [connection.session.id for connection in running(served)]
        one.send(b'\x03')
        assert b'cancelled' in one.document()
        assert 'too many failed logins: try again in' in other.error('\\login ops pass word')

    def test_attempts_at_the_same_time_wait_for_each_other(self, start, connect):
        served = start([{'address': '127.0.0.1:0', 'user': 'guest'}], script=OPS)
        attempts = [connect(served) for _ in range(8)]
        for client in attempts:
            client.send('\\login ops x\n')
        other = connect(served)
        wait_for(lambda: 'too many failed logins: try again in' in str(other.value('\\login ops pass word')))

    def test_it_is_refused_where_others_could_read_it(self, start, connect, monkeypatch):
        served = start([{'address': '127.0.0.1:0', 'user': 'guest'}], script=OPS)
        client = connect(served)
        for connection in served.connections():
            connection.is_private = False
        assert '\\login: here the password could be read on its way: use TLS' in client.error('\\login ops pass word')
        assert 'guest' == client.value('box.session.user()')

    def test_triggers_are_told(self, start, connect):
        served = start([{'address': '127.0.0.1:0', 'user': 'guest'}, '127.0.0.1:0'], script=(OPS + '''
            told = {}
            box.session.on_auth(function(...)
                table.insert(told, {box.session.user(), box.session.effective_user(), ...})
            end)
        '''))
        guest, admin = connect(served.addresses[0]), connect(served.addresses[1])
        guest.reply('\\login ops x')
        guest.reply('\\login ops pass word')
        assert [['guest', 'admin', 'ops', False], ['guest', 'admin', 'ops', True]] == admin.value('told')
        admin.reply("box.session.on_auth(function() error('not today', 0) end)")
        second = connect(served.addresses[0])
        assert 'not today' == second.error('\\login ops pass word')
        assert 'guest' == second.value('box.session.user()')

    @pytest.mark.parametrize('then', ['', "box.schema.user.create('other')"])
    def test_who_is_dropped_meanwhile(self, start, connect, then):
        served = start([{'address': '127.0.0.1:0', 'user': 'guest'}], script=(OPS + f"""
            box.session.on_auth(function() box.schema.user.drop('ops') {then} end)"""))
        client = connect(served)
        assert "User 'ops' is not found" == client.error('\\login ops pass word')
        assert ['guest', 'guest'] == client.values('box.session.user(), box.session.effective_user()')

    def test_the_password_is_nowhere(self, start, connect, caplog, tmp_path, monkeypatch):
        served = start([{'address': '127.0.0.1:0', 'user': 'guest'}, '127.0.0.1:0'],
                       script=OPS, audit={'file': str(tmp_path / 'audit')})
        guest, admin = connect(served.addresses[0]), connect(served.addresses[1])
        throttle = served._running.accounts._throttle
        for line in ('\\login ops Tr0ub4dor', '\\login ops  Tr0ub4dor'):
            monkeypatch.setattr(throttle, '_first', 0.1 if line[11] != ' ' else throttle.longest)
            guest.error(line)
        guest.send('\\login ops Tr0ub4dor\n')         # waits
        wait_for(lambda: running(served))
        listed = admin.value('box.session.list()')
        assert '\\login ops ***' in [entry['statement'] for entry in listed] and 'Tr0ub4dor' not in repr(listed)
        for statement in ("box.schema.user.create('ann', {password = 'Tr0ub4dor'})",
                          "box.schema.user.passwd('ann', 'Tr0ub4dor')", 'box.schema.user.passwd("Tr0ub4dor")',
                          "box.schema.user.passwd('nobody', [[Tr0ub4dor]])", "box.schema.user.passwd('ann', 'Tr0ub4dor",
                          "error(box.schema.user.password('Tr0ub4dor'))",
                          "require('console').connect('ann:Tr0ub4dor@127.0.0.1:1')"):
            admin.reply(statement)
        guest.send(b'\x03')
        assert b'cancelled' in guest.document()
        for statement in ('\\ login ops Tr0ub4dor', '\\LOGIN ops Tr0ub4dor', '\\\\login ops Tr0ub4dor'):
            admin.reply(statement)
        assert 'Tr0ub4dor' not in caplog.text
        assert 'Tr0ub4dor' not in (tmp_path / 'audit').read_text()


class TestPeers:
    def test_the_uid_says_who_it_is(self, start, tmp_path):
        path = f'unix:{tmp_path}/a.sock'
        start([{'address': path, 'peers': {os.getuid(): 'ops', 4711: 'admin'}}], script=OPS)
        client = Client(path)
        assert ['ops', 'ops'] == client.values('box.session.user(), box.session.effective_user()')
        client.close()

    def test_others_are_refused(self, start, tmp_path):
        path = f'unix:{tmp_path}/a.sock'
        start([{'address': path, 'peers': {os.getuid() + 1: 'admin'}}])
        client = Client(path, greeting=False)
        assert f"---\n- error: 'uid {os.getuid()} may not connect here (peers)'\n...\n".encode() == client.read_to_end()
        client.close()

    def test_a_user_that_is_gone(self, start, tmp_path, connect):
        path = f'unix:{tmp_path}/a.sock'
        served = start([{'address': path, 'user': 'ops'}, '127.0.0.1:0'], script=OPS)
        admin = connect(served.addresses[1])
        client = connect(path)
        client.reply('t = 1')
        admin.reply("box.schema.user.drop('ops') box.schema.user.create('ops')")
        assert "denied for user 'ops'" in client.error('t')          # the new one of that name is somebody else
        assert 2 == connect(path).value('1 + 1')
        admin.reply("box.schema.user.disable('ops')")
        assert b"Session access to universe " in connect(path, greeting=False).read_to_end()
        admin.reply("box.schema.user.drop('ops')")
        assert b'the user ops does not exist any more' in connect(path, greeting=False).read_to_end()


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tls')
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / 'ca.pem')
    authority.private_key_pem.write_to_path(folder / 'ca.key')
    for name, made in {'server': authority.issue_cert('localhost', '127.0.0.1'),
                       'ann': authority.issue_cert('ann@example.org', common_name='ann'),
                       'bob': authority.issue_cert('bob@example.org', common_name='bob'),
                       'stranger': other.issue_cert('ann@example.org', common_name='ann')}.items():
        made.private_key_pem.write_to_path(folder / f'{name}.key')
        for pem in made.cert_chain_pems:
            pem.write_to_path(folder / f'{name}.pem', append=True)
    return folder


class TestTLS:
    @staticmethod
    def client(files, address, name=None, greeting=True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(str(files / 'ca.pem'))
        if name:
            context.load_cert_chain(files / f'{name}.pem', files / f'{name}.key')
        return Client(address, greeting, context)

    def listener(self, files, **more):
        tls = {'cert': str(files / 'server.pem'), 'key': str(files / 'server.key'), **more.pop('tls', {})}
        return {'address': '127.0.0.1:0', 'tls': tls, **more}

    @pytest.mark.parametrize('names', [['ann', 'bob'], ['bob', 'ann'], ['ann\n2026 forged'], ['ann\x1b[2J'],
                                       ['ann\u202e']])
    def test_a_name_that_is_none_to_go_by_is_refused(self, start, files, odd, caplog, names):
        odd(names)
        served = start([self.listener(files, tls={'ca': str(files / 'ca.pem')}, peers={'ann': 'ops', 'bob': 'admin'}),
                        self.listener(files, tls={'ca': str(files / 'ca.pem')}, user='admin')], script=OPS)
        for address in served.addresses:
            with pytest.raises((OSError, EOFError)):
                self.client(files, address, 'odd')
        wait_for(lambda: caplog.text.count('common name') >= 2)
        assert not [line for line in caplog.text.splitlines() if line.startswith('2026')] and '\x1b' not in caplog.text
        assert 2 == served._running.statistics.snapshot()['sessions']['refused']['tls']

    @pytest.fixture
    def odd(self, files):
        """Makes a certificate, signed by the authority, with any common names."""
        import datetime

        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        def make(names):
            authority = x509.load_pem_x509_certificate((files / 'ca.pem').read_bytes())
            signer = serialization.load_pem_private_key((files / 'ca.key').read_bytes(), None)
            key = ec.generate_private_key(ec.SECP256R1())
            attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name, _validate=False) for name in names]
            now = datetime.datetime.now(datetime.timezone.utc)
            made = x509.CertificateBuilder(authority.subject, x509.Name(attributes), key.public_key(),
                                           x509.random_serial_number(), now - datetime.timedelta(days=1),
                                           now + datetime.timedelta(days=1)).sign(signer, hashes.SHA256())
            (files / 'odd.pem').write_bytes(made.public_bytes(serialization.Encoding.PEM))
            (files / 'odd.key').write_bytes(key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return make

    def test_a_session_over_tls(self, start, files):
        served = start([self.listener(files, user='guest')], script=OPS)
        client = self.client(files, served.addresses[0])
        for connection in served.connections():
            assert connection.is_private
        assert client.value('\\login ops pass word') is True
        assert 2 == client.value('1 + 1')
        client.send('wait = 1\n' * 100 + "('x'):rep(3000000)\n")
        for _ in range(100):
            client.document()
        assert len(client.document()) > 3000000
        assert client.value('box.session.peer()').startswith('127.0.0.1:')
        client.send('\\quit\n')
        assert b'' == client.read_to_end()
        client.close()

    def test_cancelling_and_vanishing(self, start, files):
        served = start([self.listener(files)])
        client = self.client(files, served.addresses[0])
        client.send('while true do end\n')
        wait_for(lambda: running(served))
        client.send(b'\x03')
        assert b'cancelled' in client.document()
        client.send('while true do end\n')
        wait_for(lambda: running(served))
        client.close()
        wait_for(lambda: not served.sessions)

    def test_certificates_say_who_it_is(self, start, files):
        served = start([self.listener(files, tls={'ca': str(files / 'ca.pem')}, peers={'ann': 'ops'})], script=OPS)
        [address] = served.addresses
        ann = self.client(files, address, 'ann')
        assert 'ops' == ann.value('box.session.user()')
        ann.close()
        bob = self.client(files, address, 'bob', greeting=False)
        assert b"---\n- error: 'bob may not connect here (peers)'\n...\n" == bob.read_to_end()
        bob.close()
        for name in (None, 'stranger'):
            with pytest.raises((OSError, EOFError)):
                self.client(files, address, name)
        assert 2 == self.ask_again(files, address)

    def ask_again(self, files, address):
        client = self.client(files, address, 'ann')
        value = client.value('1 + 1')
        client.close()
        return value

    def test_who_does_not_shake_hands_harms_nobody(self, start, files, monkeypatch):
        monkeypatch.setattr('boxsession.net.tls._HANDSHAKE_SECONDS', 0.2)
        served = start([self.listener(files)])
        [address] = served.addresses
        silent = socket.create_connection((address.host, address.port))
        plain = socket.create_connection((address.host, address.port))
        plain.sendall(b'1 + 1\n')
        client = self.client(files, address)
        assert 2 == client.value('1 + 1')
        for sock in (silent, plain):
            sock.settimeout(10)
            try:
                while sock.recv(1000):
                    pass
            except ConnectionResetError:
                pass
            sock.close()
        client.close()

    def test_files_that_are_none(self, start, files, tmp_path):
        with pytest.raises(ListenError, match='tls: cert nosuch cannot be read: No such file'):
            start([{'address': '127.0.0.1:0', 'tls': {'cert': 'nosuch', 'key': 'nosuch'}}])
        with pytest.raises(ListenError, match='the key does not belong to the certificate'):
            start([self.listener(files, tls={'key': str(files / 'ann.key')})])

    def test_what_may_be_open(self, start, files):
        everywhere = self.listener(files, user='guest') | {'address': '0.0.0.0:0'}
        start([everywhere])
        start([self.listener(files, tls={'ca': str(files / 'ca.pem')}) | {'address': '0.0.0.0:0'}])
        with pytest.raises(ConfigError, match='every client there may run code as admin'):
            start([everywhere | {'user': 'admin'}])
        with pytest.raises(ConfigError, match='every client there may run code as ops: listen on 127.0.0.1'):
            start([everywhere | {'user': 'ops'}], script=OPS)
        with pytest.raises(ConfigError, match="there is no user 'nobody': create it in the init script"):
            start([everywhere | {'user': 'nobody'}])


class TestSu:
    def test_who_logged_in_as_admin_comes_back(self, console, connect):
        client = connect(console())
        client.reply("box.schema.user.create('ann') t = 1")
        assert client.values("box.session.su('ann')") is None
        assert "Execute access to function 't' is denied for user 'ann'" == client.error('t')
        assert ['ann', 'ann'] == client.values('box.session.user(), box.session.effective_user()')
        assert client.values("box.session.su('admin')") is None
        assert 1 == client.value('t')

    def test_who_holds_super_may(self, start, connect):
        served = start([{'address': '127.0.0.1:0', 'user': 'ops'}], script=(
            OPS + " box.schema.user.grant('ops', 'super') box.schema.user.create('ann')"))
        client = connect(served)
        client.reply("box.session.su('ann')")
        client.reply("box.session.su('ops')")
        assert 'ops' == client.value('box.session.user()')
        assert client.values("box.session.su('admin')") is None

    def test_others_may_not(self, start, connect):
        served = start([{'address': '127.0.0.1:0', 'user': 'ops'}], script=OPS)
        client = connect(served)
        for name in ('admin', 'guest', 'nobody'):
            assert f"Session access to user '{name}' is denied for user 'ops'" == client.error(f"box.session.su('{name}')")
        assert 'ops' == client.value("box.session.su('ops', box.session.effective_user)")

    def test_it_holds_in_what_the_function_starts(self, console, connect):
        served = console()
        client = connect(served)
        client.reply("box.schema.user.create('ann')")
        assert ['ann', 'ann', 'ann'] == client.values('''box.session.su('ann', function()
            local found = {box.session.effective_user()}
            coroutine.wrap(function() found[2] = box.session.effective_user() end)()
            local fiber = require('fiber').new(function() found[3] = box.session.effective_user() end)
            fiber:set_joinable(true) fiber:join()
            return unpack(found) end)'''.replace('\n', ' '))
        assert 'admin' == client.value('box.session.effective_user()')
        assert 'boom' == client.error("box.session.su('ann', error, 'boom')")
        assert 'admin' == client.value('box.session.effective_user()')
        client.send("box.session.su('ann', require('fiber').sleep, 100)\n")
        wait_for(lambda: running(served))
        client.send(b'\x03')
        assert b'cancelled' in client.document()
        assert 'admin' == client.value('box.session.effective_user()')


class TestDenials:
    def test_triggers_are_told_and_it_is_counted(self, start, connect):
        served = start([{'address': '127.0.0.1:0', 'user': 'guest'}, '127.0.0.1:0'], script=('''
            told = {}
            box.session.on_access_denied(function(...) table.insert(told, {box.session.effective_user(), ...}) end)
            box.session.on_access_denied(function() error('is logged') end)
        '''))
        guest, admin = connect(served.addresses[0]), connect(served.addresses[1])
        guest.reply('secret()')
        guest.reply("box.schema.user.create('x')")
        assert [['admin', 'Execute', 'function', 'secret'], ['admin', 'Read', 'space', '_user']] == admin.value('told')
        assert 2 == admin.value('box.info.access.denied')

    def test_rights_change_for_live_sessions(self, start, connect):
        served = start([{'address': '127.0.0.1:0', 'user': 'guest'}, '127.0.0.1:0'])
        guest, admin = connect(served.addresses[0]), connect(served.addresses[1])
        admin.reply("function f() return 1 end t = {1} box.schema.func.create('f')")
        assert 'denied' in guest.error('f()')
        admin.reply("box.schema.user.grant('guest', 'execute', 'function', 'f')")
        assert 1 == guest.value('f()')
        guest.reply('kept = f')
        admin.reply("box.schema.user.revoke('guest', 'execute', 'function', 'f')")
        assert "Execute access to function 'f' is denied for user 'guest'" == guest.error('kept()')
        admin.reply("box.schema.user.grant('guest', 'read', 'universe')")
        assert [1] == guest.value('t')
        admin.reply("box.schema.user.grant('guest', 'execute', 'universe')")
        assert 2 == guest.value('t[1] + 1')
        guest.reply('t[1] = 5')
        admin.reply("box.schema.user.revoke('guest', 'read,execute', 'universe')")
        assert 'denied' in guest.error('t')
        assert 5 == admin.value('t[1]')


class TestCompletion:
    """`\\complete` sees what the user sees."""

    @pytest.fixture
    def served(self, console, connect):
        served = console()
        admin = connect(served)
        for statement in ("secret_name, shop = {inner = 1}, {count = function() end}",
                          "box.schema.user.create('web', {password = 'web'})",
                          "box.schema.user.create('reader', {password = 'reader'})",
                          "box.schema.func.create('shop.count') box.schema.func.create('string.own')",
                          "box.schema.user.grant('web', 'execute', 'function', 'shop.count')",
                          "box.schema.user.grant('web', 'execute', 'function', 'string.own')",
                          "box.schema.user.grant('reader', 'read', 'universe')",
                          "denials = 0 box.session.on_access_denied(function() denials = denials + 1 end)"):
            assert 'error' not in admin.reply(statement).decode(), statement
        return served

    def found(self, client, text):
        values = client.values(f'\\complete {text}')
        return values and values[0][1:]

    def test_in_the_sandbox(self, served, connect):
        client = connect(served)
        client.reply('\\login web web')
        client.reply('secluded = {mine = 1}')
        assert ['secluded'] == self.found(client, 'sec')
        assert ['secluded.mine'] == self.found(client, 'secluded.')
        assert ['shop'] == self.found(client, 'sho') and ['shop.count('] == self.found(client, 'shop.')
        assert ['string.format('] == self.found(client, 'string.form')
        assert ['box.session.push('] == self.found(client, 'box.session.pu')
        assert None is self.found(client, 'secret_name.') is self.found(client, '_G.secret')
        assert 0 == connect(served).value('denials')

    def test_with_read_on_universe(self, served, connect):
        client = connect(served)
        client.reply('\\login reader reader')
        assert ['secret_name'] == self.found(client, 'secr') and ['secret_name.inner'] == self.found(client, 'secret_name.')
        assert None is self.found(client, 'shop.nosuch')

    def test_as_admin(self, served, connect):
        client = connect(served)
        assert ['secret_name'] == self.found(client, 'secr')
        assert None is self.found(client, 'nosuch') and len(client.values('\\complete')[0]) > 20


def test_console_eval_takes_commands(console, connect):
    client = connect(console())
    eval_ = "require('console').eval('\\\\%s')"
    assert client.reply('\\help').decode().splitlines()[2:4] == client.value(eval_ % 'help').splitlines()[2:4]
    assert 'Usage: \\kill ID' in client.value(eval_ % 'kill')
    assert client.value(eval_ % 'nosuch').startswith('---\n- error: ')
