"""What a failure means: which error of ours it is, and whether the next call will meet it too."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

import redis

from ._replies import Elsewhere, RefusedClient
from ._wire import LOST
from .errors import RedisMemoError, StoreError, StoreRefused, StoreUnavailable

__all__ = ["crowded", "excused", "translated"]

LACKING = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_REASONS: Final[dict[type[Exception], str]] = {
    ConnectionRefusedError: "nobody listens there",
    socket.gaierror: "the host's name cannot be resolved",
    FileNotFoundError: "there is no such socket",
    PermissionError: "this user may not connect to it",
    ssl.SSLCertVerificationError: "its certificate is not trusted",
    ssl.SSLError: "the TLS handshake failed",
}
CROWDED = "max number of clients reached"


def translated(error: Exception, where: str) -> StoreError | None:
    """Our own error for whatever redis-py raised; None for what is none of its kind."""
    if isinstance(error, RedisMemoError):
        return error if isinstance(error, StoreError) else None
    if isinstance(error, (redis.TimeoutError, TimeoutError)):
        return StoreUnavailable(f"{where} did not answer in time")
    if isinstance(error, redis.AuthenticationError):
        if str(error).startswith("NOAUTH"):
            return StoreRefused(f"{where} asks for a password, and the URL has no credentials")
        return StoreRefused(f"{where} refused the credentials in the URL")
    if isinstance(error, redis.BusyLoadingError):
        return StoreUnavailable(f"{where} is not ready: {str(error)[:120]}")
    if isinstance(error, RefusedClient) or CROWDED in str(error):
        return StoreRefused(f"{where} refused: {CROWDED}")
    if isinstance(error, Elsewhere) and error.why in ("moved", "ask"):
        return StoreRefused(f"{where} is one node of a cluster: use redis+cluster:// in the URL")
    if isinstance(error, Elsewhere) and error.why == "nobody":
        return StoreUnavailable(f"{where}: no node serves a part of the keys")
    if isinstance(error, LOST):
        return StoreUnavailable(f"{where} cannot be reached{_why(error)}")
    if isinstance(error, (redis.RedisError, ValueError)):
        # The server's own words ("OOM command not allowed ..."), which quote no argument of a known command.
        return StoreRefused(f"{where} refused: {str(error)[:120]}")
    return None


def _why(error: Exception) -> str:
    """What the system said when the connection was made, or else the kind of failure."""
    # No further up: what the caller was just handling may stand there.
    for each in (error, error.__cause__ or error.__context__):
        for kind, said in _REASONS.items():
            if isinstance(each, kind):
                return f": {said}"
        # Where a name has several addresses, asyncio says of each why, in one text.
        if isinstance(each, OSError) and f"[Errno {errno.ECONNREFUSED}]" in str(each):
            return f": {_REASONS[ConnectionRefusedError]}"
    return f" ({type(error).__name__})"


def crowded(ours: StoreError) -> bool:
    """Whether the server only has too many clients."""
    return CROWDED in str(ours)


def excused(error: Exception, ours: StoreError) -> bool:
    """Whether a failure says nothing of what the next call will meet."""
    if isinstance(error, redis.AuthenticationError):
        return False
    return crowded(ours) or isinstance(error, Elsewhere) or _is_our_own(error)


def _is_our_own(error: BaseException | None) -> bool:
    """Whether this process or machine has run out of something, which says nothing of the server."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in LACKING:
            return True
        error = error.__cause__ or error.__context__
    try:
        # The resolver does not say why it could not open its files.
        socket.socket().close()
    except OSError as lacking:
        return lacking.errno in LACKING
    return False
