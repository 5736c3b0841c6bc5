"""A world of several processes around the model store, in which every step is somebody's choice.

Callers run the core's own flows. Each operation on the store, each begin and end of a computation, each crash and each
passing of time is one step; between two steps anybody may go first. `explore` walks all schedules of a small program to
a depth, `wander` takes random ones; both return the steps of the first that breaks a promise, as a story.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from redis_memo import _core as core
from redis_memo import _ops as ops

from .model import FakeClock, ModelStore

PLACE = ops.Place("memo:{model:f:#0}:", "ab" * 20, b"argument")
LEASE, TTL, MAX_WAIT = 10.0, 1000.0, 60.0


class Violation(AssertionError):
    """A promise was broken."""


class Crowd(Exception):
    """What the function raises when it is told to."""


@dataclass
class World:
    """Everything that the actors share."""

    clock: FakeClock = field(default_factory=FakeClock)
    version: int = 0  # what the upstream source says now
    floor: int = 0  # the oldest version that a call starting now may return
    running: int = 0
    computed: int = 0
    disturbed: bool = False  # by a crash, an invalidation or a failure: P4 promises one computation without these
    story: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = ModelStore(self.clock)
        self.ears: list[Ear] = []

    def publish(self) -> None:
        for ear in self.ears:
            ear.heard = True


class Ear:
    """A subscription."""

    def __init__(self, world: World) -> None:
        self.world, self.heard = world, False
        world.ears.append(self)

    def close(self) -> None:
        if self in self.world.ears:
            self.world.ears.remove(self)


@dataclass
class Process:
    """What dies together."""

    name: str
    flights: dict[bytes, list[Any]] = field(default_factory=dict)
    dead: bool = False
    tokens: int = 0


class FlowSpec:
    """The plainest `core.Spec`: an envelope is the version in bytes."""

    lease, max_wait = LEASE, MAX_WAIT

    def unseal(self, entry: str, envelope: bytes) -> int:
        return int(envelope)

    hit = unseal

    def seal(self, place: ops.Place, computed: ops.Computed, now: float) -> ops.Sealed:
        return ops.Sealed(str(computed.value).encode(), TTL)

    def miss(self) -> None: ...
    def failed(self, error: Exception) -> None: ...
    def unreadable(self, error: Exception) -> None: ...
    def refused(self) -> None: ...


class Actor:
    """One caller: a flow, and what it waits for."""

    def __init__(self, world: World, process: Process, name: str, make: Callable[[], ops.Flow]) -> None:
        self.world, self.process, self.name, self.make = world, process, name, make
        self.flow: ops.Flow | None = None
        self.waiting: Callable[[], bool] | None = None
        self.until: float | None = None
        self.pending: Any = None
        self.result: Any = None
        self.done = False
        self.floor = 0
        self.token: tuple[ops.Place, bytes] | None = None

    def enabled(self) -> bool:
        if self.done or self.process.dead:
            return False
        if self.waiting is None:
            return True
        return self.waiting() or (self.until is not None and self.world.clock.now >= self.until)

    def step(self) -> None:
        if self.flow is None:
            self.flow = self.make()
            self.floor = self.world.floor
            self.say("begins")
            self.advance(lambda flow: flow.send(None))
        elif self.waiting is not None:
            self.waiting, answer = None, self.pending
            self.until = None
            self.advance(lambda flow: flow.send(answer() if callable(answer) else answer))
        else:
            self.perform(self.op)

    def advance(self, go: Callable[[ops.Flow], Any]) -> None:
        assert self.flow is not None
        try:
            self.op = go(self.flow)
        except StopIteration as stop:
            self.done, self.result = True, stop.value
            self.say(f"returns {stop.value!r}")

    def wait(self, for_what: Callable[[], bool], answer: Any, seconds: float | None = None) -> None:
        self.waiting, self.pending = for_what, answer
        self.until = None if seconds is None else self.world.clock.now + seconds

    def say(self, what: str) -> None:
        self.world.story.append(f"{self.world.clock.now - 1.7e9:7.1f}s  {self.process.name}.{self.name:12} {what}")

    def perform(self, op: Any) -> None:
        world, flights = self.world, self.process.flights
        if isinstance(op, ops.Clock):
            self.advance(lambda flow: flow.send(world.clock.now))
        elif isinstance(op, ops.TakeToken):
            self.process.tokens += 1
            token = f"{self.process.name}{self.process.tokens}".encode()
            flights[token] = []
            self.advance(lambda flow: flow.send(token))
        elif isinstance(op, ops.Held):
            self.advance(lambda flow: flow.send(frozenset()))
        elif isinstance(op, ops.Land):
            flight = flights.pop(op.token, None)
            if flight is not None:
                flight.append(op.result)
            self.advance(lambda flow: flow.send(None))
        elif isinstance(op, ops.Join):
            flight = flights.get(op.token)
            if flight is None:
                self.advance(lambda flow: flow.send(None))
            else:
                self.say("joins the flight in its process")
                self.wait(lambda: bool(flight), lambda: flight[0] if flight else None, op.seconds)
        elif isinstance(op, ops.Listen):
            ear = Ear(world)
            self.say("listens")
            self.advance(lambda flow: flow.send(ear))
        elif isinstance(op, ops.Wait):
            self.say("waits")
            ear = op.subscription

            def heard() -> bool:
                return ear.heard

            def woken() -> None:
                ear.heard = False

            self.wait(heard, woken, op.seconds)
        elif isinstance(op, ops.Compute):
            self.compute(op)
        else:
            answer = world.store.perform(op)
            self.say(f"{type(op).__name__} -> {getattr(answer, '__class__', type(answer)).__name__ if not isinstance(answer, (bool, int, bytes, type(None))) else answer}")
            if isinstance(op, (ops.Fill, ops.Put, ops.Release, ops.Drop, ops.DropMatching)):
                world.publish()
            self.advance(lambda flow: flow.send(answer))

    def compute(self, op: ops.Compute) -> None:
        world, seen = self.world, self.world.version
        world.running += 1
        world.computed += 1
        self.say(f"begins to compute, sees version {seen}")
        if op.place is not None:
            self.token = op.place, op.token

        def finish() -> ops.Computed | ops.Raised:
            world.running -= 1
            self.token = None
            self.say("ends to compute")
            return ops.Computed(seen, 1.0)

        self.wait(lambda: True, finish)


Step = tuple[str, Callable[[], None]]


class Simulation:
    """One program: which actors there are, and what may happen besides."""

    def __init__(
        self,
        *,
        processes: int = 2,
        callers: int = 2,
        invalidations: int = 1,
        crashes: int = 0,
        lease_ends: int = 0,
        flow: Callable[..., ops.Flow] = core.read_through,
        drop: Callable[[], ops.Flow] | None = None,
        superseders: int = 0,
    ) -> None:
        self.world = World()
        self.processes = [Process(chr(ord("A") + number)) for number in range(processes)]
        self.crashes, self.lease_ends = crashes, lease_ends
        self.callers = [
            Actor(self.world, process, f"call{number}", lambda: flow(FlowSpec(), PLACE.entry, lambda: PLACE))
            for process in self.processes
            for number in range(callers)
        ]
        self.others: list[Actor] = []
        outside = Process("X")
        for number in range(invalidations):
            self.others.append(Invalidator(self.world, outside, f"invalidate{number}", drop or default_drop))
        for number in range(superseders):
            self.others.append(
                Actor(self.world, self.processes[0], f"refresh{number}", lambda: core.refresh(FlowSpec(), PLACE))
            )

    def choices(self) -> Iterator[Step]:
        for actor in [*self.callers, *self.others]:
            if actor.enabled():
                yield f"{actor.process.name}.{actor.name}", actor.step
        if self.crashes:
            for process in self.processes:
                if not process.dead and any(a.process is process and a.flow and not a.done for a in self.callers):
                    yield f"crash {process.name}", lambda process=process: self.crash(process)
        if self.lease_ends and self.world.store.leases:
            yield "lease ends", self.end_lease

    def crash(self, process: Process) -> None:
        self.crashes -= 1
        self.world.disturbed = True
        process.dead = True
        self.world.story.append(f"          {process.name} is killed")
        for actor in self.callers:
            if actor.process is process:
                self.world.running -= actor.token is not None

    def end_lease(self) -> None:
        """A holder that was stopped too long to renew."""
        self.lease_ends -= 1
        self.world.disturbed = True
        self.world.story.append("          the lease ends")
        for key, (token, _) in list(self.world.store.leases.items()):
            self.world.store.leases[key] = token, self.world.clock.now

    def renew(self) -> None:
        """Time passes: leases of living computations are renewed, the others run out."""
        store = self.world.store
        for actor in [*self.callers, *self.others]:
            if actor.token is not None and not actor.process.dead:
                place, token = actor.token
                store.perform(ops.Renew(place, token, LEASE))

    def run(self, choose: Callable[[list[str]], int], most: int = 400) -> None:
        for _ in range(most):
            choices = list(self.choices())
            if choices:
                _, step = choices[choose([name for name, _ in choices])]
                step()
                self.check_step()
                continue
            sleepers = [a.until for a in [*self.callers, *self.others] if a.until is not None and not (a.done or a.process.dead)]
            if not sleepers:
                break
            self.renew()
            self.world.clock.now = max(self.world.clock.now, min(sleepers))
        self.check_end()

    def check_step(self) -> None:
        for actor in self.callers:
            if actor.done and actor.result is not None and not isinstance(actor.result, ops.Raised):
                if actor.result < actor.floor:
                    raise Violation(
                        f"P3: {actor.process.name}.{actor.name} began after an invalidation that version {actor.floor} "
                        f"had followed, and got version {actor.result}"
                    )

    def check_end(self) -> None:
        stuck = [a for a in [*self.callers, *self.others] if not a.done and not a.process.dead]
        if stuck:
            raise Violation(f"P4: {stuck[0].process.name}.{stuck[0].name} never returned")
        if not self.world.disturbed and self.world.computed > 1:
            raise Violation(f"P4: computed {self.world.computed} times")
        held = self.world.store._live(self.world.store.leases, PLACE.entry)
        if held is not None and not any(process.dead for process in self.processes):
            raise Violation("P4: a lease was left behind")
        stored = self.world.store._live(self.world.store.entries, PLACE.entry)
        if stored is not None and int(stored) < self.world.floor:
            raise Violation(f"P3: version {int(stored)} is stored, after version {self.world.floor} was promised")


def default_drop() -> ops.Flow:
    return (yield ops.Drop(PLACE))


class Invalidator(Actor):
    """The source changes, then the entry is invalidated; when that has returned, the promise holds."""

    def step(self) -> None:
        if self.flow is None:
            self.world.version += 1
            self.world.disturbed = True
            self.mine = self.world.version
        super().step()
        if self.done:
            self.world.floor = max(self.world.floor, self.mine)


def explore(make: Callable[[], Simulation], most: int) -> tuple[int, list[str] | None]:
    """Walk schedules depth first, all of them or the first ``most``; return how many, and the story of a violation."""
    count = 0
    trail: list[list[int]] = []  # [chosen, of how many]
    while count < most:
        simulation = make()
        depth = 0

        def choose(names: list[str]) -> int:
            nonlocal depth
            if depth == len(trail):
                trail.append([0, len(names)])
            chosen = trail[depth][0]
            depth += 1
            return chosen

        count += 1
        try:
            simulation.run(choose)
        except Violation as violation:
            return count, [*simulation.world.story, str(violation)]
        del trail[depth:]
        while trail and trail[-1][0] + 1 == trail[-1][1]:
            trail.pop()
        if not trail:
            break
        trail[-1][0] += 1
    return count, None


def wander(make: Callable[[], Simulation], runs: int, seed: int) -> tuple[int, list[str] | None]:
    """Take random schedules; the seed replays them."""
    for number in range(runs):
        simulation, chance = make(), random.Random(f"{seed}:{number}")
        try:
            simulation.run(lambda names, chance=chance: chance.randrange(len(names)))
        except Violation as violation:
            return number + 1, [*simulation.world.story, str(violation), f"replay: seed {seed}, run {number}"]
    return runs, None
