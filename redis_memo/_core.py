"""The cache's logic, once: generators that yield operations and are sent their results.

Nothing here touches a socket, a clock, a lock or a random number; each of those is an operation, performed
by whoever drives the generator: `drive` for sync callers, `adrive` for async ones, and in the tests a
scheduler that runs many flows against a model store in every order. (The shape is that of httpx's
authentication flows.)

The data path of a call: `read_through` reads the entry (`Read`); a miss asks for the lease (`Acquire`) and is
told the entry, the lease, or who holds it. The holder runs the function (`Compute`) and stores the result
if its token still stands (`Fill`); the others join it (`Join`, same process) or wait for its push (`Wait`).
The lease with a token that an invalidation revokes is Facebook's ("Scaling Memcache at Facebook", NSDI '13).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

from ._ops import (
    Acquire,
    Clock,
    Compute,
    Computed,
    DropMatching,
    Fill,
    Flow,
    FollowWait,
    Found,
    Held,
    Join,
    Land,
    Leased,
    Listen,
    NoteWait,
    Place,
    Put,
    Raised,
    Read,
    Release,
    Sealed,
    Seize,
    Subscription,
    TakeToken,
    Wait,
)
from .errors import StoreError, UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

__all__ = [
    "RECHECK",
    "Spec",
    "adrive",
    "drive",
    "drop_matching",
    "peek",
    "read_through",
    "refresh",
    "store",
]

LONGEST_CIRCLE = 16  # computations that wait for each other
RECHECK = 1.0  # seconds after which a waiter asks again, should the push have been lost


class Spec(Protocol):
    """What the flows need to know of one decorated function; all of it is free of I/O."""

    lease: float
    max_wait: float

    def unseal(self, entry: str, envelope: bytes) -> Any:
        """The value in an envelope. Raises UnreadableEntry."""

    def hit(self, entry: str, envelope: bytes) -> Any:
        """As `unseal`, counted as a hit."""

    def miss(self) -> None:
        """Count a miss."""

    def seal(self, place: Place, computed: Computed, now: float) -> Sealed | None:
        """The envelope to store (``ttl`` 0: to share only), or None where the value cannot be encoded."""

    def failed(self, error: StoreError) -> None:
        """Count and report an operation that failed; raises it where the user asked for that."""

    def unreadable(self, error: UnreadableEntry) -> None:
        """Count and report an entry that could not be read."""

    def refused(self) -> None:
        """Count a result that was not stored."""


def read_through(spec: Spec, entry: str, locate: Callable[[], Place]) -> Flow:
    """The value of one call: from the store, from somebody who computes it right now, or computed."""
    unreadable = None
    try:
        envelope = yield Read(entry)
        if envelope is not None:
            try:
                return spec.hit(entry, envelope)
            except UnreadableEntry as error:
                spec.unreadable(error)
                unreadable = envelope
    except StoreError as error:
        spec.failed(error)
        spec.miss()
        return (yield from _compute_alone())
    return (yield from _miss(spec, locate(), unreadable))


def _miss(spec: Spec, place: Place, unreadable: bytes | None) -> Flow:
    token: bytes = yield TakeToken()
    landed = False
    subscription: Subscription | None = None
    deadline: float | None = None
    try:
        while True:
            try:
                answer = yield Acquire(place, token, spec.lease, unreadable)
            except StoreError as error:
                spec.failed(error)
                break
            if isinstance(answer, Found):
                try:
                    return spec.hit(place.entry, answer.envelope)
                except UnreadableEntry as error:
                    spec.unreadable(error)
                    unreadable = answer.envelope
                    continue
            if isinstance(answer, Leased):
                landed = True
                spec.miss()
                return (yield from _lead(spec, place, token))
            now = yield Clock()
            if deadline is None:
                deadline = now + spec.max_wait
            left = min(deadline - now, RECHECK, max(answer.seconds, 0.01))
            if deadline <= now:
                break
            if (yield from _waits_for_itself(answer.holder)):
                break
            result = yield Join(answer.holder, left)
            if isinstance(result, Raised):
                spec.miss()
                return result
            if isinstance(result, Sealed):
                # Decoded anew, not handed over: each caller's value is its own (P2).
                return spec.hit(place.entry, result.envelope)
            if subscription is None:
                # Between that answer and the subscription the holder may have finished: ask once more.
                subscription = yield Listen(place)
            else:
                yield Wait(subscription, left)
    except StoreError:
        raise
    except GeneratorExit:
        # Closed, perhaps by the garbage collector: no more operations. Nobody renews the lease, so it ends.
        landed = True
        raise
    except BaseException:
        # Interrupted or cancelled. The lease may have been granted in an answer that nobody read.
        with contextlib.suppress(StoreError):
            yield Release(place, token)
        raise
    finally:
        if subscription is not None:
            subscription.close()
        if not landed:
            yield Land(token, None)
    spec.miss()
    return (yield from _compute_alone())


def _waits_for_itself(holder: bytes) -> Flow:
    """Whether waiting for this holder would never end: recursion on one's own key, or on each other's.

    Who waits inside of a computation notes it, and follows the notes of the others: a wait-for graph, in the store
    because the circle may lead through several processes.
    """
    held = yield Held()
    if not held:
        return False
    if holder in held:
        return True
    try:
        for token in held:
            yield NoteWait(token, holder)
        awaited = holder
        for _ in range(LONGEST_CIRCLE):
            further: bytes | None = yield FollowWait(awaited)
            if further is None:
                return False
            if further in held:
                return True
            awaited = further
    except StoreError:
        pass  # the wait is bounded anyhow
    return False


def _compute_alone() -> Flow:
    computed = yield Compute()
    return computed.value if isinstance(computed, Computed) else computed


def _lead(spec: Spec, place: Place, token: bytes) -> Flow:
    """Compute with the lease, store, and tell the others, come what may."""
    outcome: Sealed | Raised | None = None
    lease_stands, closed = True, False
    try:
        computed = yield Compute(place, token)
        if isinstance(computed, Raised):
            # Only what the function raised is the others' business, not that this caller was cancelled.
            outcome = computed if isinstance(computed.error, Exception) else None
            return computed
        now = yield Clock()
        outcome = spec.seal(place, computed, now)
        if outcome is not None and outcome.ttl > 0:
            # Sealing a large value takes a while, and the expiry is a moment, not a duration: a price that is
            # good until the open must not outlive it.
            left = outcome.ttl - ((yield Clock()) - now)
            try:
                if not (yield Fill(place, token, outcome.envelope, left)):
                    spec.refused()
                lease_stands = False
            except StoreError as error:
                spec.failed(error)
        return computed.value
    except GeneratorExit:
        closed = True
        raise
    finally:
        if not closed:
            yield Land(token, outcome)
            if lease_stands:
                with contextlib.suppress(StoreError):
                    yield Release(place, token)


def refresh(spec: Spec, place: Place) -> Flow:
    """Compute now, whatever is stored, and store the result; a computation in flight is superseded."""
    token: bytes = yield TakeToken()
    try:
        yield Seize(place, token, spec.lease)
    except StoreError as error:
        yield Land(token, None)
        spec.failed(error)
        return (yield from _compute_alone())
    except GeneratorExit:
        raise
    except BaseException:
        yield Land(token, None)
        with contextlib.suppress(StoreError):
            yield Release(place, token)
        raise
    return (yield from _lead(spec, place, token))


def peek(spec: Spec, entry: str, missing: object) -> Flow:
    """The stored value, or ``missing``; computes and counts nothing."""
    try:
        envelope = yield Read(entry)
        return missing if envelope is None else spec.unseal(entry, envelope)
    except StoreError as error:
        spec.failed(error)
    except UnreadableEntry as error:
        spec.unreadable(error)
    return missing


def store(spec: Spec, place: Place, value: object) -> Flow:
    """Store a value as the call's result; True if it was stored."""
    now = yield Clock()
    try:
        sealed = spec.seal(place, Computed(value, 0.0), now)
        if sealed is None or sealed.ttl <= 0:
            return False
        yield Put(place, sealed.envelope, sealed.ttl - ((yield Clock()) - now))
    except StoreError as error:
        spec.failed(error)
        return False
    return True


