"""Which keys are one key of a mapping: those that a dict takes for the same.

Arguments of functions are told apart by type, keys of a dict are not: ``d[1]``, ``d[1.0]``, ``d[True]`` and
``d[Decimal(1)]`` are one item, and so are ``d[Exchange.NSE]`` and ``d["NSE"]`` where the enumeration is one of strings.
So each key is brought to one form before it is encoded.
"""

from __future__ import annotations

import datetime as dt
import math
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any

__all__ = ["one_of_equals"]

_LARGEST_EXPONENT = 5000  # of a Decimal that is taken for an int: hardly a key, and 10**1000000 would fill the memory
_BUILTIN: dict[type, Any] = {
    str: str.__str__,
    bytes: lambda key: bytes.__getitem__(key, slice(None)),
    int: int.__index__,
    float: float.__float__,
    complex: complex.__complex__,
    tuple: lambda key: tuple.__getitem__(key, slice(None)),
    frozenset: frozenset.copy,
}


def one_of_equals(key: Any) -> object:
    """The one form of all keys that a dict takes for the same as this one.

    Numbers become the int or else the float that they equal, subclasses of builtins that inherit equality become the
    builtin, aware datetimes are brought to UTC; tuples and frozen sets of these too.
    """
    kind = type(key)
    if kind is str or kind is bytes or kind is int:
        return key
    if kind is bool:
        return int(key)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(key, numpy.generic):
        plain = key.item() if isinstance(key, (numpy.number, numpy.bool_, numpy.str_, numpy.bytes_)) else key
        return key if isinstance(plain, numpy.generic) else one_of_equals(plain)
    for base, as_builtin in _BUILTIN.items():
        if isinstance(key, base) and kind.__eq__ is base.__eq__ and kind.__hash__ is base.__hash__:
            return _builtin(base, as_builtin(key))
    if kind is Decimal or kind is Fraction:
        return _exact(key)
    if isinstance(key, dt.datetime):
        return _instant(key)
    return key


def _builtin(base: type, key: Any) -> object:
    if base is float:
        return int(key) if math.isfinite(key) and key == int(key) else key
    if base is complex:
        # -0.0 equals 0.0
        return complex(key.real + 0.0, key.imag + 0.0) if key.imag else one_of_equals(key.real)
    if base is tuple or base is frozenset:
        return base(map(one_of_equals, key))
    return key


def _exact(key: Decimal | Fraction) -> object:
    if isinstance(key, Decimal):
        if not key.is_finite():
            return float(key) if key.is_infinite() else key
        if abs(key.adjusted()) > _LARGEST_EXPONENT:
            return key
    fraction = Fraction(key)
    if fraction.denominator == 1:
        return fraction.numerator
    try:
        nearest = float(fraction)
    except OverflowError:
        return fraction
    return nearest if Fraction(nearest) == fraction else fraction


def _instant(key: Any) -> object:
    """A datetime as all that are equal to it; pandas' as Python's, where it has no nanoseconds."""
    if key != key or getattr(key, "nanosecond", 0):  # noqa: PLR0124 - pandas' NaT
        return key
    plain = dt.datetime(
        key.year, key.month, key.day, key.hour, key.minute, key.second, key.microsecond, key.tzinfo, fold=key.fold
    )
    if plain.utcoffset() is None:
        return plain.replace(fold=0, tzinfo=None)
    try:
        return plain.astimezone(dt.UTC).replace(fold=0)
    except OverflowError:  # in the first and the last hours that datetime knows
        return key
