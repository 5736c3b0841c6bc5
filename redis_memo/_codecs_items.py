"""Sequences whose elements are alike, written as columns instead of one by one.

Each packer writes a mode byte and its data, or returns False and has written nothing; one by one is what is left.
Elements keep their exact types: ``1`` and ``True`` and ``1.0`` never share a column.
"""

from __future__ import annotations

import gc
import itertools
import random
import struct
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

from redis_memo._codecs_rules import PUT, USER_TYPES, load_rules
from redis_memo._codecs_stream import Decoder, Encoder, put_other
from redis_memo.errors import UnreadableEntry

__all__ = [
    "FLAT",
    "MADE_SINGLY",
    "MANY",
    "MODES",
    "NAMED_ITEMS",
    "PACKERS",
    "PACK_FROM",
    "ROWS",
    "ROWS_FROM",
    "SINGLETONS",
    "get_items",
    "get_numbers",
    "hashable",
    "put_items",
    "put_numbers",
    "put_repeated",
]

PACK_FROM: Final = 16
ROWS_FROM: Final = 8
_MOST_KINDS: Final = 6
MANY: Final = 4096
SOME: Final = 512  # of fewer, reading would take a tenth longer
MILLIONS, SAMPLED = 1 << 20, 1 << 14  # of so many, these are asked whether any comes twice
_WIDTHS: Final = ((1 << 8, "B", ""), (1 << 16, "H", "u2"), (1 << 32, "I", "u4"), (1 << 64, "Q", "u8"))
_LONGEST_NUMERAL: Final = 18  # digits
_WHOLE: Final = 2**53  # integers up to here are floats without rounding
_FEW: Final = 16  # distinct numbers among the first, where numbers of those are shorter than differences
ROWS: Final = frozenset((dict, list, tuple))
_DISTINCT: Final = frozenset((type(None), int, str, date))  # equal ones are of one type, and nobody can change them

#: Types that hash in one step, or once for all the times that they are hashed.
FLAT: Final = frozenset((type(None), bool, int, float, complex, str, bytes, date, time, datetime, timedelta))
_NESTING: Final = (tuple, frozenset, list, dict, set, deque, slice)
_FIELDS: Final = ("__dataclass_fields__", "__pydantic_fields_set__")  # instances have their hash from what they hold
_HIGHEST: Final = 500  # tuple's hash is recursive in C, and looks for the end of the stack nowhere

Packer = Callable[[Encoder, Sequence[Any]], bool]
PACKERS: Final[dict[type, Packer]] = {}
SINGLETONS: Final[set[type]] = {type(None)}
NAMED_ITEMS: Final[dict[bytes, Callable[[Decoder], list[Any]]]] = {}  # "x": filled by the libraries' rules


def put_items(enc: Encoder, items: Sequence[Any], least: int = PACK_FROM) -> None:
    """Write a sequence (a list or a tuple that nobody else can change), from ``least`` elements on as columns."""
    if len(items) >= least or (len(items) >= ROWS_FROM and type(items[0]) in ROWS):
        kinds = dict.fromkeys(map(type, items))
        if len(kinds) == 1:
            packer = PACKERS.get(next(iter(kinds)))
            if packer is not None and packer(enc, items):
                return
        elif len(items) < least:
            pass
        elif kinds.keys() <= _DISTINCT and put_repeated(enc, items):
            return
        elif len(kinds) <= _MOST_KINDS and all(kind in PACKERS or kind in SINGLETONS for kind in kinds):
            if kinds.keys() != {float, int} or not _put_prices(enc, items):
                _put_mixed(enc, items, list(kinds))
            return
    out = enc.out
    out += b"g"
    enc.size(len(items))
    rule = PUT.get
    for item in items:
        rule(type(item), put_other)(enc, item)


def get_items(dec: Decoder) -> list[Any]:
    """Read a sequence as a new list."""
    return MODES[dec.byte()](dec)


def _get_generic(dec: Decoder) -> list[Any]:
    get = dec.get
    return [get() for _ in range(dec.count())]


def hashable(dec: Decoder, items: Sequence[Any]) -> None:
    """Check that hashing these takes time in proportion to the entry; before they become keys, elements or names.

    A tuple does not remember its hash. One that holds another one twice, and that one yet another one twice, is few
    bytes and many hashes: ``2 ** 60`` for a stream of 340 bytes.
    """
    kinds = set(map(type, items))
    if kinds <= FLAT:
        return
    if kinds == {tuple} and len(items) > 1:
        held = sum(map(len, items)) + len(items)
        if held > dec.spare:  # before all of that is looked at
            raise UnreadableEntry("a key is too much to hash")
        within = set(map(type, itertools.chain.from_iterable(items)))
        if within <= FLAT:
            dec.spare -= held
            if int in within:
                inner = itertools.chain.from_iterable(items)
                dec.spare -= sum([item.bit_length() >> 9 for item in inner if type(item) is int])
            items = ()
    for item in items:
        dec.spare -= _weigh(item, {})[0]
        if dec.spare < 0:
            break
    if dec.spare < 0:
        raise UnreadableEntry("a key is too much to hash")


