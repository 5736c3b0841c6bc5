"""The cache's logic, once: generators that yield operations and are sent their results.

Nothing here touches a socket, a clock, a lock or a random number; each of those is an operation, performed
by whoever drives the generator (see `_drive`), and in the tests by a scheduler that runs many flows against a
model store in every order. (The shape is that of httpx's authentication flows.)

The data path of a call: `read_through` reads the entry (`Read`). Fresh, it is served; soon or lately stale, it is
served and computed anew behind the caller (`_serve_due`). A miss asks for the lease (`Acquire`) and is told the
entry, the lease, or who holds it. The holder runs the function (`Compute`) and stores the result if its token
still stands (`Fill`); the others join it (`Join`, same process) or wait for its push (`Wait`).
The lease with a token that an invalidation revokes is Facebook's ("Scaling Memcache at Facebook", NSDI '13).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ._large import Large
from ._ops import (
    FAILED,
    FILLED,
    UNCACHEABLE,
    Acquire,
    Ahead,
    Await,
    Chance,
    Clock,
    Compute,
    Computed,
    Early,
    Fill,
    Finished,
    Flow,
    FollowWait,
    Found,
    Held,
    Join,
    Land,
    Late,
    Leased,
    Listen,
    NoteWait,
    Place,
    Raised,
    Rally,
    Read,
    ReadLeft,
    Release,
    Resting,
    Sealed,
    Seize,
    Spawn,
    Subscription,
    TakeToken,
    Uncacheable,
    Wait,
)
from ._spec import Look, Spec, Standing
from .errors import StoreError, UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._large import Envelope

__all__ = ["RECHECK", "read_through", "refresh"]

LONGEST_CIRCLE = 16  # computations that wait for each other
RECHECK = 1.0  # seconds after which a waiter asks again, should the push have been lost
BELIEVED = 2  # processes in which a computation failed before a waiter takes the failure for its own


def read_through(spec: Spec, entry: str, locate: Callable[[], Place]) -> Flow:
    """The value of one call: from the store, from somebody who computes it right now, or computed."""
    look = None
    left = 0.0
    filling = spec.filling()
    try:
        if filling is None:
            envelope = yield Read(entry)
        else:
            envelope, left = yield ReadLeft(entry)
        if envelope is not None:
            try:
                if not spec.ages:
                    value = spec.hit(entry, envelope)
                    return value if filling is None else filling.take(value, envelope, left)
                look = spec.look(entry, envelope, (yield Clock()), (yield Chance()))
            except UnreadableEntry as error:
                spec.unreadable(error)
    except StoreError as error:
        spec.failed(error)
        spec.miss()
        return (yield from _in_time(spec, _just_compute(), None))
    if look is not None:
        if look.standing is Standing.FRESH:
            value = spec.serve(look)
            return value if filling is None else filling.take(value, envelope, left)
        if look.standing is Standing.DUE:
            return (yield from _serve_due(spec, locate(), look))
    return (yield from _miss(spec, locate(), envelope, look))


def _serve_due(spec: Spec, place: Place, look: Look) -> Flow:
    """Serve what is there, and have it computed anew behind the caller; once, over all processes."""
    token: bytes = yield TakeToken()
    handed_on = False
    try:
        answer = yield Acquire(place, token, spec.lease, look.envelope)
        if isinstance(answer, Leased):
            behind = _refresh_behind(spec, place, token, look.rest)
            handed_on = (yield Spawn(behind, awaited=False, place=place, token=token)) is not None
            if not handed_on:  # a later caller will find room for it
                yield Release(place, token)
        elif isinstance(answer, Found):
            newer = spec.look(place.entry, answer.envelope, (yield Clock()), (yield Chance()))
            look = look if newer.standing is Standing.OVER else newer
    except StoreError as error:
        handed_on = True
        yield from _let_go(place, token)
        spec.failed(error)
    except UnreadableEntry as error:
        spec.unreadable(error)
    except GeneratorExit:
        handed_on = True  # no more operations: see `_miss`
        raise
    except BaseException:
        handed_on = True
        yield from _let_go(place, token)
        raise
    finally:
        if not handed_on:
            yield Land(token, None)
    return spec.serve(look)


def _refresh_behind(spec: Spec, place: Place, token: bytes, rest: float) -> Flow:
    spec.leave()
    if spec.changed():
        yield from _let_go(place, token)
        return
    spec.refreshed()
    try:
        result = yield from _lead(spec, place, token, rest)
    except StoreError as error:  # the user wants to be told, and here is nobody to be told
        spec.refresh_failed(error)
    else:
        if isinstance(result, Raised):
            spec.refresh_failed(result.error)


def _miss(spec: Spec, place: Place, known: Envelope | None, look: Look | None) -> Flow:
    fallback = look if look is not None and look.standing is Standing.FALLBACK else None
    token: bytes = yield TakeToken()
    handed_on = False
    subscription: Subscription | None = None
    deadline: float | None = None
    patience: float | None = None
    holders: set[bytes] = set()
    failures: list[bytes] = []
    alone = None
    try:
        while True:
            try:
                answer = yield Acquire(place, token, spec.lease, known)
            except StoreError as error:
                # It may have been granted in an answer that was lost.
                with contextlib.suppress(StoreError):
                    yield Release(place, token)
                spec.failed(error)
                break
            if isinstance(answer, Found):
                try:
                    if not spec.ages:
                        return spec.hit(place.entry, answer.envelope)
                    look = spec.look(place.entry, answer.envelope, (yield Clock()), (yield Chance()))
                except UnreadableEntry as error:
                    spec.unreadable(error)
                else:
                    if look.standing in (Standing.FRESH, Standing.DUE):
                        return spec.serve(look)
                    fallback = look if look.standing is Standing.FALLBACK else None
                known = answer.envelope
                continue
            if isinstance(answer, Leased):
                handed_on = True
                spec.miss()
                rest = 0.0 if fallback is None else fallback.rest
                return (yield from _in_time(spec, _lead(spec, place, token, rest), fallback, place, token))
            if isinstance(answer, Resting):
                if fallback is not None:
                    return spec.serve(fallback)
                break
            holders.add(answer.holder)
            now = yield Clock()
            if deadline is None:
                patience = _patience(spec, fallback)
                deadline = now + (spec.max_wait if patience is None else min(patience, spec.max_wait))
            left = min(deadline - now, RECHECK, max(answer.seconds, 0.01))
            if deadline <= now:
                if fallback is not None:
                    return spec.serve(fallback)
                if patience is not None and patience <= spec.max_wait:
                    spec.miss()
                    return Raised(spec.late(patience))
                break
            if (yield from _waits_for_itself(answer.holder)):
                ahead: Ahead | None = yield Early(answer.holder)
                if ahead is not None and ahead.result is not None:
                    try:
                        return spec.hit(place.entry, ahead.result.envelope)
                    except UnreadableEntry as error:
                        spec.unreadable(error)
                alone = None if ahead is None else _ahead(spec, place, answer.holder)
                break
            result = yield Join(answer.holder, left)
            if isinstance(result, Late):
                continue  # and joined again, if its lease still stands
            if result is None:
                if subscription is None:
                    # Between that answer and the subscription the holder may have finished: ask once more.
                    subscription = yield Listen(place)
                    continue
                heard = yield Wait(subscription, left)
                result = yield from _what_came(spec, place, token, heard, left)
                failures += [note for note in heard if _counts(FAILED, note, subscription, holders)]
                if result is None and any(_counts(UNCACHEABLE, note, subscription, holders) for note in heard):
                    result = Uncacheable()
                if result is None and len(failures) >= BELIEVED:
                    # Nobody queues to find out once more what two processes have found out.
                    told = spec.unseal_failure(place.entry, _sealed(failures[-1]))
                    if told is not None:
                        result = Raised(told)
                    while result is None:  # the leader may have landed before it could be joined
                        leader = yield Rally(place.entry, token)
                        if leader == token:
                            handed_on = True
                            spec.miss()
                            return (yield from _in_time(spec, _lead(spec, place, token, 0.0), fallback, place, token))
                        result = yield Join(leader, left)
            if isinstance(result, Raised):
                if fallback is not None and isinstance(result.error, Exception):
                    return spec.serve(fallback)
                spec.miss()
                return result
            if isinstance(result, Uncacheable):
                break  # all who wait at once: one after the other each would find out the same
            if isinstance(result, Sealed):
                # Decoded anew, not handed over: each caller's value is its own (P2).
                try:
                    return spec.hit(place.entry, result.envelope)
                except UnreadableEntry as error:
                    spec.unreadable(error)
    except StoreError:
        raise
    except GeneratorExit:
        # Closed, perhaps by the garbage collector: no more operations. Nobody renews the lease, so it ends.
        handed_on = True
        raise
    except BaseException:
        if not handed_on:
            handed_on = True
            yield from _let_go(place, token)
        raise
    finally:
        if subscription is not None:
            subscription.close()
        if not handed_on:
            yield Land(token, None)
    spec.miss()
    return (yield from _in_time(spec, alone or _just_compute(), fallback))


def _what_came(spec: Spec, place: Place, token: bytes, heard: list[bytes], left: float) -> Flow:
    """The result that was pushed: `Sealed`, or None if there is none. Of a large one, a process fetches one copy."""
    filled = [note for note in heard if note.startswith(FILLED[:-1])]
    if not filled:
        return None
    if filled[-1].startswith(FILLED):
        return Sealed(filled[-1].removeprefix(FILLED), 0.0)
    leader = yield Rally(f"read {place.entry}", token)
    if leader != token:
        return (yield Join(leader, left))
    try:
        envelope = yield Read(place.entry)
    except StoreError as error:
        spec.failed(error)
        return None
    if envelope is None:
        return None  # gone again: who follows waits for what comes of this call
    result = Sealed(envelope, 0.0)
    yield Land(token, result)
    return result


def _failure(token: bytes, sealed: bytes) -> bytes:
    return b"%b%b:%b" % (FAILED, token, sealed)


def _counts(kind: bytes, note: bytes, subscription: Subscription, holders: set[bytes]) -> bool:
    """Whether it tells a waiter of a run that ended so, and not of one from before it began, which may come late.

    Whoever was found to hold the lease had not ended by then. Of two such holders the second began after the waiter.
    """
    return note.startswith(kind) and (subscription.ordered or note.removeprefix(kind).partition(b":")[0] in holders)


def _sealed(failure: bytes) -> bytes:
    return failure.removeprefix(FAILED).partition(b":")[2]


def _let_go(place: Place, token: bytes) -> Flow:
    """End a flight without a result, and a lease that may have been granted in an answer that nobody read."""
    yield Land(token, None)
    with contextlib.suppress(StoreError):
        yield Release(place, token)


def _waits_for_itself(holder: bytes) -> Flow:
    """Whether waiting for this holder would never end: recursion on one's own key, or on each other's.

    Whoever waits inside of a computation notes it, and follows the notes of the others: a wait-for graph, in the store
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


