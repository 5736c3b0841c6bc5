"""Scalars and containers: the types with a tag byte of their own.

This is the hot path of every small value: the loops of dict, list and tuple are written out, because a
call per node is what a small value costs.
"""

from __future__ import annotations

import struct
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from redis_memo._codecs_items import (
    FLAT,
    PACK_FROM,
    ROWS,
    ROWS_FROM,
    get_items,
    hashable,
    put_items,
)
from redis_memo._codecs_records import get_records, get_tables
from redis_memo._codecs_rules import PUT, READ
from redis_memo._codecs_stream import Decoder, Encoder, put_other
from redis_memo.errors import UnreadableEntry

__all__ = ["get_pairs", "put_pairs"]

_SHORT_STR = ord("s")
_INT64: Final = struct.Struct("<cq")
_FLOAT: Final = struct.Struct("<cd")
_DOUBLE: Final = struct.Struct("<d")
_COMPLEX: Final = struct.Struct("<cdd")
_DATE: Final = struct.Struct("<cHBB")
_TIME: Final = struct.Struct("<cBBBIB")
_DATETIME: Final = struct.Struct("<cHBBBBBIB")
_TIMEDELTA: Final = struct.Struct("<ciII")
_SHORT: Final = 0xFF
_MOST_FIELDS: Final = 64  # of a dict that is one record


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
    if count >= PACK_FROM or (count >= ROWS_FROM and type(items[0]) in ROWS):
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
    items = tuple(value.items())
    if len(items) >= ROWS_FROM and _is_table(items):
        out += b"M"
        _put_pairs(enc, items)
    else:
        out += b"m"
        out.append(len(items))
        for key, item in items:
            PUT.get(type(key), put_other)(enc, key)
            PUT.get(type(item), put_other)(enc, item)
    enc.depth -= 1


def _is_table(items: tuple[tuple[Any, Any], ...]) -> bool:
    """Whether pairs are many of a kind, not one record of many fields."""
    if len(items) >= _MOST_FIELDS:
        return True
    kinds = {type(item) for _, item in items}
    return len(kinds) == 1 and (len(items) >= PACK_FROM or kinds <= ROWS)


def _get_dict(dec: Decoder) -> dict[Any, Any]:
    value: dict[Any, Any] = {}
    dec.memo.append(value)
    data = dec.data
    count = dec.byte()
    for _ in range(count):
        tag = data[dec.pos]
        if tag == _SHORT_STR:  # what nearly every key is; as `_get_short_str`, without the call
            start = dec.pos + 2
            stop = start + data[start - 1]
            if stop >= dec.end:
                raise UnreadableEntry("the entry is shorter than it claims")
            key: Any = data[start:stop].decode("utf-8", "surrogatepass")
            dec.pos = stop + 1
            value[key] = READ[data[stop]](dec)
            continue
        dec.pos += 1
        key = READ[tag](dec)
        if type(key) not in FLAT:
            hashable(dec, (key,))
        dec.pos += 1
        value[key] = READ[data[dec.pos - 1]](dec)
    if len(value) != count:
        raise UnreadableEntry("a dict has a key twice")
    return value


def put_pairs(enc: Encoder, value: Any) -> None:
    """Keys and values of a mapping, each as a sequence."""
    _put_pairs(enc, tuple(value.items()))


def _put_pairs(enc: Encoder, pairs: tuple[tuple[Any, Any], ...]) -> None:
    put_items(enc, [key for key, _ in pairs])
    put_items(enc, [item for _, item in pairs])


def get_pairs(dec: Decoder, value: dict[Any, Any]) -> dict[Any, Any]:
    """Fill a dict with what follows: its keys, then its values."""
    keys, items = get_items(dec), get_items(dec)
    hashable(dec, keys)
    value.update(zip(keys, items, strict=True))
    if len(value) != len(keys):
        raise UnreadableEntry("a dict has a key twice")
    return value


def _get_long_dict(dec: Decoder) -> dict[Any, Any]:
    value: dict[Any, Any] = {}
    dec.memo.append(value)
    return get_pairs(dec, value)


def _put_set(enc: Encoder, value: Any) -> None:
    if not enc.seen(value):
        enc.begin(value)
        enc.out += b"e"
        put_items(enc, tuple(value))
        enc.depth -= 1


def _get_set(dec: Decoder) -> set[Any]:
    value: set[Any] = set()
    dec.memo.append(value)
    items = get_items(dec)
    hashable(dec, items)
    value.update(items)
    return value


def _put_frozenset(enc: Encoder, value: Any) -> None:
    if not enc.seen(value):
        enc.open(value)
        enc.out += b"z"
        put_items(enc, tuple(value))
        enc.close(value)


def _get_frozenset(dec: Decoder) -> frozenset[Any]:
    items = get_items(dec)
    hashable(dec, items)
    value = frozenset(items)
    dec.memo.append(value)
    return value


def _put_date(enc: Encoder, value: Any) -> None:
    enc.out += _DATE.pack(b"a", value.year, value.month, value.day)


def _put_time(enc: Encoder, value: Any) -> None:
    enc.out += _TIME.pack(b"h", value.hour, value.minute, value.second, value.microsecond, value.fold)
    enc.put(value.tzinfo)


def _get_time(dec: Decoder) -> time:
    hour, minute, second, micro, fold = struct.unpack("<BBBIB", dec.take(8))
    return time(hour, minute, second, micro, dec.get(), fold=fold)


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
    year, month, day, hour, minute, second, micro, fold = struct.unpack("<HBBBBBIB", dec.take(12))
    return datetime(year, month, day, hour, minute, second, micro, dec.get(), fold=fold)


def _put_timedelta(enc: Encoder, value: Any) -> None:
    enc.out += _TIMEDELTA.pack(b"w", value.days, value.seconds, value.microseconds)


PUT.update(
    {
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
)
READ.update(
    {
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
        ord("Q"): get_tables,
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
    }
)
