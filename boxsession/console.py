"""A client of the text console: the read-eval-print loop between its socket and the evaluator.

Data flows one way: socket, protocol, evaluator, output, socket. The greenlet reads only while nothing runs; while a
statement waits or has lost its turn, the hub reads on its behalf, so that Ctrl-C is seen.
"""
from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import Any

from boxsession.audit import Audit
from boxsession.backlog import Backlog
from boxsession.connection import BATCH_BYTES, MAKING, Connection
from boxsession.errors import StatementError
from boxsession.lua.runtime import Runtime, StatementCancelled
from boxsession.output import push_pieces, reply_document, reply_pieces
from boxsession.output.tagged import Tagged
from boxsession.protocol.console import (
    NEED_DATA,
    Cancelled,
    ConsoleProtocol,
    End,
    Foreign,
    More,
    Quit,
    Statement,
    TooLong,
    Unfinished,
)
from boxsession.redaction import redacted
from boxsession.remote import RemoteClosed, RemoteConsole
from boxsession.session import Session

__all__ = ['ConsoleConnection']

log = logging.getLogger('boxsession')

_READ_BYTES = 16384
# The same where telnet's commands are looked for: each of two bytes costs as much as a short statement.
_TELNET_READ_BYTES = 2048
# While a statement runs, this much of what follows it is read ahead; the rest waits in the socket.
_READ_AHEAD_BYTES = 1 << 18

_UNRECORDED = 'the audit file cannot be written: no statement is run until it can (audit.required)'
# How another console's error begins, and how much of one is recorded.
_ERROR, _REMOTE_ERROR_BYTES = b'---\n- error: ', 4096

# Behind so many statements that failed a session is judged no more: another protocol shows itself sooner.
_JUDGED_MAX = 100
# What a name that nothing has is answered with, and names that are commands of other protocols, too.
_NOTHING = (b'---\n- null\n...\n', b'nil;')
_WORD = re.compile(
    rb'\s*(?:(?i:capa|cons|crst|dump|envi|exit|flush_all|info|isro|list|mntr|monitor|noop|ping|pong|quit|reserve|reset|rset|ruok|'
    rb'shutdown|srst|srvr|starttls|stat|stats|stls|sync|time|verbosity|version|wchs)|[A-Z][A-Z0-9_]+)\s*')
# The same with an argument: the call of a function that is none.
_COMMAND, _NO_FUNCTION = re.compile(rb'\s*[A-Za-z_]\w*\s*["\'{\[]'), b'attempt to call'
# What was sent before the answer to such a line is not run, until the client has been silent for so long.
_DOUBT_SECONDS = 0.5
_DOUBTED = ('not run: it was sent before the answer to a line that is no Lua, or is a command of another protocol. '
            'Correct that line, and send this again')
_PROMPT, _PROMPT_MORE = b'tarantool> ', b'         > '
# What the greenlet of an idle session is switched to with when it is to end.
_SLEEP = object()


