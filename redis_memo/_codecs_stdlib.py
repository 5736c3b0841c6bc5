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
from numbers import Integral
from types import EllipsisType, NotImplementedType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from redis_memo._codecs_builtin import get_pairs, put_pairs
from redis_memo._codecs_items import get_items, hashable, put_items
from redis_memo._codecs_rules import FLAWS, NotTyped, Rule, attributes_lost, register
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis_memo._codecs_stream import Decoder, Encoder

__all__: list[str] = []

# Classes that are values themselves (``dtype=float``) and factories of a defaultdict; a fixed table, so that no
# stored name is ever looked up anywhere.
_CLASSES: Final[dict[str, type]] = {
    cls.__name__: cls
    for cls in (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, object)
} | {"datetime": datetime, "date": date, "time": time, "timedelta": timedelta, "Decimal": Decimal}
_CLASS_NAMES: Final = {cls: name for name, cls in _CLASSES.items()}

_SLICE: Final = ("start", "stop", "step")
_WIDEST_RANGE: Final = 1 << 12  # bits; its length is a division
_LONGEST_PATTERN: Final = 1 << 16
_MOST_RANGES: Final = 64
_WIDE: Final = re.compile(r"\\[uUN]")  # an escape beyond Latin-1
_FOLDS: Final = re.compile(r"\(\?[a-zA-Z]*i")


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


def _drops_attributes(family: Any) -> Callable[[Any], str | None]:
    """How the objects of a family are looked at that Python pickles as what they were made of, attributes left out."""
    hooks = (family.__reduce_ex__, family.__reduce__)

    def flaw(value: Any) -> str | None:
        cls = type(value)
        if not getattr(value, "__dict__", None) or (cls.__reduce_ex__, cls.__reduce__) != hooks:
            return None
        return attributes_lost(cls, vars(value))

    return flaw


def _put_counter(enc: Encoder, value: Any) -> None:
    put_pairs(enc, _bare(value))


# Attributes, which torch's state_dict() has, come first, behind a mark that no sequence begins with.
_ATTRIBUTES: Final = b"+"


def _put_ordered(enc: Encoder, value: Any) -> None:
    own = value.__dict__
    if own:
        if not set(map(type, own)) <= {str}:
            raise NotTyped
        enc.out += _ATTRIBUTES
        put_pairs(enc, own)
    put_pairs(enc, value)


def _get_ordered(dec: Decoder, slot: int) -> Any:
    value: OrderedDict[Any, Any] = OrderedDict()
    dec.remember(slot, value)
    if dec.data[dec.pos] == _ATTRIBUTES[0]:
        dec.pos += 1
        if not set(map(type, get_pairs(dec, value.__dict__))) <= {str}:
            raise UnreadableEntry("an ordered dict is damaged")
    return get_pairs(dec, value)


def _get_counter(dec: Decoder, slot: int) -> Any:
    value: Counter[Any] = Counter()
    dec.remember(slot, value)
    keys, counts = get_items(dec), get_items(dec)
    hashable(dec, keys)
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
    value: deque[Any] = deque(maxlen=dec.exact(int, type(None)))
    dec.remember(slot, value)
    value += get_items(dec)
    return value


def _put_namespace(enc: Encoder, value: Any) -> None:
    if not set(map(type, value.__dict__)) <= {str}:
        raise NotTyped
    put_pairs(enc, value.__dict__)


def _get_namespace(dec: Decoder, slot: int) -> Any:
    value = SimpleNamespace()
    dec.remember(slot, value)
    if not set(map(type, get_pairs(dec, value.__dict__))) <= {str}:
        raise UnreadableEntry("a namespace is damaged")
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
    return _PATHS[dec.text()](dec.exact(str))


def _put_timezone(enc: Encoder, value: Any) -> None:
    offset, *name = value.__getinitargs__()
    enc.put(offset)
    enc.put(name[0] if name else None)


def _get_timezone(dec: Decoder) -> Any:
    offset, name = dec.some(timedelta), dec.some(str, type(None))
    return timezone(offset) if name is None else timezone(offset, name)


