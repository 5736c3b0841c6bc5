"""A world of several processes around the model store, in which every step is somebody's choice.

Callers run the core's own flows (`schedule_actors`). Each operation on the store, each begin and end of a computation,
each push that arrives, each fault and each passing of time is one step; between two steps anybody may go first. What is
promised is checked at every step (`schedule_checks`), and what was chosen is told as a story. `schedule_search` chooses,
`schedule_programs` says what runs.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import Any

from redis_memo import _ops as ops
from redis_memo.errors import StoreUnavailable

from .model import FakeClock, ModelStore
from .schedule_actors import BLOCKED, DATA, DONE, NEW, READY, Actor, Ear, Process
from .schedule_checks import Judge, Violation
from .schedule_spec import LEASE, TTL, Boom, Env, Filled, Program
from .schedule_story import shown

FORCIBLE = frozenset({ops.Drop, ops.DropMatching, ops.Revoke, ops.Put, ops.Seize})  # may end another's lease
STORING = frozenset({ops.Fill, ops.Put})  # may evict others' entries
MOST_STEPS = 1500


class World:
    """Everything that the actors share."""

    def __init__(self, program: Program, plant: Any, *, tell: bool, hashing: bool) -> None:
        self.program, self.plant, self.hashing = program, plant, hashing
        self.story: list[str] | None = [] if tell else None
        self.clock = FakeClock()
        self.store: ModelStore = (
            plant.store(self.clock) if plant is not None and plant.store else ModelStore(self.clock)
        )
        self.ears: list[Ear] = []
        self.said: dict[str, list[bytes]] = {}  # what may come to whoever listens later
        self.actors: list[Actor] = []
        self.zombies: list[tuple[Actor, Any]] = []  # operations given up by their callers, and not yet executed
        self.processes = [Process(chr(ord("A") + number)) for number in range(len(program.processes))]
        self.faults = dict(program.faults)
        self.counts = dict.fromkeys(("steps", "computations", "invalidations", "crashes", "pauses", "cancellations",
                                     "failed operations", "failures", "lost pushes"), 0)  # fmt: skip
        self.judge = Judge(self)
        self._begin()

    def _begin(self) -> None:
        program, now = self.program, self.clock.now
        for place in program.places:
            self.judge.know(place, stored=program.start == "fresh")
            if program.start != "empty":
                terms = program.terms
                soft = now + {"fresh": TTL, "stale": -1.0, "fallback": -terms.stale - 1.0}[program.start]
                env = Env(place.entry, 0, soft - TTL, soft, 1.0, "before")
                tokens = place.tokens.replace(ops.UNTAGGED, b"") + (env.tag if terms.tagged else b"")
                left = soft + max(terms.stale, terms.stale_if_error) - now
                self.store.perform(ops.Put(place, env, left, tokens))
        self.judge.evicted({place.entry for place in program.places} - {*self.store.entries}, at_first=True)
        for process, parts in zip(self.processes, program.processes, strict=True):
            for number, part in enumerate(parts):
                self.actors.append(Actor(self, process, f"{process.name}.{part[0]}{number}", part))
        named = {actor.name: actor for actor in self.actors}
        for actor in self.actors:
            if len(actor.part) == 3:
                actor.after = named.get(actor.part[2].rstrip("~"))

    # Steps, and what they are called.

    def normal(self) -> list[tuple[Any, ...]]:
        """What can happen next without anything going wrong."""
        now = self.clock.now
        found: list[tuple[Any, ...]] = [
            ("go", actor) for actor in self.actors if actor.state != DONE and not actor.stalled and actor.ready(now)
        ]
        spread = self.program.terms.spread
        found += [
            ("hear", ear, at) for ear in self.ears for at in range(len(ear.pipe) if spread else min(1, len(ear.pipe)))
        ]
        found += [("wake", process) for process in self.processes if process.frozen and not process.dead]
        found += [("arrive", index) for index in range(len(self.zombies))]
        if not found:
            for actor in self.actors:
                if actor.stalled:
                    actor.stalled = False
                    if actor.state != DONE and actor.ready(now):
                        found.append(("go", actor))
        return found

    def wrong(self, kind: str) -> list[tuple[Any, ...]]:
        """The ways in which one kind of fault can happen next."""
        actors = [a for a in self.actors if a.state != DONE and not (a.process.dead or a.process.frozen)]
        begun = [a for a in actors if a.state != NEW]
        if kind in ("crash", "freeze"):
            return [(kind, process) for process in self.processes if any(a.process is process for a in begun)]
        if kind == "cancel":
            mine = [a for a in begun if a.job is None]
            return [
                *(
                    ("cancel", a, when)
                    for a in mine
                    if a.state == READY and type(a.op) in DATA
                    for when in (False, True)
                    if when or type(a.op) is not ops.Release
                ),  # the driver shields that one
                *(("cancel", a, False) for a in mine if a.state == BLOCKED or type(a.op) in (ops.Join, ops.Listen)),
            ]
        if kind == "fail":
            ready = [a for a in begun if a.state == READY and type(a.op) in DATA]
            return [("fail", a, how) for a in ready for how in ("not executed", "executed", "executed later")]
        if kind == "raise":
            return [("raise", a) for a in begun if a.state == BLOCKED and type(a.op) is ops.Compute]
        if kind == "lose":
            return [("lose", ear, cut) for ear in self.ears if ear.pipe for cut in (False, True)]
        if kind == "refuse":
            spawning = [a for a in begun if a.state == READY and type(a.op) is ops.Spawn]
            return [("refuse", a, full) for a in spawning for full in (False, True) if a.op.awaited or not full]
        if kind == "unbegun":
            return [("unbegun", a) for a in actors if a.state == NEW and a.job is not None and not a.job.awaited]
        if kind == "close":
            return [("close", a) for a in begun if a.job is None]
        if kind == "stall":
            return [("stall", a) for a in begun]
        if kind == "change":
            mine = [a for a in self.actors if a.job is None and a.state != NEW and not a.process.dead]
            going = {a.spec for a in self.actors if a.state != DONE}
            return [("change", a) for a in mine if a.spec in going and not a.spec.others]
        if kind == "luck":
            return [("luck", a) for a in begun if a.state == READY and type(a.op) is ops.Chance]
        assert kind == "jump", kind
        return [("jump", moment) for moment in sorted(self._moments())]

    def _moments(self) -> set[float]:
        now = self.clock.now
        moments = {a.until for a in self.actors if a.state == BLOCKED and a.until is not None and not a.process.dead}
        for env, until in self.store.entries.values():
            moments |= {env.fresh_until, until, env.fresh_until + self.program.terms.stale}
        moments |= {until for _, until in self.store.leases.values()}
        return {moment for moment in moments if moment > now}

    def idle(self) -> bool:
        """Nobody can go on: let time pass, False if nobody waits for it either."""
        sleepers = [a.until for a in self.actors if a.state == BLOCKED and a.until is not None and not a.process.dead]
        if sleepers:
            self.advance(min(sleepers))
        return bool(sleepers)

    def do(self, option: tuple[Any, ...]) -> None:
        kind, subject = option[0], option[1]
        self.counts["steps"] += 1
        if kind == "go":
            subject.go()
        elif kind == "hear":
            subject.heard.append(subject.pipe.pop(option[2]))
        elif kind == "wake":
            subject.frozen = False
            self.say(f"{subject.name} goes on")
        elif kind == "arrive":
            actor, op = self.zombies.pop(subject)
            answer = self.perform(op, actor)
            self.say(f"{shown(op)}, given up long ago, is executed: {shown(answer)}")
        else:
            self.faults[kind] -= 1
            getattr(self, f"_{kind}")(*option[1:])
        if self.judge.broken is not None:
            raise Violation(self.judge.broken)

    def _crash(self, process: Process) -> None:
        self.say(f"{process.name} is killed")
        self.counts["crashes"] += 1
        process.dead = True
        self.ears = [ear for ear in self.ears if ear.actor.process is not process]
        self.judge.crashed(process)

    def _freeze(self, process: Process) -> None:
        self.say(f"{process.name} is stopped, for longer than a lease")
        self.counts["pauses"] += 1
        process.frozen = True
        self.advance(self.clock.now + LEASE + 1)

    def _cancel(self, actor: Actor, executed: bool) -> None:
        actor.say("is cancelled" + (f" after {shown(actor.op)} was executed" if executed else ""))
        self.counts["cancellations"] += 1
        actor.cancelled = True
        self.judge.allow(actor, 1)
        if executed:
            self.perform(actor.op, actor)
        if actor.state == BLOCKED and type(actor.op) is ops.Compute:
            actor.compute_ends(ops.Raised(CancelledError()))
        else:
            actor.advance(error=CancelledError())

    def _fail(self, actor: Actor, how: str) -> None:
        actor.say(f"{shown(actor.op)} fails, {how}")
        self.counts["failed operations"] += 1
        self.judge.lost(actor, actor.op)
        if how == "executed":
            self.perform(actor.op, actor)
        elif how == "executed later":
            self.zombies.append((actor, actor.op))
        actor.advance(error=StoreUnavailable("lost"))

    def _raise(self, actor: Actor) -> None:
        self.counts["failures"] += 1
        actor.compute_ends(ops.Raised(Boom(actor.name)))

    def _lose(self, ear: Ear, cut: bool) -> None:
        self.say(f"a push to {ear.actor.name} is lost" + (", and so is the connection" if cut else ""))
        self.counts["lost pushes"] += 1
        self.judge.losing = True
        for each in [e for e in self.ears if e.actor.process is ear.actor.process] if cut else [ear]:
            each.pipe.clear()
            each.woken = each.woken or cut

    def _refuse(self, actor: Actor, full: bool) -> None:
        actor.spawn(refuse=not full, full=full)

    def _unbegun(self, job: Actor) -> None:
        job.say("never begins")
        self.judge.forgotten(job)
        job.cancelled = True
        job.end(ops.Raised(CancelledError()))

    def _close(self, actor: Actor) -> None:
        actor.say("is closed")
        self.judge.forgotten(actor)
        if actor.state == BLOCKED and type(actor.op) is ops.Compute:
            actor.land(actor.op.token, None)  # so does the driver
        try:
            actor.flow.close()
        except RuntimeError:
            self.judge.broken = f"close: {actor.name} yields an operation after it was closed"
        actor.cancelled = True
        actor.end(ops.Raised(CancelledError()))

    def _stall(self, actor: Actor) -> None:
        """It goes on when nobody else can."""
        actor.stalled = True

    def _change(self, actor: Actor) -> None:
        actor.say("has its arguments changed")
        actor.spec.others = True
        self.judge.allow(actor, 2)

    def _luck(self, actor: Actor) -> None:
        actor.advance(0.01)

    def _jump(self, moment: float) -> None:
        self.advance(moment)

    def advance(self, to: float) -> None:
        """Time passes: leases of running computations are renewed, the others end."""
        while self.clock.now < to:
            before = self.clock.now
            self.clock.now = min(to, before + LEASE / 3)
            for running in self.judge.running.values():
                process = running.actor.process
                if running.place is not None and not (process.frozen or process.dead):
                    self.store.perform(ops.Renew(running.place, running.token, LEASE))
            self.judge.passed(before)

    def perform(self, op: Any, actor: Actor) -> Any:
        """One operation on the store, and the pushes that it sends."""
        kind, store = type(op), self.store
        if kind is ops.Read:
            return store.perform(op)
        if kind in (ops.DropMatching, ops.Revoke):
            op = op._replace(limit=1)  # so that an invalidation of several calls takes several steps
        now = self.clock.now
        before = {key: lease for key, lease in store.leases.items() if lease[1] > now} if kind in FORCIBLE else {}
        entries = {key for key, (_, until) in store.entries.items() if until > now} if kind in FORCIBLE else ()
        held = {*store.entries} if kind in STORING else set()
        answer = store.perform(op)
        if isinstance(answer, ops.Kept):  # so does the driver
            answer = answer.answer
        if kind in STORING:
            self.judge.evicted(held - {*store.entries})
        if kind is ops.Fill and answer:
            self.publish(op.place.entry, self._filled(op.envelope))
        elif kind is ops.Release and answer:
            self.judge.released(op)
            self.publish(op.place.entry, op.note)
        elif kind is ops.Put:
            self.publish(op.place.entry, self._filled(op.envelope))
            if actor.part[0] == "store":
                self.judge.given(op)
        elif kind in FORCIBLE and kind is not ops.Seize:
            for key in before:
                if key not in store.leases:
                    self.publish(key, b"dropped")
        if kind in FORCIBLE:
            self.judge.forced(before, entries)
        return answer

    def _filled(self, envelope: Env) -> bytes:
        return b"filled" if self.program.terms.large or self.program.terms.spread else Filled(envelope)

    def publish(self, channel: str, message: bytes) -> None:
        if self.program.terms.spread:
            self.said.setdefault(channel, []).append(message)
        for ear in self.ears:
            if ear.channel == channel:
                ear.pipe.append(message)

    def say(self, what: str) -> None:
        if self.story is not None:
            self.story.append(f"{self.clock.now - 1.7e9:7.1f}s  {what}")

    def state(self) -> int:
        """Two worlds with the same state go on alike: flows are made anew from the answers they were given."""
        store = self.store
        return hash((
            self.clock.now, tuple(sorted(store.entries.items())), tuple(sorted(store.leases.items())),
            tuple(map(tuple, store.uses.values())), tuple(sorted(store.tokens.items())), tuple(sorted(store.computing.items())),
            tuple((a.name, a.state, a.trace, a.until, a.spec.others, a.spec.altered, a.spec.behind) for a in self.actors),
            tuple((e.actor.name, tuple(e.pipe), tuple(e.heard), e.woken) for e in self.ears),
            tuple((p.dead, p.frozen) for p in self.processes), tuple(self.faults.values()), tuple((a.name, op) for a, op in self.zombies),
            self.judge.state(),
        ))  # fmt: skip
