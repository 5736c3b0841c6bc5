"""Scalars, containers and the standard library's value types.

The first half is the hot path of every small value: the loops of dict, list and tuple are written out, because a
call per node is what a small value costs.
"""

from __future__ import annotations

import pathlib
import re
import struct
import sys
import uuid
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from types import EllipsisType, NotImplementedType, SimpleNamespace
from typing import Any, Final

from redis_memo._codecs_items import PACK_FROM, RECORDS_FROM, get_items, get_records, put_items, put_records
from redis_memo._codecs_stream import PUT, READ, Decoder, Encoder, NotTyped, Rule, put_other, register
from redis_memo.errors import UnreadableEntry

__all__ = ["TAGGED"]

_INT64: Final = struct.Struct("<cq")
_FLOAT: Final = struct.Struct("<cd")
_COMPLEX: Final = struct.Struct("<cdd")
_DATE: Final = struct.Struct("<cHBB")
_TIME: Final = struct.Struct("<cBBBIB")
_DATETIME: Final = struct.Struct("<cHBBBBBIB")
_TIMEDELTA: Final = struct.Struct("<ciII")
_SHORT: Final = 0xFF


def _put_none(enc: Encoder, _value: object) -> None:
    enc.out += b"N"


def _put_bool(enc: Encoder, value: Any) -> None:
    enc.out += b"T" if value else b"F"


