"""Dicts, lists and tuples of which a sequence has some twice, or that the value has elsewhere, too.

A list of instruments whose first one stands at its end again, or the same ones by token and by symbol: each is written
once, and which of them every place holds is a column of numbers, the indexes that all objects with an identity have::

    shared    "@" the new ones, as columns if they are alike; the lowest index, how many from there on, in order (1)
    numbers   their width, and for each place how far its index lies above the lowest; in order: how far above the one
              before it, and beyond the highest it goes on at the lowest
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from redis_memo._codecs_items import MODES, PACK_FROM, PACKERS, get_items, get_numbers, put_items, put_numbers
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis_memo._codecs_stream import Decoder, Encoder

__all__ = ["pack_rows"]

_SHARED: Final = ord("@")
_DEEPEST: Final = 8  # of what is within each other: to read this takes more of the stack than to read them one by one


def pack_rows(kind: type, put: Callable[[Encoder, Sequence[Any], Sequence[int]], bool]) -> None:
    """Let ``put`` write sequences of this type's instances, given with their ids, of which nobody has one already."""

    def pack(enc: Encoder, rows: Sequence[Any]) -> bool:
        ids = list(map(id, rows))
        if len(set(ids)) == len(ids) and enc.memo.keys().isdisjoint(ids):
            return put(enc, rows, ids)
        return _put_shared(enc, rows, ids)

    PACKERS[kind] = pack


def _put_shared(enc: Encoder, rows: Sequence[Any], ids: Sequence[int]) -> bool:
    # One that is still being written cannot be referred to: one by one is how that is found out.
    if len(rows) < PACK_FROM or enc.depth > _DEEPEST or any(enc.memo.get(each, 0) < 0 for each in ids):
        return False
    new = {each: row for each, row in zip(ids, rows, strict=True) if each not in enc.memo}
    enc.out.append(_SHARED)
    put_items(enc, list(new.values()))
    indexes = list(map(enc.memo.__getitem__, ids))
    lowest = min(indexes)
    span = max(indexes) - lowest + 1
    places = [index - lowest for index in indexes]
    steps = [(after - before) % span for before, after in itertools.pairwise((0, *places))]
    in_order = len(set(steps)) < len(set(places))
    numbers = steps if in_order else places
    enc.size(lowest)
    enc.size(span)
    enc.out.append(in_order)
    put_numbers(enc, numbers, max(numbers))
    return True


def _get_shared(dec: Decoder) -> list[Any]:
    if dec.data[dec.pos] == _SHARED:  # the new ones are all different; nor do few bytes go deep down the stack
        raise UnreadableEntry("a sequence of what is shared is damaged")
    get_items(dec)
    lowest, span, in_order = dec.size(), dec.size(), dec.byte()
    numbers = get_numbers(dec)
    places = [step % span for step in itertools.accumulate(numbers)] if in_order else numbers
    return dec.known([lowest + place for place in places])


MODES[_SHARED] = _get_shared
