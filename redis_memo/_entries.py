"""What is done with entries without running the function: flows as in `_core`, which look, store and delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._ops import UNTAGGED, Clock, Computed, Count, DropMatching, Flow, Place, Put, Read, ReadParts, Revoke
from ._spec import Spec, Standing
from .errors import StoreError, UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["count", "drop_matching", "drop_tagged", "over", "peek", "peek_columns", "store"]

DROP_AT_ONCE = 500  # calls dropped by one script, so that the server is not held up


def peek(spec: Spec, entry: str, missing: object) -> Flow:
    """What a call would be served from the store, or ``missing``; computes and counts nothing."""
    try:
        envelope = yield Read(entry)
        if envelope is not None:
            look = spec.look(entry, envelope, (yield Clock()), 1.0)
            return look.value if look.standing in (Standing.FRESH, Standing.DUE) else missing
    except StoreError as error:
        spec.failed(error)
    except UnreadableEntry as error:
        spec.unreadable(error)
    return missing


def peek_columns(spec: Spec, entry: str, names: Sequence[object], missing: object) -> Flow:
    """As `peek`, with some columns of a frame; of a large one only their bytes are read."""
    try:
        (start,) = yield ReadParts(entry, b"", ((None, 0, spec.first),))
        if not start:
            return missing
        reading = spec.columns(entry, start, names)
        if spec.standing(reading.stamp, (yield Clock()), 1.0) not in (Standing.FRESH, Standing.DUE):
            return missing
        while reading.needs:
            reading.take((yield ReadParts(entry, start, reading.needs)))
        return reading.value
    except StoreError as error:
        spec.failed(error)
        return missing
    except UnreadableEntry:
        pass  # it was replaced meanwhile, or has to be read as a whole
    value = yield from peek(spec, entry, missing)
    return value if value is missing else spec.whole(value, names)


def store(spec: Spec, place: Place, value: object) -> Flow:
    """Store a value as the call's result; True if it was stored."""
    now = yield Clock()
    try:
        sealed = spec.seal(place, Computed(value, 0.0), now)
        if sealed is None or sealed.ttl <= 0:
            return False
        yield Put(place, sealed.envelope, sealed.ttl - ((yield Clock()) - now), sealed.tokens)
    except StoreError as error:
        spec.failed(error)
        return False
    return True


def count(prefixes: Iterable[str]) -> Flow:
    """How many entries live under all of these prefixes."""
    total = 0
    for prefix in prefixes:
        total += yield Count(prefix)
    return total


def over(prefixes: Iterable[str], flow: Callable[[str], Flow]) -> Flow:
    """A flow for each shard of a function, one after the other; what they return is summed."""
    total = 0
    for prefix in prefixes:
        total += yield from flow(prefix)
    return total


def drop_matching(prefix: str, tokens: bytes) -> Flow:
    """Delete entries and leases of all calls with these tokens; in steps that do not hold up the server."""
    total = 0
    more = True
    while more:
        gone, more = yield DropMatching(prefix, tokens, DROP_AT_ONCE)
        total += gone
    return total


def drop_tagged(prefix: str, tags: Iterable[bytes]) -> Flow:
    """Delete entries and leases of all calls with any of these tags, as tokens."""
    more = True
    while more:
        # What is being computed may turn out to have the tag. Nobody can tell before it is done, so it is not stored.
        _, more = yield Revoke(prefix, UNTAGGED, DROP_AT_ONCE)
    total = 0
    for tag in tags:
        total += yield from drop_matching(prefix, tag)
    return total