def _patience(spec: Spec, fallback: Look | None) -> float | None:
    return spec.limit if fallback is None or spec.patience is None else spec.patience


def _just_compute() -> Flow:
    computed = yield Compute()
    return computed.value if isinstance(computed, Computed) else computed


def _ahead(spec: Spec, place: Place, token: bytes) -> Flow:
    """Compute what is queued behind this caller, for all: else each who needs it would compute it, and all it needs."""
    computed = yield Compute(None, token)
    if isinstance(computed, Ahead):  # another one behind this caller needed it first
        assert computed.result is not None
        return spec.hit(place.entry, computed.result.envelope)
    if not isinstance(computed, Computed):
        return computed
    now = yield Clock()
    sealed = spec.seal(place, computed, now)
    if sealed is not None and not spec.changed():
        # The value is this caller's own, who may change it; what is large shares its memory.
        envelope = sealed.envelope.settle() if isinstance(sealed.envelope, Large) else sealed.envelope
        yield Early(token, Ahead(sealed._replace(envelope=envelope), now))
    return computed.value


def _in_time(spec: Spec, flow: Flow, fallback: Look | None, place: Place | None = None, token: bytes = b"") -> Flow:
    """What a computation returns; where it fails or takes too long, what there is to fall back on.

    One that takes too long goes on behind the caller and stores its result, as FusionCache's soft and hard time-outs.
    """
    patience = _patience(spec, fallback)
    handle: Any = None
    given_up = False

    def watched() -> Flow:
        result = yield from flow
        if given_up and isinstance(result, Raised):
            spec.refresh_failed(result.error)
        return Finished(result)

    if patience is not None:
        handle = yield Spawn(watched(), awaited=True, place=place, token=token, function=spec.function)
    if patience is None or handle is None:
        result = yield from flow
    elif isinstance(handle, Late):
        if place is not None:
            yield from _let_go(place, token)
        result = Raised(spec.not_begun())
    else:
        try:
            ended = yield Await(handle, patience)
        except BaseException:
            handle.abandon()
            raise
        if isinstance(ended, Finished):
            result = ended.result
        else:
            given_up = True
            if place is not None and not ended.begun:
                yield from _let_go(place, token)
            result = Raised(spec.late(patience))
    if fallback is not None and isinstance(result, Raised) and isinstance(result.error, Exception):
        return spec.rescue(fallback)
    return result


