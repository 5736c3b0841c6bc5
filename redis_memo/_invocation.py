"""One call of a decorated function: what the core's flows need to know of it, none of it I/O."""

from __future__ import annotations

import math
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any

from . import _clock as clock
from . import _core as core
from . import _entries as entries
from . import _ops as ops
from ._as_of import call_token, moment_digest, moment_token
from ._codecs import dumps, loads
from ._codecs_rules import type_name
from ._envelope import LARGEST, Stamp
from ._failure_notes import seal_failure, unseal_failure
from ._function import COMPLAIN_EVERY
from ._keys_walk import LEAVES
from ._large import Bytes, Envelope, Large
from ._policy import Call, TTLPolicy, resolve
from ._spec import Filling, Look, Standing
from ._survey import FIRST, Columns, some_columns
from ._tags import tag_tokens
from .errors import ComputeTimeout, RedisMemoError, StoreError, UnreadableEntry, UnsupportedType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._function import Memo

__all__ = ["Invocation"]

LONGEST = 512 * 1024 * 1024 - 1024  # Redis' default proto-max-bulk-len, less the protocol's own bytes
REST_MOST = 30.0  # seconds; FusionCache's default between retries of a function that fails
IMMUTABLE = LEAVES.keys() - {bytearray} | {datetime, time}


