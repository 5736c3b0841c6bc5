"""What a server's error reply says, told apart by its first word."""

from __future__ import annotations

from typing import Literal, TypeAlias

import redis
from redis.exceptions import NoScriptError, ResponseError

__all__ = ["Elsewhere", "RefusedClient", "reply_error"]

Why: TypeAlias = Literal["moved", "ask", "later", "replica", "nobody"]

_WORDS: dict[str, Why] = {"MOVED": "moved", "ASK": "ask", "TRYAGAIN": "later", "READONLY": "replica"}


class RefusedClient(redis.RedisError):
    """The server has as many clients as it may have; those that are connected are served."""


class Elsewhere(redis.ResponseError):
    """This server is not the one to ask, at least not now; nothing was done.

    Attributes:
        why: ``moved``: the slot has another owner. ``ask``: it moves, and this key is gone already. ``later``: it
            moves, and the keys are not all on one side. ``replica``: a server that was a master is none any more.
            ``nobody``: no node serves the slot; of other slots nothing is said.
        address: Host (empty: the same) and port of who is to be asked; None where that was not said.
    """

    def __init__(self, text: str, why: Why) -> None:
        super().__init__(text)
        self.why = why
        self.address: tuple[str, int] | None = None
        if why in ("moved", "ask"):
            host, _, port = (*text.split(), "", "", "")[2].rpartition(":")
            self.address = (host, int(port)) if port.isdecimal() else None


def reply_error(text: str) -> Exception:
    """The exception for an error reply."""
    code = text.partition(" ")[0]
    if code == "NOSCRIPT":
        return NoScriptError(text)
    if code in ("NOAUTH", "WRONGPASS"):
        return redis.AuthenticationError(text)
    if code == "CLUSTERDOWN" and "slot" in text:
        return Elsewhere(text, "nobody")
    if code == "CLUSTERDOWN" and "read commands" in text:
        return ResponseError(text)  # a refusal: a hit is still a hit
    if code in ("LOADING", "MASTERDOWN", "CLUSTERDOWN"):
        # Whatever was asked, it would have answered the same.
        return redis.BusyLoadingError(text)
    if code in _WORDS:
        return Elsewhere(text, _WORDS[code])
    if "max number of clients" in text:
        return RefusedClient(text)
    if "access a non local key" in text or "during rehashing of the slot" in text:
        # A script came upon a key that has moved already (Redis 8: or upon several, of which some have). Some of its
        # writes may have been made.
        return Elsewhere(text, "later")
    if "-READONLY" in text:  # from within a script, before Redis 7
        return Elsewhere(text, "replica")
    return ResponseError(text)
