"""Calls as of a moment: a key space of its own for each, in which time stands still.

Within ``as_of(moment)`` a call sees the entries that calls within ``as_of`` of the very same moment made, and no
others; policies and `redis_memo.market` see the moment as the present.

An entry of a moment lies under the function's own prefix, so that an invalidation outside reaches it by arguments and
tags as it reaches all others. Its digest is that of the call together with the moment, and it has two further
tokens: one for the moment, by which an invalidation within finds what is its own, and one for the call, by which the
invalidation of a single call outside finds it at every moment.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from blake3 import blake3

from ._clock import at_moment, block, instant, now, parse_instant
from ._clock import moment as current
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["as_of", "call_token", "moment_digest", "moment_token"]


@block
def as_of(moment: datetime | str) -> Iterator[datetime]:
    """Answer the calls in a block as of a moment of the past, so that a backtest cannot read tomorrow's data.

    Holds for plain and ``async`` code, for what the library runs behind a caller, and for whatever is started with a
    copy of the block's context (tasks, ``asyncio.to_thread``). A thread that you start yourself, or an executor's,
    has a context of its own: run ``contextvars.copy_context().run(work)`` in it.

    **Guaranteed**: no value is seen that was computed outside of this moment, and none that was is seen outside;
    ``peek``, ``store``, ``refresh``, ``explain``, ``cache_key`` and ``invalidate`` of a function mean the moment's
    entries. An invalidation outside reaches the entries of all moments. Policies, `redis_memo.market.phase` and the
    like take the moment for the present, and a block within cannot go to a later one.

    **Not guaranteed**: the function itself runs now. If it asks a source for "the latest", it gets today's; let it ask
    for data up to `redis_memo.market.moment`. An entry lives as long as the function's ``ttl=`` answers for a call at
    that moment, counted from now.

    Args:
        moment: An aware datetime, or a text such as ``"2024-03-01 11:00 IST"``; not in the future.

    Yields:
        The moment, in UTC.

    Raises:
        ConfigurationError: It names no instant, one that has not come, or one after the moment of the block around it.
    """
    t = round(instant(parse_instant(moment)), 6)
    if not math.isfinite(t) or t > now():
        raise ConfigurationError("as_of() takes a moment of the past: what is known at a later one cannot be known yet")
    outer = current()
    if outer is not None and t > outer:
        raise ConfigurationError(
            f"as_of() within as_of(): {datetime.fromtimestamp(t, UTC).isoformat()} is later than the moment of the "
            f"block around it, {datetime.fromtimestamp(outer, UTC).isoformat()}, and would show it what was to come"
        )
    with at_moment(t):
        yield datetime.fromtimestamp(t, UTC)


def moment_digest(digest: str, t: float) -> str:
    """The digest of a call as of a moment."""
    return str(blake3(f"redis_memo as of 1 {t:.6f} {digest}".encode()).hexdigest(20))


def moment_token(t: float) -> bytes:
    """The token of all entries of a moment."""
    return bytes(blake3(f"redis_memo moment 1 {t:.6f}".encode()).digest(8))


def call_token(digest: str) -> bytes:
    """The token of one call's entries at all moments, by its digest outside of any."""
    return bytes(blake3(f"redis_memo moments of 1 {digest}".encode()).digest(8))
