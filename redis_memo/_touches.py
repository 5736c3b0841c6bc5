"""What this process tells the store behind its callers: which entries were used, and what was counted.

A hit appends its digest to a list in memory. A thread sends the lists every second or sooner, one round trip for each
function that was used; a full one at once. What is lost, with a killed process or a server that is away, is the
order in which a second's entries were used, and no more. After a fork the parent goes on with its lists and the child
begins with empty ones, so that nothing is told twice and a fork waits for no server.

The same thread finds entries again whose index was lost (`ops.Mend`), keeps namespaces within their limits, and notes
them as used (`_neighbours`).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
import sys
import threading
import time
import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, TypeVar

from . import _entries as entries
from . import _ops as ops
from ._bounds import NO_BOUNDS, Bounds
from ._drive import drive
from ._identity import registry
from ._near import near_of
from ._neighbours import noting
from ._wakeup import Wakeup
from .errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ._backend import Backend
    from ._bounds import Limits
    from ._events import Stats

__all__ = ["AT_EXIT", "Touches"]

log = logging.getLogger("redis_memo")

T = TypeVar("T")

FULL = 50, 1000  # uses that are noted before they are sent at once: a tenth of the entries, and no fewer and no more
KEPT = 20_000  # uses that are kept while the server is slow; older ones are dropped
AGED = 20  # parts of all entries; what is among the last one used need not be told once more (memcached bumps so)
TOGETHER = 16  # functions, or shards, told of by one exchange
SENT = 500  # entries told of by one script, so that the server is not held up
TOUCH_EVERY = 1.0  # seconds
TELL_EVERY = 10.0  # seconds between the counters of functions without bounds
SETTLE_AFTER = 100  # entries that this process stores in a namespace before its limits are looked after at once
AT_EXIT = 1.0  # seconds that the end of a process waits for the server
NOTE_EVERY = 600.0  # seconds between the notes of a namespace, which are good for an hour
NOTE_FOR = 0.5  # seconds that tidying up after others may take of a turn
TURN = 5.0  # seconds after which who looked after a namespace has died
ALWAYS = (1 << 53) - 1


class _Function:
    """One function's part, or that of one of its shards, by the prefix of its keys."""

    def __init__(self, namespace: str, prefix: str, hurry: Wakeup) -> None:
        self.hurry = hurry
        self.namespace = namespace
        self.prefix = prefix
        self.bounds: Bounds = NO_BOUNDS
        self.full = 0  # uses that are told at once; 0 where none are noted
        self.soon = False  # whether fewer are, as entries are evicted
        self.fills = 0  # entries that this process stored since it told of uses
        self.noted: deque[str] = deque(maxlen=KEPT)
        self.stats: weakref.WeakSet[Stats] = weakref.WeakSet()
        self.told = time.monotonic()
        self.age = 0
        self.young: set[str] = set()
        self.used = False  # whether some of those were
        self.pending: Counter[str] = Counter()

    def aged(self, ever: int) -> None:
        """So many entries were evicted: what was told a twentieth of all entries ago is to be told again."""
        age = ever // max(1, self.bounds.maxsize // AGED)
        if age != self.age:
            self.age = age
            self.young.clear()

    def note_order(self, digest: str) -> None:
        """Note one use, where only their order counts: every hit comes through here."""
        if digest in self.young:
            self.used = True
        else:
            self.note(digest)

    def note(self, digest: str) -> None:
        """Note one use, where each counts."""
        noted = self.noted
        noted.append(digest)
        if len(noted) >= self.full:
            self.hurry.set()

    def stored(self) -> None:
        """Note that an entry was stored, for which another goes: what is used here and not told of may be the next."""
        self.fills += 1
        # Near hits are counted by their entries, so of them is known only when they are told.
        if len(self.noted) + self.fills > self.full // 5:
            self.soon = True
            self.hurry.set()

    def take(self, *, whole: bool) -> tuple[dict[str, int], bool]:
        """How often entries were used, in the order of their last use; and whether there was any, told or not."""
        noted: list[str] = []
        with contextlib.suppress(IndexError):  # another thread tells it too
            noted.extend(itertools.islice(iter(self.noted.popleft, None), len(self.noted)))
        if self.bounds.evict == "lru":
            untold = set(noted) - self.young  # mostly there are none
            order = [digest for digest in dict.fromkeys(reversed(noted)) if digest in untold] if untold else []
            used = bool(noted) or self.used
            if whole:
                self.used = False
            return dict.fromkeys(reversed(order), 1), used
        uses = Counter(noted)
        order = list(dict.fromkeys(reversed(noted)))[::-1]
        if whole:  # each use counts, though not at once
            pending, self.pending = self.pending, Counter()
            order = [*(pending.keys() - uses.keys()), *order]
            uses += pending
        else:
            self.pending.update({digest: uses[digest] for digest in order if digest in self.young})
            order = [digest for digest in order if digest not in self.young]
        return {digest: uses[digest] for digest in order}, bool(noted)

    def evicted(self, number: int) -> None:
        """Count entries that this process evicted, with one of those that go by the prefix."""
        stats = next(iter(self.stats), None)
        if stats is not None:
            stats.add("evictions", number)


