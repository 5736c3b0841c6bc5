"""Dicts with the same keys, and what is alike within them, as columns: Kite's candles, quotes, holdings, instruments.

A sequence of such dicts is one column per key; a column of dicts is columns in turn, and one of lists is their lengths
and one column of all that they hold (as Dremel does it: Melnik et al., VLDB '10). Tuples of one length, such as a
database returns, are dicts without keys. In a table of few rows, what columns cost by themselves would be most of it:
there, columns of one kind are written one after another as one::

    dicts     "r" rows, keys, groups
    tuples    "t" rows, 0, groups; or 1 and they are lists
    groups    a byte for each column that says which group it is in; each group's columns, one after another
    lists     "l" how many, their length, what they hold; where they differ in length, 0 and the lengths before that
    many      "R" rows, keys, columns; of still more, "Q" as `_codecs_tables` says; both of dicts

Rows get their indexes after all that is in them. Tables lie within tables to a depth of `DEEPEST`, so that few bytes
do not become many objects.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from array import array
from operator import itemgetter, rshift
from typing import TYPE_CHECKING, Any, Final

from redis_memo._codecs_items import (
    MADE_SINGLY,
    MANY,
    MODES,
    PACK_FROM,
    ROWS,
    get_items,
    put_items,
    put_repeated,
)
from redis_memo._codecs_shared import pack_rows
from redis_memo._codecs_stream import DEEPEST
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from redis_memo._codecs_stream import Decoder, Encoder

__all__ = ["get_records", "get_tables"]

_FEW_ROWS: Final = 256
_MOST_GROUPS: Final = 256
_CELLS_FROM: Final = 4  # that are a column; in a table they are read together in any case
_SPREAD_KEYS: Final = 64
_LENGTH_BITS: Final = 64
_NAMES: Final = ord("w")
_SHIFTS: Final = (0, 8)
_DRAFT: Final = 3  # the part of a row's cells from which on a copy and the rest take less time than all of them
_PRICES: Final = frozenset((float, int))


@functools.cache
def _tables() -> Any:
    # It needs numpy, which only a large list is worth.
    return importlib.import_module("redis_memo._codecs_tables")


# Writing


def _begin(enc: Encoder, ids: Sequence[int]) -> bool:
    """Begin a table; False where it would be too deep."""
    if not enc.records or enc.tables >= DEEPEST:
        return False
    enc.enter()
    enc.tables += 1
    # A cell may not refer to a row: the reader makes the rows when it has all columns. dumps() then tries again
    # without columns.
    enc.memo.update(dict.fromkeys(ids, -enc.depth))
    return True


def _end(enc: Encoder, rows: Sequence[Any], ids: Sequence[int]) -> None:
    enc.memo.update(zip(ids, itertools.count(len(enc.keep)), strict=False))
    enc.keep += rows
    enc.depth -= 1
    enc.tables -= 1


def _put_dicts(enc: Encoder, rows: Sequence[dict[Any, Any]], ids: Sequence[int]) -> bool:
    keys = tuple(rows[0])
    if (
        not keys
        or not all(map(keys.__eq__, map(tuple, rows)))
        or set(map(type, itertools.chain.from_iterable(rows))) != {str}  # a str subclass can equal a str
    ):
        return False
    if not _begin(enc, ids):
        return False
    columns = [list(map(itemgetter(key), rows)) for key in keys]
    if len(rows) < _FEW_ROWS:
        enc.out += b"r"
        enc.size(len(rows))
        put_items(enc, keys, _CELLS_FROM)
        _put_groups(enc, columns)
    else:
        _put_apart(enc, keys, columns)
    _end(enc, rows, ids)
    return True


def _put_tuples(enc: Encoder, rows: Sequence[tuple[Any, ...]], ids: Sequence[int]) -> bool:
    width = len(rows[0])
    return width > 0 and set(map(len, rows)) == {width} and _put_rows(enc, rows, ids, rows)


def _put_rows(enc: Encoder, rows: Sequence[Any], ids: Sequence[int], parts: Sequence[tuple[Any, ...]]) -> bool:
    """Write tuples, or lists, of one length; ``parts`` are what is in them."""
    if not _begin(enc, ids):
        return False
    enc.out += b"t"
    enc.size(len(rows))
    enc.out.append(type(rows[0]) is list)
    _put_groups(enc, list(zip(*parts, strict=True)))
    _end(enc, rows, ids)
    return True


def _put_lists(enc: Encoder, lists: Sequence[list[Any]], ids: Sequence[int]) -> bool:
    parts = list(map(tuple, lists))  # what is written must add up even if another thread appends
    lengths = list(map(len, parts))
    alike = lengths[0] if len(set(lengths)) == 1 else 0
    if alike and len(set(map(type, parts[0]))) > 1:
        return _put_rows(enc, lists, ids, parts)
    cells = list(itertools.chain.from_iterable(parts))
    # How long each is would take more than is won on what they hold.
    if not cells or (not alike and len(cells) < PACK_FROM and type(cells[0]) not in ROWS):
        return False
    if not _begin(enc, ids):
        return False
    enc.out += b"l"
    enc.size(len(lists))
    enc.size(alike)
    if not alike and not put_repeated(enc, lengths):
        put_items(enc, lengths)
    put_items(enc, cells)
    _end(enc, lists, ids)
    return True


pack_rows(dict, _put_dicts)
pack_rows(tuple, _put_tuples)
pack_rows(list, _put_lists)


def _put_groups(enc: Encoder, columns: Sequence[Sequence[Any]]) -> None:
    """Write columns; in a table of few rows those of one kind as one."""
    known: dict[Hashable, int] = {}
    kinds: Iterable[Hashable] = map(_looks, columns) if len(columns[0]) < _FEW_ROWS else range(len(columns))
    numbers = bytes([min(known.setdefault(kind, len(known)), _MOST_GROUPS - 1) for kind in kinds])
    groups: list[list[Any]] = [[] for _ in range(max(numbers) + 1)]
    for number, column in zip(numbers, columns, strict=True):
        groups[number] += column
    enc.blob(numbers)
    for cells in groups:
        put_items(enc, cells, _CELLS_FROM)


def _looks(column: Sequence[Any]) -> Hashable:
    """What columns have in common that are better written as one."""
    kinds = frozenset(map(type, column))
    if float in kinds and kinds <= _PRICES:
        return _PRICES
    if kinds == {str}:
        return str, 2 * len(set(column)) > len(column)  # texts that repeat are numbers, if no others are among them
    if kinds == {dict}:
        return _named(column[0])
    if kinds == {list}:
        first = next(filter(None, column), [None])[0]
        return list, type(first), _named(first) if type(first) is dict else None
    return kinds


def _named(row: dict[Any, Any]) -> Hashable:
    keys = tuple(row)
    return keys if set(map(type, keys)) == {str} else dict


def _put_apart(enc: Encoder, keys: tuple[str, ...], columns: list[list[Any]]) -> None:
    """Write each column by itself, except for what those of a large table have in common."""
    many = len(columns[0]) >= MANY
    shared = _tables().plan(columns) if many else None
    enc.out += b"R" if shared is None else b"Q"
    enc.size(len(columns[0]))
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
        if many and enc.out[mode] == ord("q"):
            wholes[number] = column
    if shared is not None:
        _tables().put_composed(enc, shared)


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


# Reading


def _get_dicts(dec: Decoder) -> list[Any]:
    _deeper(dec)
    length, keys = _begun(dec)
    columns = _get_groups(dec, length)
    if len(columns) != len(keys):
        raise UnreadableEntry("a table does not add up")
    return _complete(dec, _dicts(keys, {(place,): column for place, column in enumerate(columns)}))


def _get_tuples(dec: Decoder) -> list[Any]:
    _deeper(dec)
    length, are_lists = dec.size(), dec.byte()
    rows = zip(*_get_groups(dec, length), strict=True)
    return _complete(dec, list(map(list, rows) if are_lists else rows))


def _get_lists(dec: Decoder) -> list[Any]:
    _deeper(dec)
    count, alike = dec.size(), dec.size()
    lengths = [] if alike else get_items(dec)
    cells = get_items(dec)
    if alike:
        ends: Sequence[int] = range(0, len(cells) + 1, alike)
    else:
        # Longer numbers, each there many times, would take for ever to add up.
        if set(map(type, lengths)) != {int} or max(map(int.bit_length, lengths)) > _LENGTH_BITS or min(lengths) < 0:
            raise UnreadableEntry("a column of lists is damaged")
        ends = list(itertools.accumulate(lengths, initial=0))
    if len(ends) != count + 1 or ends[-1] != len(cells):
        raise UnreadableEntry("a column of lists does not add up")
    return _complete(dec, [cells[start:end] for start, end in itertools.pairwise(ends)])


def _get_groups(dec: Decoder, length: int) -> list[list[Any]]:
    numbers = bytes(dec.blob())
    columns: list[list[Any]] = [[]] * len(numbers)
    narrow = len(numbers) <= _SPREAD_KEYS
    for places in _known_places(numbers) if narrow else _places(numbers):
        cells = get_items(dec)
        if len(cells) != length * len(places):
            raise UnreadableEntry("a table does not add up")
        start = 0
        for place in places:
            columns[place] = cells[start : start + length]
            start += length
    return columns


def _places(numbers: bytes) -> list[list[int]]:
    """Which columns are in each group."""
    places: list[list[int]] = [[] for _ in range(max(numbers) + 1)]
    for place, group in enumerate(numbers):
        places[group].append(place)
    return places


_known_places = functools.lru_cache(1000)(_places)


def _deeper(dec: Decoder) -> None:
    dec.tables += 1
    if dec.tables > DEEPEST:
        raise UnreadableEntry("tables lie too deep within tables")


def _complete(dec: Decoder, rows: list[Any]) -> list[Any]:
    dec.tables -= 1
    dec.memo += rows
    return rows


def _get_many(read: Callable[[Decoder], list[Any]]) -> Callable[[Decoder], list[Any]]:
    def get(dec: Decoder) -> list[Any]:
        _deeper(dec)
        return _complete(dec, read(dec))

    return get


def get_records(dec: Decoder) -> list[Any]:
    """Read a list that was written as nothing but a table; so does the next one."""
    return _get_list(dec, _records)


def get_tables(dec: Decoder) -> list[Any]:
    """As `get_records`, of a table whose columns have something in common."""
    return _get_list(dec, _tables_of)


def _get_list(dec: Decoder, read: Callable[[Decoder], list[Any]]) -> list[Any]:
    rows: list[Any] = []
    dec.memo.append(rows)
    rows += read(dec)
    dec.memo += rows
    return rows


def _records(dec: Decoder) -> list[Any]:
    """The rows of a table whose columns were written each by itself."""
    length, keys = _begun(dec)
    columns: list[Iterable[Any]] = []
    for _ in keys:
        columns.append(_cells(dec, length, columns))
    return _dicts(keys, {(place,): column for place, column in enumerate(columns)})


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


def _tables_of(dec: Decoder) -> list[Any]:
    """The rows of a table whose columns have something in common."""
    length, keys = _begun(dec)
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
    return _dicts(keys, found)


def _begun(dec: Decoder) -> tuple[int, list[str]]:
    length = dec.size()
    keys = get_items(dec)
    if set(map(type, keys)) != {str}:
        raise UnreadableEntry("a table of records does not add up")
    return length, keys


def _dicts(keys: Sequence[str], columns: Mapping[tuple[int, ...], Iterable[Any]]) -> list[Any]:
    """The rows of a table, of columns by the places of their cells: see `_spread`."""
    if len(keys) <= _SPREAD_KEYS:
        return _spread(tuple(columns))(keys, zip(*columns.values()))  # noqa: B905 - their lengths were compared
    in_order = [columns[place,] for place in range(len(keys))]
    return [dict(zip(keys, row, strict=True)) for row in zip(*in_order, strict=True)]


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


MODES.update(
    {
        ord("r"): _get_dicts,
        ord("t"): _get_tuples,
        ord("l"): _get_lists,
        ord("R"): _get_many(_records),
        ord("Q"): _get_many(_tables_of),
    }
)
