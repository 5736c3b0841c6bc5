"""One decorated function, and one call of it: what the core's flows need to know, none of it I/O."""

from __future__ import annotations

import functools
import logging
import math
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from . import _core as core
from . import _ops as ops
from ._cache import Cache, default_cache
from ._call import CallKey
from ._codecs import dumps, loads
from ._envelope import Stamp
from ._events import Stats
from ._identity import function_identity, key_prefix, version_part
from ._source import qualified_name
from .errors import ConfigurationError, KeyingError, RedisMemoError, StoreError, UnreadableEntry, UnsupportedType
from .ttl import Call, TTLPolicy, as_policy, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ._config import Compression, OnError

__all__ = ["Invocation", "Memo"]

log = logging.getLogger("redis_memo")

LARGEST = 512 * 1024 * 1024 - 1024  # Redis' default proto-max-bulk-len, less the protocol's own bytes
COMPLAIN_EVERY = 60.0


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
        compress: Compression,
        on_error: OnError,
        cache: Cache | None,
    ) -> None:
        self.function = function
        self.namespace = namespace
        self.name = name
        self.version = version
        self.ignore = tuple(ignore)
        self.key = key
        self.cache_if = cache_if
        self.policy = None if ttl is None else as_policy(ttl)
        self.compress = compress
        self.on_error = on_error
        self.stats = Stats()
        self.callkey = CallKey(function, key=key, ignore=ignore)
        self.bind = self.callkey.binder.bind
        self._cache = cache
        self._prefix: str | None = None
        self._complained: dict[str, float] = {}
        # What can be wrong without looking at the code is said at decoration.
        for what, text in (("name", name), ("version", version)):
            given: object = text
            if given is not None and (not isinstance(given, str) or not given):
                raise ConfigurationError(f"{what}= takes a string that is not empty")
        key_prefix(namespace, name or "x", version or "")
        self._options: dict[str, Any] = {
            "namespace": namespace, "ttl": ttl, "name": name, "version": version, "key": key, "ignore": ignore,
            "cache_if": cache_if, "compress": compress, "on_error": on_error, "cache": cache,
        }  # fmt: skip

    def __reduce__(self) -> Any:
        # cloudpickle takes the functions of a script by value (joblib, ray): elsewhere they are decorated anew.
        return functools.partial(Memo, **self._options), (self.function,)

    @property
    def cache(self) -> Cache:
        """The cache given to the decorator, else the process-wide one of this moment."""
        return self._cache or default_cache()

    @property
    def prefix(self) -> str:
        """What all keys of this function begin with; found at first use, when the module is complete."""
        if self._prefix is None:
            self._prefix = key_prefix(self.namespace, self._identity(), version_part(self.version, self.function))
        return self._prefix

    def _identity(self) -> str:
        try:
            return function_identity(self.function, self.name, ignore=self.ignore)
        except KeyingError as error:
            # Two such closures may differ in just what cannot be keyed (two accounts' clients), so this one shares
            # entries with nobody. That costs misses; a guess could cost a wrong answer.
            log.warning("redis_memo: entries of this function are not shared with other processes: %s", error)
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

    @property
    def raises(self) -> bool:
        """Whether the user wants failures raised."""
        return self.on_error == "raise"

    def lifetime(self) -> TTLPolicy:
        """The function's own expiry policy, else the configured one.

        Raises:
            ConfigurationError: There is neither.
        """
        if self.policy is not None:
            return self.policy
        ttl = self.cache.settings.ttl
        if ttl is None:
            raise ConfigurationError(
                f"{self.shown}: ttl= is left out and configure(ttl=...) was not called: every entry needs an expiry"
            )
        return as_policy(ttl)


