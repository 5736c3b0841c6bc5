"""Key rules for Python's own types: scalars, containers, dates and their time zones, paths, patterns."""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import enum
import fractions
import functools
import operator
import pathlib
import re
import struct
import sys
import types
import uuid
import zoneinfo
from typing import TYPE_CHECKING, Any

from redis_memo._keys_code import identity
from redis_memo._keys_walk import (
    LEAVES,
    RULES,
    SMALL,
    Walk,
    blob,
    digest,
    joined,
    length,
    named,
    number,
    pairs,
    real,
    refuse,
    sized,
    text,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["canonical_reals", "enum_member", "foreign_zone", "little_endian", "zone"]

_PACK_FROM = 8  # shorter sequences are encoded one by one
_NAN = float("nan")


# ------------------------------------------------------------------------------------------------------------ scalars


def _float(value: float) -> bytes:
    return b"f" + real(value)


def _complex(value: complex) -> bytes:
    return b"c" + real(value.real) + real(value.imag)


def _bytearray(value: bytearray) -> bytes:
    return sized(b"a", b"A", value)


def _decimal(value: decimal.Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if exponent == "n":  # every quiet NaN is equal, whatever it carries
        sign, digits = 0, ()
    return named("Decimal", b"i%x;" % sign, blob(bytes(digits)), text(str(exponent)))


def _fraction(value: fractions.Fraction) -> bytes:
    return named("Fraction", number(value.numerator), number(value.denominator))


def _uuid(value: uuid.UUID) -> bytes:
    return named("UUID", number(value.int))


def _range(value: range) -> bytes:
    """Equal as sequences: ``range(0, 3, 2)`` and ``range(0, 4, 2)``."""
    if not value:
        return named("range")
    first, last = value[0], value[-1]
    if first == last:
        return named("range", number(first))
    return named("range", number(first), number(last), number(value.step))


def _slice(value: slice, walk: Walk) -> bytes:
    return named("slice", walk.encode(value.start), walk.encode(value.stop), walk.encode(value.step))


def _path(value: pathlib.PurePath) -> bytes:
    # By class name: Python 3.13 moved the module.
    kinds = (pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath)
    kind = next((kind for kind in kinds if isinstance(value, kind)), pathlib.PurePath)
    return named(kind.__name__, text(str(value)))


def _pattern(value: re.Pattern[Any], walk: Walk) -> bytes:
    return named("re.Pattern", walk.encode(value.pattern), number(int(value.flags)))


def _ellipsis(_value: types.EllipsisType) -> bytes:
    return b"."


def _not_implemented(_value: types.NotImplementedType) -> bytes:
    return named("NotImplemented")


# ------------------------------------------------------------------------------------------------ dates and time zones

_pack_datetime = struct.Struct("<HBBBBBIB").pack
_pack_time = struct.Struct("<BBBIB").pack


def _datetime(value: dt.datetime, walk: Walk) -> bytes:
    packed = _pack_datetime(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.fold
    )
    return named("datetime", blob(packed), zone(value.tzinfo, walk))


def _date(value: dt.date) -> bytes:
    return named("date", number(value.toordinal()))


def _time(value: dt.time, walk: Walk) -> bytes:
    packed = _pack_time(value.hour, value.minute, value.second, value.microsecond, value.fold)
    return named("time", blob(packed), zone(value.tzinfo, walk))


def _timedelta(value: dt.timedelta) -> bytes:
    return named("timedelta", number(value.days), number(value.seconds), number(value.microseconds))


def zone(value: dt.tzinfo | None, walk: Walk, *, everywhere: bool = False) -> bytes:
    """Encode a time zone by kind and name.

    Args:
        value: The zone.
        walk: The walk it is met on.
        everywhere: Leave out which of its offsets a pytz zone has been localized to: a column has no single one.
    """
    if everywhere and value is not None and type(value).__module__.startswith("pytz"):
        name = getattr(value, "zone", None)
        if isinstance(name, str):
            return named("pytz", text(name))
    return walk.encode(value)


def _timezone(value: dt.timezone) -> bytes:
    return named("timezone", _timedelta(value.utcoffset(None)), text(value.tzname(None)))


def _zoneinfo(value: zoneinfo.ZoneInfo) -> bytes:
    if value.key is None:
        refuse(type(value), "has no key that says which zone it is")
    return named("ZoneInfo", text(value.key))


def foreign_zone(value: Any, walk: Walk) -> bytes | None:
    """Encode a time zone of pytz or dateutil, None for any other."""
    module = type(value).__module__
    if module.startswith("pytz"):
        state = (getattr(value, "_utcoffset", None), getattr(value, "_dst", None), getattr(value, "_tzname", None))
        if isinstance(value.zone, str):
            return named("pytz", text(value.zone), walk.encode(state))
        return named("pytz offset", walk.encode(value.utcoffset(None)))
    if module.startswith("dateutil.tz"):
        return _dateutil_zone(value, walk)
    return None


def _dateutil_zone(value: Any, walk: Walk) -> bytes | None:
    kind = type(value).__name__
    if kind == "tzutc":
        return named("dateutil.tzutc")
    if kind == "tzoffset":
        return named("dateutil.tzoffset", walk.encode(value._name), walk.encode(value._offset))  # noqa: SLF001 - there is no public name for it
    if kind == "tzfile":
        # The file's place differs between hosts; below a zoneinfo folder it names the zone.
        place, below, name = str(value._filename).rpartition("zoneinfo/")  # noqa: SLF001 - there is no public name for it
        if below or not name.startswith(("/", "<")):
            return named("dateutil.tzfile", text(name if below else place + name))
        changes = [(info.offset, info.isdst, info.abbr) for info in value._trans_idx]  # noqa: SLF001 - there is no public name for it
        return named("dateutil.tzfile", walk.encode((list(value._trans_list_utc), changes)))  # noqa: SLF001 - there is no public name for it
    return None


# --------------------------------------------------------------------------------------------------------- containers


def little_endian(data: array.array[Any]) -> memoryview:
    """The bytes of an array, least significant first."""
    if sys.byteorder == "big":  # pragma: no cover
        data = data[:]
        data.byteswap()
    return memoryview(data).cast("B")


def canonical_reals(values: Sequence[float]) -> array.array[float]:
    """Doubles with one NaN in place of every NaN. An array of them is only copied if it holds one."""
    data = values if isinstance(values, array.array) and values.typecode == "d" else array.array("d", values)
    if any(map(operator.ne, data, data)):  # only a NaN differs from itself
        data = array.array("d", [_NAN if item != item else item for item in data])  # noqa: PLR0124 - only NaN differs from itself
    return data


def _packed(tag: bytes, value: Sequence[Any], walk: Walk) -> bytes | None:
    """Encode a long sequence of one plain type from its packed form, None for any other."""
    kinds = set(map(type, value))
    if len(kinds) != 1:
        return None
    kind = kinds.pop()
    if kind is float:
        code, data = b"d", digest(little_endian(canonical_reals(value)))
    elif kind is int:
        try:
            code, data = b"q", digest(little_endian(array.array("q", value)))
        except OverflowError:
            return None
    elif kind is str:
        lengths = array.array("Q", map(len, value))
        code = b"s"
        data = digest(little_endian(lengths)) + digest("".join(value).encode("utf-8", "surrogatepass"))
    elif kind is bool:
        code, data = b"?", digest(bytes(value))
    else:
        return None
    walk.work += len(value)
    return whole(tag + code + b"%x;" % len(value) + data)


def _sequence(plain: bytes, packed: bytes, value: Sequence[Any], walk: Walk) -> bytes:
    count = len(value)
    if count >= _PACK_FROM:
        data = _packed(packed, value, walk)
        if data is not None:
            return data
    walk.work += count
    if count > SMALL:
        data = joined(plain, count, map(walk.encode, value))
    else:  # as ``joined``, in one Python frame less: what is nested deeply meets the recursion limit later
        data = plain + length(count) + b"".join(map(walk.encode, value))
    if len(value) != count:
        refuse(type(value), "changed while it was read")
    return data


_list = functools.partial(_sequence, b"l", b"v")
_tuple = functools.partial(_sequence, b"t", b"w")


def _dict(value: dict[Any, Any], walk: Walk) -> bytes:
    walk.work += len(value)
    encode = walk.encode
    items = []
    for key, item in list(value.items()):
        items.append(encode(key) + encode(item))  # a comprehension would be one more Python frame
    items.sort()
    return joined(b"d", len(items), items)


def _ordered_dict(value: collections.OrderedDict[Any, Any], walk: Walk) -> bytes:
    items = list(value.items())
    walk.work += len(items)
    data = joined(b"O", len(items), [walk.encode(key) + walk.encode(item) for key, item in items])
    return _with_attributes(value, data, walk)


def _default_dict(value: collections.defaultdict[Any, Any], walk: Walk) -> bytes:
    return named("defaultdict", walk.encode(value.default_factory), _dict(value, walk))


def _counter(value: collections.Counter[Any], walk: Walk) -> bytes:
    return _with_attributes(value, named("Counter", _dict(value, walk)), walk)


def _with_attributes(value: Any, data: bytes, walk: Walk) -> bytes:
    """Add the attributes of what is exactly such a dict; those of a subclass are added where its class is."""
    if type(value) not in (collections.OrderedDict, collections.Counter) or not vars(value):
        return data
    return named("attributed", data, _dict(vars(value), walk))


def _set(value: set[Any], walk: Walk) -> bytes:
    walk.work += len(value)
    return joined(b"e", len(value), sorted(map(walk.encode, list(value))))


def _frozenset(value: frozenset[Any], walk: Walk) -> bytes:
    walk.work += len(value)
    return joined(b"z", len(value), sorted(map(walk.encode, value)))


def _dict_keys(value: Any, walk: Walk) -> bytes:
    items = sorted(map(walk.encode, list(value)))
    return named("dict_keys", joined(b"e", len(items), items))


def _dict_items(value: Any, walk: Walk) -> bytes:
    items = pairs(list(value), walk)
    return named("dict_items", joined(b"d", len(items), items))


def _dict_values(value: Any, walk: Walk) -> bytes:
    return named("dict_values", _list(list(value), walk))


def _deque(value: collections.deque[Any], walk: Walk) -> bytes:
    return named("deque", walk.encode(value.maxlen), _list(list(value), walk))


def _mapping_proxy(value: types.MappingProxyType[Any, Any], walk: Walk) -> bytes:
    items = pairs(list(value.items()), walk)
    return named("mappingproxy", joined(b"d", len(items), items))


def _namespace(value: types.SimpleNamespace, walk: Walk) -> bytes:
    return named("SimpleNamespace", _dict(vars(value), walk))


def _array(value: array.array[Any], _walk: Walk) -> bytes:
    code = value.typecode
    if code in "fd":
        data = little_endian(canonical_reals(value))
    elif code in "uw":
        data = memoryview("".join(value).encode("utf-32-le", "surrogatepass"))
    else:
        # A C long has 4 bytes on some platforms and 8 on others.
        data = little_endian(array.array(code.replace("l", "q").replace("L", "Q"), value) if code in "lL" else value)
    return named("array", text(code.replace("w", "u")), number(len(value)), blob(data))


def _memoryview(value: memoryview, walk: Walk) -> bytes:
    head = (text(value.format), walk.encode(value.shape))
    if value.format in ("f", "d"):
        data = array.array(value.format, value.tobytes())
        return named("memoryview", *head, blob(little_endian(canonical_reals(data))))
    return named("memoryview", *head, blob(value.tobytes()))


# ----------------------------------------------------------------------------------------------------- enumerations


def enum_member(value: enum.Enum, walk: Walk) -> bytes:
    """Encode a member of an enumeration by class and name; a flag, which may combine several, by value."""
    which = walk.encode(value.value) if isinstance(value, enum.Flag) else text(value.name)
    return named("enum", identity(type(value), walk), which)


LEAVES.update(
    {
        type(None): lambda _value: b"N",
        bool: lambda value: b"T" if value else b"F",
        int: number,
        float: _float,
        complex: _complex,
        str: text,
        bytes: blob,
        bytearray: _bytearray,
        type(...): _ellipsis,
        type(NotImplemented): _not_implemented,
        decimal.Decimal: _decimal,
        fractions.Fraction: _fraction,
        uuid.UUID: _uuid,
        range: _range,
        pathlib.PurePath: _path,
        pathlib.PurePosixPath: _path,
        pathlib.PureWindowsPath: _path,
        pathlib.PosixPath: _path,
        pathlib.WindowsPath: _path,
        dt.date: _date,
        dt.timedelta: _timedelta,
        dt.timezone: _timezone,
        zoneinfo.ZoneInfo: _zoneinfo,
    }
)
RULES.update(
    {
        list: _list,
        tuple: _tuple,
        dict: _dict,
        set: _set,
        frozenset: _frozenset,
        collections.OrderedDict: _ordered_dict,
        collections.defaultdict: _default_dict,
        collections.Counter: _counter,
        collections.deque: _deque,
        type({}.keys()): _dict_keys,
        type({}.items()): _dict_items,
        type({}.values()): _dict_values,
        type(collections.OrderedDict().keys()): _dict_keys,
        types.MappingProxyType: _mapping_proxy,
        types.SimpleNamespace: _namespace,
        array.array: _array,
        memoryview: _memoryview,
        slice: _slice,
        re.Pattern: _pattern,
        dt.datetime: _datetime,
        dt.time: _time,
    }
)
