"""Who acts in a schedule: callers and jobs, each a flow of the core, in processes that die as a whole.

An operation on the store is executed and answered in one step: reading an answer is nobody else's business. What is
local and shared (`Land`, `Rally`, `Spawn`, the begin of `Join` and of `Compute`) is a step of its own, as between
threads.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redis_memo import _ops as ops
from redis_memo.errors import StoreUnavailable

from .schedule_spec import OTHER, Boom, FlowSpec
from .schedule_story import coded, shown

if TYPE_CHECKING:
    from .schedules import World

NEW, READY, BLOCKED, DONE = range(4)
DATA = frozenset(
    {ops.Read, ops.Acquire, ops.Seize, ops.Fill, ops.Release, ops.Put, ops.Drop, ops.DropMatching, ops.Revoke}
)
ROOM = 2  # of a process, for work behind its callers


class Process:
    """What dies together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.flights: dict[bytes, Flight] = {}
        self.rallied: dict[str, tuple[int, bytes]] = {}
        self.taken = 0
        self.dead = self.frozen = False


class Flight:
    """What others in the process can join."""

    __slots__ = ("landed", "result", "taken")

    def __init__(self, taken: int) -> None:
        self.taken, self.landed, self.result = taken, False, None


class Ear:
    """A subscription: what is on its way to it, and what it has heard."""

    __slots__ = ("actor", "channel", "heard", "ordered", "pipe", "woken", "world")

    def __init__(self, world: World, actor: Actor, channel: str) -> None:
        self.world, self.actor, self.channel = world, actor, channel
        self.ordered = not world.program.terms.spread
        self.pipe: list[bytes] = list(world.said.get(channel, ()))
        self.heard: list[bytes] = []
        self.woken = False
        world.ears.append(self)

    def close(self) -> None:
        if self in self.world.ears:
            self.world.ears.remove(self)