def _lead(spec: Spec, place: Place, token: bytes, rest: float) -> Flow:
    """Compute with the lease, store, and tell the others, come what may."""
    outcome: Sealed | Raised | Uncacheable | None = None
    farewell = Release(place, token)
    lease_stands, closed = True, False
    try:
        computed = yield Compute(place, token)
        if isinstance(computed, Raised):
            # Only what the function raised is the others' business, not that this caller was cancelled.
            if isinstance(computed.error, Exception) and not spec.changed():
                outcome = computed
                note = _failure(token, spec.seal_failure(place.entry, computed.error))
                farewell = Release(place, token, note, rest)
            return computed
        if isinstance(computed, Ahead):
            assert computed.result is not None
            now, outcome = computed.at, computed.result
        else:
            now = yield Clock()
            try:
                outcome = spec.seal(place, computed, now)
            except StoreError:
                raise
            except Exception as error:  # the user wants to be told, and so are those who wait
                if not spec.changed():
                    outcome = Raised(error)
                    farewell = Release(place, token, _failure(token, spec.seal_failure(place.entry, error)))
                raise
            # After it was sealed, as what the function returns may be one of its arguments.
            if spec.changed():
                outcome = None
            elif outcome is None:
                outcome = Uncacheable()
                farewell = Release(place, token, UNCACHEABLE + token)
        if isinstance(outcome, Sealed) and outcome.ttl > 0:
            # Sealing a large value takes a while, and the expiry is a moment, not a duration: a price that is
            # good until the open must not outlive it.
            left = outcome.ttl - ((yield Clock()) - now)
            try:
                if (yield Fill(place, token, outcome.envelope, left, outcome.tokens, outcome.key)):
                    spec.stored(outcome)
                else:
                    spec.refused()
                lease_stands = False
            except StoreError as error:
                spec.failed(error)
        if isinstance(computed, Ahead):
            assert isinstance(outcome, Sealed)
            return spec.hit(place.entry, outcome.envelope)
        return computed.value
    except GeneratorExit:
        closed = True
        raise
    finally:
        if not closed:
            yield Land(token, outcome)
            if lease_stands:
                with contextlib.suppress(StoreError):
                    yield farewell


def refresh(spec: Spec, place: Place) -> Flow:
    """Compute now, whatever is stored, and store the result; a computation in flight is superseded."""
    token: bytes = yield TakeToken()
    try:
        yield Seize(place, token, spec.lease)
    except StoreError as error:
        yield from _let_go(place, token)
        spec.failed(error)
        return (yield from _in_time(spec, _just_compute(), None))
    except GeneratorExit:
        raise
    except BaseException:
        yield from _let_go(place, token)
        raise
    return (yield from _in_time(spec, _lead(spec, place, token, 0.0), None, place, token))
