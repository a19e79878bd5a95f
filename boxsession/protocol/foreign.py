"""Recognises lines of other protocols, which a program may send if an attacker directs it to our port.

A browser, a mail client, or a service that fetches a given address begins with a line of its own protocol. Text that the
attacker chose follows. So the first lines of a session are judged before they run.
If the attacker also chooses the first byte (`gopher:`, FTP's PORT), the client looks like a person with nc. Only a listener
without rights, or a unix socket, keeps it out.

A line that is no valid statement is not foreign: people mistype, and get an error. But a person waits for the error before
the next line. The driver of ConsoleProtocol relies on that to stop protocols that are not listed here. The lines are looked
at before they are statements of any language, so these are the same for all languages.
"""
from __future__ import annotations

import re

__all__ = ['START_BYTES', 'foreign', 'foreign_start', 'is_word']

# Last word of a request line of HTTP and similar protocols.
_VERSION = re.compile(rb'(HTTP|RTSP|SIP|ICAP)/\d+(?:\.\d+)?', re.IGNORECASE)
# The target of a request. With a digit after the slash it is a division.
_TARGET = re.compile(rb'/(?!\d)|[A-Za-z]+://')
# Two control bytes outside of strings and comments; one may be a typing error. Backspace, escape and Ctrl-D do not count:
# a terminal sends them. Also the start of a TLS record.
_CONTROL = re.compile(rb'''[^"'\[\-\0-\x02\x05-\x07\x0e-\x1a\x1c-\x1f]*[\0-\x02\x05-\x07\x0e-\x1a\x1c-\x1f].*?'''
                      rb'''[\0-\x02\x05-\x07\x0e-\x1a\x1c-\x1f]|\x16\x03''', re.DOTALL)
# Operators in words after a name: of Lua or Python.
_OPERATOR = rb'(?:and|or|in|is|if|not)\b'
# Number of bytes of an unfinished line that foreign_start() examines.
START_BYTES = 64
# (name of the protocol, or '', and the pattern of a line's start)
_OPENINGS = (
    ('TLS', re.compile(rb'\x16\x03')),
    ('LDAP', re.compile(rb'0[^\0]{1,5}?\x02[\x01-\x04]', re.DOTALL)),
    ('', _CONTROL),
    ('SSH', re.compile(rb'SSH-\d')),
    ('git', re.compile(rb'[\da-f]{4}git-')),
    ('Redis', re.compile(rb'[*$]\d')),
    ('statsd', re.compile(rb'[\w.#@/-]+:[-+]?[\d.]+\|[a-z]')),
    # A name, a value and a time.
    ('Graphite', re.compile(rb'[\w.;=-]+ -?[\d.]+(?:[eE][-+]?\d+)? \d{9,19}$')),
    ('InfluxDB', re.compile(rb'[\w.-]+(?:,[\w.-]+=[^\s,]+)* [\w.-]+=\S+ \d{9,19}$')),
    ('IMAP', re.compile(rb'[A-Za-z]{0,4}\d{1,6} (?:[A-Z]{4,}|login|select|noop|capability|logout|starttls|authenticate)'
                        rb'(?: |$)')),
    ('Subversion', re.compile(rb'\( \d+ \(')),
    ('memcached', re.compile(rb'(?:set|add|replace|append|prepend|cas) \S+ \d+ \d+ \d+|m[sgdan] [^\s=,]+(?: |$)')),
    ('beanstalkd', re.compile(rb'put \d+ \d+ \d+ \d+')),
    # A command in capitals with an argument: mail, FTP, IRC, dict, PROXY.
    ('', re.compile(rb'[A-Z][A-Z\d_-]{2,}[ \t]+(?!%s)(?:[\w@<:`]|/\S|\[[\d:I]|\{")' % _OPERATOR)),
    # The same in any case, but only common commands: people may type other words in small letters.
    ('', re.compile(rb'(?:helo|ehlo|lhlo|mail|rcpt|user|pass|nick|auth|gets?|head|post|put|delete|incr|decr|patch|options'
                    rb'|connect|trace|config|slaveof)[ \t]+(?!%s)(?:[\w@<:`$*\\]|/\S)' % _OPERATOR, re.IGNORECASE)),
    # Commands without an argument.
    ('', re.compile(rb'(?:CAPA|STLS|STARTTLS|QUIT|NOOP|RSET|FEAT|SYST|PASV|PING|LOGOUT|CAPABILITY|CAPABILITIES|CONNECT'
                    rb'|STOMP|EHLO|HELO|AUTH|MULTI)$')),
    # XML or a syslog priority (also after a length), rsync (not a decorator of Python), a printer job.
    ('', re.compile(rb'[<%]|@(?![A-Za-z_][\w.]*(?:\(|$))|\d+ <\d+>|\x1b%')),
)
# Lines that a statement of several lines may contain, behind its first.
_LATER = (
    ('JSON', re.compile(rb'''\{\s*"[^"]*"\s*:|\[\s*\{\s*"|\["[^"]*"\s*,'''
                        rb'''|"[\w.$-]+"\s*:\s*(?:["\d{[-]|true|false|null)''')),
    # A header line, but not a call of a method in Lua; in Python not a block, and no variable with a type and a value.
    ('HTTP', re.compile(rb'''(?!(?:try|else|except|finally|lambda):)'''
                        rb'''(?![a-z_]\w*: [A-Za-z_][\w.]*(?:\[[\w.,| \[\]]*\])? = )'''
                        rb'''[A-Za-z][\w-]*:(?:$|[ \t]+(?!\w+[ \t]*[({"'\[]))''')),
)
# Commands of other protocols that are only a word. In Lua and Python, a name that is not called runs nothing.
_WORD = re.compile(
    rb'\s*(?:(?i:capa|cons|crst|dump|envi|exit|flush_all|info|isro|list|mn|mntr|monitor|noop|ping|pong|quit|reserve|reset|rset|'
    rb'ruok|shutdown|srst|srvr|starttls|stat|stats|status|stls|sync|time|verbosity|version|wchs|workers)|[A-Z][A-Z0-9_]+)\s*')
_WORD_BYTES = 128


def foreign(line: bytes, held: bytes = b'') -> str | None:
    """The name of the protocol of a line, empty if it has no name; None if the line may be for a console.

    Args:
        held: the lines in front of it, if it continues a statement.
    """
    line = line.strip()
    if not line:
        return None
    first, *rest = line.rsplit(None, 1)
    if rest:
        version = _VERSION.fullmatch(rest[0])
        if version:
            return version[1].decode().upper()
        # HTTP 0.9 has no version.
        if first.isalpha() and _TARGET.match(rest[0]):
            return 'HTTP'
    # The lines of a document of JSON, of which a line alone says little.
    is_later = bool(held) and held.lstrip()[:1] not in (b'{', b'[', b'"')
    for name, opening in _OPENINGS if is_later else _OPENINGS + _LATER:
        if opening.match(line):
            return name
    return None


def foreign_start(data: bytes | bytearray) -> str | None:
    """foreign() for an unfinished line: binary protocols are recognised by their first bytes."""
    start = bytes(data[:START_BYTES]).lstrip()
    return foreign(start) if _CONTROL.match(start) else None


def is_word(text: bytes) -> bool:
    """Whether a statement is a single word that is a command of another protocol."""
    return len(text) <= _WORD_BYTES and _WORD.fullmatch(text) is not None