class Invocation:
    """One call: the `core.Spec` of its flow."""

    __slots__ = ("args", "digest", "kwargs", "lease", "max_wait", "memo", "values")

    def __init__(self, memo: Memo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.memo = memo
        self.args = args
        self.kwargs = kwargs
        self.values = memo.bind(*args, **kwargs)
        self.digest = memo.callkey.digest(self.values, args, kwargs)
        settings = memo.cache.settings
        self.lease = settings.lease
        self.max_wait = settings.max_wait

    @property
    def entry(self) -> str:
        """Key of the call's entry."""
        return self.memo.prefix + self.digest

    def locate(self) -> ops.Place:
        """Where the entry lives, with the tokens of the arguments."""
        return ops.Place(self.memo.prefix, self.digest, b"".join(self.memo.callkey.tokens(self.values)))

    def compute(self) -> Any:
        """Run the function; a coroutine where it is an ``async def``."""
        return self.memo.function(*self.args, **self.kwargs)

    def flow(self) -> ops.Flow:
        """The flow of a plain call."""
        self._check()
        return core.read_through(self, self.entry, self.locate)

    def refreshing(self) -> ops.Flow:
        """The flow of ``refresh``."""
        self._check()
        return core.refresh(self, self.locate())

    def storing(self, value: object) -> ops.Flow:
        """The flow of ``store``."""
        self._check()
        return core.store(self, self.locate(), value)

    def _check(self) -> None:
        if self.memo.policy is None:
            self.memo.lifetime()  # that there is none is said before the work is done, not after

    def unseal(self, entry: str, envelope: bytes) -> Any:
        """See `core.Spec`; so for those that follow."""
        opened = self.memo.cache.sealer.open(entry, envelope)
        return loads(opened.meta, opened.buffers, trusted=opened.trusted)

    def hit(self, entry: str, envelope: bytes) -> Any:
        """As `unseal`, counted as a hit."""
        opened = self.memo.cache.sealer.open(entry, envelope)
        value = loads(opened.meta, opened.buffers, trusted=opened.trusted)
        self.memo.stats.hit(opened.stamp.compute)
        return value

    def miss(self) -> None:
        """Count a miss."""
        self.memo.stats.add("misses")

    def refused(self) -> None:
        """Count a result that was not stored."""
        self.memo.stats.add("refused")

    def failed(self, error: StoreError) -> None:
        """Count and report a failed operation; raises it where the user asked for that."""
        self.memo.stats.add("errors")
        if self.memo.raises:
            raise error
        self.memo.complain("store", f"{error}; the call returns the function's own result")

    def unreadable(self, error: UnreadableEntry) -> None:
        """Count and report an entry that could not be read."""
        self.memo.stats.add("unreadable")
        self.memo.complain("unreadable", f"an entry could not be read ({error}) and is computed anew")

    def seal(self, place: ops.Place, computed: ops.Computed, now: float) -> ops.Sealed | None:
        """The envelope of a result, or None where it cannot be encoded."""
        memo = self.memo
        ttl = self._ttl(computed, now)
        sealer = memo.cache.sealer
        try:
            payload = dumps(computed.value, allow_pickle=sealer.may_pickle)
        except UnsupportedType as error:
            way_out = "" if sealer.may_pickle else " (REDIS_MEMO_SECRET or configure(secret=...) sets one)"
            self._not_stored("type", error, f"{error}{way_out}. The result is returned, not stored")
            return None
        until = now + ttl
        try:
            envelope, saved = sealer.seal(
                place.entry,
                payload.meta,
                payload.buffers,
                pickled=payload.pickled,
                stamp=Stamp(now, computed.seconds, until, until),
                tokens=place.tokens,
                compress=memo.compress,
            )
        except MemoryError:
            self._not_stored("memory", None, "not enough memory to encode the result; it is returned, not stored")
            return None
        if len(envelope) > LARGEST:
            self._not_stored("size", None, "the result is too large for one Redis string (512 MB) and is not stored")
            return ops.Sealed(envelope, 0.0)
        if ttl > 0:
            memo.stats.add("bytes_stored", len(envelope))
            memo.stats.add("bytes_saved", saved)
        return ops.Sealed(envelope, ttl)

    def _ttl(self, computed: ops.Computed, now: float) -> float:
        """Seconds to keep the result; 0 for not at all. What the user's own functions raise costs no result."""
        memo = self.memo
        try:
            if memo.cache_if is not None and not memo.cache_if(computed.value):
                memo.stats.add("refused")
                return 0.0
            call = Call(
                function=memo.shown,
                arguments=memo.callkey.binder.arguments(self.values),
                value=computed.value,
                now=datetime.fromtimestamp(now, UTC),
                started=datetime.fromtimestamp(now - computed.seconds, UTC),
            )
            ttl = resolve(memo.lifetime(), call)
        except Exception as error:  # noqa: BLE001 - a user's cache_if or policy may raise anything
            # Its text may quote the value: only a configuration error's is known not to.
            said = str(error) if isinstance(error, RedisMemoError) else f"it raised {type(error).__name__}"
            self._not_stored("policy", error, f"cache_if= or ttl= failed ({said}); the result is returned, not stored")
            return 0.0
        if ttl <= 0:
            memo.stats.add("refused")
        return ttl

    def _not_stored(self, what: str, error: Exception | None, message: str) -> None:
        self.memo.stats.add("refused")
        if error is not None and self.memo.raises:
            raise error
        # What a function's type of result cannot do lies in the code, and is said once; the rest may come and go.
        self.memo.complain(what, message, pause=math.inf if what == "type" else COMPLAIN_EVERY)