def _weigh(value: Any, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many objects hashing or comparing this one looks at, with repetitions; and how deep they are nested."""
    cls = type(value)
    if cls is int:
        return 1 + (value.bit_length() >> 9), 0
    if cls in FLAT:
        return 1, 0
    if cls is Decimal:
        return 1 + (sys.getsizeof(value) >> 6), 0
    nests = isinstance(value, _NESTING) or cls in USER_TYPES
    if not nests and not any(name in base.__dict__ for base in cls.__mro__ for name in _FIELDS):
        return 1, 0
    found = known.get(id(value))
    if found is not None:
        return found
    known[id(value)] = (1, 0)  # what contains itself raises when it is hashed
    weight, height = 1, 0
    for part in value if cls is tuple else gc.get_referents(value):  # asks nothing of the object's class
        if not isinstance(part, type):
            more, below = _weigh(part, known)
            weight += more
            height = max(height, below)
    if height >= _HIGHEST:
        raise UnreadableEntry("a key is nested too deep")
    known[id(value)] = weight, height + 1
    return weight, height + 1


def _put_mixed(enc: Encoder, items: Sequence[Any], kinds: list[type]) -> None:
    """A column of several kinds (the usual object column): which kind each element is, then one column per kind."""
    numbers = {kind: number for number, kind in enumerate(kinds)}
    enc.out += b"m"
    enc.blob(bytes(map(numbers.__getitem__, map(type, items))))
    enc.size(len(kinds))
    for kind in kinds:
        members = [item for item in items if type(item) is kind]
        if kind in SINGLETONS:
            enc.out.append(1)
            enc.put(members[0])
        else:
            enc.out.append(0)
            put_items(enc, members)


def _mixed(dec: Decoder) -> tuple[int, Iterable[Any]]:
    codes = bytes(dec.blob())
    cells: list[Iterable[Any]] = []
    for code in range(dec.count()):
        if dec.byte():
            cells.append(itertools.repeat(dec.exact(*SINGLETONS)))
        else:
            members = get_items(dec)
            if len(members) != codes.count(code):
                raise UnreadableEntry("a mixed column does not add up")
            cells.append(iter(members))
    following: Callable[[Any], Any] = next
    return len(codes), map(following, map(cells.__getitem__, codes))


def _little(column: array[Any]) -> memoryview:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return memoryview(column).cast("B")


def _kind(kind: str, items: Sequence[Any]) -> str:
    """What numbers a column holds, where that is worth loading numpy for; of fewer, where it is loaded anyway."""
    return kind if len(items) >= MANY or (len(items) >= SOME and "numpy" in sys.modules) else ""


def put_numbers(enc: Encoder, numbers: Sequence[int], most: int) -> None:
    """Write numbers from 0 to ``most``, each in as few bytes as the largest takes."""
    width, kind = next(found for limit, *found in _WIDTHS if most < limit)
    enc.out += width.encode()
    enc.blob(_little(array(width, numbers)), _kind(kind, numbers))


def get_numbers(dec: Decoder) -> array[Any]:
    """Read what :func:`put_numbers` wrote."""
    width = chr(dec.byte())
    if width not in "BHIQ":
        raise UnreadableEntry("a column of numbers is damaged")
    return _column(dec, width)


def _column(dec: Decoder, typecode: str) -> array[Any]:
    return _numbers(typecode, dec.blob())


def _numbers(typecode: str, data: bytes | memoryview) -> array[Any]:
    column = array(typecode)
    column.frombytes(data)
    if sys.byteorder == "big":
        column.byteswap()
    return column


def _put_floats(enc: Encoder, items: Sequence[Any]) -> bool:
    enc.out += b"f"
    enc.column(_little(array("d", items)), _kind("f8", items))
    return True


def _put_prices(enc: Encoder, items: Sequence[Any]) -> bool:
    """A column of floats of which some are whole and integers for that, as what was read from JSON."""
    whole = [place for place, item in enumerate(items) if type(item) is int]
    if 2 * len(whole) > len(items) or max(map(abs, map(items.__getitem__, whole))) > _WHOLE:
        return False
    enc.out += b"F"
    enc.column(_little(array("d", items)), _kind("f8", items))
    enc.column(_little(array("I", whole)), _kind("u4", whole))
    return True


def _get_prices(dec: Decoder) -> list[Any]:
    items: list[Any] = _column(dec, "d").tolist()
    for place in _column(dec, "I"):
        items[place] = int(items[place])
    return items


def _put_ints(enc: Encoder, items: Sequence[Any]) -> bool:
    if len(items) >= MANY and len(set(items[: _FEW * _FEW])) <= _FEW and put_repeated(enc, items):
        return True
    try:
        column = array("q", items)
    except OverflowError:
        return False
    enc.out += b"q"
    enc.column(_little(column), _kind("i8", items))
    return True


def _put_bools(enc: Encoder, items: Sequence[Any]) -> bool:
    enc.out += b"?"
    enc.blob(bytes(items))
    return True


def _bools(dec: Decoder) -> tuple[int, Iterable[Any]]:
    bits = dec.blob()
    return len(bits), map((False, True).__getitem__, bits)


def put_repeated(enc: Encoder, items: Sequence[Any]) -> bool:
    """A column of few distinct values: those, and a number for each element."""
    if len(items) >= MILLIONS:  # a table of them all would take more memory than they do
        # At any distances, as equal ones may stand side by side or far apart; and the same ones each time.
        some = random.Random(0).sample(items, SAMPLED)  # noqa: S311
        if len(set(some)) == len(some):
            return False
    distinct = dict.fromkeys(items)
    if 2 * len(distinct) > len(items):
        return False
    numbers = dict(zip(distinct, itertools.count()))
    width, kind = ("B", "") if len(distinct) <= 0x100 else ("H", "u2") if len(distinct) <= 0x10000 else ("I", "u4")
    enc.out += b"v" + width.encode()
    put_items(enc, list(distinct))
    enc.blob(_little(array(width, map(numbers.__getitem__, items))), _kind(kind, items))
    return True


def _put_numerals(enc: Encoder, items: Sequence[Any]) -> bool:
    """A column of strings that are whole numbers as Python writes them, such as an exchange's tokens."""
    # A few are asked first, and none that int() would take long for.
    if not all(item.isdecimal() and item.isascii() for item in items[:: max(1, len(items) // 8)]):
        return False
    if max(map(len, items)) > _LONGEST_NUMERAL:
        return False
    try:
        numbers = list(map(int, items))
    except ValueError:
        return False
    if list(map(str, numbers)) != list(items):
        return False
    enc.out += b"n"
    put_items(enc, numbers, least=1)
    return True


def _numerals(dec: Decoder) -> tuple[int, Iterable[Any]]:
    if dec.byte() != ord("q"):  # 64 bits each: of larger ones int() and str() make much work
        raise UnreadableEntry("a column of numerals is damaged")
    numbers = _column(dec, "q")
    return len(numbers), map(str, numbers)


def _put_strings(enc: Encoder, items: Sequence[Any]) -> bool:
    if put_repeated(enc, items) or (len(items) >= MANY and _put_numerals(enc, items)):
        return True
    text = "\0".join(items)
    if text.count("\0") == len(items) - 1:
        enc.out += b"s"
        enc.size(len(items))
        enc.text(text)
    else:
        enc.out += b"S"
        enc.text("".join(items))
        enc.blob(_little(array("Q", map(len, items))))
    return True


def _get_strings(dec: Decoder) -> list[Any]:
    length = dec.size()
    items = dec.text().split("\0")
    if len(items) != length:
        raise UnreadableEntry("a column of strings does not add up")
    return items


def _get_measured_strings(dec: Decoder) -> list[Any]:
    text, lengths = dec.text(), _column(dec, "Q")
    ends = list(itertools.accumulate(lengths, initial=0))
    if ends[-1] != len(text):
        raise UnreadableEntry("a column of strings does not add up")
    return [text[start:end] for start, end in itertools.pairwise(ends)]


def _repeated(dec: Decoder) -> tuple[int, Iterable[Any]]:
    width = chr(dec.byte())
    if width not in "BHI":
        raise UnreadableEntry("a column of repeated values is damaged")
    distinct = get_items(dec)
    if not set(map(type, distinct)) <= _DISTINCT:
        raise UnreadableEntry("a column of repeated values is damaged")
    numbers = _column(dec, width)
    return len(numbers), map(distinct.__getitem__, numbers)


_DATE_PARTS: Final = attrgetter("year", "month", "day")
# Of the years' high byte, of months and of days, what is in order without looking at all three; and what a clock shows.
_USUAL_DATES: Final = (bytes(range(1, 0x27)), bytes(range(1, 13)), bytes(range(1, 29)))
_CLOCK: Final = (bytes(range(24)), bytes(range(60)), bytes(range(60)))
_SECOND: Final = 1_000_000
_FROM_STATE: Final[Callable[..., datetime]] = datetime
_STATE: Final = 10  # bytes: year, month, day, hour, minute, second, microsecond, the highest byte first
_STATES: Final = 64  # that are taken apart at once
_SOME: Final = struct.Struct(f"{_STATE}s" * _STATES)
_DATETIME_PARTS: Final = attrgetter("year", "month", "day", "hour", "minute", "second", "microsecond", "fold", "tzinfo")


def _put_dates(enc: Encoder, items: Sequence[Any]) -> bool:
    if put_repeated(enc, items):
        return True
    years, months, days = zip(*map(_DATE_PARTS, items), strict=True)
    enc.out += b"a"
    enc.blob(_little(array("H", years)))
    enc.blob(bytes(months))
    enc.blob(bytes(days))
    return True


def _put_datetimes(enc: Encoder, items: Sequence[Any]) -> bool:
    columns: list[tuple[Any, ...]] = list(zip(*map(_DATETIME_PARTS, items), strict=True))
    years, *parts, micros, folds, zones = columns
    zone = zones[0]
    if any(folds) or not all(other is zone for other in zones):
        return False
    enc.out += b"D"
    enc.put(zone)
    enc.blob(_little(array("H", years)))
    enc.blob(_little(array("I", micros)))
    for part in parts:
        enc.blob(bytes(part))
    return True


def _get_dates(dec: Decoder) -> list[Any]:
    return list(map(date, *_alike(_column(dec, "H"), dec.blob(), dec.blob())))


def _alike(*columns: Sequence[int]) -> tuple[Sequence[int], ...]:
    if len(set(map(len, columns))) != 1:
        raise UnreadableEntry("a column of dates does not add up")
    return columns


def _datetimes(dec: Decoder) -> tuple[int, Iterable[Any]]:
    zone = dec.get()
    blobs = [bytes(dec.blob()) for _ in range(7)]
    years, micros = blobs[:2]
    months, days, *clock = parts = blobs[2:]
    _alike(years[1::2], micros[3::4], *parts)
    # As pickle makes them, in half the time: of their ten bytes, of which Python itself checks the month alone.
    state = [years[1::2], years[::2], *parts, micros[2::4], micros[1::4], micros[::4]]
    if any(part.translate(None, usual) for part, usual in zip((state[0], months, days), _USUAL_DATES, strict=True)):
        for day in set(zip(_numbers("H", years), months, days, strict=True)):
            date(*day)
    late = micros.count(0) < len(micros) and max(_numbers("I", micros)) >= _SECOND
    if late or any(part.translate(None, right) for part, right in zip(clock, _CLOCK, strict=True)):
        raise UnreadableEntry("a column of dates is damaged")
    count = len(months)
    states = bytearray(-(-count // _STATES) * _SOME.size)
    for place, part in enumerate(state):
        states[place : count * _STATE : _STATE] = part
    cells = itertools.chain.from_iterable(_SOME.iter_unpack(states))
    return count, map(_FROM_STATE, cells, itertools.repeat(zone, count))


def _put_decimals(enc: Encoder, items: Sequence[Any]) -> bool:
    enc.out += b"c"
    put_items(enc, list(map(str, items)))
    return True


def _get_decimals(dec: Decoder) -> list[Any]:
    texts = get_items(dec)
    if not set(map(type, texts)) <= {str}:
        raise UnreadableEntry("a column of decimals is damaged")
    return list(map(Decimal, texts))


def _get_named_items(dec: Decoder) -> list[Any]:
    name = dec.take(dec.byte())
    if name not in NAMED_ITEMS:
        load_rules(name.decode("ascii").partition(".")[0])
    return NAMED_ITEMS[name](dec)


PACKERS.update(
    {
        float: _put_floats,
        int: _put_ints,
        bool: _put_bools,
        str: _put_strings,
        date: _put_dates,
        datetime: _put_datetimes,
        Decimal: _put_decimals,
    }
)


def _floats(dec: Decoder) -> tuple[int, Iterable[Any]]:
    column = _column(dec, "d")
    return len(column), column


def _integers(dec: Decoder) -> tuple[int, Iterable[Any]]:
    column = _column(dec, "q")
    return len(column), column


# How many elements there are, and what makes them one after another.
MADE_SINGLY: Final[dict[int, Callable[[Decoder], tuple[int, Iterable[Any]]]]] = {
    ord("f"): _floats,
    ord("q"): _integers,
    ord("?"): _bools,
    ord("n"): _numerals,
    ord("v"): _repeated,
    ord("m"): _mixed,
    ord("D"): _datetimes,
}


def _made(cells: Callable[[Decoder], tuple[int, Iterable[Any]]]) -> Callable[[Decoder], list[Any]]:
    return lambda dec: list(cells(dec)[1])


MODES: Final[dict[int, Callable[[Decoder], list[Any]]]] = {
    ord("g"): _get_generic,
    **{mode: _made(cells) for mode, cells in MADE_SINGLY.items()},
    ord("F"): _get_prices,
    ord("s"): _get_strings,
    ord("S"): _get_measured_strings,
    ord("a"): _get_dates,
    ord("c"): _get_decimals,
    ord("x"): _get_named_items,
}
