"""``dateutil`` zones. Kite's candles carry ``tzoffset(None, 19800)``."""

# ruff: noqa: SLF001 - what makes up a zone has no public name

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dateutil import tz

from redis_memo._codecs_rules import NotTyped, Rule, put_nothing, register
from redis_memo._codecs_zoneinfo import checked_key

if TYPE_CHECKING:
    from redis_memo._codecs_stream import Decoder, Encoder

__all__: list[str] = []

_FOLDER = "zoneinfo/"
_NAMES = (str, bytes, type(None))


def _put_offset(enc: Encoder, value: Any) -> None:
    if not isinstance(value._name, _NAMES):
        raise NotTyped
    enc.put(value._name)
    enc.put(value._offset)


def _get_offset(dec: Decoder) -> Any:
    return tz.tzoffset(dec.some(*_NAMES), dec.some(timedelta))


def _find(key: str) -> Any:
    found = tz.gettz(checked_key(key))
    return found if isinstance(found, tz.tzfile) else None


def _put_file(enc: Encoder, value: Any) -> None:
    """A zone of the system's database goes by its key; one read from a file of one's own does not."""
    key = getattr(value, "key", None) or str(value._filename).rpartition(_FOLDER)[2]
    if _find(key) != value:
        raise NotTyped
    enc.put(key)


def _get_file(dec: Decoder) -> Any:
    found = _find(dec.get())
    if found is None:
        raise KeyError
    return found


def _put_string(enc: Encoder, value: Any) -> None:
    if vars(tz.tzstr(value._s)) != vars(value):
        raise NotTyped
    enc.put(value._s)


register(Rule("dateutil.tzutc", put_nothing, lambda _dec: tz.tzutc()), tz.tzutc)
register(Rule("dateutil.tzlocal", put_nothing, lambda _dec: tz.tzlocal()), tz.tzlocal)
register(Rule("dateutil.tzoffset", _put_offset, _get_offset), tz.tzoffset)
register(Rule("dateutil.tzfile", _put_file, _get_file), tz.tzfile)
register(Rule("dateutil.tzstr", _put_string, lambda dec: tz.tzstr(dec.exact(str))), tz.tzstr)
