"""What is promised, as checks that run at every step of a schedule.

P3: a call that begins after an invalidation (or a `store`, or a `refresh` that was stored) returned gets nothing older
than the source was when that began. A value given by `store` counts as new from the moment it is put.

P4 is kept as two accounts per entry. While somebody's lease stands nobody else begins to compute. And there are no more
computations than reasons: the first, and one for each expiry, revocation, failure, cancellation or fault.
"""

from __future__ import annotations

from asyncio import CancelledError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis_memo import _ops as ops
from redis_memo._core import BELIEVED
from redis_memo._spec import Standing
from redis_memo.errors import StoreUnavailable

from .model import RESTING
from .schedule_spec import MAX_WAIT, OTHER, Boom, Env, TooLate, tag_of

if TYPE_CHECKING:
    from .schedule_actors import Actor, Flight, Process
    from .schedules import World

WAITING = frozenset({ops.Compute, ops.Join, ops.Listen, ops.Wait, ops.Await})


class Violation(AssertionError):
    """A promise was broken."""


@dataclass
class Running:
    """One computation."""

    actor: Actor
    place: ops.Place | None  # None: without a lease
    token: bytes
    entry: str
    ousted: bool = False


@dataclass
class Memory:
    """What is known of one actor."""

    floor: tuple[int, int] = (0, 0)
    tag_floors: dict[tuple[str, bytes], tuple[int, int]] = field(default_factory=dict)
    step: int = 0
    at: float = 0.0
    mine: dict[str, int] = field(default_factory=dict)  # versions of the source when it began
    joined: bytes = b""  # the flight for which it waits, if that is in its process
    owed: bool = False  # its exception
    failures: int = 0
    holders: set[bytes] = field(default_factory=set)  # of the lease, when it asked for that
    past: frozenset[str] = frozenset()  # who had returned when it began
    failing: bool = False  # an operation failed
    resting: bool = False
    rallying: bool = False
    alone: bool = False  # was told that the result cannot be shared
    vain: int = 0  # computations joined whose result could not be
    filled: tuple[int, int] | None = None  # version, and the step at which it was read


