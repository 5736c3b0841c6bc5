"""What a policy reads from a call's arguments: which one, an interval of candles, the end of a range of dates."""

from __future__ import annotations

import contextlib
import functools
import math
import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

from .errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import tzinfo

__all__ = ["Arg", "arg", "candle_seconds", "checked_interval", "range_end"]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2592000}
# As Kite ("minute", "5minute", "day"), yfinance ("1m", "1h", "1d", "1wk", "1mo"), pandas ("5min", "1D") and Binance
# ("1M" is a month) write them.
_WORDS = {
    "s": "s", "sec": "s", "second": "s", "seconds": "s",
    "m": "m", "T": "m", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "h": "h", "H": "h", "hr": "h", "hour": "h", "hours": "h", "hourly": "h",
    "d": "d", "D": "d", "day": "d", "days": "d", "daily": "d",
    "w": "w", "W": "w", "wk": "w", "week": "w", "weeks": "w", "weekly": "w",
    "M": "M", "mo": "M", "month": "M", "months": "M", "monthly": "M",
}  # fmt: skip
_INTERVAL = re.compile(r"(\d{0,4})[ _-]?([A-Za-z]{1,7})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Arg:
    """An argument of the call, by the name of its parameter; `arg` makes one."""

    name: str
    default: object = None

    def __repr__(self) -> str:
        return f"arg({self.name!r})" if self.default is None else f"arg({self.name!r}, {self.default!r})"


def arg(name: str, default: object = None) -> Arg:
    """Let a policy take a setting from an argument of the call: ``market_aware(arg("exchange"))``.

    Args:
        name: Of the function's parameter.
        default: What counts where the function has no such parameter, or gets nothing usable.

    Raises:
        ConfigurationError: It is no name of a parameter.
    """
    given: object = name
    if not isinstance(given, str) or not given.isidentifier():
        msg = "arg takes the name of a parameter of the function, as in arg('exchange')"
        raise ConfigurationError(msg)
    return Arg(name, default)


@functools.lru_cache(maxsize=256)
def candle_seconds(interval: object) -> float | None:
    """The length of a candle in seconds, or None where that cannot be told; a month has 30 days here.

    Raises:
        TypeError: What was given cannot be hashed, and so is no interval.
    """
    if isinstance(interval, timedelta):
        seconds = interval.total_seconds()
        return seconds if seconds > 0 else None
    found = _INTERVAL.fullmatch(interval.strip()) if isinstance(interval, str) and len(interval) <= 20 else None
    if found is None:
        return None  # a bare number may be seconds or minutes
    unit = _WORDS.get(found[2], _WORDS.get(found[2].lower(), ""))
    count = int(found[1] or 1)
    return float(count * _SECONDS[unit]) if unit and count else None


def checked_interval(interval: object) -> object:
    """An interval that was written in code: an `Arg`, None, or one that can be told.

    Raises:
        ConfigurationError: It cannot.
    """
    with contextlib.suppress(TypeError):
        if interval is None or isinstance(interval, Arg) or candle_seconds(interval) is not None:
            return interval
    msg = "interval= takes a candle's length such as 'day', '5minute' or '1h', or arg('interval'), or None"
    raise ConfigurationError(msg)


@functools.lru_cache(maxsize=256)
def range_end(given: object, where: tzinfo) -> float:
    """The end of a range as seconds since 1970: a naive one is in the exchange's zone, a date lasts to its midnight.

    Infinity, which is "up to now", where it cannot be told.

    Raises:
        TypeError: What was given cannot be hashed.
    """
    try:
        if isinstance(given, str):
            text = given.strip()
            given = date.fromisoformat(text) if len(text) <= 10 else datetime.fromisoformat(text)
        if isinstance(given, datetime):
            found = (given if given.utcoffset() is not None else given.replace(tzinfo=where)).timestamp()
            return found if found == found else math.inf  # noqa: PLR0124 - not pandas' NaT
        if isinstance(given, date):
            return datetime.combine(given + timedelta(days=1), time(), where).timestamp() - 0.001
    except (ValueError, OverflowError, OSError):
        pass
    return math.inf
