"""``pytz`` zones. A localized datetime's zone is one of several instances of its zone; it comes back as that one."""

# ruff: noqa: SLF001 - what makes up a zone has no public name

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytz
import pytz.tzinfo

from redis_memo._codecs_rules import NotTyped, Rule, put_nothing, register
from redis_memo._codecs_zoneinfo import checked_key
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from redis_memo._codecs_stream import Decoder, Encoder

__all__: list[str] = []


def _instance(zone: str, variant: Any) -> Any:
    found: Any = pytz.timezone(checked_key(zone))  # looks the name up in its list of zones
    return found if variant is None else found._tzinfos[variant]


def _put_zone(enc: Encoder, value: Any) -> None:
    variant = None
    if _instance(value.zone, None) is not value:
        variant = (value._utcoffset, value._dst, value._tzname)
        if _instance(value.zone, variant) is not value:
            raise NotTyped
    enc.put(value.zone)
    enc.put(variant)


def _get_zone(dec: Decoder) -> Any:
    zone, variant = dec.get(), dec.exact(tuple, type(None))
    if variant is not None and not set(map(type, variant)) <= {timedelta, str}:
        raise UnreadableEntry("a zone is damaged")
    return _instance(zone, variant)


def _put_offset(enc: Encoder, value: Any) -> None:
    if type(value._minutes) is not int:
        raise NotTyped
    enc.put(value._minutes)


register(Rule("pytz.utc", put_nothing, lambda _dec: pytz.utc), type(pytz.utc))
register(
    Rule("pytz.FixedOffset", _put_offset, lambda dec: pytz.FixedOffset(dec.exact(int))), type(pytz.FixedOffset(330))
)
# Each zone is a class of its own below these two.
register(Rule("pytz.timezone", _put_zone, _get_zone), pytz.tzinfo.StaticTzInfo, pytz.tzinfo.DstTzInfo, subclasses=True)
