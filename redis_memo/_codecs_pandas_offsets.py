"""pandas: offsets of dates, by the name of their class in pandas.tseries.offsets and their arguments.

Never by frequency string: these changed their letters between pandas 2 and 3.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from redis_memo._codecs_rules import NotTyped
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from redis_memo._codecs_stream import Decoder, Encoder

__all__ = ["OFFSETS", "get_offset", "put_offset"]

OFFSETS: Final[dict[str, Any]] = {
    cls.__name__: cls
    for cls in (getattr(pd.offsets, name, None) for name in dir(pd.offsets))
    if isinstance(cls, type) and issubclass(cls, pd.offsets.BaseOffset) and cls.__name__ not in {"BaseOffset", "Tick"}
}


# Arguments that only a later pandas knows, and what it takes for what was meant before: not worth a miss.
_ADDED: Final = {("Easter", "method"): 3}


def _make_offset(name: str, number: int, normalize: bool, options: dict[str, Any]) -> Any:
    return OFFSETS[name](number, normalize=normalize, **options)


def put_offset(enc: Encoder, value: Any) -> None:
    """Write an offset; of classes of others nothing is known."""
    # The calendar of a custom business day is made from its holidays and week mask.
    name = type(value).__name__
    options = {
        key: option
        for key, option in value.kwds.items()
        if key != "calendar" and _ADDED.get((name, key), ...) != option
    }
    if OFFSETS.get(name) is not type(value) or not _are_options(options) or type(value.n) is not int:
        raise NotTyped
    again = _make_offset(name, value.n, value.normalize, options)
    if not _same_offset(again, value):
        raise NotTyped
    enc.text(name)
    enc.put(value.n)
    enc.put(value.normalize)
    enc.put(options)


def _same_offset(one: Any, other: Any) -> bool:
    def parts(offset: Any) -> Any:
        options = dict(offset.kwds)
        calendar = options.pop("calendar", None)
        days = None if calendar is None else (calendar.weekmask.tolist(), calendar.holidays.tolist())
        return type(offset), offset.n, offset.normalize, options, days

    return bool(parts(one) == parts(other))


def get_offset(dec: Decoder) -> Any:
    """Read an offset."""
    name, number, normalize, options = dec.text(), dec.exact(int), dec.exact(bool), dec.exact(dict)
    if not _are_options(options):
        raise UnreadableEntry("an offset is damaged")
    return _make_offset(name, number, normalize, options)


_OPTIONS: Final = (int, float, str, dt.date, dt.time, dt.timedelta, np.generic, pd.offsets.BaseOffset, type(None))


def _are_options(options: dict[str, Any]) -> bool:
    """Whether an offset's arguments are of the types that pandas expects: it makes an int of what is none."""
    parts = [part for option in options.values() for part in (option if type(option) in (tuple, list) else (option,))]
    return set(map(type, options)) <= {str} and all(isinstance(part, _OPTIONS) for part in parts)