class Judge:
    """Sees every step; says in ``broken`` which promise was broken first."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.broken: str | None = None
        self.version: dict[str, int] = {}  # of the source
        self.floor: dict[str, tuple[int, int]] = {}  # version, and the step at which it was promised
        self.tag_floors: dict[tuple[str, bytes], tuple[int, int]] = {}
        self.puts: dict[tuple[str, int], int] = {}
        self.reasons: dict[str, int] = {}
        self.begun: dict[str, int] = {}
        self.running: dict[str, Running] = {}  # by the actor's name
        self.expected: set[bytes] = set()  # leases and flights that nobody will end
        self.early: set[Env] = set()
        self.losing = self.faulty = False
        self.failed: dict[str, int] = {}  # by the name of whose computation it was: the version that it saw
        self.uncacheable: set[bytes] = set()  # tokens of computations that ended so
        self.over: set[str] = set()  # who has returned since
        self.memories: dict[str, Memory] = {}
        self.storing = any(part[0] == "store" for parts in world.program.processes for part in parts)

    def state(self) -> Any:
        return (
            tuple(self.version.values()), tuple(self.floor.values()), tuple(self.reasons.values()),
            tuple(self.begun.values()), tuple(self.tag_floors.values()), self.losing, self.faulty,
            tuple((r.entry, r.ousted) for r in self.running.values()),
            tuple((m.floor, tuple(m.mine.values()), m.owed, m.failures, m.failing, m.resting, m.at)
                  for m in self.memories.values()),
            tuple((m.alone, m.vain) for m in self.memories.values()), len(self.uncacheable),
            tuple(self.failed.items()), tuple(m.past & {*self.failed} for m in self.memories.values()),
        )  # fmt: skip

    def know(self, place: ops.Place, *, stored: bool) -> None:
        self.version[place.entry] = 0
        self.floor[place.entry] = 0, 0
        self.reasons[place.entry] = 0 if stored else 1
        self.begun[place.entry] = 0

    def say(self, what: str) -> None:
        if self.broken is None:
            self.broken = what

    @property
    def now(self) -> int:
        """The step, where the order of a `store` and of a promise matters."""
        return self.world.counts["steps"] if self.storing else 0

    def allow(self, actor: Actor, more: int) -> None:
        for entry in self.reasons:
            if entry == actor.spec.place.entry or actor.part[0] in ("match", "clear", "tag"):
                self.reasons[entry] += more

    # The source, and what is promised about it.

    def begins(self, actor: Actor) -> None:
        kind = actor.part[0]
        memory = self.memories[actor.name] = Memory(step=self.now, at=self.world.clock.now, past=frozenset(self.over))
        if actor.job is not None:
            return
        places = self.world.program.places
        if kind in ("call", "peek", "refresh", "store", "drop"):
            places = (places[actor.part[1]],)
        elif kind == "match":
            wanted = {actor.part[1][at : at + 8] for at in range(0, len(actor.part[1]), 8)}
            places = tuple(p for p in places if wanted <= {p.tokens[at : at + 8] for at in range(0, len(p.tokens), 8)})
        memory.floor = self.floor[places[0].entry] if places else (0, 0)
        if kind in ("call", "peek", "refresh"):
            memory.tag_floors = dict(self.tag_floors)
            if kind == "refresh":
                self.reasons[places[0].entry] += 1
            return
        self.world.counts["invalidations"] += kind != "store"
        for place in places:
            self.version[place.entry] += 1
            memory.mine[place.entry] = self.version[place.entry]

    def ends(self, actor: Actor) -> None:
        self.running.pop(actor.name, None)
        self.over.add(actor.name)
        result, kind = actor.result, actor.part[0]
        memory = self.memories.get(actor.name)
        if actor.job is not None or memory is None:
            return
        entry = actor.spec.place.entry
        if isinstance(result, ops.Raised):
            self._raised(actor, memory, result.error)
        elif kind in ("call", "peek", "refresh"):
            if isinstance(result, int):
                self._returned(actor, memory, entry, result)
            if kind == "refresh" and memory.filled is not None and memory.filled[0] == result:
                self._promise(self.floor, entry, memory.filled)
        elif kind == "tag":
            for place_entry, version in memory.mine.items():
                self._promise(self.tag_floors, (place_entry, actor.part[1]), (version, memory.step))
        elif kind != "store" or result is True:
            for place_entry, version in memory.mine.items():
                self._promise(self.floor, place_entry, (version, memory.step))

    @staticmethod
    def _promise(floors: dict[Any, tuple[int, int]], key: Any, floor: tuple[int, int]) -> None:
        floors[key] = max(floors.get(key, (0, 0)), floor)

    def _returned(self, actor: Actor, memory: Memory, entry: str, version: int) -> None:
        if version == OTHER:
            if not actor.spec.others:
                self.say(f"P1: {actor.name} gets the result of other arguments")
            return
        floors = [memory.floor, memory.tag_floors.get((entry, tag_of(version)), (0, 0))]
        for floor, step in floors if self.world.program.terms.tagged else floors[:1]:
            if version < floor and self.puts.get((entry, version), -1) < step:
                self.say(f"P3: {actor.name} began after version {floor} was promised, and got version {version}")

    def _raised(self, actor: Actor, memory: Memory, error: BaseException) -> None:
        if isinstance(error, CancelledError) and not actor.cancelled:
            self.say(f"P4: {actor.name} was not cancelled, and is told so")
        terms = self.world.program.terms
        plain = actor.part[0] in ("call", "peek", "refresh")
        if isinstance(error, StoreUnavailable) and plain and not terms.raises:
            self.say(f"P5: {actor.name} gets the store's error")
        if isinstance(error, Boom):
            seen = self.failed.get(str(error))
            if seen == OTHER:
                if str(error).rstrip("'") != actor.name:
                    self.say(f"P1: {actor.name} gets the error of other arguments")
            elif seen is None:
                self.say(f"P4: {actor.name} gets an error that nobody raised")
            elif str(error) in memory.past:
                self.say(f"P4: {actor.name} gets the error of {error}, which was raised before it began")
            elif seen < memory.floor[0]:
                self.say(
                    f"P3: {actor.name} began after version {memory.floor[0]} was promised, and gets an error of version {seen}"
                )
        if isinstance(error, TooLate) and terms.limit is None and terms.patience is None:
            self.say(f"P4: {actor.name} is told that its time is over")

    def given(self, op: ops.Put) -> None:
        self.puts[op.place.entry, op.envelope.version] = self.now

    def opened(self, entry: str, envelope: Env) -> None:
        if envelope.entry != entry:
            self.say(f"P1: an entry of {envelope.entry} is opened as {entry}")
        if envelope.version == OTHER:
            self.say("P1: a result of other arguments is opened")

    # Reasons to compute.

    def soon(self, envelope: Env) -> None:
        if envelope not in self.early:
            self.early.add(envelope)
            self.reasons[envelope.entry] += 1

    def forced(self, leases: dict[str, Any], entries: Any) -> None:
        """After an operation that may end other callers' leases and entries."""
        store = self.world.store
        for entry in {key for key, lease in leases.items() if store.leases.get(key) != lease}:
            self.reasons[entry] += 1
        for entry in entries:
            if entry not in store.entries:
                self.reasons[entry] += 1
        self._oust()

    def evicted(self, entries: set[str], *, at_first: bool = False) -> None:
        """After an operation that stored another entry."""
        for entry in entries:
            self.reasons[entry] += not at_first or self.world.program.start == "fresh"

    def passed(self, before: float) -> None:
        """After time has passed."""
        store, now = self.world.store, self.world.clock.now
        for key, (token, until) in list(store.leases.items()):
            if before < until <= now and token != RESTING:
                self.reasons[key] += 1
        for key, (env, until) in store.entries.items():
            self.reasons[key] += (before < until <= now) + (before < env.fresh_until <= now)
        self._oust()

    def _oust(self) -> None:
        store, now = self.world.store, self.world.clock.now
        for running in self.running.values():
            token, until = store.leases.get(running.entry, (b"", 0.0))
            if token != running.token or until <= now:
                running.ousted = True

    def crashed(self, process: Process) -> None:
        self.faulty = True
        for actor in self.world.actors:
            if actor.process is process:
                self.expected |= actor.taken()
        for entry in self.reasons:
            self.reasons[entry] += 1
        for name in [name for name, running in self.running.items() if running.actor.process is process]:
            del self.running[name]

    def lost(self, actor: Actor, op: Any) -> None:
        self.faulty = True
        self.allow(actor, 3)  # it computes by itself, and what it left behind ends by itself
        self.memories[actor.name].failing = True
        token = getattr(op, "token", None)
        if token is not None:
            self.expected.add(token)

    def forgotten(self, actor: Actor) -> None:
        """It will not clean up."""
        self.faulty = True
        self.allow(actor, 2)
        self.running.pop(actor.name, None)
        self.expected |= actor.taken()

    # Computations, and who waits for them.

    def asks(self, actor: Actor, op: Any) -> None:
        kind = type(op)
        if kind in WAITING and actor.job is None:
            memory = self.memories[actor.name]
            if memory.alone and kind is not ops.Compute and kind is not ops.Await:
                self.say(f"P4: {actor.name} was told that the result cannot be shared, and waits")
            if actor.spec.standing is Standing.DUE and actor.part[0] == "call":
                self.say(f"P4: {actor.name} found an entry that it may serve, and waits")
            if kind is ops.Join:
                memory.joined = op.token

    def computes(self, actor: Actor, op: ops.Compute, seen: int) -> None:
        memory, entry = self.memories[actor.name], actor.spec.place.entry
        owner = memory if actor.job is None else self.memories.get(actor.name.rstrip("'"), memory)
        if owner.owed:
            self.say(f"P4: {actor.name} had joined a computation that failed, and computes once more")
        if owner.resting:
            self.say(f"P4: {actor.name} computes during a rest")
        if actor.part[0] == "refresh":
            owner.filled = None
        if op.place is None:
            waited = self.world.clock.now - owner.at
            if not (owner.failing or owner.alone) and waited < min(
                MAX_WAIT, actor.spec.patience or MAX_WAIT, actor.spec.limit or MAX_WAIT
            ):
                self.say(f"P4: {actor.name} computes without a lease, and without a reason")
            self.running[actor.name] = Running(actor, None, b"", entry, ousted=True)
            return
        self.begun[entry] += 1
        if self.begun[entry] > self.reasons[entry]:
            self.say(f"P4: computation number {self.begun[entry]}, where there is reason for {self.reasons[entry]}")
        running = Running(actor, op.place, op.token, entry, ousted=owner.rallying)
        if not owner.rallying:
            for other in self.running.values():
                if other.entry == entry and not other.ousted and not self._was_ousted(running):
                    self.say(f"P4: {actor.name} begins to compute while {other.actor.name} holds the lease")
        self.running[actor.name] = running
        self._oust()

    def _was_ousted(self, running: Running) -> bool:
        token, until = self.world.store.leases.get(running.entry, (b"", 0.0))
        return token != running.token or until <= self.world.clock.now

    def computed(self, actor: Actor, result: Any) -> None:
        running = self.running.pop(actor.name)
        lost = actor.spec.altered or (actor.spec.behind and actor.spec.others)  # what it computed is another call's
        if isinstance(result, ops.Computed) and self.world.program.terms.kept == "nothing" and not lost:
            self.uncacheable.add(running.token)
        if isinstance(result, ops.Raised) and isinstance(result.error, Boom):
            self.failed[str(result.error)] = actor.awaited[0]
        kept = self.world.program.terms.kept == "stored"
        if isinstance(result, ops.Raised):
            self.reasons[running.entry] += 1
        elif not kept:
            self.reasons[running.entry] += 1

    def answered(self, actor: Actor, op: Any, answer: Any) -> None:
        if isinstance(answer, ops.Busy):
            self.memories[actor.name].holders.add(answer.holder)
        elif isinstance(answer, ops.Resting) and actor.spec.standing in (Standing.FALLBACK, Standing.DUE):
            self.memories[actor.name].resting = True
        elif isinstance(op, ops.Fill) and answer is True:
            owner = self.memories[actor.name.rstrip("'")]
            owner.filled = op.envelope.version, owner.step

    def landed(self, actor: Actor, token: bytes, flight: Flight, result: Any) -> None:
        """Whoever waits in this process for what failed gets its exception; for what cannot be shared, computes."""
        if token in self.uncacheable:
            now = self.world.clock.now
            for other in self.world.actors:
                waiting = other.process is actor.process and other.state == 2 and not other.ready(now)
                if waiting and type(other.op) is ops.Join and self.memories[other.name].joined == token:
                    memory = self.memories[other.name]
                    memory.vain += 1
                    if memory.vain > 1:
                        self.say(f"P4: {other.name} queues for results that cannot be shared")
        if isinstance(result, ops.Raised) and isinstance(result.error, Boom):
            now = self.world.clock.now
            for other in self.world.actors:
                waiting = other.process is actor.process and other.state == 2 and not other.ready(now)
                if waiting and type(other.op) in (ops.Join, ops.Wait) and self.memories[other.name].joined == token:
                    self.memories[other.name].owed = True

    def joined(self, actor: Actor, result: Any) -> None:
        self.memories[actor.name].alone |= isinstance(result, ops.Uncacheable)

    def heard(self, actor: Actor, messages: list[bytes]) -> None:
        memory = self.memories[actor.name]
        tokens = {note.removeprefix(ops.UNCACHEABLE) for note in messages if note.startswith(ops.UNCACHEABLE)}
        if self.world.program.terms.spread:
            tokens &= memory.holders
        memory.alone |= bool(tokens)
        failures = [message.removeprefix(ops.FAILED) for message in messages if message.startswith(ops.FAILED)]
        if self.world.program.terms.spread:  # what comes late is no reason to wait no longer
            failures = [failure for failure in failures if failure.partition(b":")[0] in memory.holders]
        memory.failures += bool(failures)
        if memory.failures > BELIEVED:
            self.say(f"P4: {actor.name} has waited for {memory.failures} failures, one after the other")

    def rallied(self, actor: Actor, op: ops.Rally, *, leads: bool) -> None:
        if leads and op.what == actor.spec.place.entry:
            memory, entry = self.memories[actor.name], op.what
            memory.rallying = True
            self.reasons[entry] += 1
            crowd = [r for r in self.running.values() if r.entry == entry and r.actor.process is actor.process
                     and self.memories[r.actor.name.rstrip("'")].rallying]  # fmt: skip
            early = [r for r in crowd if self.memories[r.actor.name.rstrip("'")].step < memory.step]
            if len(crowd) > 1 + len(early):
                self.say(f"P4: {actor.name} is one of {len(crowd) + 1} that run the function in its process")

    def released(self, op: ops.Release) -> None:
        if op.token in self.uncacheable and not op.note.startswith(ops.UNCACHEABLE):
            self.say(f"P4: nobody elsewhere is told that the result of {op.token.decode()} cannot be shared")

    # When all is quiet.

    def end(self) -> None:
        world = self.world
        for actor in world.actors:
            if actor.state != 3 and not actor.process.dead:
                self.say(f"P4: {actor.name} never returned")
        now = world.clock.now
        for entry, (token, until) in world.store.leases.items():
            if until > now and token != RESTING and token not in self.expected:
                self.say(f"P4: the lease {token.decode()} was left behind at {entry[-40]}")
        for process in world.processes:
            left = [] if process.dead else [token for token in process.flights if token not in self.expected]
            if left:
                self.say(f"P4: the flight {left[0].decode()} never landed")
        if any(not ear.actor.cancelled for ear in world.ears):
            self.say(f"P7: {world.ears[0].actor.name} still listens")
        for entry, (env, until) in world.store.entries.items():
            if env.version == OTHER:
                self.say("P1: a result of other arguments is stored")
            floor, step = self.floor[entry]
            floors = [(floor, step)]
            if world.program.terms.tagged:
                floors.append(self.tag_floors.get((entry, env.tag), (0, 0)))
            for floor, step in floors:
                if until > now and env.version < floor and self.puts.get((entry, env.version), -1) < step:
                    self.say(f"P3: version {env.version} is stored, after version {floor} was promised")
        if self.broken is not None:
            raise Violation(self.broken)