def _put_int(enc: Encoder, value: Any) -> None:
    try:
        enc.out += _INT64.pack(b"i", value)
    except struct.error:
        enc.out += b"I"
        enc.blob(value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def _get_int(dec: Decoder) -> int:
    start = dec.pos
    dec.pos = start + 8
    if dec.pos > dec.end:
        raise UnreadableEntry("the entry is shorter than it claims")
    return int.from_bytes(dec.data[start : start + 8], "little", signed=True)


def _get_float(dec: Decoder) -> float:
    dec.pos += 8
    return float(_DOUBLE.unpack_from(dec.data, dec.pos - 8)[0])


_DOUBLE: Final = struct.Struct("<d")


def _put_float(enc: Encoder, value: Any) -> None:
    enc.out += _FLOAT.pack(b"d", value)


def _put_complex(enc: Encoder, value: Any) -> None:
    enc.out += _COMPLEX.pack(b"c", value.real, value.imag)


def _get_complex(dec: Decoder) -> complex:
    return complex(*struct.unpack("<dd", dec.take(16)))


def _put_str(enc: Encoder, value: Any) -> None:
    try:
        data = value.encode()
    except UnicodeEncodeError:  # lone surrogates
        data = value.encode("utf-8", "surrogatepass")
    if len(data) < _SHORT:
        out = enc.out
        out += b"s"
        out.append(len(data))
        out += data
    elif not enc.seen(value):
        enc.out += b"S"
        enc.blob(data)
        enc.enter()
        enc.close(value)


def _get_short_str(dec: Decoder) -> str:
    start = dec.pos + 1
    dec.pos = stop = start + dec.data[start - 1]
    if stop > dec.end:
        raise UnreadableEntry("the entry is shorter than it claims")
    return dec.data[start:stop].decode("utf-8", "surrogatepass")


def _get_str(dec: Decoder) -> str:
    text = dec.text()
    dec.memo.append(text)
    return text


def _put_bytes(enc: Encoder, value: Any) -> None:
    if len(value) < _SHORT:
        enc.out += b"b"
        enc.out.append(len(value))
        enc.out += value
    elif not enc.seen(value):
        enc.out += b"B"
        enc.blob(value)
        enc.enter()
        enc.close(value)


def _get_bytes(dec: Decoder) -> bytes:
    data = bytes(dec.blob())
    dec.memo.append(data)
    return data


def _put_bytearray(enc: Encoder, value: Any) -> None:
    if not enc.seen(value):
        enc.out += b"y"
        enc.blob(memoryview(value))
        enc.enter()
        enc.close(value)


def _get_bytearray(dec: Decoder) -> bytearray:
    data = bytearray(dec.blob())
    dec.memo.append(data)
    return data


def _put_list(enc: Encoder, value: Any) -> None:
    if enc.seen(value):
        return
    enc.begin(value)
    items = tuple(value)  # what is written must add up even if another thread appends
    count = len(items)
    out = enc.out
    if count >= RECORDS_FROM and type(items[0]) is dict and put_records(enc, items):
        pass
    elif count >= PACK_FROM:
        out += b"L"
        put_items(enc, items)
    else:
        out += b"l"
        out.append(count)
        for item in items:
            PUT.get(type(item), put_other)(enc, item)
    enc.depth -= 1


def _get_list(dec: Decoder) -> list[Any]:
    items: list[Any] = []
    dec.memo.append(items)
    data = dec.data
    for _ in range(dec.byte()):
        dec.pos += 1
        items.append(READ[data[dec.pos - 1]](dec))
    return items


def _get_long_list(dec: Decoder) -> list[Any]:
    items: list[Any] = []
    dec.memo.append(items)
    items += get_items(dec)
    return items


def _put_tuple(enc: Encoder, value: Any) -> None:
    if enc.seen(value):
        return
    enc.open(value)
    count = len(value)
    if count >= PACK_FROM:
        enc.out += b"u"
        put_items(enc, value)
    else:
        enc.out += b"t"
        enc.out.append(count)
        for item in value:
            PUT.get(type(item), put_other)(enc, item)
    enc.close(value)


def _get_tuple(dec: Decoder) -> tuple[Any, ...]:
    get = dec.get
    value = tuple([get() for _ in range(dec.byte())])
    dec.memo.append(value)
    return value


def _get_long_tuple(dec: Decoder) -> tuple[Any, ...]:
    value = tuple(get_items(dec))
    dec.memo.append(value)
    return value


def _put_dict(enc: Encoder, value: Any) -> None:
    if enc.seen(value):
        return
    enc.begin(value)
    out = enc.out
    if len(value) >= PACK_FROM:
        out += b"M"
        _put_pairs(enc, value)
    else:
        out += b"m"
        items = tuple(value.items())
        out.append(len(items))
        for key, item in items:
            PUT.get(type(key), put_other)(enc, key)
            PUT.get(type(item), put_other)(enc, item)
    enc.depth -= 1


def _get_dict(dec: Decoder) -> dict[Any, Any]:
    value: dict[Any, Any] = {}
    dec.memo.append(value)
    data = dec.data
    count = dec.byte()
    for _ in range(count):
        dec.pos += 1
        key = READ[data[dec.pos - 1]](dec)
        dec.pos += 1
        value[key] = READ[data[dec.pos - 1]](dec)
    if len(value) != count:
        raise UnreadableEntry("a dict has a key twice")
    return value


def _put_pairs(enc: Encoder, value: Any) -> None:
    """Keys and values of a mapping, each as a sequence."""
    pairs = tuple(value.items())
    put_items(enc, [key for key, _ in pairs])
    put_items(enc, [item for _, item in pairs])


def _get_pairs(dec: Decoder, value: dict[Any, Any]) -> dict[Any, Any]:
    keys, items = get_items(dec), get_items(dec)
    value.update(zip(keys, items, strict=True))
    if len(value) != len(keys):
        raise UnreadableEntry("a dict has a key twice")
    return value


def _get_long_dict(dec: Decoder) -> dict[Any, Any]:
    value: dict[Any, Any] = {}
    dec.memo.append(value)
    return _get_pairs(dec, value)


def _put_set(enc: Encoder, value: Any) -> None:
    if not enc.seen(value):
        enc.begin(value)
        enc.out += b"e"
        put_items(enc, tuple(value))
        enc.depth -= 1


def _get_set(dec: Decoder) -> set[Any]:
    value: set[Any] = set()
    dec.memo.append(value)
    value.update(get_items(dec))
    return value


def _put_frozenset(enc: Encoder, value: Any) -> None:
    if not enc.seen(value):
        enc.open(value)
        enc.out += b"z"
        put_items(enc, tuple(value))
        enc.close(value)


def _get_frozenset(dec: Decoder) -> frozenset[Any]:
    value = frozenset(get_items(dec))
    dec.memo.append(value)
    return value


def _put_date(enc: Encoder, value: Any) -> None:
    enc.out += _DATE.pack(b"a", value.year, value.month, value.day)


def _put_time(enc: Encoder, value: Any) -> None:
    enc.out += _TIME.pack(b"h", value.hour, value.minute, value.second, value.microsecond, value.fold)
    enc.put(value.tzinfo)


def _get_time(dec: Decoder) -> time:
    *parts, fold = struct.unpack("<BBBIB", dec.take(8))
    return time(*parts, tzinfo=dec.get(), fold=fold)


def _put_datetime(enc: Encoder, value: Any) -> None:
    enc.out += _DATETIME.pack(
        b"D",
        value.year,
        value.month,
        value.day,
        value.hour,
        value.minute,
        value.second,
        value.microsecond,
        value.fold,
    )
    enc.put(value.tzinfo)


def _get_datetime(dec: Decoder) -> datetime:
    *parts, fold = struct.unpack("<HBBBBBIB", dec.take(12))
    return datetime(*parts, tzinfo=dec.get(), fold=fold)


def _put_timedelta(enc: Encoder, value: Any) -> None:
    enc.out += _TIMEDELTA.pack(b"w", value.days, value.seconds, value.microseconds)


TAGGED: Final[dict[type, Any]] = {
    type(None): _put_none,
    bool: _put_bool,
    int: _put_int,
    float: _put_float,
    complex: _put_complex,
    str: _put_str,
    bytes: _put_bytes,
    bytearray: _put_bytearray,
    list: _put_list,
    tuple: _put_tuple,
    dict: _put_dict,
    set: _put_set,
    frozenset: _put_frozenset,
    date: _put_date,
    time: _put_time,
    datetime: _put_datetime,
    timedelta: _put_timedelta,
}
PUT.update(TAGGED)
READ.update({
    ord("N"): lambda _dec: None,
    ord("T"): lambda _dec: True,
    ord("F"): lambda _dec: False,
    ord("i"): _get_int,
    ord("I"): lambda dec: int.from_bytes(dec.blob(), "little", signed=True),
    ord("d"): _get_float,
    ord("c"): _get_complex,
    ord("s"): _get_short_str,
    ord("S"): _get_str,
    ord("b"): lambda dec: dec.take(dec.byte()),
    ord("B"): _get_bytes,
    ord("y"): _get_bytearray,
    ord("l"): _get_list,
    ord("L"): _get_long_list,
    ord("R"): get_records,
    ord("t"): _get_tuple,
    ord("u"): _get_long_tuple,
    ord("m"): _get_dict,
    ord("M"): _get_long_dict,
    ord("e"): _get_set,
    ord("z"): _get_frozenset,
    ord("a"): lambda dec: date(*struct.unpack("<HBB", dec.take(4))),
    ord("h"): _get_time,
    ord("D"): _get_datetime,
    ord("w"): lambda dec: timedelta(*struct.unpack("<iII", dec.take(12))),
})


# Types without a tag byte of their own, found by name.

# Classes that are values themselves (``dtype=float``) and factories of a defaultdict; a fixed table, so that no
# stored name is ever looked up anywhere.
_CLASSES: Final[dict[str, type]] = {
    cls.__name__: cls
    for cls in (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, object)
} | {"datetime": datetime, "date": date, "time": time, "timedelta": timedelta, "Decimal": Decimal}
_CLASS_NAMES: Final = {cls: name for name, cls in _CLASSES.items()}


def _put_builtin_class(enc: Encoder, value: Any) -> None:
    name = _CLASS_NAMES.get(value)
    if name is None:
        raise NotTyped
    enc.text(name)


def _bare(value: Any) -> Any:
    """Refuse an instance of a dict subclass that carries attributes: its rule would lose them."""
    if value.__dict__:
        raise NotTyped
    return value


def _put_pairs_early(enc: Encoder, value: Any) -> None:
    _put_pairs(enc, _bare(value))


def _get_ordered(dec: Decoder, slot: int) -> Any:
    value: OrderedDict[Any, Any] = OrderedDict()
    dec.remember(slot, value)
    return _get_pairs(dec, value)


def _get_counter(dec: Decoder, slot: int) -> Any:
    value: Counter[Any] = Counter()
    dec.remember(slot, value)
    keys, counts = get_items(dec), get_items(dec)
    dict.update(value, zip(keys, counts, strict=True))  # Counter.update would add
    return value


def _put_defaultdict(enc: Encoder, value: Any) -> None:
    factory = value.default_factory
    if factory is not None and factory not in _CLASS_NAMES:
        raise NotTyped
    enc.text("" if factory is None else _CLASS_NAMES[factory])
    _put_pairs(enc, value)


def _get_defaultdict(dec: Decoder, slot: int) -> Any:
    name = dec.text()
    value: defaultdict[Any, Any] = defaultdict(_CLASSES[name] if name else None)
    dec.remember(slot, value)
    return _get_pairs(dec, value)


def _put_deque(enc: Encoder, value: Any) -> None:
    enc.put(value.maxlen)
    put_items(enc, tuple(value))


def _get_deque(dec: Decoder, slot: int) -> Any:
    value: deque[Any] = deque(maxlen=dec.get())
    dec.remember(slot, value)
    value += get_items(dec)
    return value


def _put_namespace(enc: Encoder, value: Any) -> None:
    _put_pairs(enc, value.__dict__)


def _get_namespace(dec: Decoder, slot: int) -> Any:
    value = SimpleNamespace()
    dec.remember(slot, value)
    _get_pairs(dec, value.__dict__)
    return value


def _put_path(enc: Encoder, value: Any) -> None:
    cls, text = type(value), str(value)
    if cls(text) != value:
        raise NotTyped
    enc.text(cls.__name__)
    enc.put(text)


_PATHS: Final[dict[str, Any]] = {
    cls.__name__: cls
    for cls in (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath)
}


def _get_path(dec: Decoder) -> Any:
    return _PATHS[dec.text()](dec.get())


def _put_timezone(enc: Encoder, value: Any) -> None:
    offset, *name = value.__getinitargs__()
    _put_timedelta(enc, offset)
    enc.put(name[0] if name else None)


def _get_timezone(dec: Decoder) -> Any:
    offset, name = dec.get(), dec.get()
    return timezone(offset) if name is None else timezone(offset, name)


def _put_pattern(enc: Encoder, value: Any) -> None:
    enc.put(value.pattern)
    enc.put(value.flags)
    if value.flags & re.DEBUG or not isinstance(value.pattern, (str, bytes)):
        raise NotTyped


def _get_pattern(dec: Decoder) -> Any:
    pattern, flags = dec.get(), dec.get()
    if flags & re.DEBUG:  # prints
        raise UnreadableEntry("a pattern has flags that it should not have")
    return re.compile(pattern, flags)


def _put_array(enc: Encoder, value: Any) -> None:
    enc.text(value.typecode)
    enc.size(value.itemsize)
    if sys.byteorder == "big":
        value = value[:]
        value.byteswap()
    enc.blob(memoryview(value).cast("B"))


def _get_array(dec: Decoder) -> Any:
    value: array[Any] = array(dec.text())
    if value.itemsize != dec.size():
        raise UnreadableEntry("an array's elements are of another size here")
    value.frombytes(dec.blob())
    if sys.byteorder == "big":
        value.byteswap()
    return value


def _put_parts(*names: str) -> Any:
    def put(enc: Encoder, value: Any) -> None:
        for name in names:
            enc.put(getattr(value, name))

    return put


def _put_uuid(enc: Encoder, value: Any) -> None:
    enc.blob(value.bytes)
    enc.text(value.is_safe.name)


def _get_uuid(dec: Decoder) -> uuid.UUID:
    return uuid.UUID(bytes=bytes(dec.blob()), is_safe=uuid.SafeUUID[dec.text()])


_SLICE: Final = ("start", "stop", "step")

register(Rule("ellipsis", lambda _enc, _value: None, lambda _dec: Ellipsis), EllipsisType)
register(Rule("notimplemented", lambda _enc, _value: None, lambda _dec: NotImplemented), NotImplementedType)
register(Rule("class", _put_builtin_class, lambda dec: _CLASSES[dec.text()]), type)
register(Rule("ordered", _put_pairs_early, _get_ordered, early=True), OrderedDict)
register(Rule("counter", _put_pairs_early, _get_counter, early=True), Counter)
register(Rule("defaultdict", _put_defaultdict, _get_defaultdict, early=True), defaultdict)
register(Rule("deque", _put_deque, _get_deque, early=True), deque)
register(Rule("namespace", _put_namespace, _get_namespace, early=True), SimpleNamespace)
register(Rule("range", _put_parts(*_SLICE), lambda dec: range(dec.get(), dec.get(), dec.get())), range)
register(Rule("slice", _put_parts(*_SLICE), lambda dec: slice(dec.get(), dec.get(), dec.get())), slice)
register(Rule("decimal", lambda enc, value: enc.text(str(value)), lambda dec: Decimal(dec.text())), Decimal)
register(
    Rule("fraction", _put_parts("numerator", "denominator"), lambda dec: Fraction(dec.get(), dec.get())), Fraction
)
register(Rule("uuid", _put_uuid, _get_uuid), uuid.UUID)
register(Rule("path", _put_path, _get_path), *_PATHS.values())
register(Rule("timezone", _put_timezone, _get_timezone), timezone)
register(Rule("pattern", _put_pattern, _get_pattern), re.Pattern)
register(Rule("array", _put_array, _get_array), array)
