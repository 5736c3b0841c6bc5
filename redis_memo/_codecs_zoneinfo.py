"""``zoneinfo`` zones: by key, as pickle has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from redis_memo._codecs_rules import NotTyped, Rule, register
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from redis_memo._codecs_stream import Decoder, Encoder

__all__ = ["checked_key"]

# A key becomes a path below the zone database: it must not lead out of it.
_KEY: Final = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")


def checked_key(key: object) -> str:
    """Return the key of a zone, if it is one."""
    if not isinstance(key, str) or _KEY.fullmatch(key) is None:
        raise UnreadableEntry("the entry names a time zone that cannot be one")
    return key


def _put_zone(enc: Encoder, value: Any) -> None:
    _, (key, cached) = value.__reduce__()  # refuses zones read from a file of one's own
    if not isinstance(key, str) or _KEY.fullmatch(key) is None:
        raise NotTyped
    enc.put(key)
    enc.put(bool(cached))


def _get_zone(dec: Decoder) -> ZoneInfo:
    key, cached = checked_key(dec.get()), dec.exact(bool)
    return ZoneInfo(key) if cached else ZoneInfo.no_cache(key)


register(Rule("zoneinfo.ZoneInfo", _put_zone, _get_zone), ZoneInfo)
