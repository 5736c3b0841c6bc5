"""Near hits under every order: real flows, a real `Near` and the real tracker's ears, on the model store.

Two processes. One has a near cache, callers and invalidations; the other has none, and invalidates. Each operation is
two steps, executed by the server and answered, each push that arrives is one, and so is a connection that is lost. A
scheduler chooses at random who goes next; what is promised is checked at every answer:

- after an invalidation of one's own returned, no call that starts later gets what was computed before it;
- the same after another process's, once its push was taken in, or the connection was lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from redis_memo import _core as core
from redis_memo import _entries as entries
from redis_memo import _near as near_module
from redis_memo import _ops as ops
from redis_memo._near import ELSEWHERE, Near, NearEntry, Room
from redis_memo._tracking import Tracker, _stem

from .model import FakeClock, ModelStore

PREFIX = "memo:{near:f:#0}:"
DIGESTS = ("0" * 40, "1" * 40)


class Broken(Exception):
    """A promise was."""


@dataclass
class Plant:
    """A mistake that the search has to find."""

    ticket: bool = True  # whether a fill asks for its ticket
    early: bool = True  # whether that is taken before the read
    own: bool = True  # whether one's own operations are applied
    pushes: bool = True  # whether pushes are
    lost: bool = True  # whether a lost connection drops


class Spec:
    """What a flow asks of a function whose value is the version of its source."""

    ages = False
    lease, max_wait, patience, limit = 10.0, 60.0, None, None

    def __init__(self, world: World, digest: str) -> None:
        self.world, self.digest = world, digest

    def filling(self) -> Any:
        world, near, digest = self.world, self.world.near, self.digest
        ticket = near.ticket(digest)
        if ticket is None and world.plant.ticket:
            return None

        class Filling:
            def take(self, value: int, envelope: Any, left: float) -> int:
                plain = ticket if world.plant.early else near.ticket(digest)
                if not world.plant.ticket:
                    plain = (near._generation, near._epochs[near_module._bucket(digest)])
                if plain is not None:
                    near.fill(
                        PREFIX + digest, plain, NearEntry(value, None, 1, deadline=9e9, seconds=0.0, tokens=b""), None
                    )
                return value

        return Filling()

    def hit(self, entry: str, envelope: Any) -> int:
        return int(envelope)

    def seal(self, place: ops.Place, computed: ops.Computed, now: float) -> ops.Sealed:
        return ops.Sealed(b"%d" % computed.value, 1e6, place.tokens)

    def seal_failure(self, entry: str, error: Exception) -> bytes:
        return b""

    def changed(self) -> bool:
        return False

    def miss(self) -> None: ...
    def stored(self, sealed: Any) -> None: ...
    def refused(self) -> None: ...
    def failed(self, error: Exception) -> None: ...
    def unreadable(self, error: Exception) -> None: ...


@dataclass
class Actor:
    """One caller or one invalidation."""

    name: str
    flow: Iterator[Any] | None
    own: bool  # of the process with the near cache
    digest: str
    kind: str
    least: int = 0
    version: int = 0
    op: Any = None
    answer: Any = None
    state: str = "new"
    reply: Any = None
    computed: int = field(default=0)


class World:
    """The model store, the process with its near cache, and whoever acts."""

    def __init__(self, seed: int, plant: Plant) -> None:
        self.random, self.plant = random.Random(seed), plant
        self.store = ModelStore(FakeClock())
        near_module._by_prefix.pop(PREFIX, None)  # the worlds before this one
        self.near = Near(Room(8, 1 << 20))
        self.tracker = Tracker(lambda: None, lambda: "", None)  # type: ignore[arg-type, return-value]
        self.near.attach((PREFIX,), self.tracker)
        self.tracker._stores.add(self.near)
        self.source = 0
        self.pipe: list[tuple[bytes | None, dict[str, int]]] = []
        self.least = dict.fromkeys(DIGESTS, 0)  # what a call that starts now must get at least
        self.done = dict.fromkeys(DIGESTS, 0)  # of all invalidations that the server executed
        self.connected = False
        self.tokens = 0
        self.actors = [self._actor(n) for n in range(self.random.randint(12, 24))]

    def _actor(self, number: int) -> Actor:
        own = self.random.random() < 0.7
        digest = self.random.choice(DIGESTS)
        kind = (
            self.random.choice(("call", "call", "call", "drop", "all")) if own else self.random.choice(("drop", "call"))
        )
        return Actor(f"{kind}{number}", None, own, digest, kind)

    # The steps.

    def options(self) -> list[Callable[[], None]]:
        found: list[Callable[[], None]] = []
        active = sum(actor.state in ("asked", "executed") for actor in self.actors)
        for actor in self.actors:
            if actor.state == "new" and (active >= 3 or actor is not next(a for a in self.actors if a.state == "new")):
                continue  # they come one after the other, a few at a time, so that something is kept by then
            step = {"new": self.start, "asked": self.execute, "executed": self.answer}.get(actor.state)
            if step is not None:
                found.append(lambda step=step, actor=actor: step(actor))
        if self.pipe:
            found.append(self.hear)
        if self.connected:
            if self.random.random() < 0.05:
                found.append(self.lose)
        else:
            found.append(self.connect)
        return found

    def start(self, actor: Actor) -> None:
        if actor.kind == "call":
            actor.least = self.least[actor.digest]
            value = self.near.find(actor.digest) if actor.own else ELSEWHERE
            if value is not ELSEWHERE:
                self.returned(actor, value)
                return
            place = ops.Place(PREFIX, actor.digest, b"")
            spec = Spec(self, actor.digest)
            if not actor.own:
                spec.filling = lambda: None  # type: ignore[method-assign]
            actor.flow = core.read_through(spec, place.entry, lambda: place)  # type: ignore[arg-type]
        else:
            self.source += 1
            actor.version = self.source
            if actor.kind == "drop":
                actor.flow = iter_one(ops.Drop(ops.Place(PREFIX, actor.digest, b"")))
            else:
                actor.flow = entries.drop_matching((PREFIX,), b"")
        self.advance(actor, None)

    def advance(self, actor: Actor, answer: Any) -> None:
        try:
            op = actor.flow.send(answer)  # type: ignore[union-attr]
            while True:
                kind = type(op)
                if kind is ops.Clock:
                    op = actor.flow.send(1.0)  # type: ignore[union-attr]
                elif kind is ops.TakeToken:
                    self.tokens += 1
                    op = actor.flow.send(b"%d" % self.tokens)  # type: ignore[union-attr]
                elif kind is ops.Land:
                    op = actor.flow.send(None)  # type: ignore[union-attr]
                elif kind is ops.Held:
                    op = actor.flow.send(frozenset())  # type: ignore[union-attr]
                elif kind is ops.Join:
                    op = actor.flow.send(None)  # type: ignore[union-attr]
                else:
                    break
        except StopIteration as stop:
            self.returned(actor, stop.value)
            return
        actor.op, actor.state = op, "asked"

    def execute(self, actor: Actor) -> None:
        op = actor.op
        kind = type(op)
        if kind is ops.Compute:
            actor.reply = ops.Computed(self.source, 0.0)
        elif kind is ops.Listen:
            actor.reply = self.store.subscribe("")
        elif kind is ops.Wait:
            actor.reply = []
        else:
            before = dict(self.store.entries)
            actor.reply = self.store.perform(op)
            if kind in (ops.Drop, ops.DropMatching):
                for digest in DIGESTS if kind is ops.DropMatching else (actor.digest,):
                    self.done[digest] = max(self.done[digest], actor.version)
            for key in {*before, *self.store.entries}:
                if before.get(key) != self.store.entries.get(key):
                    self.push(key.encode())
            if kind in (ops.Drop, ops.DropMatching):
                # What was not there is not announced; and neither can it be in the near cache, heard of or not.
                self.push(None)
        actor.state = "executed"

    def push(self, key: bytes | None) -> None:
        if self.connected:
            self.pipe.append((key, dict(self.done)))

    def answer(self, actor: Actor) -> None:
        if actor.own and self.plant.own and type(actor.op) in near_module.CHANGES:
            near_module.changed(actor.op)
        self.advance(actor, actor.reply)

    def returned(self, actor: Actor, value: Any) -> None:
        actor.state = "done"
        if actor.kind == "call":
            if value < actor.least:
                raise Broken(f"{actor.name} got {value}, and {actor.least} was promised")
        elif actor.own:
            for digest in DIGESTS if actor.kind == "all" else (actor.digest,):
                self.least[digest] = max(self.least[digest], actor.version)

    def hear(self) -> None:
        key, done = self.pipe.pop(0)
        if key is not None and self.plant.pushes:
            self.tracker._heard([b"invalidate", [key]])
        self.promise(done)

    def promise(self, done: dict[str, int]) -> None:
        for digest in DIGESTS:
            self.least[digest] = max(self.least[digest], done[digest])

    def lose(self) -> None:
        self.connected = False
        self.pipe.clear()
        if self.plant.lost:
            self.tracker._lost()
        self.promise(self.done)

    def connect(self) -> None:
        self.connected = True
        self.tracker._asked.append(_stem(PREFIX))
        self.tracker._heard(b"OK")
        self.tracker.until = 9e9


def iter_one(op: Any) -> Any:
    return (yield op)


def search(schedules: int, plant: Plant | None = None, seed: int = 0) -> int | None:
    """Run so many schedules; how many it took to find a broken promise, or None."""
    for number in range(schedules):
        world = World(seed + number, plant or Plant())
        try:
            for _ in range(1000):
                options = world.options()
                if not any(actor.state != "done" for actor in world.actors):
                    break
                world.random.choice(options)()
        except Broken:
            return number + 1
    return None
