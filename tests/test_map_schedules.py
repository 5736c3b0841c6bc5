"""Crowds of calls in every order: several processes map calls against the model store, one step at a time, at random.

What each call's flow does in every order is proven in `test_schedules`. Here it is the crowd that is tried: that it never
stops with something left to do, computes once what it should, and keeps P3 with an invalidation in the middle.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from redis_memo import _many
from redis_memo import _ops as ops
from redis_memo._core import read_through
from redis_memo._engine import WAITS
from redis_memo._many import Crowd
from redis_memo._many_ops import NO_HIT, Begin, Fetch, Launch, Report, Rest, Withdraw, Work
from redis_memo.errors import StoreUnavailable

from .faults import interrupted_at
from .model import FakeClock, ModelStore

PREFIX = "memo:{n:f}:"


class Interrupted(BaseException):
    """What ends a crowd."""


@dataclass
class World:
    """What all processes share: the store, the clock, and the source of what is computed."""

    chance: random.Random
    clock: FakeClock = field(default_factory=FakeClock)
    version: int = 0
    invalidated: int = 0  # the version that stood when the last invalidation began
    runs: Counter[int] = field(default_factory=Counter)
    stored: bool = True
    shared: bool = True
    flaky: bool = False
    plain: bool = True
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = ModelStore(self.clock)


class OneCall:
    """A call, as `_spec.Spec` and as `_many_ops.OneCall`."""

    lease, max_wait, ages, patience, first, limit = 10.0, 60.0, False, None, 0, None

    def __init__(self, world: World, x: int) -> None:
        self.world, self.x = world, x

    def flow(self) -> ops.Flow:
        place = ops.Place(PREFIX, str(self.x), b"")
        return read_through(self, place.entry, lambda: place)

    def compute(self) -> Any:
        self.world.runs[self.x] += 1
        return self.x, self.world.version

    def filling(self) -> None:
        return None

    def hit(self, entry: str, envelope: Any) -> Any:
        return envelope

    def seal(self, place: ops.Place, computed: ops.Computed, now: float) -> ops.Sealed | None:
        if not self.world.shared:
            return None
        return ops.Sealed(computed.value, 60.0 if self.world.stored else 0.0)

    def seal_failure(self, entry: str, error: Exception) -> bytes:
        return b""

    def changed(self) -> bool:
        return False

    def miss(self) -> None: ...
    def stored(self, sealed: Any) -> None: ...
    def refused(self) -> None: ...
    def failed(self, error: Exception) -> None: ...


class Hits:
    """As of `_many_ops.Hits`."""

    def __init__(self, calls: list[int]) -> None:
        self.calls = calls

    def entry(self, number: int) -> str:
        return f"{PREFIX}{self.calls[number]}"

    def values(self, entries: Collection[str], found: Mapping[str, Any]) -> list[Any]:
        answers = (found[entry] for entry in entries)
        return [NO_HIT if answer is None or isinstance(answer, Exception) else answer for answer in answers]


class Process:
    """Performs what one crowd asks for, as slowly as chance will have it."""

    def __init__(self, world: World, calls: list[int], workers: int, batch: int) -> None:
        self.world, self.calls, self.workers = world, calls, workers
        world.processes.append(self)
        self.crowd = Crowd(
            lambda number, _: OneCall(world, calls[number]),
            len(calls),
            hits=Hits(calls) if world.plain else None,
            workers=workers,
            batch=batch,
            clock=world.clock,
        )
        self.flow = self.crowd.run()
        self.since = world.invalidated
        self.flights: dict[bytes, list[Any]] = {}  # unfinished ones, and how those ended that somebody joined
        self.ended: dict[bytes, Any] = {}
        self.queued: list[Work] = []
        self.running: list[tuple[Work, list[Any]]] = []
        self.waits: list[Begin] = []
        self.came: list[tuple[int, Any]] = []
        self.interrupt = False
        self.resting = False
        self.results: list[Any] | None = None
        self.steps = self.go()

    def go(self) -> Iterator[None]:
        """One step after the other; others may do theirs in between."""
        told: Any = None
        error: BaseException | None = None
        while True:
            try:
                op = self.flow.send(told) if error is None else self.flow.throw(error)
            except StopIteration as stop:
                self.results = stop.value
                return
            except Interrupted:
                self.results = []
                return
            told, error = None, None
            if type(op) is ops.Together or type(op) is Fetch:
                told = []
                for each in (
                    op.ops if type(op) is ops.Together else map(ops.Read, op.entries)
                ):  # other processes' commands come in between
                    yield
                    if self.interrupt:
                        self.interrupt, error = False, Interrupted()
                        break
                    lost = self.world.flaky and self.world.chance.random() < 0.02
                    told.append(StoreUnavailable("") if lost else self.world.store.perform(each))
            elif type(op) is Work:
                self.queued.append(op)
            elif type(op) is Begin:
                self.waits.append(op)
            elif type(op) is Rest:
                self.resting = op.seconds is None
                while not self.came and not self.interrupt:
                    yield
                    if op.seconds is not None and self.world.chance.random() < 0.2:
                        self.world.clock.now += op.seconds
                        break
                self.resting = False
                if self.interrupt:
                    self.interrupt, error = False, Interrupted()
                told, self.came = self.came, []
            elif type(op) is Withdraw:
                self.queued.clear()
                self.running.clear()
                self.waits.clear()
                told, self.came = self.came, []
            elif type(op) not in (Report, Launch):
                told = self.local(op)

    def local(self, op: Any) -> Any:
        match op:
            case ops.Clock():
                return self.world.clock()
            case ops.Held():
                return frozenset()
            case ops.TakeToken():
                token = self.world.chance.randbytes(16).hex().encode()
                self.flights[token] = []
                return token
            case ops.Land(token, result, over):
                if over:
                    self.flights.pop(token, None)
                self.ended[token] = result
            case ops.Rally(_, token):
                return token

    def work(self) -> bool:
        """A worker begins or ends, or a wait ends; False where there is nothing to do but to wait."""
        chance = self.world.chance
        moves = []
        if self.queued and len(self.running) < self.workers:
            moves.append("begin")
        moves += ["end"] * bool(self.running) + ["wake"] * bool(self.waits)
        if not moves:
            return False
        move = chance.choice(moves)
        if move == "begin":
            work = self.queued.pop(0)
            self.running.append((work, [call.compute() for call in work.calls]))
        elif move == "end":
            work, values = self.running.pop(chance.randrange(len(self.running)))
            self.came += [(n, ops.Computed(value, 0.01)) for n, value in zip(work.numbers, values, strict=True)]
        else:
            self.wake(self.waits[chance.randrange(len(self.waits))])
        return True

    def renew(self) -> None:
        for work in [*self.queued, *(work for work, _ in self.running)]:
            for op in work.computes:
                if op.place is not None:
                    self.world.store.perform(ops.Renew(op.place, op.token, 10.0))

    def wake(self, begin: Begin) -> None:
        op = begin.op
        assert type(op) in WAITS
        if type(op) is ops.Join and op.token in self.flights and op.token not in self.ended:
            if self.world.chance.random() < 0.7:
                return
            answer: Any = ops.Late()
        elif type(op) is ops.Join:
            answer = self.ended.get(op.token)
        elif type(op) is ops.Listen:
            answer = self.world.store.subscribe("")
        else:
            answer = []  # asked again
            if self.world.flaky:  # a lease that could not be given back ends by itself
                self.world.clock.now += 0.05
                for each in self.world.processes:
                    each.renew()
        self.waits.remove(begin)
        self.came.append((begin.number, answer))


def together(world: World, processes: list[Process], events: list[Any]) -> None:
    """Run all to their ends."""
    for turn in range(400_000):
        live = [process for process in processes if process.results is None]
        if not live:
            return
        if events and world.chance.random() < 0.01:
            events.pop()()
        process = world.chance.choice(live)
        if world.chance.random() < 0.5:
            process.work()
        else:
            next(process.steps, None)
        stuck = process.resting and not (process.came or process.queued or process.running or process.waits)
        assert process.results is not None or process.interrupt or not stuck, f"stopped in turn {turn}"
    raise AssertionError("never ended")


def programs(seed: int) -> tuple[World, list[Process]]:
    world = World(random.Random(seed), plain=seed % 3 != 0)
    chance = world.chance
    processes = []
    for _ in range(chance.randint(1, 3)):
        calls = [chance.randrange(40) for _ in range(chance.randint(1, 60))]
        processes.append(Process(world, calls, chance.randint(1, 4), chance.choice([0, 0, 5, 50])))
    return world, processes


@pytest.mark.parametrize("seed", range(60))
def test_each_is_computed_once(seed: int) -> None:
    """P4, and an end; results that are not stored are shared within their crowd all the same, if they can be."""
    world, processes = programs(seed)
    world.stored, world.shared = seed % 3 > 0, seed % 6 > 0
    together(world, processes, [])
    for process in processes:
        assert [result[0] for result in process.results or []] == process.calls
        assert process.flights == {}
    wanted = Counter(x for process in processes for x in set(process.calls))
    most = Counter(set(wanted)) if world.stored else wanted
    if not world.shared:
        most = Counter(x for process in processes for x in process.calls)
    assert all(world.runs[x] <= most[x] for x in wanted), "computed more often than needed"
    assert world.store.leases == {}


@pytest.mark.parametrize("seed", range(100))
def test_invalidations_interrupts_and_lost_answers_in_the_middle(seed: int) -> None:
    """P3: a crowd that begins after an invalidation returns nothing older; P4: no lease is left by whoever was interrupted."""
    world, processes = programs(seed)
    chance = world.chance
    later: list[Process] = []

    def invalidate() -> None:
        world.version += 1
        version = world.version
        while world.store.perform(ops.DropMatching(PREFIX, b"", 500))[1]:
            pass
        world.invalidated = version
        process = Process(world, [chance.randrange(40) for _ in range(40)], chance.randint(1, 4), chance.choice([0, 7]))
        later.append(process)
        processes.append(process)

    def interrupt() -> None:
        chance.choice(processes).interrupt = True

    world.flaky, world.stored, world.shared = seed % 2 == 1, seed % 4 != 2, seed % 8 != 2
    together(world, processes, [interrupt, invalidate, interrupt, interrupt, invalidate, interrupt][: 2 + seed % 5])
    for process in processes:
        if process.results:
            assert [result[0] for result in process.results] == process.calls
    for process in later:
        assert all(version >= process.since for _, version in process.results or [])
    if seed % 2 == 0:
        assert world.store.leases == {}


@pytest.mark.parametrize("seed", range(12))
def test_an_interrupt_at_any_line_ends_a_crowd_and_leaves_no_lease(seed: int) -> None:
    """P4: it comes between two lines of the crowd's own, where nothing is asked of anybody."""
    for place in itertools.count(seed, 131):
        world, processes = programs(seed)
        error = Interrupted()
        interrupted_at(place, lambda: together(world, processes, []), _many.__file__, error)  # noqa: B023 - run at once
        assert world.store.leases == {}, place
        if error.__traceback__ is None:  # they ended before
            break
    assert place > 1000