class ConsoleConnection(Connection):
    """Serves one client of a text console."""

    __slots__ = ('_protocol', '_greeting', '_remote', '_prompt', '_early', '_is_special',
                 '_lingers', '_doubts', '_has_refused')

    def __init__(self, sock, session: Session, runtime: Runtime, *, audit: Audit, unsent: Backlog, unread: Backlog,
                 is_private: bool, greeting: bytes):
        super().__init__(sock, session, runtime, audit=audit, unsent=unsent, unread=unread, is_private=is_private)
        self._protocol = ConsoleProtocol(continuation='auto' if session.dialect == 'classic' else 'off', is_judging=True)
        self._greeting = greeting
        self._remote: RemoteConsole | None = None       # where statements go, when not here
        self._prompt = False
        self._is_special = True                 # a statement is not only to be run: see _serve()
        self._lingers = False                   # what still comes is read before the socket is closed
        self._doubts = False                    # of what has come no Lua is to be run: see _judge()
        self._has_refused = False               # nor has been
        self._early: list[bytes] | None = []    # what is pushed before the greeting is out

    def _open(self) -> bool:
        if self._audit is not None:
            self._audit.event('start', self.session)
        refusal = self._evaluator.connect()
        if refusal:
            self._ending = 'refused by on_connect'
            refusal = reply_document(refusal)
            self._put(refusal)
            log.warning('session %d from %s was refused by on_connect: %s', self.session.id, self.session.peer,
                        refusal.decode(errors='backslashreplace').partition('error: ')[2].partition('\n')[0])
        else:
            early, self._early = self._early, None
            self._made_bytes = 0
            self._count_unsent()
            self._put(self._greeting)
            for document in early:
                self._put(document)
        self._flush()
        return not refusal

    def _serve(self, hub) -> bool:
        protocol, out, runtime = self._protocol, self._out, self._runtime
        next_event, statement, monotonic = protocol.next_event, self._evaluator.statement, time.monotonic
        seconds_taken = runtime.seconds_taken['console']
        run = 0                     # statements since the event loop was last visited
        timed, began = 0, monotonic()       # of these, how many are in the histogram, and when the next ones began
        is_over = self._over or self._waiting and not self._read_on()      # it may have slept
        while not is_over:
            if runtime.has_ticked:
                # The last statement was no quick one, or waited.
                if run > timed:
                    now = monotonic()
                    seconds_taken.observe_last(now - began, run - timed)
                    began, timed = now, run
                if protocol.buffered_bytes and runtime.turn_is_over():
                    self._running = None
                    runtime.take_turn(self._evaluator.task)
                    run = timed = 0
                    began = monotonic()
                if self._over:              # since it waited, for its turn or for its client
                    break
            event = next_event()
            if type(event) is Statement:
                if self._is_special:
                    if self._remote is not None:
                        self._ask_remote(event)
                        began = monotonic()
                        continue
                run += 1
                self._running = event.text
                reply = self._special(event) if self._is_special else statement(event.text, event.may_continue)
                if self._over:
                    self._statements += 1
                    break
                if reply:
                    self._statements += 1
                    # Final text opens with a printable byte, a tagged string with a control character.
                    if type(reply) is not bytes or reply[0] < 32:
                        reply = self._formatted(reply)
                        runtime.has_ticked = True
                        if self._over:          # killed meanwhile
                            break
                    out.append(reply)
                    self._out_bytes += len(reply)
                    if self._out_bytes > BATCH_BYTES:
                        self._running = None
                        # The time that a client takes to read is not the statement's.
                        seconds_taken.observe_last(monotonic() - began, run - timed)
                        self._flush()
                        began, timed = monotonic(), run
                else:
                    run -= 1
                    runtime.has_ticked = True
                    protocol.hold(event)
                if self._prompt:
                    self._put_prompt()
            elif event is NEED_DATA:
                self._running = None
                if run > timed:
                    # Those that came together, and were quick, took the same.
                    seconds_taken.observe(monotonic() - began, run - timed)
                    timed = run
                if out:
                    self._flush()
                if self._draining or self._over:
                    break
                if not self._reading:
                    self._end_probe()
                    self._watch(True)
                self._count_unread(protocol.kept_bytes)
                self._waiting = True
                runtime.inside = None
                if not self._bytes_in and self._can_sleep or hub.switch() is _SLEEP:
                    return False
                run = timed = 0
                if not self._read_on():
                    break
                began = self._active
            elif type(event) is More:
                if self._prompt:
                    self._put(_PROMPT_MORE)
            elif not self._answer(event):
                break
            elif self._prompt:
                self._put_prompt()
        if run > timed:
            seconds_taken.observe(monotonic() - began, run - timed)
        if self._farewell:
            self._say_farewell(reply_document(self._evaluator.error(self._farewell)))
        else:
            self._flush()
        if self._lingers:
            self._linger()
        return True

    def _read_on(self) -> bool:
        """The client has sent something, or the session is to end; False where it does."""
        self._waiting = False
        if self._draining or self._over:
            return False
        now = self._runtime.begin_turn()
        if self._doubts and now - self._active > _DOUBT_SECONDS:
            self._doubts = self._has_refused = False
        self._active = now
        self._read(idle=True)
        return True

    @property
    def _can_sleep(self) -> bool:
        return self._wake_up is not None and self._remote is None

    def sleep(self) -> None:
        """In the hub: what only statements need is given up until the client sends the next one."""
        if self._waiting and self.greenlet is not None and self._can_sleep:
            self.greenlet.switch(_SLEEP)

    def _special(self, event: Statement) -> bytes:
        """Runs a statement while there is more to do than that."""
        if self._doubts and event.text.strip() and not self._evaluator.is_wrong(event.text):
            return self._doubted(event)
        if self._audit is not None:
            reply = self._audited(event)
        else:
            reply = self._evaluator.statement(event.text, event.may_continue)
        protocol = self._protocol
        if protocol.is_judging and reply and event.text.strip():
            self._judge(event.text, reply)
        self._is_special = protocol.is_judging or self._audit is not None or self._remote is not None
        return reply

    def _doubted(self, event: Statement) -> bytes:
        """The reply to a statement that is not run, since it may come from a program that speaks another protocol."""
        if event.may_continue and self._evaluator.is_incomplete(event.text):
            return b''
        if not self._has_refused:
            self._has_refused = True
            log.info('session %d from %s sent more behind a line that is no Lua, and did not wait for the answer: not run',
                     self.session.id, self.session.peer)
        if self._audit is not None:
            self._audit.statement(self.session, self.session.user, event.text, b'not run: behind a line that is no Lua',
                                  0.0, self._runtime.let_others_in)
        return self._evaluator.error(_DOUBTED)

    def _judge(self, statement: bytes, reply: bytes) -> None:
        """Looks at what the first statements of a session came to.

        Behind one that is no Lua, or another protocol's command (a name that nothing has), no Lua is run that came before
        the answer: who sends it does not wait for answers, as a program that was made to speak another protocol.
        """
        evaluator, protocol = self._evaluator, self._protocol
        failed = evaluator.last_error()
        if self._has_refused:
            return
        if self._statements >= _JUDGED_MAX:
            protocol.trust()
            return
        if failed:
            is_doubtful = evaluator.is_wrong(statement) or _COMMAND.match(statement) and _NO_FUNCTION in failed
        else:
            is_doubtful = reply in _NOTHING and _WORD.fullmatch(statement)
        if is_doubtful:
            self._read()                    # what has come meanwhile
            self._doubts = protocol.has_more
        elif not failed:
            protocol.trust()

    def _audited(self, event: Statement) -> bytes:
        """Runs a statement and records it before its reply can leave."""
        audit, evaluator, user = self._audit, self._evaluator, self.session.user
        if audit.refuses:
            return evaluator.error(_UNRECORDED)
        began = time.monotonic()
        try:
            reply = evaluator.statement(event.text, event.may_continue)
        except BaseException as error:          # the client is gone, or the server ends
            audit.statement(self.session, user, event.text, f'{type(error).__name__}: {error}'.encode(),
                            time.monotonic() - began)
            raise
        if reply and not audit.statement(self.session, user, event.text, evaluator.last_error(), time.monotonic() - began,
                                         self._runtime.let_others_in):
            return evaluator.error('the statement ran, but the audit file cannot be written (audit.required)')
        return reply

    def _formatted(self, tagged: Tagged) -> bytes:
        """Puts the document of a tagged reply, but for its last piece, and gives that.

        Others have their turns meanwhile, and it can be cancelled.
        """
        limits = self._runtime.output_limits
        cuts = limits.cuts
        size = MAKING * (len(tagged) if isinstance(tagged, bytes) else sum(map(len, tagged)))
        self._make(size)
        try:
            pieces = reply_pieces(tagged, limits)
        except StatementCancelled:
            self._runtime.count_error(self._evaluator.task.ending)
            return reply_document(self._evaluator.error(self._evaluator.task.reason or 'the statement was cancelled'))
        finally:
            self._make(-size)
        if limits.cuts > cuts:
            self._runtime.hits['limits.output_bytes'] += 1
        document = pieces.pop()
        self._out.extend(pieces)
        self._out_bytes += sum(map(len, pieces))
        return document

    def _put_prompt(self) -> None:
        if self._protocol.holds_statement:
            self._put(_PROMPT_MORE)
        elif self._remote is not None:
            self._put(f'{self._remote.address}> '.encode())
        else:
            self._put(_PROMPT)

    def _answer(self, event) -> bool:
        """Answers an event that is no statement to run; False when it ends the session."""
        if isinstance(event, Quit) and self._remote is not None:
            self._leave_remote()
            return True
        if isinstance(event, (End, Quit)):
            return False
        if isinstance(event, Foreign):
            self._refuse(event)
            return False
        if isinstance(event, (TooLong, Unfinished)):
            self._runtime.count_error('input')
        if isinstance(event, TooLong):
            self._runtime.hits['limits.statement_bytes'] += 1
            message = f'the statement is too long: more than {event.limit} bytes (limits.statement_bytes)'
        elif isinstance(event, Unfinished):
            text = event.text[:80].decode(errors='backslashreplace')
            message = f'the input ended inside a statement, which was not run: {text}'
        else:
            assert isinstance(event, Cancelled)
            if event.may_continue and self._evaluator.is_incomplete(event.text):
                self._protocol.hold(event)
                return True
            message = 'the statement was cancelled'
            if self._protocol.is_judging and (_WORD.fullmatch(event.text) or self._evaluator.is_wrong(event.text)):
                self._doubts = self._doubts or self._protocol.has_more
        if self._audit is not None:
            text = b'' if isinstance(event, TooLong) else event.text
            problem = f'not run: {message.partition(":")[0]}'.encode()
            self._audit.statement(self.session, self.session.user, text, problem, 0.0, self._runtime.let_others_in)
        self._put(reply_document(self._evaluator.error(message)))
        return True

    def _refuse(self, event: Foreign) -> None:
        """Ends a session that another program may have been made to open: what comes next may be an attacker's."""
        self._runtime.count_error('input')
        if event.limit:
            self._runtime.hits['limits.statement_bytes'] += 1
            what = f'a first line of more than {event.limit} bytes (limits.statement_bytes)'
            told = f'the statement is too long: more than {event.limit} bytes (limits.statement_bytes); ' \
                   'as the first one it ends the session'
        else:
            what = event.protocol or 'a line of another protocol'
            told = f'this is no {event.protocol} server' if event.protocol else \
                'this is a console: no other protocol is spoken'
            self._runtime.hits['refused.foreign'] += 1
        log.warning('session %d from %s sends %s: closed', self.session.id, self.session.peer, what)
        self._farewell = self._farewell or told
        self._lingers = True

    # Another console (console.connect)

    def go_remote(self, remote: RemoteConsole) -> None:
        """From the next statement on, this session's statements are run by `remote`."""
        if self._remote is not None:
            self._remote.close()
        self._remote, self._is_special = remote, True

    def _ask_remote(self, event: Statement) -> None:
        if event.may_continue and self._evaluator.is_incomplete(event.text):
            self._protocol.hold(event)
        else:
            self._running = event.text
            self._statements += 1
            try:
                if self._audit is None:
                    self._relay(event.text)
                else:
                    self._relay_audited(event.text)
            except StatementError as error:
                self._put(reply_document(self._evaluator.error(str(error))))
            except RemoteClosed as error:
                self._put(reply_document(self._evaluator.error(str(error))))
                self._leave_remote()
            finally:
                self._running = None
        if self._prompt:
            self._put_prompt()

    def _relay(self, statement: bytes) -> bytes:
        """Passes a statement and its reply on; gives the reply's beginning."""
        reply = b''
        for piece in self._remote.ask(statement):
            if len(reply) < _REMOTE_ERROR_BYTES and not piece.startswith(b'%TAG'):      # that is a push
                reply += piece[:_REMOTE_ERROR_BYTES]
            self._put(piece)
            self._flush()
        return reply

    def _relay_audited(self, statement: bytes) -> None:
        """The same, recorded: what was sent before its reply comes, and how that ended."""
        audit, session, remote = self._audit, self.session, str(self._remote.address)
        if audit.refuses or not audit.event('remote', session, remote=remote, statement=redacted(
                statement, pause=self._runtime.let_others_in)):
            self._put(reply_document(self._evaluator.error(_UNRECORDED)))
            return
        problem, began = b'the reply did not come', time.monotonic()
        try:
            reply = self._relay(statement)
            problem = reply[len(_ERROR):].partition(b'\n...')[0] if reply.startswith(_ERROR) else b''
        except BaseException as error:
            problem = f'{type(error).__name__}: {error}'.encode()
            raise
        finally:
            audit.statement(session, session.user, statement, problem, time.monotonic() - began, remote=remote)

    def _leave_remote(self) -> None:
        remote, self._remote = self._remote, None
        remote.close()
        self._evaluator.left_remote()

    def _close(self) -> None:
        if self._remote is not None:
            self._remote.close()
        super()._close()

    # Input

    def _lost(self) -> None:
        super()._lost()
        if self._remote is not None:
            self._remote.abort()

    def _read(self, idle: bool = False) -> None:
        protocol = self._protocol
        try:
            data = self._sock.recv(_READ_BYTES if protocol.is_plain else _TELNET_READ_BYTES)
        except BlockingIOError:
            return
        self._bytes_in += len(data)
        if not data:
            protocol.receive_eof()
            self._stop_reading()
            return
        if protocol.receive_data(data):
            if idle and self._prompt:
                self._put(b'\n')                # the line that was dropped ends here
                self._put_prompt()
            if not idle:
                self.cancel()
        answers = protocol.data_to_send()
        if answers:
            self._put_early(answers)
            if not idle:
                self.switching_out()            # nobody else sends it before the statement ends
        # What makes answers waits, too, where the client does not take them.
        if not idle:
            self._count_unread(protocol.kept_bytes)
        if not idle and (protocol.buffered_bytes > _READ_AHEAD_BYTES or self._out_bytes + self._made_bytes > BATCH_BYTES):
            self._stop_reading()

    def _writable(self) -> None:
        super()._writable()
        if self._writer is None and not self._reading and not self._over:
            self._end_probe()
            self._watch(True)                   # it may have been the answers that were too many

    # The evaluator's host

    def push(self, tagged: bytes) -> None:
        self._wait_for_room()
        if self._over:
            return
        self._make(MAKING * len(tagged))
        try:
            pieces = push_pieces(tagged, self._runtime.output_limits)
        finally:
            self._make(-MAKING * len(tagged))
        self._put_early(*pieces)

    def _put_early(self, *pieces: bytes) -> None:
        """Puts what may come while on_connect runs: the greeting comes first."""
        if self._early is None:
            self._put(*pieces)
        else:
            self._early.extend(pieces)
            self._make(sum(map(len, pieces)))

    def set_delimiter(self, delimiter: bytes) -> None:
        self._protocol.delimiter = delimiter

    def control(self, command: str) -> None:
        name, _, value = command.partition('=')
        if name == 'quit':
            self._over = True
        elif name == 'continuation':
            self._protocol.continuation = value
        elif name == 'prompt':
            self._prompt = value == 'on'

    # The server's side

    def _cancel_running(self, reason: str) -> None:
        if self._remote is None:
            super()._cancel_running(reason)
        elif self._over:
            self._remote.abort()
        elif self._running is not None:
            # Idle, there is nothing to stop, and a console that cannot cancel would be left for nothing.
            self._remote.cancel()

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Takes the settings in force, by dotted name."""
        super().configure(settings)
        self._protocol.max_statement_bytes = settings['limits.statement_bytes']
        self._is_special = True                 # there may be an audit file now, or none any more