def _compiles(pattern: Any, flags: int) -> bool:
    """Whether a pattern compiles without printing (``re.DEBUG`` does), and in a time that it is worth."""
    if flags & re.DEBUG or type(pattern) not in (str, bytes) or len(pattern) > _LONGEST_PATTERN:
        return False
    if type(pattern) is bytes or (pattern.isascii() and not _WIDE.search(pattern)):
        return True
    # Without regard to case, each range up to U+FFFF takes 7 ms.
    return pattern.count("-") <= _MOST_RANGES or not (flags & re.IGNORECASE or _FOLDS.search(pattern))


def _put_pattern(enc: Encoder, value: Any) -> None:
    if not _compiles(value.pattern, value.flags):
        raise NotTyped
    enc.put(value.pattern)
    enc.put(value.flags)


def _get_pattern(dec: Decoder) -> Any:
    pattern, flags = dec.exact(str, bytes), dec.exact(int)
    if not _compiles(pattern, flags):
        raise UnreadableEntry("a pattern is not one that is stored")
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


def _range(dec: Decoder) -> range:
    start, stop, step = (dec.exact(int, bool) for _ in _SLICE)
    if max(map(int.bit_length, (start, stop, step))) > _WIDEST_RANGE:
        raise UnreadableEntry("a range is too wide")
    return range(start, stop, step)


def _put_range(enc: Encoder, value: Any) -> None:
    parts = (value.start, value.stop, value.step)
    if not set(map(type, parts)) <= {int, bool} or max(map(int.bit_length, parts)) > _WIDEST_RANGE:
        raise NotTyped
    for part in parts:
        enc.put(part)


def _get_fraction(dec: Decoder) -> Fraction:
    numerator, denominator = dec.some(Integral), dec.some(Integral)
    if denominator <= 0:
        raise UnreadableEntry("a fraction is damaged")
    # The constructor divides both by what they have in common, which takes minutes for a megabyte. They were stored
    # with nothing in common.
    value = object.__new__(Fraction)
    value._numerator, value._denominator = numerator, denominator  # type: ignore[attr-defined]
    return value


def _put_uuid(enc: Encoder, value: Any) -> None:
    enc.blob(value.bytes)
    enc.text(value.is_safe.name)


def _get_uuid(dec: Decoder) -> uuid.UUID:
    return uuid.UUID(bytes=bytes(dec.blob()), is_safe=uuid.SafeUUID[dec.text()])


register(Rule("ellipsis", lambda _enc, _value: None, lambda _dec: Ellipsis), EllipsisType)
register(Rule("notimplemented", lambda _enc, _value: None, lambda _dec: NotImplemented), NotImplementedType)
register(Rule("class", _put_builtin_class, lambda dec: _CLASSES[dec.text()]), type)
register(Rule("ordered", _put_ordered, _get_ordered, early=True), OrderedDict)
register(Rule("counter", _put_counter, _get_counter, early=True), Counter)
register(Rule("defaultdict", _put_defaultdict, _get_defaultdict, early=True), defaultdict)
register(Rule("deque", _put_deque, _get_deque, early=True), deque)
register(Rule("namespace", _put_namespace, _get_namespace, early=True), SimpleNamespace)
register(Rule("range", _put_range, _range), range)
register(Rule("slice", _put_parts(*_SLICE), lambda dec: slice(dec.get(), dec.get(), dec.get())), slice)
register(Rule("decimal", lambda enc, value: enc.text(str(value)), lambda dec: Decimal(dec.text())), Decimal)
register(Rule("fraction", _put_parts("numerator", "denominator"), _get_fraction), Fraction)
register(Rule("uuid", _put_uuid, _get_uuid), uuid.UUID)
register(Rule("path", _put_path, _get_path), *_PATHS.values())
register(Rule("timezone", _put_timezone, _get_timezone), timezone)
register(Rule("pattern", _put_pattern, _get_pattern), re.Pattern)
register(Rule("array", _put_array, _get_array), array)
for _family in (Counter, defaultdict, date, datetime, time, timedelta, Decimal, Fraction, pathlib.PurePath):
    FLAWS.register(_family, _drops_attributes(_family), subclasses=True)
