"""Lines that no client of a console begins with: what another program, made to speak to our port, may send.

A browser, a mail client, or a service that fetches from an address of somebody's choice begins with a line of its own
protocol; text that an attacker chose comes behind it. So the first lines of a session are judged before they run.
A client that lets the attacker choose its first byte, too (`gopher:`, FTP's PORT), looks like a person with nc: only a
listener without rights, or a unix socket, keeps it out.

A line that is wrong Lua is nothing foreign: people mistype, and are answered. But they do not send the next line before
that: the driver of ConsoleProtocol sees to lines of protocols that are not known here.
"""
from __future__ import annotations

import re

__all__ = ['START_BYTES', 'foreign', 'foreign_start']

# Text of HTTP's kin that ends a request's line.
_VERSION = re.compile(rb'(HTTP|RTSP|SIP|ICAP)/\d+(?:\.\d+)?', re.IGNORECASE)
# What a request is for; a number behind the slash makes it a division.
_TARGET = re.compile(rb'/(?!\d)|[A-Za-z]+://')
# Two control bytes outside of strings and comments; one is a slip. Not those of a terminal: backspace, escape, Ctrl-D.
_CONTROL = re.compile(rb'''[^"'\[\-\0-\x02\x05-\x07\x0e-\x1a\x1c-\x1f]*[\0-\x02\x05-\x07\x0e-\x1a\x1c-\x1f].*?'''
                      rb'''[\0-\x02\x05-\x07\x0e-\x1a\x1c-\x1f]|\x16\x03''', re.DOTALL)
# How much of a line whose end has not come is looked at for them.
START_BYTES = 64
# Each is told by its name, where it has one.
_OPENINGS = (
    ('TLS', re.compile(rb'\x16\x03')),
    ('LDAP', re.compile(rb'0[^\0]{1,5}?\x02[\x01-\x04]', re.DOTALL)),
    ('', _CONTROL),
    ('SSH', re.compile(rb'SSH-\d')),
    ('git', re.compile(rb'[\da-f]{4}git-')),
    ('Redis', re.compile(rb'[*$]\d')),
    ('JSON', re.compile(rb'''\{\s*"[^"]*"\s*:|\[\s*\{\s*"|\["[^"]*"\s*,'''
                        rb'''|"[\w.$-]+"\s*:\s*(?:["\d{[-]|true|false|null)''')),
    ('statsd', re.compile(rb'[\w.#@/-]+:[-+]?[\d.]+\|[a-z]')),
    # A value and a time.
    ('Graphite', re.compile(rb'[\w.;=-]+ -?[\d.]+(?:[eE][-+]?\d+)? \d{9,19}$')),
    ('InfluxDB', re.compile(rb'[\w.-]+(?:,[\w.-]+=[^\s,]+)* [\w.-]+=\S+ \d{9,19}$')),
    ('IMAP', re.compile(rb'[A-Za-z]{0,4}\d{1,6} (?:[A-Z]{4,}|login|select|noop|capability|logout|starttls|authenticate)'
                        rb'(?: |$)')),
    ('Subversion', re.compile(rb'\( \d+ \(')),
    ('memcached', re.compile(rb'(?:set|add|replace|append|prepend|cas) \S+ \d+ \d+ \d+|m[sgdan] [^\s=,]+(?: |$)')),
    ('beanstalkd', re.compile(rb'put \d+ \d+ \d+ \d+')),
    # A command in capitals with its argument: of mail, FTP, IRC, dict, PROXY.
    ('', re.compile(rb'[A-Z][A-Z\d_-]{2,}[ \t]+(?!(?:and|or)\b)(?:[\w@<:`]|/\S|\[[\d:I]|\{")')),
    # The same in small letters, which people may use for something else: the most common ones.
    ('', re.compile(rb'(?:helo|ehlo|lhlo|mail|rcpt|user|pass|nick|auth|gets?|head|post|put|delete|incr|decr|patch|options'
                    rb'|connect|trace|config|slaveof)[ \t]+(?!(?:and|or)\b)(?:[\w@<:`$*\\]|/\S)', re.IGNORECASE)),
    # What stands alone.
    ('', re.compile(rb'(?:CAPA|STLS|STARTTLS|QUIT|NOOP|RSET|FEAT|SYST|PASV|PING|LOGOUT|CAPABILITY|CAPABILITIES|CONNECT'
                    rb'|STOMP|EHLO|HELO|AUTH|MULTI)$')),
    # A header, and not a method's call.
    ('HTTP', re.compile(rb'''[A-Za-z][\w-]*:(?:$|[ \t]+(?!\w+[ \t]*[({"'\[]))''')),
    # XML, a syslog's priority, also behind a length, a printer's job, rsync.
    ('', re.compile(rb'[<@%]|\d+ <\d+>|\x1b%')),
)


def foreign(line: bytes) -> str | None:
    """The name of the protocol that a line belongs to, empty where it has none; None where it may be a console's."""
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
    for name, opening in _OPENINGS:
        if opening.match(line):
            return name
    return None


def foreign_start(data: bytes | bytearray) -> str | None:
    """The same for a line whose end has not come: what binary protocols begin with is seen without one."""
    start = bytes(data[:START_BYTES]).lstrip()
    return foreign(start) if _CONTROL.match(start) else None