class Actor:
    """One caller, or one job behind a caller: a flow, and what it waits for."""

    def __init__(self, world: World, process: Process, name: str, part: tuple[Any, ...], job: ops.Spawn | None = None,
                 spec: FlowSpec | None = None) -> None:  # fmt: skip
        self.world, self.process, self.name, self.part, self.job = world, process, name, part, job
        self.spec = spec or FlowSpec(world, name)
        self.state = NEW
        self.flow: Any = None
        self.op: Any = None
        self.until: float | None = None
        self.awaited: Any = None  # a flight, a job, or the version that a computation saw
        self.result: Any = None
        self.cancelled = self.heard = self.stalled = False
        self.after: Actor | None = None  # in one thread with it
        self.tokens = self.trace = 0

    def ready(self, now: float) -> bool:
        if self.process.dead or self.process.frozen:
            return False
        if self.state == NEW and self.after is not None:
            other = self.after
            underway = self.part[2].endswith("~") and (other.heard or type(other.op) is ops.Compute)
            return underway or other.state == DONE or other.process.dead
        if self.state != BLOCKED:
            return True
        if self.until is not None and now >= self.until:
            return True
        kind = type(self.op)
        if kind is ops.Join:
            return self.awaited.landed
        if kind is ops.Wait:
            return bool(self.op.subscription.heard) or self.op.subscription.woken
        if kind is ops.Await:
            return self.op.handle.state == DONE
        return True

    def go(self) -> None:
        if self.state == NEW:
            self.say("begins")
            self.world.judge.begins(self)
            self.flow = self._make()
            self.advance()
        elif self.state == READY:
            kind = type(self.op)
            if kind in DATA:
                answer = self.world.perform(self.op, self)
                self.say(f"{shown(self.op)}: {shown(answer)}")
                self.world.judge.answered(self, self.op, answer)
                self.advance(answer)
            else:
                _LOCAL[kind](self)
        else:
            self._unblock()

    def _make(self) -> ops.Flow:
        if self.job is not None:
            flow = self.job.flow
        else:
            flow = self.spec.flow(self.part)
        plant = self.world.plant
        return flow if plant is None or plant.flow is None else plant.flow(flow, self)

    def advance(self, answer: Any = None, error: BaseException | None = None) -> None:
        """Give the flow its answer, and let it go on to the next operation that others can notice."""
        world = self.world
        self.until = None
        try:
            while True:
                if world.hashing:
                    self.trace = hash((self.trace, coded(answer if error is None else error)))
                if error is None:
                    op = self.flow.send(answer)
                else:
                    error, op = None, self.flow.throw(error)
                kind = type(op)
                if kind is ops.Clock:
                    answer = world.clock.now
                elif kind is ops.Held:
                    answer = frozenset()
                elif kind is ops.TakeToken:
                    answer = self._take_token()
                else:
                    break
        except StopIteration as stop:
            return self.end(stop.value)
        except (CancelledError, StoreUnavailable) as raised:
            return self.end(ops.Raised(raised))
        self.op, self.state = op, READY
        world.judge.asks(self, op)
        if kind is ops.Wait or kind is ops.Await:  # these begin unnoticed
            self.state, self.until = BLOCKED, world.clock.now + op.seconds
            self.say("waits for a push" if kind is ops.Wait else f"waits at most {op.seconds:g} s")
        return None

    def end(self, result: Any) -> None:
        self.state, self.result, self.until = DONE, result, None
        self.say(f"returns {shown(result)}")
        self.world.judge.ends(self)

    def _take_token(self) -> bytes:
        self.tokens += 1
        token = f"{self.name}#{self.tokens}".encode()
        self.process.flights[token] = Flight(self.process.taken)
        self.process.taken += 1
        return token

    def taken(self) -> set[bytes]:
        """The tokens that it has had."""
        own = {f"{self.name}#{number + 1}".encode() for number in range(self.tokens)}
        return own if self.job is None else {*own, self.job.token}

    def _unblock(self) -> None:
        op, late = self.op, self.until is not None and self.world.clock.now >= self.until
        kind = type(op)
        if kind is ops.Join:
            flight = self.awaited
            self.say(f"joined: {shown(flight.result)}" if flight.landed else "has joined for long enough")
            self.world.judge.joined(self, flight.result)
            self.advance(flight.result if flight.landed else ops.Late())
        elif kind is ops.Wait:
            ear = op.subscription
            heard, ear.heard, ear.woken = ear.heard, [], False
            self.heard = self.heard or bool(heard)
            self.say(f"hears {b', '.join(heard).decode() or 'nothing'}")
            self.world.judge.heard(self, heard)
            self.advance(heard)
        elif kind is ops.Await:
            job = op.handle
            if job.state == DONE:
                self.advance(job.result if isinstance(job.result, ops.Finished) else ops.Finished(job.result))
            else:
                assert late
                begun = job.state != NEW
                self.say("has waited for long enough")
                if not begun:
                    job.cancelled = True
                    job.end(ops.Raised(CancelledError()))
                self.advance(ops.Late(begun))
        else:
            if self.process.name in self.world.program.terms.failing:
                self.world.counts["failures"] += 1
                self.compute_ends(ops.Raised(Boom(self.name)))
            else:
                seen, began = self.awaited
                if self.spec.behind and self.spec.others:
                    seen = OTHER
                self.compute_ends(ops.Computed(seen, self.world.clock.now - began))

    def compute_ends(self, result: ops.Computed | ops.Raised) -> None:
        self.say(f"ends to compute: {shown(result)}")
        self.world.judge.computed(self, result)
        self.advance(result)

    def land(self, token: bytes, result: Any) -> None:
        flight = self.process.flights.pop(token, None)
        if flight is not None:
            self.world.judge.landed(self, token, flight, result)
            flight.landed, flight.result = True, result

    # Operations on the process, each one step.

    def _do_land(self) -> None:
        self.land(self.op.token, self.op.result)
        self.advance()

    def _do_rally(self) -> None:
        process, op = self.process, self.op
        taken = process.flights[op.token].taken
        began, leader = process.rallied.get(op.what, (-1, b""))
        lax = self.world.plant is not None and self.world.plant.lax_rally
        if leader not in process.flights or not (began > taken or lax):
            process.rallied[op.what] = process.taken, op.token
            process.taken += 1
            leader = op.token
        self.say(f"rallies: {'leads' if leader == op.token else 'follows ' + leader.decode()}")
        if op.what == self.spec.place.entry:  # to compute, that is; what is read is in the store
            self.world.judge.rallied(self, op, leads=leader == op.token)
        self.advance(leader)

    def _do_join(self) -> None:
        flight = self.process.flights.get(self.op.token)
        if flight is None:
            self.advance(None)
        else:
            self.say(f"joins {self.op.token.decode()} in its process")
            self.awaited, self.state, self.until = flight, BLOCKED, self.world.clock.now + self.op.seconds

    def _do_listen(self) -> None:
        self.say("listens")
        ear = Ear(self.world, self, self.op.place.entry)
        if self.world.plant is not None and self.world.plant.eager:
            ear.pipe = [said for other in self.world.ears if other.actor.process is self.process for said in other.pipe]
        self.advance(ear)

    def _do_chance(self) -> None:
        self.advance(1.0)

    def _do_compute(self) -> None:
        world = self.world
        self.spec.begin()
        seen = OTHER if self.spec.others else world.judge.version[self.spec.place.entry]
        self.say(f"begins to compute, sees version {seen}")
        self.awaited, self.state = (seen, world.clock.now), BLOCKED
        world.counts["computations"] += 1
        world.judge.computes(self, self.op, seen)

    def abandon(self) -> None:
        """Nobody waits for this job any more: see `_ops.Spawn`."""

    def spawn(self, *, refuse: bool = False, full: bool = False) -> None:
        world, op = self.world, self.op
        if full:
            self.say("is told that too many runs that were given up go on")
            return self.advance(ops.Late(begun=False))
        behind = sum(a.job is not None and not a.job.awaited and a.state != DONE and a.process is self.process
                     for a in world.actors)  # fmt: skip
        if refuse or (behind >= ROOM and not op.awaited):
            self.say("finds no room for work behind it")
            return self.advance(None)
        job = Actor(world, self.process, self.name + "'", self.part, job=op, spec=self.spec)
        world.actors.append(job)
        self.say("has it done behind it")
        return self.advance(job)

    def say(self, what: str) -> None:
        if self.world.story is not None:
            self.world.say(f"{self.name:11} {what}")


_LOCAL: dict[type, Callable[[Actor], None]] = {
    ops.Land: Actor._do_land, ops.Rally: Actor._do_rally, ops.Join: Actor._do_join, ops.Listen: Actor._do_listen,
    ops.Chance: Actor._do_chance, ops.Compute: Actor._do_compute, ops.Spawn: Actor.spawn,
}  # fmt: skip