class Touches:
    """Tells one server of uses and counters; one thread, started with the first function that is called.

    Args:
        backend: The server.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._functions: dict[str, _Function] = {}
        self._lock = threading.RLock()  # as that of `Leases`
        self._hurry = Wakeup()
        self._thread: threading.Thread | None = None
        self._mends: dict[str, ops.Mend] = {}
        self._stored: dict[str, int] = {}
        self._limits: dict[str, Limits] = {}
        self._noted: dict[str, float] = {}  # namespaces, and when

    def join(
        self, namespace: str, prefixes: tuple[str, ...], bounds: Bounds, stats: Stats
    ) -> tuple[Callable[[str], None], ...]:
        """Look after a function from now on.

        Args:
            namespace: Its namespace.
            prefixes: Of its keys, one for each shard. Several functions may have the same.
            bounds: What the entries of each shard are kept within.
            stats: Its counters; what they hold already is not told. What they count goes with whichever shard is told
                of next: it is the sum over all shards that counts.

        Returns:
            For each shard what notes the digest of an entry that was used; none where nothing is bounded.
        """
        with self._lock:
            stats.untold()
            shards = [self._joined(namespace, prefix, bounds, stats) for prefix in prefixes]
            if bounds.limits is not None:
                self._limits[namespace] = bounds.limits
            self._start()
            if not bounds:
                return ()
            return tuple(shard.note_order if bounds.evict == "lru" else shard.note for shard in shards)

    def _start(self) -> None:
        if self._thread is None:
            _tell_when_a_worker_ends(weakref.ref(self))
            work = functools.partial(_work, weakref.ref(self), self._hurry)
            thread = threading.Thread(target=work, name="redis_memo touches", daemon=True)
            with contextlib.suppress(RuntimeError):  # no more threads: what is stored next tries again
                thread.start()
                self._thread = thread

    def _joined(self, namespace: str, prefix: str, bounds: Bounds, stats: Stats) -> _Function:
        found = self._functions.setdefault(prefix, _Function(namespace, prefix, self._hurry))
        found.bounds = bounds
        # What is known late must not be late by much of what there is: the kept entries would not be the last used.
        found.full = min(max(bounds.maxsize // 10, FULL[0]), FULL[1]) if bounds else 0
        found.stats.add(stats)
        return found

    def kept(self, op: ops.Fill | ops.Put, answer: bool | ops.Kept) -> bool:
        """What the store answered, without what is ours: evictions are counted, and what else it asks for is begun."""
        if self._thread is None:
            with self._lock:
                self._start()
        if isinstance(answer, bool):
            return answer
        self._heed(op.place.prefix, op.place.bounds, answer)
        function = self._functions.get(op.place.prefix)
        if function is not None and function.full:
            function.stored()
        if function is not None and function.bounds.limits is not None:
            stored = self._stored[function.namespace] = self._stored.get(function.namespace, 0) + 1
            if stored >= SETTLE_AFTER:
                self._hurry.set()
        return answer.answer

    def _heed(self, prefix: str, bounds: Bounds, answer: ops.Kept) -> None:
        function = self._functions.get(prefix)
        if function is not None:
            function.aged(answer.ever)
            if answer.evicted:
                function.evicted(answer.evicted)
        if answer.mend:
            self._mends[prefix] = ops.Mend(prefix, bounds)
            self._hurry.set()

    # Telling.

    def telling(self, prefix: str, *, whole: bool = True) -> ops.Flow:
        """The flow that tells the store all there is of one function; or at least what changes its order of use."""
        function = self._functions.get(prefix)
        if function is None:
            return
        if function.bounds:
            for near in near_of(prefix):
                function.noted.extend(near.visited(prefix))
        uses, noted = function.take(whole=whole)
        if not whole and not uses:
            return
        with self._lock:
            known = list(function.stats)
        taken = [(stats, stats.take()) for stats in known]
        counted: dict[str, float] = {}
        for _, each in taken:
            for name, amount in each.items():
                counted[name] = counted.get(name, 0) + amount
        order = list(uses)
        if whole:
            function.told = time.monotonic()
        try:
            for at in range(0, max(len(order), 1 if counted or noted else 0), SENT):
                some = {digest: uses[digest] for digest in order[at : at + SENT]}
                answer = yield ops.Touch(prefix, function.bounds, some, counted)
                taken, counted = [], {}
                function.young.update(some)
                self._heed(prefix, function.bounds, answer)
        finally:
            for stats, each in taken:
                stats.give_back(each)

    def tell(self, seconds: float | None = None, *, last: bool = False) -> None:
        """Tell the store all that there is, unless it does not answer or that takes too long; ``last``: at the end."""
        if last and self._functions:
            self._backend.breaker.quiet = True  # nobody calls any more who would want to know
        deadline = None if seconds is None else time.monotonic() + seconds
        for some in _few(self._functions):
            if self._away() or (deadline is not None and time.monotonic() > deadline):
                return
            with contextlib.suppress(StoreError):  # recency is lost, and no counter
                drive(entries.side_by_side(map(self.telling, some)), self._perform)
        self._note_namespaces(math.inf if deadline is None else deadline)

    def _note_namespaces(self, until: float) -> None:
        now = time.monotonic()
        used = dict.fromkeys(function.namespace for function in list(self._functions.values()))
        due = [namespace for namespace in used if now - self._noted.get(namespace, -math.inf) >= NOTE_EVERY]
        for some in _few(due):
            if self._away() or time.monotonic() > until:
                return
            self._noted.update(dict.fromkeys(some, now))
            with contextlib.suppress(StoreError):
                drive(entries.side_by_side(noting(namespace, until) for namespace in some), self._perform)

    def _perform(self, op: Any) -> Any:
        return self._backend.perform_many(op.ops) if type(op) is ops.Together else self._backend.perform(op)

    def _away(self) -> bool:
        """Whether the server does not answer."""
        return self._backend.breaker.state != "closed"

    # The thread.

    def _pause(self) -> float:
        if self._mends:
            return 0.0
        return TOUCH_EVERY if any(function.bounds for function in list(self._functions.values())) else TELL_EVERY / 2

    def _turn(self) -> None:
        if self._away():
            self._mends.clear()  # another claims them when their time is over
            return
        for prefix, mend in list(self._mends.items()):
            del self._mends[prefix]
            with contextlib.suppress(StoreError):  # of one node, perhaps: so for those that follow
                mended = self._backend.perform(mend)
                if prefix in self._functions:
                    self._functions[prefix].evicted(mended.evicted)
                if mended.following is not None:
                    self._mends[prefix] = mended.following
        now = time.monotonic()
        due: list[tuple[_Function, bool]] = []
        for function in list(self._functions.values()):
            since = now - function.told
            if (
                function.soon
                or len(function.noted) >= function.full
                or since >= (TOUCH_EVERY / 2 if function.bounds else TELL_EVERY)
            ):
                whole, function.soon, function.fills = since >= TOUCH_EVERY / 2, False, 0
                due.append((function, whole))
        for some in _few(due):
            with contextlib.suppress(StoreError):
                flows = [self.telling(function.prefix, whole=whole) for function, whole in some]
                drive(entries.side_by_side(flows), self._perform)
        for function, _ in due:
            if not function.stats and not function.noted:
                self._functions.pop(function.prefix, None)  # a closure that is gone
        for namespace, stored in list(self._stored.items()):
            with contextlib.suppress(StoreError):
                if stored and drive(settling(namespace, self._limits[namespace], self._count), self._perform):
                    self._stored[namespace] -= stored
        self._note_namespaces(time.monotonic() + NOTE_FOR)

    def _count(self, prefix: str, evicted: int) -> None:
        if prefix in self._functions:
            self._functions[prefix].evicted(evicted)


def _tell_when_a_worker_ends(found: weakref.ref[Touches]) -> None:
    # A forked process of multiprocessing's runs its own finalizers at its end, and not the functions of atexit.
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _tell_the_rest, (found,), exitpriority=0)


def _tell_the_rest(found: weakref.ref[Touches]) -> None:
    touches = found()
    if touches is not None:
        touches.tell(AT_EXIT, last=True)


def _work(of: weakref.ref[Touches], hurry: Wakeup) -> None:
    """What the thread does: it ends with the cache that it works for, and so does not hold it between its turns."""
    while (touches := of()) is not None:
        pause = touches._pause()  # noqa: SLF001
        del touches
        hurry.wait(pause)
        touches = of()
        if touches is not None:
            try:
                touches._turn()  # noqa: SLF001
            except Exception:
                log.exception("redis_memo: telling of uses and counters failed, and is tried again")


def settling(namespace: str, limits: Limits, count: Any) -> ops.Flow:
    """Keep a namespace within its limits: what was used longest ago goes, of whichever function it is.

    Its functions lie in as many slots, so this is a merge of their orders by the servers' clocks: from the one whose
    next entry is the oldest, as long as it is. False where another process does it now.
    """
    listed = registry(namespace)
    if not (yield ops.TakeTurn(listed, TURN)):
        return False
    prefixes = yield ops.Enrolled(listed)
    answers = yield from entries.together([ops.Usage(prefix) for prefix in prefixes])
    used: dict[str, ops.Used] = dict(zip(prefixes, answers, strict=True))
    number = sum(each.entries or 0 for each in used.values()) - (limits.maxsize or ALWAYS)
    size = sum(each.size for each in used.values()) - (limits.size or ALWAYS)
    ages = {prefix: each.oldest for prefix, each in used.items() if each.oldest is not None}
    while ages and (number > 0 or size > 0):
        prefix = min(ages, key=lambda each: ages[each])
        others = min((age for each, age in ages.items() if each != prefix), default=ALWAYS)
        trimmed = yield ops.Trim(prefix, max(number, 0), max(size, 0), max(others, ages[prefix]))
        count(prefix, trimmed.evicted)
        number -= trimmed.entries
        size -= trimmed.size
        if trimmed.oldest is None or not trimmed.entries:
            del ages[prefix]
        else:
            ages[prefix] = trimmed.oldest
    yield ops.TakeTurn(listed, 0.0)
    return True


def _few(given: Iterable[T]) -> Iterator[list[T]]:
    """What is told together, so that no server is held up."""
    left = list(given)
    for at in range(0, len(left), TOGETHER):
        yield left[at : at + TOGETHER]