class Invocation:
    """One call: the `core.Spec` of its flow; ``plain`` is its digest outside of any moment, if that is known."""

    first = FIRST
    __slots__ = (
        "ages", "altered", "args", "behind", "digest", "engine", "exposed", "kwargs", "lease", "limit", "max_wait",
        "memo", "moment", "patience", "plain", "policy", "sealing", "values",
    )  # fmt: skip
    exposed: bool  # whether others may change the arguments between the key and the run of the function
    behind: bool  # whether the caller itself may
    altered: bool  # whether anybody has
    sealing: float  # seconds that it took; not there before, so that hits need not set it

    def __init__(
        self,
        memo: Memo,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        policy: TTLPolicy | None = None,
        plain: str | None = None,
    ) -> None:
        self.memo = memo
        self.policy = policy or memo.policy  # one entry's own expiry, else the function's
        self.args = args
        self.kwargs = kwargs
        self.values = memo.bind(*args, **kwargs)
        self.digest = self.plain = plain or memo.callkey.digest(self.values, args, kwargs)
        self.moment = clock.moment()
        if self.moment is not None:
            self.digest = moment_digest(self.plain, self.moment)
        self.engine = memo.engine
        settings = self.engine.settings
        self.lease = settings.lease
        self.max_wait = settings.max_wait
        self.ages = memo.ages or clock.is_set()  # a test's clock goes ahead of the server's expiry
        self.patience = memo.patience
        self.limit = memo.limit
        self.exposed = memo.waits
        self.behind = self.altered = False

    @property
    def entry(self) -> str:
        """Key of the call's entry."""
        return self.memo.prefix_of(self.plain) + self.digest

    @property
    def function(self) -> str:
        """What its runs are counted by."""
        return self.memo.prefix

    def locate(self) -> ops.Place:
        """Where the entry lives, with the tokens of the arguments and of the tags that are known beforehand."""
        memo = self.memo
        tags = (ops.UNTAGGED,) if callable(memo.tags) else memo.tags
        own = () if self.moment is None else (moment_token(self.moment), call_token(self.plain))
        tokens = b"".join((*memo.callkey.tokens(self.values), *own, *tags))
        return ops.Place(memo.prefix_of(self.plain), self.digest, tokens, memo.share)

    def compute(self) -> Any:
        """Run the function; a coroutine where it is an ``async def``."""
        if self.exposed:
            self.begin()
        return self.memo.function(*self.args, **self.kwargs)

    def begin(self) -> None:
        """Look at the arguments once more, as the function is about to be run with them."""
        if not self.behind:  # looked at before, and afterwards
            self.altered = self._differs()

    def leave(self) -> None:
        """See `Spec`; so for those that follow."""
        self.behind = True

    def changed(self) -> bool:
        """Whether the arguments are not those of the key; counted and reported."""
        if self.behind and not self.altered:
            self.altered = self._differs()
        if self.altered:
            when = "while the call waited, or while the function ran behind its caller"
            said = f"an argument was changed {when}; what came of it is not stored. Pass a copy, or change it later"
            self._not_stored("arguments", None, said)
        return self.altered

    def _differs(self) -> bool:
        callkey = self.memo.callkey
        counted = callkey.direct
        if counted is None:
            given = (*self.args, *self.kwargs.values(), *callkey.binder.defaults.values())
        else:
            given = tuple([self.values[at] for at in counted])
        if _immutable(given):
            return False
        try:
            return callkey.digest(self.values, self.args, self.kwargs) != self.plain
        except Exception:  # noqa: BLE001 - what could be keyed before cannot be now; a user's key= may raise anything
            return True

    def flow(self) -> ops.Flow:
        """The flow of a plain call."""
        self._check()
        return core.read_through(self, self.entry, self.locate)

    def looking_up(self, missing: object) -> ops.Flow:
        """The flow of a call that has no function to run."""
        self.memo.follow()
        return entries.lookup(self, self.entry, missing)

    def refreshing(self) -> ops.Flow:
        """The flow of ``refresh``."""
        self._check()
        return core.refresh(self, self.locate())

    def storing(self, value: object) -> ops.Flow:
        """The flow of ``store``."""
        self._check()
        return entries.store(self, self.locate(), value)

    def _check(self) -> None:
        self.memo.follow()
        if self.policy is None:
            self.memo.lifetime()  # that there is none is said before the work is done, not after

    def filling(self) -> Filling | None:
        """What this process may keep of the entry."""
        return None

    def hit(self, entry: str, envelope: Envelope) -> Any:
        """The value in an envelope."""
        memo = self.memo
        opened = self.engine.sealer.open(entry, envelope)
        value = loads(opened.meta, opened.buffers, trusted=opened.trusted)
        memo.stats.hit(opened.stamp.compute)
        if memo.notes:
            memo.note(self.digest, self.plain)
        return value

    def look(self, entry: str, envelope: Envelope, now: float, chance: float) -> Look:
        """An envelope opened, and what it is good for."""
        memo = self.memo
        opened = memo.engine.sealer.open(entry, envelope)
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
        return Columns(self.memo.engine.sealer, entry, start, names)

    def whole(self, value: Any, names: Sequence[object]) -> Any:
        """Some columns of a frame that is here."""
        return some_columns(value, names)

    def serve(self, look: Look) -> Any:
        """Its value, counted as a hit."""
        self.memo.stats.hit(look.seconds, stale=look.stale)
        self.memo.note(self.digest, self.plain)
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
        """What to raise where the function took too long; from now on it runs behind its caller."""
        self.leave()
        return ComputeTimeout(
            f"{self.memo.shown} took longer than its time limit of {seconds:g} s; it goes on, and is stored when done"
        )

    def not_begun(self) -> Exception:
        """Report that too many runs that nobody waits for any more go on; what to raise."""
        most = self.engine.settings.workers
        said = f"not run, as {most} or more runs that its callers gave up still go on (workers={most})"
        said += "; give what it waits for a time limit of its own"
        self.memo.complain("given up", said)
        return ComputeTimeout(f"{self.memo.shown}: {said}")

    def seal_failure(self, entry: str, error: Exception) -> bytes:
        """What the function raised, sealed like a value; empty where it cannot be carried."""
        return seal_failure(self.memo.engine.sealer, entry, error)

    def unseal_failure(self, entry: str, note: bytes) -> Exception | None:
        """What the function raised elsewhere, or None where that cannot be told."""
        return unseal_failure(self.memo.engine.sealer, entry, note)

    def miss(self) -> None:
        """Count a miss."""
        self.memo.stats.add("misses")

    def stored(self, sealed: ops.Sealed) -> None:
        """Count a result that is in the store now."""
        self.memo.stats.add("bytes_stored", len(sealed.envelope))
        self.memo.stats.add("bytes_saved", sealed.saved)

    def refused(self) -> None:
        """Count a result that was not stored, and say so where no invalidation need have been the reason."""
        self.memo.stats.add("refused")
        sealing = getattr(self, "sealing", 0.0)
        # Renewed at each third, the lease has two thirds of its time at least when sealing begins.
        if sealing >= self.lease * 2 / 3:
            said = f"encoding the result took {sealing:.1f} s, and its lease of {self.lease:g} s ended meanwhile"
            self.memo.complain("lease", f"{said}; it is returned, not stored. A longer lease= of the cache helps")

    def failed(self, error: StoreError) -> None:
        """See `Memo.failed`."""
        self.memo.failed(error)

    def unreadable(self, error: UnreadableEntry) -> None:
        """Count and report an entry that could not be read."""
        self.memo.stats.add("unreadable")
        self.memo.complain("unreadable", f"an entry could not be read ({error}) and counts as a miss")

    def seal(self, place: ops.Place, computed: ops.Computed, now: float) -> ops.Sealed | None:
        """The envelope of a result, or None where it cannot be encoded, or is of other arguments."""
        if self.altered:
            return None
        memo = self.memo
        soft, tokens = self._terms(place, computed, now)
        ttl = soft + max(memo.stale, memo.stale_if_error) if soft > 0 else 0.0
        sealer = memo.engine.sealer
        try:
            small = memo.compress == "small"
            payload = dumps(computed.value, allow_pickle=sealer.may_pickle, as_it_lies=not small)
            key = b"" if memo.key_in_mapping is None else memo.key_in_mapping(self, place.entry)
        except UnsupportedType as error:
            way_out = " (REDIS_MEMO_SECRET or configure(secret=...) sets one)" if error.secret_helps else ""
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
        except Exception as error:  # noqa: BLE001 - libraries compress: whatever they raise, the result is there
            name = type_name(type(computed.value))
            said = f"a value of type {name} could not be compressed ({type(error).__name__})"
            failure = UnsupportedType(said, type_name=name)
            failure.__cause__ = error
            self._not_stored("compression", failure, f"{said}. The result is returned, not stored")
            return None
        if (envelope.size if isinstance(envelope, Large) else len(envelope)) > LONGEST:
            # Its buffers lie in chunks of their own; what is left is a structure of very many small objects.
            self._not_stored("size", None, "the result is too large for one Redis string (512 MB) and is not stored")
            return ops.Sealed(envelope, 0.0)
        if 0 < memo.share.largest < len(envelope):
            of = "all" if memo.shards == 1 else "all of its shard"
            said = f"the result has {len(envelope):,} bytes stored, more than maxbytes={memo.share.largest:,} for {of}"
            self._not_stored("bounds", None, f"{said}; it is returned, not stored")
            return ops.Sealed(envelope, 0.0)
        self.sealing = clock.now() - now
        return ops.Sealed(envelope, ttl, tokens, key, saved)

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
            call = self.finished(computed.value, now, max(computed.seconds, computed.ran))
            ttl = resolve(self.policy or memo.lifetime(), call)
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


def _immutable(values: Iterable[object]) -> bool:
    """Whether nobody can have changed them."""
    for value in values:
        kind = type(value)
        if kind not in IMMUTABLE and not (kind is tuple and _immutable(value)):  # type: ignore[arg-type]
            return False
    return True
