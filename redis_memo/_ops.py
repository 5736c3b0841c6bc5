"""What flows ask for, and what they are told: operations and results, as plain data.

The operations on the store are one round trip each, and all keys of one operation share a hash tag, hence a slot. The
others ask something of the process that drives the flow.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from ._bounds import NO_BOUNDS
from ._upkeep import Counted, Enroll, Enrolled, Mend, Mended, Strike, TakeTurn, Tidy, Touch, Trim, Trimmed, Usage, Used

if TYPE_CHECKING:
    from ._bounds import Bounds
    from ._large import Bytes, Envelope

__all__ = [
    "AT_ONCE", "DIGEST", "FAILED", "FILLED", "RELEASED", "UNCACHEABLE", "UNTAGGED", "Acquire", "Ahead", "Await",
    "Busy", "Chance", "Clock", "Compute", "Computed", "Count", "Counted", "Drop", "DropMatching", "Early",
    "Enroll", "Enrolled", "Fill", "Finished", "Flow", "FollowWait", "Found", "Held", "Info", "Inspect",
    "Inspected", "Join", "Kept", "Keys", "Land", "Late", "Leased", "Listen", "Mend", "Mended", "MoveKey",
    "NoteWait", "Op", "Place", "Put", "Raised", "Rally", "Read", "ReadLeft", "ReadParts", "Release", "Renew",
    "Resting", "Revoke", "Sealed", "Seize", "Spawn", "Strike", "Subscription", "TakeToken", "TakeTurn", "Tidy",
    "Together", "Touch", "Trim", "Trimmed", "Uncacheable", "Usage", "Used", "Wait",
]  # fmt: skip

AT_ONCE = 500  # operations in one exchange, or calls that one script drops, so that a server is not held up
DIGEST = 40  # characters of a call's digest at the end of its entry's key; as in index.lua
RELEASED = b"released"
FILLED = b"filled:"  # and the entry, if it is not large
FAILED = b"failed:"  # and the token of who ran the function, a colon, what it raised, sealed like a value
UNCACHEABLE = b"uncacheable:"  # and the token of who ran the function
UNTAGGED = bytes(8)  # the token of a computation whose tags depend on its result


class Place(NamedTuple):
    """Where one call's entry lives, and by which tokens (of arguments and tags, 8 bytes each) it is found.

    What is stored there keeps the function within the bounds.
    """

    prefix: str
    digest: str
    tokens: bytes
    bounds: Bounds = NO_BOUNDS

    @property
    def entry(self) -> str:
        """Key of the entry."""
        return self.prefix + self.digest

    @property
    def lease(self) -> str:
        """Key of the lease."""
        return f"{self.prefix}{self.digest}:lease"


# Operations on the store. Each is one round trip; all keys of one operation share a hash tag, hence a slot.


class Read(NamedTuple):
    """Get the entry: `Envelope` or None."""

    entry: str


class ReadLeft(NamedTuple):
    """Get the entry and the seconds that it has left: (`Envelope` or None, a number)."""

    entry: str


class ReadParts(NamedTuple):
    """Get parts of an entry: a list of as many strings; shorter ones where there is no more, empty where it is gone.

    Each is of the string at the entry's key (chunk None) or of a chunk beside it, which ``start`` names: the first
    bytes of that string, empty for parts of that string only.
    """

    entry: str
    start: Bytes
    spans: tuple[Any, ...]


class Acquire(NamedTuple):
    """Get the entry, or the right to compute it, or word of who has that right.

    ``known`` is an envelope that will not do: it cannot be read, or is past its soft expiry.
    """

    place: Place
    token: bytes
    lease: float
    known: Envelope | None


class Seize(NamedTuple):
    """Take the right to compute from whoever has it."""

    place: Place
    token: bytes
    lease: float


class Renew(NamedTuple):
    """Hold the lease for longer; False if it does not stand any more."""

    place: Place
    token: bytes
    lease: float


class Fill(NamedTuple):
    """Store what was computed if the token stands; True if it did, `Kept` where the place has bounds.

    ``tokens`` are those it is found by from now on. ``key`` is what a mapping returns for it when iterated over,
    sealed; so for `Put`.
    """

    place: Place
    token: bytes
    envelope: Envelope
    ttl: float
    tokens: bytes
    key: bytes = b""


class Release(NamedTuple):
    """Give the lease back with nothing stored.

    ``note`` says why to those who wait; for ``rest`` seconds nobody who still has an entry to serve gets the lease.
    """

    place: Place
    token: bytes
    note: bytes = RELEASED
    rest: float = 0.0


class Put(NamedTuple):
    """Store a value unconditionally; what is being computed is superseded. True if nothing was listed, as `Leased`.

    `Kept` where the place has bounds.
    """

    place: Place
    envelope: Envelope
    ttl: float
    tokens: bytes
    key: bytes = b""


class Drop(NamedTuple):
    """Delete entry and lease of one call, or nothing if it is not the ``known`` one; returns how many entries went."""

    place: Place
    known: Envelope | None = None


class DropMatching(NamedTuple):
    """Delete some of the entries and leases that have all the tokens; returns (how many went, whether more may be)."""

    prefix: str
    tokens: bytes
    limit: int


class Revoke(NamedTuple):
    """Delete leases only, of calls that have the token; returns (how many went, whether more may be)."""

    prefix: str
    token: bytes
    limit: int


class Count(NamedTuple):
    """Number of live entries."""

    prefix: str


class Keys(NamedTuple):
    """Some of a mapping's keys, in the order of insertion: (where to go on or "", last place, [(digest, key), ...]).

    ``after`` and ``last`` are as answered before, empty at first. The keys are sealed.
    """

    prefix: str
    limit: int
    after: str = ""
    last: str = ""
    back: bool = False


class MoveKey(NamedTuple):
    """Make a key the last or the first of its mapping; False if there is no such entry."""

    place: Place
    last: bool


class Inspect(NamedTuple):
    """Where one entry stands, for `explain`."""

    place: Place


class Inspected(NamedTuple):
    """Answer to `Inspect`: seconds left of entry and lease (None: not there).

    ``before`` entries of ``entries`` are evicted sooner (None: nothing is bounded).
    """

    entry_ttl: float | None
    lease_ttl: float | None
    before: int | None = None
    entries: int = 0


class Info(NamedTuple):
    """What the server that has some key says of itself, by name."""

    key: str = ""


class Together(NamedTuple):
    """Perform operations on the store in one exchange with each server that has some of their keys.

    A list of as many answers, a StoreError where one failed: the others were carried out all the same.
    """

    ops: list[Any]


class NoteWait(NamedTuple):
    """Say that who holds one token waits for the holder of another; forgotten within seconds if not repeated."""

    token: bytes
    awaited: bytes


class FollowWait(NamedTuple):
    """The token that the holder of this one waits for: bytes or None."""

    token: bytes


# Operations on this process.


class Clock(NamedTuple):
    """Seconds since 1970."""


class Chance(NamedTuple):
    """A random number, above 0 and up to 1."""


class Held(NamedTuple):
    """The tokens of the computations that this caller is inside of, and of what is queued behind them."""


class Early(NamedTuple):
    """What was computed ahead of its turn, of a computation that is queued behind this caller: `Ahead`.

    None if no queued computation has this token. With ``ahead``, leaves that result for whoever asks, and for its own
    flow.
    """

    token: bytes
    ahead: Ahead | None = None


class TakeToken(NamedTuple):
    """A new token that no other computation has; opens the flight that others in this process can join."""


class Compute(NamedTuple):
    """Run the function: `Computed` or `Raised`, never an exception. With a place and token, keep their lease alive.

    `Ahead` where it ran already for who could not wait for its turn. A token without a place is the lease of a caller
    that this one is inside of.
    """

    place: Place | None = None
    token: bytes = b""


class Join(NamedTuple):
    """Wait for a flight of this process.

    `Sealed`, `Raised` or `Uncacheable` is how it ended, `Late` that it has not; None says that there is no such flight
    here, or that it came to nothing: ask again.
    """

    token: bytes
    seconds: float


class Listen(NamedTuple):
    """Subscribe to what happens at a place; from its return on, nothing is missed."""

    place: Place


class Wait(NamedTuple):
    """Wait until the subscription tells of something, at most so long: a list of what it told, perhaps empty."""

    subscription: Subscription
    seconds: float


class Land(NamedTuple):
    """The flight of this token is over: tell those who joined it.

    Where it is not ``over``, its result is known and about to be stored: whoever joins it until then is told at once.
    """

    token: bytes
    result: Sealed | Raised | Uncacheable | None
    over: bool = True


class Rally(NamedTuple):
    """The token of whoever does a thing (computes, without a lease; reads) and began so here after ours was taken.

    If there is none it is the given one, whose holder does it now. What began before this call did may be older than
    an invalidation that came first (P3).
    """

    what: str
    token: bytes


class Spawn(NamedTuple):
    """Drive a flow behind the caller: a handle for `Await`, or None where there is no room for it.

    With ``awaited`` the caller waits for it, so that it begins at once. It does not begin, which is answered by `Late`,
    where too many runs of the ``function`` that nobody waits for any more still go on. Who stops waiting before `Await`
    has its answer, by an exception, calls the handle's ``abandon()``. What is behind the caller holds none of the
    tokens that the caller does.
    """

    flow: Flow
    awaited: bool
    place: Place | None = None
    token: bytes = b""
    function: str = ""


class Await(NamedTuple):
    """Wait for what was spawned: `Finished`, or `Late`. What did not begin by then never will."""

    handle: Any
    seconds: float


Op: TypeAlias = (
    Read | ReadLeft | ReadParts | Acquire | Seize | Renew | Fill | Release | Put | Drop | DropMatching | Revoke | Count
    | Keys | MoveKey | Inspect | Info | Touch | Mend | Usage | Trim | TakeTurn | Counted | NoteWait | FollowWait
    | Enroll | Enrolled | Strike | Tidy | Together | Held | Early
    | Clock | Chance | TakeToken | Compute | Join | Listen | Wait | Land | Rally | Spawn | Await
)  # fmt: skip
Flow: TypeAlias = Generator[Op, Any, Any]


class Subscription(Protocol):
    """What `Listen` returns.

    Attributes:
        ordered: What it tells of happened after `Listen` returned. Elsewhere it may have happened before.
    """

    ordered: bool

    def close(self) -> None:
        """Stop listening; returns at once."""


# Results.


class Found(NamedTuple):
    """The entry is there."""

    envelope: Envelope


class Leased(NamedTuple):
    """The right to compute is the caller's.

    ``first`` tells that nothing of the function was listed: it is new, or the server lost what it had.
    """

    first: bool = False


class Kept(NamedTuple):
    """Answer to what stores within bounds: as without them, how many entries had to go, and whether to `Mend`.

    ``ever`` is how many any process evicted since the lists were made.
    """

    answer: bool
    evicted: int
    mend: bool
    ever: int = 0


class Busy(NamedTuple):
    """Somebody else computes."""

    holder: bytes
    seconds: float


class Resting(NamedTuple):
    """The last computation failed a moment ago: the entry that the caller has is to be served for now."""


class Computed(NamedTuple):
    """What the function returned, and how long it took.

    Where it ran for several calls at once ``seconds`` is this one's share, and ``ran`` how long it ran.
    """

    value: Any
    seconds: float
    ran: float = 0.0


class Raised(NamedTuple):
    """What the function raised. A flow returns it, the driver raises it: a generator could not raise StopIteration."""

    error: BaseException


class Sealed(NamedTuple):
    """An encoded value; not to be stored, but shared with who waits for it, when ``ttl`` is 0.

    ``saved`` is how many bytes compression took away.
    """

    envelope: Envelope
    ttl: float
    tokens: bytes = b""
    key: bytes = b""
    saved: int = 0


class Uncacheable(NamedTuple):
    """The result can be neither stored nor shared: whoever waits for it needs a run of its own."""


class Ahead(NamedTuple):
    """Answer to `Early`, and to `Compute` in its turn: the result, sealed at a moment; None where there is none yet."""

    result: Sealed | None = None
    at: float = 0.0


class Finished(NamedTuple):
    """What a spawned flow returned: the value, or `Raised`."""

    result: Any


class Late(NamedTuple):
    """What was waited for took too long; it goes on, unless it had not begun."""

    begun: bool = True
