"""Lists of dicts with the same keys, as Kite's client returns candles and instruments: one column per key."""

from __future__ import annotations

import functools
import itertools
from array import array
from operator import itemgetter, rshift
from typing import TYPE_CHECKING, Any, Final

from redis_memo._codecs_items import MADE_SINGLY, MANY, MODES, get_items, put_items
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from redis_memo._codecs_stream import Decoder, Encoder

__all__ = ["RECORDS_FROM", "get_records", "put_records"]

RECORDS_FROM: Final = 8
_SPREAD_KEYS: Final = 64
_SHIFTS: Final = (0, 8)


def put_records(enc: Encoder, rows: tuple[Any, ...]) -> bool:
    """Write a list of dicts with the same string keys as one column per key, if that is what it is."""
    first = rows[0]
    keys = tuple(first)
    if (
        not keys
        or len(rows) < RECORDS_FROM
        or not enc.records
        or set(map(type, rows)) != {dict}
        or not all(map(keys.__eq__, map(tuple, rows)))
        or set(map(type, itertools.chain.from_iterable(rows))) != {str}  # a str subclass can equal a str
    ):
        return False
    ids = list(map(id, rows))
    memo = enc.memo
    if len(set(ids)) != len(ids) or not memo.keys().isdisjoint(ids):
        return False
    columns = [list(map(itemgetter(key), rows)) for key in keys]
    enc.enter()
    # A cell may not refer to a row: the reader makes the rows when it has all columns. dumps() then tries again
    # without columns.
    memo.update(dict.fromkeys(ids, -enc.depth))
    enc.out += b"R"
    enc.size(len(rows))
    put_items(enc, keys)
    wholes: dict[int, list[int]] = {}
    for number, column in enumerate(columns):
        if wholes and _put_followed(enc, column, wholes):
            continue
        mode = len(enc.out)
        put_items(enc, column)
        if enc.out[mode] == ord("q") and len(rows) >= MANY:
            wholes[number] = column
    memo.update(zip(ids, itertools.count(len(enc.keep)), strict=False))
    enc.keep += rows
    enc.depth -= 1
    return True


def _put_followed(enc: Encoder, column: Sequence[Any], wholes: Mapping[int, Sequence[int]]) -> bool:
    """A column of numerals that follows from one of numbers, as an exchange token of Kite from the instrument's."""
    if type(column[0]) is not str:
        return False
    few = slice(None, None, max(1, len(column) // 8))
    for (number, whole), shift in itertools.product(wholes.items(), _SHIFTS):
        if [str(each >> shift) for each in whole[few]] != column[few] or set(map(type, column)) != {str}:
            continue
        if list(map(str, map(rshift, whole, itertools.repeat(shift)))) == column:
            enc.out += b"="
            enc.size(number)
            enc.out.append(shift)
            return True
    return False


def _following(dec: Decoder, before: Sequence[Iterable[Any]]) -> tuple[int, Iterable[Any]]:
    number, shift = dec.size(), dec.byte()
    if number >= len(before) or shift not in _SHIFTS:
        raise UnreadableEntry("a column that follows another one is damaged")
    whole = before[number]
    if not isinstance(whole, array) or whole.typecode != "q":
        raise UnreadableEntry("a column follows another one that is not of whole numbers")
    return len(whole), map(str, map(rshift, whole, itertools.repeat(shift)))


def _cells(dec: Decoder, length: int, before: Sequence[Iterable[Any]]) -> Iterable[Any]:
    """A column of a table of so many rows, as far as possible made cell by cell as the rows are.

    A row is made sooner of cells that have just been made: they are still in the processor's cache.
    """
    mode = dec.byte()
    if mode == ord("="):
        count, cells = _following(dec, before)
    elif mode in MADE_SINGLY:
        count, cells = MADE_SINGLY[mode](dec)
    else:
        cells = MODES[mode](dec)
        count = len(cells)
    if count != length:
        raise UnreadableEntry("a table of records does not add up")
    return cells


def get_records(dec: Decoder) -> list[Any]:
    """Read what :func:`put_records` wrote."""
    rows: list[Any] = []
    dec.memo.append(rows)
    length = dec.size()
    keys = get_items(dec)
    columns: list[Iterable[Any]] = []
    for _ in keys:
        columns.append(_cells(dec, length, columns))
    if not columns or set(map(type, keys)) != {str}:
        raise UnreadableEntry("a table of records does not add up")
    if len(keys) <= _SPREAD_KEYS:
        rows += _spread(len(keys))(*keys, columns)
    else:
        rows += [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
    dec.memo += rows
    return rows


@functools.cache
def _spread(count: int) -> Callable[..., list[dict[str, Any]]]:
    """A function that makes the rows of a table with so many columns.

    A dict display with the keys in local variables takes two thirds of the time of ``dict(zip(keys, row))``. The
    source depends on nothing but the count.
    """
    keys, cells = ([f"{letter}{number}" for number in range(count)] for letter in "kv")
    display = ", ".join(map("{}: {}".format, keys, cells))
    names: dict[str, Any] = {}
    source = f"def rows({', '.join(keys)}, columns): return [{{{display}}} for {', '.join(cells)}, in zip(*columns)]"
    exec(source, names)  # noqa: S102 - built from a number alone
    made: Callable[..., list[dict[str, Any]]] = names["rows"]
    return made
