"""The standard library's value types that have no tag byte of their own: each is found by name."""

from __future__ import annotations

import pathlib
import re
import sys
import uuid
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from types import EllipsisType, NotImplementedType, SimpleNamespace
from typing import Any, Final

from redis_memo._codecs_builtin import get_pairs, put_pairs
from redis_memo._codecs_items import get_items, put_items
from redis_memo._codecs_stream import Decoder, Encoder, NotTyped, Rule, register
from redis_memo.errors import UnreadableEntry

__all__: list[str] = []

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
    put_pairs(enc, _bare(value))


def _get_ordered(dec: Decoder, slot: int) -> Any:
    value: OrderedDict[Any, Any] = OrderedDict()
    dec.remember(slot, value)
    return get_pairs(dec, value)


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
    put_pairs(enc, value)


def _get_defaultdict(dec: Decoder, slot: int) -> Any:
    name = dec.text()
    value: defaultdict[Any, Any] = defaultdict(_CLASSES[name] if name else None)
    dec.remember(slot, value)
    return get_pairs(dec, value)


def _put_deque(enc: Encoder, value: Any) -> None:
    enc.put(value.maxlen)
    put_items(enc, tuple(value))


def _get_deque(dec: Decoder, slot: int) -> Any:
    value: deque[Any] = deque(maxlen=dec.get())
    dec.remember(slot, value)
    value += get_items(dec)
    return value


def _put_namespace(enc: Encoder, value: Any) -> None:
    put_pairs(enc, value.__dict__)


def _get_namespace(dec: Decoder, slot: int) -> Any:
    value = SimpleNamespace()
    dec.remember(slot, value)
    get_pairs(dec, value.__dict__)
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
    enc.put(offset)
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
register(Rule("fraction", _put_parts("numerator", "denominator"), lambda dec: Fraction(dec.get(), dec.get())), Fraction)
register(Rule("uuid", _put_uuid, _get_uuid), uuid.UUID)
register(Rule("path", _put_path, _get_path), *_PATHS.values())
register(Rule("timezone", _put_timezone, _get_timezone), timezone)
register(Rule("pattern", _put_pattern, _get_pattern), re.Pattern)
register(Rule("array", _put_array, _get_array), array)
