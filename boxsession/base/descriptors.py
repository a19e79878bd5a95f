"""Reserves the last file descriptors of the process.

Clients that connect over TCP cannot use them. They are reserved for clients on unix sockets, and for files that are
reopened: the log, the audit file and the store.
"""
from __future__ import annotations

import resource

__all__ = ['is_kept']

_KEPT = 16


def is_kept(descriptor: int) -> bool:
    """Whether a new descriptor is one of the reserved ones.

    The system gives the lowest free number. So a high number means that nearly all descriptors are in use.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and descriptor >= limit - min(_KEPT, limit // 4)
