"""All that is known of one decorated function in this process: its options, prefixes and counters; none of it I/O."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from ._bounds import bounded
from ._call import CallKey, kind
from ._config import LEFT_OUT, checked_early, is_plain_function, some_duration
from ._default import chosen_cache, default_cache
from ._events import CacheInfo, Stats, info_of
from ._identity import function_identity, key_prefix, shard_of, shard_prefixes, version_part
from ._near import Near, room
from ._policy import Call, TTLPolicy, as_policy
from ._source import qualified_name
from ._tags import Tags, tag_tokens
from .errors import ConfigurationError, KeyingError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from . import _ops as ops
    from ._bounds import Eviction
    from ._cache import Cache
    from ._config import Compression, OnError
    from ._engine import Engine
    from ._touches import Touches

__all__ = ["COMPLAIN_EVERY", "Memo"]

log = logging.getLogger("redis_memo")

COMPLAIN_EVERY = 60.0
UNTIL_EVICTED = 30 * 86400.0  # seconds that an entry has with ttl=None; uses do not prolong it

_finding = threading.RLock()


class Memo:
    """All that is known of one decorated function in this process."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        namespace: str,
        ttl: object,
        name: str | None,
        version: str | None,
        key: Callable[..., object] | None,
        ignore: Collection[str],
        cache_if: Callable[[Any], object] | None,
        tags: Tags,
        stale: object,
        stale_if_error: object,
        early: float,
        soft_timeout: object,
        hard_timeout: object,
        maxsize: object,
        maxbytes: object,
        evict: Eviction,
        near: object,
        compress: Compression,
        on_error: OnError,
        shards: int,
        cache: Cache | None,
    ) -> None:
        self.function = function
        self.namespace = namespace
        self.name = name
        self.version = version
        self.key = key
        self.cache_if = cache_if
        self.ttl = ttl
        self.policy = None if ttl is None or ttl is LEFT_OUT else as_policy(ttl)
        self.given_tags = tags
        if callable(tags) and not is_plain_function(tags):
            raise ConfigurationError("tags= takes strings, or a plain function of the finished call that returns them")
        self.tags: Callable[[Call], object] | tuple[bytes, ...] = tags if callable(tags) else tag_tokens(tags)
        self.stale = some_duration("stale", stale) or 0.0
        self.stale_if_error = some_duration("stale_if_error", stale_if_error) or 0.0
        self.early = checked_early(early)
        self.ages = bool(self.stale or self.stale_if_error or self.early)
        self.patience = some_duration("soft_timeout", soft_timeout)
        self.limit = some_duration("hard_timeout", hard_timeout)
        if self.patience is not None and not self.stale_if_error:
            raise ConfigurationError(
                "soft_timeout= says when to serve an entry past its expiry instead; stale_if_error= has to keep one"
            )
        if self.patience is not None and self.limit is not None and self.patience >= self.limit:
            raise ConfigurationError("soft_timeout= has to be shorter than hard_timeout=")
        self.compress = compress
        self.on_error = on_error
        self.raises = on_error == "raise"
        self.given_bounds = (maxsize, maxbytes, evict)
        self.shards = shards
        self._prefixes: tuple[str, ...] = ()
        self.bounds = self.share = bounded(*self.given_bounds)
        if ttl is None and self.bounds:
            self.policy = as_policy(UNTIL_EVICTED)
        self.near = (limit := room(near)) and Near(limit)
        self.stats = Stats()
        self.stats.beside = self.near
        # Set by a `CacheDict` that shows these entries: seals a call's key for its list; says what callers get anyhow.
        self.key_in_mapping: Callable[[Any, str], bytes] | None = None
        self.without_store = "the call returns the function's own result"
        self.callkey = CallKey(function, key=key, ignore=ignore)
        self.waits = kind(function) == "async"  # others go on while a call asks the store
        self.ignore = tuple(ignore)
        self.bind = self.callkey.binder.bind
        self.given_cache = cache
        self._found: dict[str, str] = {}
        self._private = False
        self._follows: Touches | None = None
        self.notes: tuple[Callable[[str], None], ...] = ()  # one for each shard; none where nothing is bounded
        self._complained: dict[str, float] = {}
        # Said at decoration: what is wrong without looking at the code.
        for what, text in (("name", name), ("version", version)):
            given: object = text
            if given is not None and (not isinstance(given, str) or not given):
                raise ConfigurationError(f"{what}= takes a string that is not empty")
        shard_prefixes(key_prefix(namespace, name or "x", version or ""), shards)
        self.share = self.bounds.shared(shards)
        self._options: dict[str, Any] = {
            "namespace": namespace, "ttl": ttl, "name": name, "version": version, "key": key, "ignore": ignore,
            "cache_if": cache_if, "tags": tags, "stale": stale, "stale_if_error": stale_if_error, "early": early,
            "soft_timeout": soft_timeout, "hard_timeout": hard_timeout, "maxsize": maxsize, "maxbytes": maxbytes,
            "evict": evict, "near": near, "compress": compress, "on_error": on_error, "shards": shards, "cache": cache,
        }  # fmt: skip

    def __reduce__(self) -> Any:
        # cloudpickle takes the functions of a script by value (joblib, ray): elsewhere they are decorated anew. What
        # they are known by goes along, as their source does not; but not what only this process knows them by.
        prefix = self.prefix
        return _decorated_again, (self.function, self._options, None if self._private else prefix)

    @property
    def cache(self) -> Cache:
        """The cache given to the decorator, else the process-wide one of this moment."""
        return self.given_cache or default_cache()

    @property
    def engine(self) -> Engine:
        """What drives that cache's flows."""
        return (self.given_cache or default_cache()).engine

    @property
    def prefix(self) -> str:
        """What all keys begin with, but for the shard; found at first use, when the module is complete."""
        found = self._found.get("prefix")
        if found is None:
            # One thread at a time: several could find different ones (a closure's list that the function appends to),
            # and CPython 3.11's ast.parse fails in several threads at once (SystemError, gh-106905).
            with _finding:
                prefix = key_prefix(self.namespace, self._identity(), version_part(self.version, self.function))
                found = self._found.setdefault("prefix", prefix)
        return found

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What the keys of each shard begin with."""
        if not self._prefixes:
            self._prefixes = shard_prefixes(self.prefix, self.shards)
        return self._prefixes

    def prefix_of(self, digest: str) -> str:
        """What a call's keys begin with; by its digest outside of any moment."""
        return self.prefix if self.shards == 1 else self.prefixes[shard_of(digest, self.shards)]

    def _identity(self) -> str:
        try:
            return function_identity(self.function, self.name, ignore=self.ignore)
        except KeyingError as error:
            # Two such closures may differ in just what cannot be keyed (two accounts' clients), so this one shares
            # entries with nobody. That costs misses; a guess could cost a wrong answer.
            log.warning("redis_memo: entries of this function are not shared with other processes: %s", error)
            self._private = True
            return f"{self.shown}~{os.urandom(16).hex()}"

    @property
    def shown(self) -> str:
        """The function's name for messages."""
        return qualified_name(self.function)

    def complain(self, what: str, message: str, *, pause: float = COMPLAIN_EVERY) -> None:
        """Log a warning, but the same one again only after ``pause`` seconds."""
        now = time.monotonic()
        if what not in self._complained or now - self._complained[what] >= pause:
            self._complained[what] = now
            log.warning("redis_memo: %s: %s", self.shown, message)

    def info(self, used: ops.Used | None = None, everywhere: Mapping[str, float] | None = None) -> CacheInfo:
        """The counters, of this process if not of all, and how the server is."""
        self.follow()
        return info_of(
            self.stats.counted() if everywhere is None else everywhere,
            breaker=self.engine.backend.state,
            maxsize=self.bounds.maxsize or None,
            maxbytes=self.bounds.maxbytes or None,
            currsize=None if used is None else used.current,
            currbytes=None if used is None or used.entries is None else used.size,
        )

    def follow(self) -> None:
        """Have the cache tell the store of what is used and counted from now on."""
        engine = self.engine
        if self._follows is not engine.touches:
            self.bounds = bounded(*self.given_bounds, engine.settings.limits.get(self.namespace))
            if self.bounds.evict != "lru" and not self.bounds:
                bounds = "maxsize=, maxbytes= or limits of its namespace"
                self.complain("evict", f"evict={self.bounds.evict!r} does nothing without {bounds}", pause=math.inf)
            self.share = self.bounds.shared(self.shards)
            self.notes = engine.touches.join(self.namespace, self.prefixes, self.share, self.stats)
            self._follows = engine.touches

    def note(self, digest: str, plain: str) -> None:
        """Note that an entry was used, by its digest and by its call's outside of any moment."""
        notes = self.notes
        if notes:
            (notes[0] if self.shards == 1 else notes[shard_of(plain, self.shards)])(digest)

    def failed(self, error: StoreError) -> None:
        """Count and report a failed operation; raises it where the user asked for that."""
        self.stats.add("errors")
        if self.raises:
            raise error
        self.complain("store", f"{error}; {self.without_store}")

    def check_lifetime(self) -> None:
        """Say now what `lifetime` would, where it is known already whose default counts.

        Raises:
            ConfigurationError: There is no expiry.
        """
        if self.given_cache or chosen_cache():
            self.lifetime()

    def lifetime(self) -> TTLPolicy:
        """The function's own expiry policy, else the configured one.

        Raises:
            ConfigurationError: There is neither.
        """
        if self.policy is not None:
            return self.policy
        if self.ttl is None:
            if self.namespace in self.engine.settings.limits:
                return as_policy(UNTIL_EVICTED)
            msg = "ttl=None needs maxsize= or maxbytes=, or limits of its namespace: else nothing removes an entry"
            raise ConfigurationError(f"{self.shown}: {msg}")
        ttl = self.engine.settings.ttl
        if ttl is None:
            raise ConfigurationError(
                f"{self.shown}: ttl= is left out and configure(ttl=...) was not called: every entry needs an expiry"
            )
        return as_policy(ttl)


def _decorated_again(function: Callable[..., Any], options: dict[str, Any], prefix: str | None) -> Memo:
    memo = Memo(function, **options)
    if prefix is not None:
        memo._found["prefix"] = prefix  # noqa: SLF001
    return memo


def _after_fork() -> None:
    global _finding  # noqa: PLW0603 - a thread of the parent's may have held it
    _finding = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
