"""Durations as they are written, ``"1h30m"`` and the like, in seconds."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from decimal import Decimal
from numbers import Real

from .errors import ConfigurationError

__all__ = [
    "EXAMPLES",
    "LONGEST",
    "checked",
    "duration",
    "format_duration",
    "parse_duration",
    "read_duration",
    "seconds_of",
]

LONGEST = 10 * 365 * 86400.0
"""Ten years, in seconds: nothing is stored for longer."""

_UNITS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
# ASCII digits only: \d would take other scripts' digits, which float() then reads without a word.
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ms|[wdhms])\s*")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
EXAMPLES = "seconds (90 or '90'), '250ms', '90s', '5m', '1h30m', '2d' or '1w'"


def parse_duration(text: str) -> float:
    """Return the seconds that a duration such as ``"1h30m"`` names.

    A number alone is seconds. Units are w, d, h, m (minutes), s and ms, the larger first, each at most once.

    Raises:
        ConfigurationError: It is no duration, or not one above zero and up to ten years.
    """
    given: object = text
    seconds = read_duration(given) if isinstance(given, str) else None
    if seconds is None:
        shown = repr(given[:40]) if isinstance(given, str) else f"a {type(given).__name__}"
        msg = f"{shown} is not a duration: write {EXAMPLES}"
        raise ConfigurationError(msg)
    return checked(seconds)


def duration(name: str, value: object) -> float:
    """Return the seconds of a setting that takes a duration.

    Args:
        name: Of the setting, for the message.
        value: Seconds, a ``timedelta`` or a duration such as ``"5m"``.

    Raises:
        ConfigurationError: It is none of these, or not above zero and up to ten years.
    """
    seconds = read_duration(value) if isinstance(value, str) else seconds_of(value)
    if seconds is None or not 0.0 < seconds <= LONGEST:
        msg = f"{name}= takes {EXAMPLES} or a timedelta: above zero and at most ten years"
        raise ConfigurationError(msg)
    return seconds


def format_duration(seconds: float) -> str:
    """Return the shortest duration that :func:`parse_duration` reads as these whole milliseconds."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in _UNITS.items():
        count, left = divmod(left, round(size * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or f"{seconds:g}s"


def read_duration(text: str) -> float | None:
    """Return the seconds ``text`` names, zero and infinity included, or None if it is no duration."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    total, position, order = 0.0, 0, list(_UNITS)
    while position < len(text):
        part = _PART.match(text, position)
        if part is None or part[2] not in order:
            return None
        total += float(part[1]) * _UNITS[part[2]]
        order = order[order.index(part[2]) + 1 :]
        position = part.end()
    return total if position else None


def seconds_of(value: object) -> float | None:
    """Return a number's or a timedelta's seconds (which may be NaN or infinite), or None for anything else."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    # bool is an int and means something else here. Real covers numpy's numbers without importing numpy.
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return None
    try:
        return float(value)
    except OverflowError:  # an int or Fraction too large for a float is finite all the same
        return LONGEST + 1.0 if value == abs(value) else -1.0
    except ValueError:  # Decimal("sNaN")
        return math.nan


def checked(seconds: float) -> float:
    """Return a lifetime above zero and up to ten years, or raise :class:`ConfigurationError`."""
    if 0.0 < seconds <= LONGEST:
        return seconds
    msg = f"a ttl is above zero and at most ten years: write {EXAMPLES}; a policy may answer 0 to store nothing"
    raise ConfigurationError(msg)
