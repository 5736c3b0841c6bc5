"""One decorated function, and one call of it: what the core's flows need to know, none of it I/O."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from . import _clock as clock
from . import _core as core
from . import _entries as entries
from . import _ops as ops
from ._as_of import call_token, moment_digest, moment_token
from ._call import CallKey
from ._codecs import dumps, loads
from ._config import is_plain_function
from ._default import default_cache
from ._durations import duration
from ._envelope import LARGEST, Stamp
from ._events import CacheInfo, Stats
from ._identity import function_identity, key_prefix, shard_prefixes, version_part
from ._large import Bytes, Envelope, Large
from ._policy import Call, TTLPolicy, as_policy, resolve
from ._source import qualified_name
from ._spec import Look, Standing
from ._survey import FIRST, Columns, some_columns
from ._tags import Tags, tag_tokens
from .errors import (
    ComputeTimeout,
    ConfigurationError,
    KeyingError,
    RedisMemoError,
    StoreError,
    UnreadableEntry,
    UnsupportedType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from ._cache import Cache
    from ._config import Compression, OnError

__all__ = ["Invocation", "Memo"]

log = logging.getLogger("redis_memo")

LONGEST = 512 * 1024 * 1024 - 1024  # Redis' default proto-max-bulk-len, less the protocol's own bytes
COMPLAIN_EVERY = 60.0
REST_MOST = 30.0  # seconds; FusionCache's default between retries of a function that fails
LARGEST_NOTE = 64 * 1024
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
        compress: Compression,
        on_error: OnError,
        shards: int,
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
        self.given_tags = tags
        if callable(tags) and not is_plain_function(tags):
            raise ConfigurationError("tags= takes strings, or a plain function of the finished call that returns them")
        self.tags: Callable[[Call], object] | tuple[bytes, ...] = tags if callable(tags) else tag_tokens(tags)
        self.stale = _duration("stale", stale) or 0.0
        self.stale_if_error = _duration("stale_if_error", stale_if_error) or 0.0
        self.early = _early(early)
        self.ages = bool(self.stale or self.stale_if_error or self.early)
        self.patience = _duration("soft_timeout", soft_timeout)
        self.limit = _duration("hard_timeout", hard_timeout)
        if self.patience is not None and not self.stale_if_error:
            raise ConfigurationError(
                "soft_timeout= says when to serve an entry past its expiry instead; stale_if_error= has to keep one"
            )
        if self.patience is not None and self.limit is not None and self.patience >= self.limit:
            raise ConfigurationError("soft_timeout= has to be shorter than hard_timeout=")
        self.compress = compress
        self.on_error = on_error
        self.shards = shards
        self._prefixes: tuple[str, ...] = ()
        self.stats = Stats()
        self.callkey = CallKey(function, key=key, ignore=ignore)
        self.bind = self.callkey.binder.bind
        self._cache = cache
        self._found: dict[str, str] = {}
        self._private = False
        self._complained: dict[str, float] = {}
        # Said at decoration: what is wrong without looking at the code.
        for what, text in (("name", name), ("version", version)):
            given: object = text
            if given is not None and (not isinstance(given, str) or not given):
                raise ConfigurationError(f"{what}= takes a string that is not empty")
        shard_prefixes(key_prefix(namespace, name or "x", version or ""), shards)
        self._options: dict[str, Any] = {
            "namespace": namespace, "ttl": ttl, "name": name, "version": version, "key": key, "ignore": ignore,
            "cache_if": cache_if, "tags": tags, "stale": stale, "stale_if_error": stale_if_error, "early": early,
            "soft_timeout": soft_timeout, "hard_timeout": hard_timeout, "compress": compress, "on_error": on_error,
            "shards": shards, "cache": cache,
        }  # fmt: skip

    def __reduce__(self) -> Any:
        # cloudpickle takes the functions of a script by value (joblib, ray): elsewhere they are decorated anew. What
        # they are known by goes along, as their source does not; but not what only this process knows them by.
        prefix = self.prefix
        return _decorated_again, (self.function, self._options, None if self._private else prefix)

    @property
    def cache(self) -> Cache:
        """The cache given to the decorator, else the process-wide one of this moment."""
        return self._cache or default_cache()

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
        return self.prefix if self.shards == 1 else self.prefixes[int(digest[:8], 16) % self.shards]

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

    def info(self, currsize: int | None = None) -> CacheInfo:
        """The counters, and how the server is."""
        return self.stats.info(self.cache.backend.state, currsize)

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


def _decorated_again(function: Callable[..., Any], options: dict[str, Any], prefix: str | None) -> Memo:
    memo = Memo(function, **options)
    if prefix is not None:
        memo._found["prefix"] = prefix  # noqa: SLF001
    return memo


class Invocation:
    """One call: the `core.Spec` of its flow."""

    first = FIRST
    __slots__ = (
        "ages", "args", "digest", "kwargs", "lease", "limit", "max_wait", "memo", "moment", "patience", "plain",
        "values",
    )  # fmt: skip

    def __init__(self, memo: Memo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.memo = memo
        self.args = args
        self.kwargs = kwargs
        self.values = memo.bind(*args, **kwargs)
        self.digest = self.plain = memo.callkey.digest(self.values, args, kwargs)
        self.moment = clock.moment()
        if self.moment is not None:
            self.digest = moment_digest(self.plain, self.moment)
        settings = memo.cache.settings
        self.lease = settings.lease
        self.max_wait = settings.max_wait
        self.ages = memo.ages or clock.is_set()  # a test's clock goes ahead of the server's expiry
        self.patience = memo.patience
        self.limit = memo.limit

    @property
    def entry(self) -> str:
        """Key of the call's entry."""
        return self.memo.prefix_of(self.plain) + self.digest

    def locate(self) -> ops.Place:
        """Where the entry lives, with the tokens of the arguments and of the tags that are known beforehand."""
        memo = self.memo
        tags = (ops.UNTAGGED,) if callable(memo.tags) else memo.tags
        own = () if self.moment is None else (moment_token(self.moment), call_token(self.plain))
        tokens = b"".join((*memo.callkey.tokens(self.values), *own, *tags))
        return ops.Place(memo.prefix_of(self.plain), self.digest, tokens)

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
        return entries.store(self, self.locate(), value)

    def _check(self) -> None:
        if self.memo.policy is None:
            self.memo.lifetime()  # that there is none is said before the work is done, not after

    def hit(self, entry: str, envelope: Envelope) -> Any:
        """See `Spec`; so for those that follow."""
        opened = self.memo.cache.sealer.open(entry, envelope)
        value = loads(opened.meta, opened.buffers, trusted=opened.trusted)
        self.memo.stats.hit(opened.stamp.compute)
        return value

    def look(self, entry: str, envelope: Envelope, now: float, chance: float) -> Look:
        """An envelope opened, and what it is good for."""
        memo = self.memo
        opened = memo.cache.sealer.open(entry, envelope)
        stamp = opened.stamp
        standing = self.standing(stamp, now, chance)
        if standing is Standing.OVER:
            return Look(None, standing, stale=True, rest=0.0, envelope=envelope, seconds=0.0)
        value = loads(opened.meta, opened.buffers, trusted=opened.trusted)
        # A function that fails is not asked more often than one that does not.
        rest = min(max(stamp.fresh_until - stamp.created, 0.1), REST_MOST)
        return Look(value, standing, now >= stamp.fresh_until, rest, envelope, stamp.compute)

    def standing(self, stamp: Stamp, now: float, chance: float) -> Standing:
        """What an entry is good for, by its age."""
        memo = self.memo
        past = now - stamp.fresh_until
        if clock.is_set() and stamp.created > now:  # a test's clock was put back before it was made
            return Standing.OVER
        if past < 0:
            # XFetch (Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB '15),
            # begun by one compute time sooner: it runs behind the callers and is to be done before the expiry.
            soon = memo.early and past + stamp.compute * (1.0 - memo.early * math.log(chance)) >= 0
            return Standing.DUE if soon else Standing.FRESH
        if past < memo.stale:
            return Standing.DUE
        return Standing.FALLBACK if past < memo.stale_if_error else Standing.OVER

    def columns(self, entry: str, start: Bytes, names: Sequence[object]) -> Columns:
        """An entry that is read in parts, for some columns."""
        return Columns(self.memo.cache.sealer, entry, start, names)

    def whole(self, value: Any, names: Sequence[object]) -> Any:
        """Some columns of a frame that is here."""
        return some_columns(value, names)

    def serve(self, look: Look) -> Any:
        """Its value, counted as a hit."""
        self.memo.stats.hit(look.seconds, stale=look.stale)
        return look.value

    def rescue(self, look: Look) -> Any:
        """Its value, for a call that ran the function in vain."""
        self.memo.stats.add("stale_hits")
        self.memo.complain("rescue", "the function failed or took too long; calls get the last result, past its expiry")
        return look.value

    def refreshed(self) -> None:
        """Count a run of the function behind its callers."""
        self.memo.stats.add("refreshes")

    def refresh_failed(self, error: BaseException) -> None:
        """Report that such a run failed; by its type, as the text may quote an argument."""
        if isinstance(error, Exception):
            self.memo.complain("refresh", f"a run behind its callers failed with {type(error).__name__}")

    def late(self, seconds: float) -> Exception:
        """What to raise where the function took too long."""
        return ComputeTimeout(
            f"{self.memo.shown} took longer than its time limit of {seconds:g} s; it goes on, and is stored when done"
        )

    def seal_failure(self, entry: str, error: Exception) -> bytes:
        """What the function raised, sealed like a value; empty where it cannot be carried."""
        sealer = self.memo.cache.sealer
        try:
            # A copy without its traceback, which would keep every frame's variables.
            payload = dumps(error, allow_pickle=sealer.may_pickle)
            stamp = Stamp(time.time(), 0.0, 0.0, 0.0)
            note, _ = sealer.seal(
                entry + ops.FAILED.decode(), payload.meta, payload.buffers, pickled=payload.pickled, stamp=stamp
            )
        except (UnsupportedType, MemoryError, RecursionError):
            return b""
        return note if isinstance(note, bytes) and len(note) <= LARGEST_NOTE else b""

    def unseal_failure(self, entry: str, note: bytes) -> Exception | None:
        """What the function raised elsewhere, or None where that cannot be told."""
        sealed = note.removeprefix(ops.FAILED)
        try:
            opened = self.memo.cache.sealer.open(entry + ops.FAILED.decode(), sealed)
            error = loads(opened.meta, opened.buffers, trusted=opened.trusted)
        except UnreadableEntry:
            return None
        return error if isinstance(error, Exception) else None

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
        soft, tokens = self._terms(place, computed, now)
        ttl = soft + max(memo.stale, memo.stale_if_error) if soft > 0 else 0.0
        sealer = memo.cache.sealer
        try:
            payload = dumps(computed.value, allow_pickle=sealer.may_pickle)
        except UnsupportedType as error:
            way_out = "" if sealer.may_pickle else " (REDIS_MEMO_SECRET or configure(secret=...) sets one)"
            self._not_stored("type", error, f"{error}{way_out}. The result is returned, not stored")
            return None
        size = len(payload.meta) + sum(map(len, payload.buffers))
        if size > LARGEST:
            said = f"the result has {size / 1e9:.1f} GB encoded, and up to {LARGEST / 1e9:.1f} GB are stored"
            self._not_stored("size", None, said)
            return None
        try:
            envelope, saved = sealer.seal(
                place.entry,
                payload.meta,
                payload.buffers,
                kinds=payload.kinds,
                pickled=payload.pickled,
                stamp=Stamp(now, computed.seconds, now + soft, now + ttl),
                tokens=tokens,
                compress=memo.compress,
            )
        except MemoryError:
            self._not_stored("memory", None, "not enough memory to encode the result; it is returned, not stored")
            return None
        if (envelope.size if isinstance(envelope, Large) else len(envelope)) > LONGEST:
            # Its buffers lie in chunks of their own; what is left is a structure of very many small objects.
            self._not_stored("size", None, "the result is too large for one Redis string (512 MB) and is not stored")
            return ops.Sealed(envelope, 0.0)
        if ttl > 0:
            memo.stats.add("bytes_stored", len(envelope))
            memo.stats.add("bytes_saved", saved)
        return ops.Sealed(envelope, ttl, tokens)

    def _terms(self, place: ops.Place, computed: ops.Computed, now: float) -> tuple[float, bytes]:
        """Seconds for which the result is fresh, 0 for not to be stored; and all tokens by which it is found.

        What the user's own functions raise costs no result.
        """
        memo = self.memo
        tokens = place.tokens
        try:
            if memo.cache_if is not None and not memo.cache_if(computed.value):
                memo.stats.add("refused")
                return 0.0, tokens
            call = self.finished(computed.value, now, computed.seconds)
            ttl = resolve(memo.lifetime(), call)
            if callable(memo.tags):
                tags = memo.tags(call)
                tokens = b"".join((tokens.removesuffix(ops.UNTAGGED), *tag_tokens(() if tags is None else tags)))
        except Exception as error:  # noqa: BLE001 - a user's cache_if, policy or tags may raise anything
            # Its text may quote the value: only a configuration error's is known not to.
            said = str(error) if isinstance(error, RedisMemoError) else f"it raised {type(error).__name__}"
            message = f"cache_if=, ttl= or tags= failed ({said}); the result is returned, not stored"
            self._not_stored("policy", error, message)
            return 0.0, tokens
        if ttl <= 0:
            memo.stats.add("refused")
        return ttl, tokens

    def finished(self, value: object, now: float, seconds: float) -> Call:
        """The call as policies and tags see it when it has returned a value."""
        # As of a moment, and by a test's clock, no time passes while the function runs.
        seen = now if self.moment is None else self.moment
        took = seconds if self.moment is None and not clock.is_set() else 0.0
        return Call(
            function=self.memo.shown,
            arguments=self.memo.callkey.binder.arguments(self.values),
            value=value,
            now=datetime.fromtimestamp(seen, UTC),
            started=datetime.fromtimestamp(seen - took, UTC),
        )

    def _not_stored(self, what: str, error: Exception | None, message: str) -> None:
        self.memo.stats.add("refused")
        if error is not None and self.memo.raises:
            raise error
        # What a function's type of result cannot do lies in the code, and is said once; the rest may come and go.
        self.memo.complain(what, message, pause=math.inf if what == "type" else COMPLAIN_EVERY)


def _duration(name: str, value: object) -> float | None:
    return None if value is None else duration(name, value)


def _early(value: object) -> float:
    """XFetch's beta: 1 is the paper's, more is earlier, 0 is never."""
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, (int, float)) or not 0.0 <= value <= 100.0:
        raise ConfigurationError("early= takes True, False or XFetch's beta: a number from 0 (never) to 100")
    return float(value)


def _after_fork() -> None:
    global _finding  # noqa: PLW0603 - a thread of the parent's may have held it
    _finding = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
