"""What runs in a schedule: programs as plain data, and the core's `Spec` for one caller in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from redis_memo import _core as core
from redis_memo import _entries as entries
from redis_memo import _ops as ops
from redis_memo._bounds import Bounds
from redis_memo._spec import Look, Standing

if TYPE_CHECKING:
    from .schedules import World

LEASE, TTL, MAX_WAIT = 10.0, 1000.0, 60.0
PREFIX = "memo:{model:f:#0}:"
INFY, TCS, DAY, MINUTE = b"infy----", b"tcs-----", b"day-----", b"minute--"
# Three calls; any two of them have at most one argument in common.
PLACES = tuple(
    ops.Place(PREFIX, letter * 40, tokens)
    for letter, tokens in (("a", INFY + DAY), ("b", TCS + DAY), ("c", INFY + MINUTE))
)
TAGS = (b"even----", b"odd-----")
MISSING = "missing"
OTHER = -1  # the version of what was computed with changed arguments: it is the result of another call


class Boom(Exception):
    """What the function raises when it is told to."""


class TooLate(Exception):
    """What a caller gets whose time limit is over."""


class Env(NamedTuple):
    """An envelope."""

    entry: str
    version: int
    created: float
    fresh_until: float
    seconds: float
    by: str

    @property
    def tag(self) -> bytes:
        """Of a function whose tags depend on its result."""
        return tag_of(self.version)


class Filled(bytes):
    """A push that carries an envelope."""

    envelope: Env

    def __new__(cls, envelope: Env) -> Filled:
        new = super().__new__(cls, ops.FILLED + repr(envelope).encode())
        new.envelope = envelope
        return new

    def removeprefix(self, _: Any) -> Any:
        return self.envelope


def tag_of(version: int) -> bytes:
    return TAGS[version % 2]


@dataclass(frozen=True)
class Terms:
    """How the function is decorated."""

    stale: float = 0.0
    stale_if_error: float = 0.0
    early: bool = False
    patience: float | None = None
    limit: float | None = None
    tagged: bool = False  # by its result
    failing: str = ""  # the processes in which it always raises
    tellable: bool = True  # whether what it raises can be carried to other processes
    kept: str = "stored"  # or "shared", "nothing": what becomes of a result
    large: bool = False  # not carried by a push
    spread: bool = False  # pushes come in no order, and those from before a subscription, too: a cluster
    raises: bool = False  # on_error="raise"
    maxsize: int = 0


@dataclass(frozen=True)
class Program:
    """Which actors there are in which process, and what may happen besides.

    A part is ``("call" | "refresh" | "store" | "peek" | "drop", place)``, ``("match", tokens)``, ``("clear", 0)`` or
    ``("tag", token)``; a third member names the actor that has to return first, as in one thread after the other
    (or, with ``~`` at its end, to compute or to hear a push).
    """

    kind: str
    processes: tuple[tuple[tuple[Any, ...], ...], ...]
    faults: tuple[tuple[str, int], ...] = ()
    terms: Terms = field(default_factory=Terms)
    start: str = "empty"

    @property
    def places(self) -> tuple[ops.Place, ...]:
        more = ops.UNTAGGED if self.terms.tagged else b""
        bounds = Bounds(self.terms.maxsize)
        return tuple(place._replace(tokens=place.tokens + more, bounds=bounds) for place in PLACES)

    def without(self) -> Iterator[Program]:
        """The same with one actor or one kind of fault less."""
        for at, parts in enumerate(self.processes):
            for number in range(len(parts)):
                fewer = (*parts[:number], *parts[number + 1 :])
                processes = (*self.processes[:at], *([fewer] if fewer else []), *self.processes[at + 1 :])
                if processes:
                    yield Program(self.kind, processes, self.faults, self.terms, self.start)
        for name, most in self.faults:
            fewer_faults = tuple((n, m - (n == name)) for n, m in self.faults if n != name or most > 1)
            yield Program(self.kind, self.processes, fewer_faults, self.terms, self.start)

    def told(self) -> list[str]:
        """For the head of a story."""
        lines = [f"{chr(ord('A') + at)}: {', '.join(' '.join(map(_word, part)) for part in parts)}"
                 for at, parts in enumerate(self.processes)]  # fmt: skip
        return [*lines, f"{self.terms}, {self.start} at first; faults: {dict(self.faults)}"]


def _word(what: object) -> str:
    return what.decode(errors="replace").strip("-") if isinstance(what, bytes) else str(what)


class FlowSpec:
    """The `core.Spec` of one caller; its values are versions of the source."""

    function = PREFIX

    def __init__(self, world: World, name: str) -> None:
        terms = world.program.terms
        self.world, self.name, self.terms = world, name, terms
        self.lease, self.max_wait = LEASE, MAX_WAIT
        self.ages = bool(terms.stale or terms.stale_if_error or terms.early)
        self.patience, self.limit = terms.patience, terms.limit
        self.place = world.program.places[0]
        self.standing: Standing | None = None  # at the first look
        self.sealed: Env | None = None
        self.others = False  # whether the arguments are others by now
        self.altered = self.behind = False

    def flow(self, part: tuple[Any, ...]) -> ops.Flow:
        """What a part of a program does."""
        kind = part[0]
        if kind == "match":
            return entries.drop_matching((PREFIX,), part[1])
        if kind == "clear":
            return entries.drop_matching((PREFIX,), b"")
        if kind == "tag":
            return entries.drop_tagged((PREFIX,), [part[1]])
        place = self.place = self.world.program.places[part[1]]
        if kind == "drop":
            return _drop(place)
        if kind == "refresh":
            return core.refresh(self, place)
        if kind == "store":
            return entries.store(self, place, self.world.judge.version[place.entry])
        if kind == "peek":
            return entries.peek(self, place.entry, MISSING)
        return core.read_through(self, place.entry, lambda: place)

    def filling(self) -> None:
        return None

    def hit(self, entry: str, envelope: Env) -> int:
        self.world.judge.opened(entry, envelope)
        return envelope.version

    def look(self, entry: str, envelope: Env, now: float, chance: float) -> Look:
        self.world.judge.opened(entry, envelope)
        past, terms = now - envelope.fresh_until, self.terms
        if past < 0:
            soon = terms.early and chance < 0.5
            standing = Standing.DUE if soon else Standing.FRESH
            if soon:
                self.world.judge.soon(envelope)
        elif past < terms.stale:
            standing = Standing.DUE
        elif past < terms.stale_if_error:
            standing = Standing.FALLBACK
        else:
            standing = Standing.OVER
        if self.standing is None:
            self.standing = standing
        return Look(envelope.version, standing, past >= 0, 30.0, envelope, envelope.seconds)

    def serve(self, look: Look) -> int:
        return look.value

    rescue = serve

    def seal(self, place: ops.Place, computed: ops.Computed, now: float) -> ops.Sealed | None:
        terms = self.terms
        env = Env(place.entry, computed.value, now, now + TTL, computed.seconds, self.name)
        if terms.kept == "nothing":
            return None
        if terms.kept == "shared":
            return ops.Sealed(env, 0.0, place.tokens)
        tokens = place.tokens.replace(ops.UNTAGGED, b"") + tag_of(computed.value) if terms.tagged else place.tokens
        return ops.Sealed(env, TTL + max(terms.stale, terms.stale_if_error), tokens)

    def seal_failure(self, entry: str, error: Exception) -> bytes:
        return str(error).encode() if self.terms.tellable else b""

    def unseal_failure(self, entry: str, note: bytes) -> Exception | None:
        return Boom(note.decode()) if note else None

    def failed(self, error: Exception) -> None:
        if self.terms.raises:
            raise error

    def late(self, seconds: float) -> Exception:
        self.leave()
        return TooLate(f"after {seconds:g} s")

    def not_begun(self) -> Exception:
        return TooLate("before it began")

    def begin(self) -> None:
        if not self.behind:
            self.altered = self.others

    def leave(self) -> None:
        self.behind = True

    def changed(self) -> bool:
        plant = self.world.plant
        self.altered |= self.behind and self.others
        return self.altered and not (plant is not None and plant.blind)

    def miss(self) -> None: ...
    def unreadable(self, error: Exception) -> None: ...
    def stored(self, sealed: Any) -> None: ...
    def refused(self) -> None: ...
    def refreshed(self) -> None: ...
    def refresh_failed(self, error: BaseException) -> None: ...


def _drop(place: ops.Place) -> ops.Flow:
    return (yield ops.Drop(place))
