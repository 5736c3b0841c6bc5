"""Programs: small ones of which every schedule is walked, generated ones of each kind, and planted bugs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from redis_memo import _ops as ops

from .model import FakeClock, ModelStore
from .schedule_spec import DAY, INFY, MINUTE, TAGS, TCS, Program, Terms

CALL = ("call", 0)
STALE = Terms(stale=50.0)
RESCUED = Terms(stale_if_error=500.0)

# Every schedule of these is walked.
_SMALL = {
    "two callers in two processes": Program("", ((CALL,), (CALL,))),
    "two callers in one process": Program("", ((CALL, CALL),)),
    "three callers in two processes": Program("", ((CALL, CALL), (CALL,))),
    "two callers and an invalidation": Program("", ((CALL,), (CALL,), (("drop", 0),))),
    "one process and an invalidation": Program("", ((CALL, CALL), (("drop", 0),))),
    "two calls, an invalidation by argument": Program("", ((CALL,), (("call", 2),), (("match", INFY),))),
    "a tag that the result decides": Program("", ((CALL,), (CALL,), (("tag", TAGS[0]),)), terms=Terms(tagged=True)),
    "a caller is cancelled": Program("", ((CALL, CALL),), (("cancel", 1),)),
    "a caller is cancelled, another process": Program("", ((CALL,), (CALL,)), (("cancel", 1),)),
    "the function fails": Program("", ((CALL,), (CALL,)), (("raise", 1),)),
    "the function fails in a process of two": Program("", ((CALL, CALL),), (("raise", 1),)),
    "a process is killed": Program("", ((CALL,), (CALL,)), (("crash", 1),)),
    "a process is stopped, an invalidation": Program("", ((CALL,), (CALL,), (("drop", 0),)), (("freeze", 1),)),
    "an operation fails": Program("", ((CALL,), (CALL,)), (("fail", 1),)),
    "an operation fails, an invalidation": Program("", ((CALL,), (("drop", 0),)), (("fail", 1),)),
    "a push is lost": Program("", ((CALL,), (CALL,)), (("lose", 1),)),
    "a slow function": Program("", ((CALL, CALL),), (("jump", 2),)),
    "a refresh": Program("", ((CALL,), (("refresh", 0),))),
    "a refresh and an invalidation": Program("", ((("refresh", 0),), (CALL,), (("drop", 0),))),
    "a store and an invalidation": Program("", ((("store", 0),), (CALL,), (("drop", 0),))),
    "two callers on a stale entry": Program("", ((CALL,), (CALL,)), terms=STALE, start="stale"),
    "a stale entry and an invalidation": Program("", ((CALL,), (("drop", 0),)), terms=STALE, start="stale"),
    "a fallback and a failure": Program("", ((CALL,), (CALL,)), (("raise", 1),), RESCUED, "fallback"),
    "evicted while it is computed": Program(
        "", ((("refresh", 1),), (("call", 0),), (("match", TCS),)), terms=Terms(maxsize=2), start="fresh"
    ),
    "a time limit": Program("", ((CALL,), (CALL,)), (("jump", 1),), Terms(limit=5.0)),
    "a result that cannot be shared": Program("", ((CALL, CALL), (CALL,)), terms=Terms(kept="nothing")),
    "arguments that are changed": Program("", ((CALL, CALL),), (("change", 1),)),
    "arguments that are changed behind the caller": Program("", ((CALL,),), (("change", 1),), STALE, "stale"),
}
SMALL = {name: replace(program, kind=name) for name, program in _SMALL.items()}


def _parts(chance: random.Random, words: str, most: int, places: int) -> tuple[tuple[tuple[Any, ...], ...], ...]:
    """Actors in two to four processes; ``words`` are what they do, repeated by weight."""
    processes: list[list[tuple[Any, ...]]] = [[] for _ in range(chance.randint(2, 4))]
    kinds, actors = words.split(), []
    for _ in range(chance.randint(3, most)):
        kind = chance.choice(kinds)
        part: tuple[Any, ...] = (kind, chance.randrange(places))
        if kind == "match":
            part = kind, chance.choice((INFY, TCS, DAY, INFY + DAY, MINUTE))
        elif kind == "clear":
            part = (kind, 0)
        elif kind == "tag":
            part = kind, chance.choice(TAGS)
        if actors and chance.random() < 0.3:
            part = *part, chance.choice(actors)
        at = chance.randrange(len(processes))
        actors.append(f"{chr(ord('A') + at)}.{kind}{len(processes[at])}")
        processes[at].append(part)
    return tuple(map(tuple, processes))


CALLS = "call " * 4
MIXED = "call " * 8 + "drop drop match clear refresh store peek"
EVERY = ("crash", "freeze", "cancel", "fail", "raise", "lose", "refuse", "unbegun", "close", "luck", "stall", "change")


def _kind(name: str, words: str, faults: str = "", *, most: int = 6, places: int = 1,
          terms: Callable[[random.Random], Terms] = lambda _: Terms(), starts: str = "empty") -> None:  # fmt: skip
    def make(chance: random.Random) -> Program:
        wrong = tuple((kind, chance.randint(1, 3)) for kind in faults.split())
        parts = _parts(chance, words, most, places)
        return Program(name, parts, wrong, terms(chance), chance.choice(starts.split()))

    KINDS[name] = make


def _slow(chance: random.Random) -> Terms:
    patient = chance.choice((None, 3.0))
    return Terms(stale_if_error=500.0 if patient else 0.0, patience=patient, limit=chance.choice((5.0, 20.0)))


def _anything(chance: random.Random) -> Terms:
    return Terms(
        stale=chance.choice((0.0, 0.0, 50.0)), stale_if_error=chance.choice((0.0, 500.0)),
        early=chance.random() < 0.3, limit=chance.choice((None, None, 5.0)), tagged=chance.random() < 0.3,
        tellable=chance.random() < 0.7, kept=chance.choice(("stored",) * 5 + ("shared", "nothing")),
        raises=chance.random() < 0.2, large=chance.random() < 0.3, spread=chance.random() < 0.2, maxsize=chance.choice((0, 0, 1, 2)),
    )  # fmt: skip


KINDS: dict[str, Callable[[random.Random], Program]] = {}
_kind("calls", CALLS, most=8, places=2, starts="empty empty fresh")
_kind("invalidations", CALLS + "drop match clear", "stall", most=7, places=3, starts="empty fresh",
      terms=lambda c: Terms(large=c.random() < 0.3))  # fmt: skip
_kind("slow", CALLS + "drop", "jump stall", most=7, terms=lambda c: Terms(large=c.random() < 0.3))
_kind("failures", CALLS + "call drop", "raise jump", most=8,
      terms=lambda c: Terms(tellable=c.random() < 0.6, failing=c.choice(("", "", "A", "B", "ABCD"))))  # fmt: skip
_kind("spread", CALLS + "call drop", "raise jump", most=8,
      terms=lambda c: Terms(tellable=c.random() < 0.8, failing=c.choice(("A", "AB", "ABCD")), spread=True))  # fmt: skip
_kind("cancelled", CALLS + "drop refresh", "cancel jump", most=7)
_kind("killed", CALLS + "drop", "crash freeze jump stall", most=7)
_kind("outage", CALLS + "drop store refresh peek", "fail", places=2, terms=lambda c: Terms(raises=c.random() < 0.3))
_kind("pushes", CALLS + "drop", "lose", most=7, terms=lambda c: Terms(large=c.random() < 0.3))
_kind("given", CALLS + "store store refresh drop peek", "stall", most=7, places=2, starts="empty fresh")
_kind(
    "tagged", CALLS + "tag tag clear", "jump stall", places=2, terms=lambda _: Terms(tagged=True), starts="empty fresh"
)
_kind("stale", CALLS + "drop tag", "jump refuse", most=7, terms=lambda c: Terms(stale=50.0, tagged=c.random() < 0.3),
      starts="stale stale fresh")  # fmt: skip
_kind("stale crowd", CALLS, most=9, terms=lambda _: STALE, starts="stale")
_kind("stale_if_error", CALLS + "drop", "raise jump", most=7, terms=lambda _: RESCUED, starts="fallback fallback fresh")
_kind("early", CALLS + "drop", "luck", terms=lambda _: Terms(early=True), starts="fresh")
_kind("limits", CALLS + "drop refresh", "jump raise unbegun refuse", terms=_slow, starts="empty fallback")
_kind("not stored", CALLS + "call drop", "jump stall", most=7,
      terms=lambda c: Terms(kept=c.choice(("shared", "nothing", "nothing")), spread=c.random() < 0.2, limit=c.choice((None, None, 5.0))))  # fmt: skip
_kind("changed", CALLS + "refresh drop", "change raise jump", most=7, starts="empty stale",
      terms=lambda c: Terms(stale=c.choice((0.0, 50.0)), limit=c.choice((None, 5.0)), large=c.random() < 0.3))  # fmt: skip
_kind("bounded", CALLS + "store refresh match drop tag", "jump stall fail", most=8, places=3,
      terms=lambda c: Terms(maxsize=c.choice((1, 1, 2)), stale=c.choice((0.0, 50.0)), tagged=c.random() < 0.3),
      starts="empty fresh stale")  # fmt: skip
_kind("everything", MIXED + " tag", " ".join(EVERY) + " jump", most=9, places=3, terms=_anything,
      starts="empty fresh stale fallback")  # fmt: skip


# Planted bugs.


@dataclass(frozen=True)
class Plant:
    """One mistake, as a change to the flows or to the store, and the programs among which it is searched for."""

    kind: str
    flow: Callable[[ops.Flow, Any], ops.Flow] | None = None
    store: Callable[[FakeClock], ModelStore] | None = None
    lax_rally: bool = False
    blind: bool = False  # nobody looks whether arguments were changed
    eager: bool = False  # a subscription hears what was said before it


def _changed(change: Callable[[Any, Any], Iterator[Any] | None]) -> Callable[[ops.Flow, Any], ops.Flow]:
    """A flow some of whose operations are performed otherwise: ``change`` returns a flow to run instead, or None."""

    def wrap(flow: ops.Flow, actor: Any) -> ops.Flow:
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                op = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration as stop:
                return stop.value
            error = None
            try:
                instead = change(op, actor)
                answer = (yield op) if instead is None else (yield from instead)
            except BaseException as raised:
                error = raised

    return wrap


def _put(op: Any, actor: Any) -> Any:
    def puts() -> ops.Flow:
        yield ops.Put(op.place, op.envelope, op.ttl, op.tokens)
        return True

    return puts() if type(op) is ops.Fill else None


def _put_behind(op: Any, actor: Any) -> Any:
    return _put(op, actor) if actor.job is not None else None


def _nothing() -> ops.Flow:
    return None
    yield


def _no_revoke(op: Any, actor: Any) -> Any:
    def skipped() -> ops.Flow:
        return 0, False
        yield

    return skipped() if type(op) is ops.Revoke else None


def _silent_failure(op: Any, actor: Any) -> Any:
    return _nothing() if type(op) is ops.Land and isinstance(op.result, ops.Raised) else None


def _silent_uncacheable(op: Any, actor: Any) -> Any:
    """Its waiters are told nothing, and so ask again, one after the other."""

    def silent() -> ops.Flow:
        return (yield op._replace(result=None))

    return silent() if type(op) is ops.Land and isinstance(op.result, ops.Uncacheable) else None


def _released_uncacheable(op: Any, actor: Any) -> Any:
    def silent() -> ops.Flow:
        return (yield op._replace(note=ops.RELEASED))

    return silent() if type(op) is ops.Release and op.note.startswith(ops.UNCACHEABLE) else None


def _goes_on_waiting(op: Any, actor: Any) -> Any:
    """A waiter that asks again, whatever it was told."""

    def deaf() -> ops.Flow:
        answer = yield op
        return None if isinstance(answer, ops.Uncacheable) else answer

    return deaf() if type(op) is ops.Join else None


def _hears_nothing(op: Any, actor: Any) -> Any:
    def deaf() -> ops.Flow:
        return [note for note in (yield op) if not note.startswith(ops.UNCACHEABLE)]

    return deaf() if type(op) is ops.Wait else None


def _keeps_lease(op: Any, actor: Any) -> Any:
    return _nothing() if type(op) is ops.Release and op.note == ops.RELEASED else None


def _waits(op: Any, actor: Any) -> Any:
    def inline() -> ops.Flow:
        yield from op.flow
        return True

    return inline() if type(op) is ops.Spawn and not op.awaited else None


def _joins_by_key(flow: ops.Flow, actor: Any) -> ops.Flow:
    """Join whoever computes the entry in this process, without asking whether the lease stands."""
    answer: Any = None
    while True:
        try:
            op = flow.send(answer)
        except StopIteration as stop:
            return stop.value
        if type(op) is ops.TakeToken and actor.part[0] == "call":
            for running in list(actor.world.judge.running.values()):
                if running.actor.process is actor.process and running.entry == actor.spec.place.entry and running.token:
                    result = yield ops.Join(running.token, 60.0)
                    if isinstance(result, ops.Sealed):
                        return result.envelope.version
        answer = yield op


def _believes(flow: ops.Flow, actor: Any) -> ops.Flow:
    """Take every failure for that of whoever holds the lease."""
    answer: Any = None
    holder = b""
    while True:
        try:
            op = flow.send(answer)
        except StopIteration as stop:
            return stop.value
        answer = yield op
        if type(answer) is ops.Busy:
            holder = answer.holder
        elif type(op) is ops.Wait:
            answer = [
                b"%b%b:%b" % (ops.FAILED, holder, note.partition(b":")[2].partition(b":")[2])
                if note.startswith(ops.FAILED)
                else note
                for note in answer
            ]


class LeavesLease(ModelStore):
    def perform(self, op: Any) -> Any:
        leases = dict(self.leases)
        answer = super().perform(op)
        if isinstance(op, (ops.Drop, ops.DropMatching)):
            self.leases = leases
        return answer


class Careless(ModelStore):
    """A release that does not look whose lease it is."""

    def perform(self, op: Any) -> Any:
        if isinstance(op, ops.Release) and op.place.entry in self.leases:
            op = op._replace(token=self.leases[op.place.entry][0])
        return super().perform(op)


class Renewing(ModelStore):
    """A renewal that makes a lease where there is none."""

    def perform(self, op: Any) -> Any:
        if isinstance(op, ops.Renew) and self._live(self.leases, op.place.entry) is None:
            self.leases[op.place.entry] = op.token, self.clock.now + op.lease
        return super().perform(op)


class Forgetful(ModelStore):
    """An eviction that unlists what is being computed, too."""

    def _evict(self, prefix: str, keep: str | None) -> int:
        before = {*self.entries}
        gone = super()._evict(prefix, keep)
        for key in before - {*self.entries}:
            self._unlist(key)
        return gone


def _rallying(chance: random.Random) -> Program:
    """Failures that cannot be told, one after the other: what it takes for a process to run the function unleased."""
    later = ("call", 0, "D.drop0")
    parts = ((CALL, later), (CALL, later), (CALL, later), (("drop", 0, "A.call0~"),), (later,))
    return Program("rally", parts, (("jump", 1), ("stall", 2)), Terms(tellable=False, failing="BCE"))


def _overtaken(chance: random.Random) -> Program:
    """A waiter of one process is overtaken: by an invalidation, another waiter, and the next computation."""
    drop = ("drop", 0, chance.choice(("B.call0", "A.call0~")))
    parts = ((CALL, ("call", 0, "D.call0~")), (CALL,), (drop,), (("call", 0, "C.drop0"),))
    return Program("overtaken", parts, (("stall", 2),), Terms(large=chance.random() < 0.5))


def _evicted(chance: random.Random) -> Program:
    """An entry is evicted while it is computed anew, and then invalidated."""
    parts = ((("refresh", 1), ("call", 1)), (("call", 0),), (("match", chance.choice((TCS, DAY)), "B.call0"),))
    return Program("evicted", parts, (("stall", 2),), Terms(maxsize=2), "fresh")


KINDS["rally"], KINDS["overtaken"], KINDS["evicted"] = _rallying, _overtaken, _evicted
PLANTS = {
    "a fill without its token": Plant("invalidations", flow=_changed(_put)),
    "an invalidation that leaves the lease": Plant("invalidations", store=LeavesLease),
    "a flight joined whose lease stands no more": Plant("invalidations", flow=_joins_by_key),
    "a release that ends another's lease": Plant("failures", store=Careless),
    "a refresh behind that puts": Plant("stale", flow=_changed(_put_behind)),
    "tags invalidated without revoking": Plant("tagged", flow=_changed(_no_revoke)),
    "a computation joined that began too early": Plant("overtaken", lax_rally=True),
    "a push that was sent before its hearer came": Plant("overtaken", eager=True),
    "a renewal that makes a lease": Plant("slow", store=Renewing),
    "a failure believed whosever it is": Plant("spread", flow=_believes),
    "a failure that is not announced": Plant("failures", flow=_changed(_silent_failure)),
    "a lease kept by whoever was cancelled": Plant("cancelled", flow=_changed(_keeps_lease)),
    "an eviction that forgets what is computed": Plant("evicted", store=Forgetful),
    "a waiter that goes on waiting for what cannot be shared": Plant("not stored", flow=_changed(_goes_on_waiting)),
    "a waiter elsewhere that goes on waiting": Plant("not stored", flow=_changed(_hears_nothing)),
    "waiters that queue for what cannot be shared": Plant("not stored", flow=_changed(_silent_uncacheable)),
    "waiters elsewhere that are not told": Plant("not stored", flow=_changed(_released_uncacheable)),
    "arguments that nobody looks at again": Plant("changed", blind=True),
    "a stale entry whose reader waits": Plant("stale", flow=_changed(_waits)),
}
