"""The last file descriptors of the process: they are not for those who come over the network.

What is kept is for clients on unix sockets, and for files that have to be opened anew: logs, the audit file, users.
"""
from __future__ import annotations

import resource

__all__ = ['is_kept']

_KEPT = 16


def is_kept(descriptor: int) -> bool:
    """Whether a descriptor that was just made is one of the last, which tells that nearly all are in use."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and descriptor >= limit - min(_KEPT, limit // 4)