def drop_matching(prefix: str, tokens: bytes) -> Flow:
    """Delete entries and leases of all calls with these arguments; in steps that do not hold up the server."""
    total = 0
    more = True
    while more:
        gone, more = yield DropMatching(prefix, tokens, 500)
        total += gone
    return total


def drive(flow: Generator[Any, Any, Any], perform: Callable[[Any], Any]) -> Any:
    """Run a flow to its end with a function that performs operations.

    What ``perform`` raises is thrown into the flow, which may yield clean-up operations before it lets it pass.
    """
    try:
        op = flow.send(None)
        while True:
            try:
                result = perform(op)
            except BaseException as error:  # noqa: BLE001 - the flow decides, KeyboardInterrupt included
                op = flow.throw(error)
            else:
                op = flow.send(result)
    except StopIteration as stop:
        if type(stop.value) is not Raised:
            return stop.value
        raised = stop.value.error
    raise raised


async def adrive(flow: Generator[Any, Any, Any], perform: Callable[[Any], Awaitable[Any]]) -> Any:
    """As `drive`, with a coroutine function; a cancellation is thrown into the flow like any exception."""
    try:
        op = flow.send(None)
        while True:
            try:
                result = await perform(op)
            except GeneratorExit:
                raise  # this coroutine is closed: nothing can be awaited any more
            except BaseException as error:  # noqa: BLE001
                op = flow.throw(error)
            else:
                op = flow.send(result)
    except StopIteration as stop:
        if type(stop.value) is not Raised:
            return stop.value
        raised = stop.value.error
    raise raised
