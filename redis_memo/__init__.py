"""Memoize Python functions in Redis: exact keys, exact values, and expiry that knows the exchange."""

from __future__ import annotations

from . import market, testing, ttl
from ._as_of import as_of
from ._bounds import Limits
from ._cache import Cache
from ._codecs import register_type
from ._default import configure, connect
from ._events import CacheInfo
from ._handle import MISSING
from ._keys import register_key
from ._manager import CacheManager, get_cache_manager
from ._mapping import CacheDict
from ._memo import cache_info, clear, invalidate, invalidate_tags, redis_cached
from .errors import RedisMemoError
from .market import market_aware
from .ttl import Call, TTLPolicy, jittered

__all__ = [
    "MISSING",
    "Cache",
    "CacheDict",
    "CacheInfo",
    "CacheManager",
    "Call",
    "Limits",
    "RedisMemoError",
    "TTLPolicy",
    "as_of",
    "cache_info",
    "clear",
    "configure",
    "connect",
    "get_cache_manager",
    "invalidate",
    "invalidate_tags",
    "jittered",
    "market",
    "market_aware",
    "redis_cached",
    "register_key",
    "register_type",
    "testing",
    "ttl",
]

__version__ = "0.1.0"
