"""Lists of dicts with the same keys, as Kite's client returns candles and instruments: one column per key."""

from __future__ import annotations

import functools
import importlib
import itertools
from array import array
from operator import itemgetter, rshift
from typing import TYPE_CHECKING, Any, Final

from redis_memo._codecs_items import MADE_SINGLY, MANY, MODES, get_items, put_items
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from redis_memo._codecs_stream import Decoder, Encoder

__all__ = ["RECORDS_FROM", "get_records", "get_tables", "put_records"]

RECORDS_FROM: Final = 8
_SPREAD_KEYS: Final = 64
_NAMES: Final = ord("w")
_SHIFTS: Final = (0, 8)
_DRAFT: Final = 3  # the part of a row's cells from which on a copy and the rest take less time than all of them


@functools.cache
def _tables() -> Any:
    # It needs numpy, which only a large list is worth.
    return importlib.import_module("redis_memo._codecs_tables")


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
    shared = _tables().plan(columns) if len(rows) >= MANY else None
    enc.enter()
    # A cell may not refer to a row: the reader makes the rows when it has all columns. dumps() then tries again
    # without columns.
    memo.update(dict.fromkeys(ids, -enc.depth))
    enc.out += b"R" if shared is None else b"Q"
    enc.size(len(rows))
    put_items(enc, keys)
    apart = _tables().put_plan(enc, shared) if shared is not None else ()
    wholes: dict[int, list[int]] = {}
    for number, column in enumerate(columns):
        if number in apart:
            continue
        if wholes and _put_followed(enc, column, wholes):
            continue
        mode = len(enc.out)
        if shared is not None:
            _tables().put_texts(enc, shared.names, number, column)
        else:
            put_items(enc, column)
        if enc.out[mode] == ord("q") and len(rows) >= MANY:
            wholes[number] = column
    if shared is not None:
        _tables().put_composed(enc, shared)
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
    rows, length, keys = _begun(dec)
    columns: list[Iterable[Any]] = []
    for _ in keys:
        columns.append(_cells(dec, length, columns))
    return _finished(dec, rows, keys, {(place,): column for place, column in enumerate(columns)})


def get_tables(dec: Decoder) -> list[Any]:
    """Read what :func:`put_records` wrote of columns that have something in common."""
    rows, length, keys = _begun(dec)
    tables = _tables()
    names: dict[int, Any] = {}
    composed, groups = tables.get_plan(dec, length, len(keys), names)
    apart = set(composed).union(*(group.members for group in groups))
    columns: list[Iterable[Any]] = []
    for place in range(len(keys)):
        if place in apart:
            columns.append(())
        elif dec.data[dec.pos] == _NAMES:
            columns.append(tables.get_texts(dec, names, place, length))
        else:
            columns.append(_cells(dec, length, columns))
    found: dict[tuple[int, ...], Iterable[Any]] = {}
    for place, column in enumerate(columns):
        if place not in apart:
            found[place,] = column
    for number, place in enumerate(composed, len(keys)):
        found[place,] = tables.get_composed(dec, groups, number, names)
    # What is rare in a group is put into cells.
    widest = max((group for group in groups if group.rare is None), key=lambda group: len(group.members), default=None)
    for group in groups:
        places = tuple(place for place in group.members if place < len(keys))
        if len(keys) > _SPREAD_KEYS:
            found |= {(place,): tables.cells(group, (place,)) for place in places}
        elif group is widest and len(places) * _DRAFT >= len(keys):
            found[(*places, -1)] = tables.drafts(group, places, keys)
        elif places:
            found[places] = tables.cells(group, places)
    return _finished(dec, rows, keys, found)


def _begun(dec: Decoder) -> tuple[list[Any], int, list[str]]:
    rows: list[Any] = []
    dec.memo.append(rows)
    length = dec.size()
    keys = get_items(dec)
    if set(map(type, keys)) != {str}:
        raise UnreadableEntry("a table of records does not add up")
    return rows, length, keys


def _finished(
    dec: Decoder, rows: list[Any], keys: Sequence[str], columns: Mapping[tuple[int, ...], Iterable[Any]]
) -> list[Any]:
    """The rows of a table, of columns by the places of their cells: see `_spread`."""
    if len(keys) <= _SPREAD_KEYS:
        rows += _spread(tuple(columns))(keys, zip(*columns.values()))  # noqa: B905 - their lengths were compared
    else:
        in_order = [columns[place,] for place in range(len(keys))]
        rows += [dict(zip(keys, row, strict=True)) for row in zip(*in_order, strict=True)]
    dec.memo += rows
    return rows


@functools.lru_cache(1000)
def _spread(columns: tuple[tuple[int, ...], ...]) -> Callable[..., list[dict[str, Any]]]:
    """A function that makes the rows of a table, of each row's cells.

    A column of several places has tuples of their cells; with -1 as the last one it makes the row, to which the other
    cells are then added. A dict display with the keys in local variables takes two thirds of the time of
    ``dict(zip(keys, row))``, and a copy of a dict that has most of the cells already takes less. The source depends
    on nothing but numbers.
    """
    draft = [places for places in columns if places[-1] < 0]
    places = sorted(place for places in columns if places not in draft for place in places)
    keys = ", ".join(f"k{place}" for place in range(1 + max(map(max, columns))))
    cells = ", ".join(
        "draft" if some in draft else f"({', '.join(map('v{}'.format, some))},)" if some[1:] else f"v{some[0]}"
        for some in columns
    )
    if draft:
        body = "; ".join(("row = draft()", *(f"row[k{place}] = v{place}" for place in places), "add(row)"))
        loop = f"rows = []; add = rows.append\n for {cells}, in cells: {body}\n return rows"
    else:
        loop = f"return [{{{', '.join(f'k{place}: v{place}' for place in places)}}} for {cells}, in cells]"
    names: dict[str, Any] = {}
    exec(f"def rows(keys, cells):\n {keys}, = keys\n {loop}", names)  # noqa: S102 - built from numbers alone
    made: Callable[..., list[dict[str, Any]]] = names["rows"]
    return made
