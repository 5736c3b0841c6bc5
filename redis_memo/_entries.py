"""What is done with entries without running the function: flows as in `_core`, which look, store and delete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import _ops as ops
from ._ops import (
    UNTAGGED,
    Clock,
    Computed,
    Counted,
    Drop,
    DropMatching,
    Flow,
    Inspect,
    Place,
    Put,
    Read,
    ReadLeft,
    ReadParts,
    Revoke,
    Usage,
    Used,
)
from ._spec import Spec, Standing
from .errors import StoreError, UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._large import Envelope

__all__ = [
    "adopt",
    "contains",
    "drop_matching",
    "drop_tagged",
    "lookup",
    "peek",
    "peek_columns",
    "side_by_side",
    "start_anew",
    "store",
    "take",
    "together",
    "usage",
    "withdraw",
]

DROP_OF_EACH = 8  # of each shard, where one exchange asks for many


def peek(spec: Spec, entry: str, missing: object) -> Flow:
    """What a call would be served from the store, or ``missing``; computes and counts nothing."""
    try:
        envelope = yield Read(entry)
        if envelope is not None:
            look = spec.look(entry, envelope, (yield Clock()), 1.0)
            return look.value if look.standing in (Standing.FRESH, Standing.DUE) else missing
    except StoreError as error:
        spec.failed(error)
    except UnreadableEntry as error:
        spec.unreadable(error)
    return missing


def lookup(spec: Spec, entry: str, missing: object) -> Flow:
    """As `peek`, where there is no function to run: counted as a hit or a miss."""
    left = 0.0
    filling = spec.filling()
    try:
        if filling is None:
            envelope = yield Read(entry)
        else:
            envelope, left = yield ReadLeft(entry)
        if envelope is not None:
            if not spec.ages:
                value = spec.hit(entry, envelope)
                return value if filling is None else filling.take(value, envelope, left)
            look = spec.look(entry, envelope, (yield Clock()), 1.0)
            if look.standing is Standing.FRESH and filling is not None:
                return filling.take(spec.serve(look), envelope, left)
            if look.standing in (Standing.FRESH, Standing.DUE):
                return spec.serve(look)
    except StoreError as error:
        spec.failed(error)
    except UnreadableEntry as error:
        spec.unreadable(error)
    spec.miss()
    return missing


def contains(spec: Spec, place: Place) -> Flow:
    """Whether there is an entry; without reading it, where its expiry is the server's."""
    if spec.ages:
        return (yield from peek(spec, place.entry, place)) is not place
    try:
        return (yield Inspect(place)).entry_ttl is not None
    except StoreError as error:
        spec.failed(error)
    return False


def take(spec: Spec, place: Place, missing: object) -> Flow:
    """The entry's value, and delete it: of several that take it together, one gets it. Raises StoreError."""
    while True:
        envelope = yield Read(place.entry)
        if envelope is None:
            return missing
        try:
            look = spec.look(place.entry, envelope, (yield Clock()), 1.0)
        except UnreadableEntry as error:
            spec.unreadable(error)
            look = None
        if (yield Drop(place, envelope)):
            return look.value if look is not None and look.standing in (Standing.FRESH, Standing.DUE) else missing


def peek_columns(spec: Spec, entry: str, names: Sequence[object], missing: object) -> Flow:
    """As `peek`, with some columns of a frame; of a large one only their bytes are read."""
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        # A name alone would be taken for as many as it has letters.
        raise TypeError("peek_columns() takes the columns' names first, as a list: peek_columns(['close'], ...)")
    try:
        (start,) = yield ReadParts(entry, b"", ((None, 0, spec.first),))
        if not start:
            return missing
        reading = spec.columns(entry, start, names)
        if spec.standing(reading.stamp, (yield Clock()), 1.0) not in (Standing.FRESH, Standing.DUE):
            return missing
        while reading.needs:
            reading.take((yield ReadParts(entry, start, reading.needs)))
        return reading.value
    except StoreError as error:
        spec.failed(error)
        return missing
    except UnreadableEntry:
        pass  # it was replaced meanwhile, or has to be read as a whole
    value = yield from peek(spec, entry, missing)
    return value if value is missing else spec.whole(value, names)


def store(spec: Spec, place: Place, value: object) -> Flow:
    """Store a value as the call's result; True if it was stored."""
    now = yield Clock()
    try:
        sealed = spec.seal(place, Computed(value, 0.0), now)
        if sealed is None or sealed.ttl <= 0:
            return False
        yield Put(place, sealed.envelope, sealed.ttl - ((yield Clock()) - now), sealed.tokens, sealed.key)
        spec.stored(sealed)
    except StoreError as error:
        spec.failed(error)
        return False
    return True


def together(several: Sequence[ops.Op]) -> Flow:
    """What operations answer that are asked for at once, in one exchange with each server.

    Raises:
        StoreError: One of them failed; the others were carried out all the same.
    """
    answers: list[Any] = yield from _tried(several)
    for answer in answers:
        if isinstance(answer, StoreError):
            raise answer
    return answers


def _tried(several: Sequence[ops.Op]) -> Flow:
    """As `together`, with errors in the place of answers."""
    if len(several) == 1:
        try:
            return [(yield several[0])]
        except StoreError as error:
            return [error]
    answers: list[Any] = []
    for at in range(0, len(several), ops.AT_ONCE):
        answers += yield ops.Together(list(several[at : at + ops.AT_ONCE]))
    return answers


def side_by_side(flows: Iterable[Flow]) -> Flow:
    """Run flows that return nothing, and what they ask for next goes out together.

    Raises:
        StoreError: One of them did, after the others had ended.
    """
    failed: StoreError | None = None
    begun = list(flows)
    told: list[tuple[Flow, Any]] = [(flow, None) for flow in begun]
    try:
        while told:
            asked: list[tuple[Flow, ops.Op]] = []
            for flow, answer in told:
                try:
                    asked.append((flow, flow.throw(answer) if isinstance(answer, StoreError) else flow.send(answer)))
                except StopIteration:
                    pass
                except StoreError as error:
                    failed = failed or error
            answers = yield from _tried([op for _, op in asked])
            told = [(flow, answer) for (flow, _), answer in zip(asked, answers, strict=True)]
    finally:
        for flow in begun:  # all have ended, unless something else was raised: then they give back what they took
            flow.close()
    if failed is not None:
        raise failed


def adopt(place: Place, lease: float, sealed: ops.Sealed, until: float, over: Envelope | None) -> Flow:
    """Store what was computed elsewhere, at another time, until a moment; True if it was stored, or who is `ops.Busy`.

    It takes the place of the entry ``over`` or of none: what somebody has stored meanwhile, or computes right now, is
    newer. An invalidation that comes in between is heeded, as by any computation's fill.
    """
    token: bytes = yield ops.TakeToken()
    stands = True
    try:
        answer = yield ops.Acquire(place, token, lease, over)
        if not isinstance(answer, ops.Leased):
            stands = False
            return answer if isinstance(answer, ops.Busy) else False
        left = until - (yield Clock())
        if left <= 0 or not (yield ops.Fill(place, token, sealed.envelope, left, sealed.tokens, sealed.key)):
            return False
        stands = False
        return True
    finally:
        yield ops.Land(token, None)
        if stands:
            yield ops.Release(place, token)


def withdraw(place: Place, lease: float, entry: Envelope) -> Flow:
    """Delete this very entry; False where there is another by now, `ops.Busy` where one is being computed."""
    token: bytes = yield ops.TakeToken()
    try:
        answer = yield ops.Acquire(place, token, lease, entry)
        if not isinstance(answer, ops.Leased):
            return answer if isinstance(answer, ops.Busy) else False
        yield ops.Drop(place)
        return True
    finally:
        yield ops.Land(token, None)


def drop_matching(prefixes: Sequence[str], tokens: bytes) -> Flow:
    """Delete entries and leases of all calls with these tokens, in every shard; in steps that do not hold up a server.

    Raises:
        StoreError: A shard could not be asked; what the others had is gone.
    """
    few = max(ops.AT_ONCE // max(len(prefixes), 1), DROP_OF_EACH)
    answers = yield from _tried([DropMatching(prefix, tokens, few) for prefix in prefixes])
    failed: StoreError | None = None
    total = 0
    for prefix, first in zip(prefixes, answers, strict=True):
        answer = first
        # One after the other: a script for many costs more than the way to it, and all at once would hold up a server.
        while not isinstance(answer, StoreError):
            gone, more = answer
            total += gone
            if not more:
                break
            (answer,) = yield from _tried([DropMatching(prefix, tokens, ops.AT_ONCE)])
        else:
            failed = failed or answer
    if failed is not None:
        raise failed
    return total


def start_anew(prefixes: Sequence[str], tokens: bytes) -> Flow:
    """As `drop_matching`, and forget what all processes counted."""
    total = yield from drop_matching(prefixes, tokens)
    yield from together([Counted(prefix, forget=True) for prefix in prefixes])
    return total


def usage(prefixes: Sequence[str], telling: Callable[[str], Flow] | None) -> Flow:
    """What a function's entries take up, over all of its shards; with ``telling`` also what all processes counted.

    ``telling`` tells the store what this process counted, so that it is included.
    """
    questions: list[ops.Op] = [Usage(prefix) for prefix in prefixes]
    if telling is not None:
        yield from side_by_side(map(telling, prefixes))
        questions += [Counted(prefix) for prefix in prefixes]
    answers = yield from together(questions)
    used: list[Used] = answers[: len(prefixes)]
    counted: dict[str, float] = {}
    for told in answers[len(prefixes) :]:
        for name, amount in told.items():
            counted[name] = counted.get(name, 0) + amount
    entries = [each.entries for each in used if each.entries is not None]
    oldest = [each.oldest for each in used if each.oldest is not None]
    whole = Used(
        sum(each.current for each in used),
        sum(entries) if entries else None,
        sum(each.size for each in used),
        min(oldest, default=None),
    )
    return whole, None if telling is None else counted


def drop_tagged(prefixes: Sequence[str], tags: Iterable[bytes]) -> Flow:
    """Delete entries and leases of all calls with any of these tags, as tokens, in every shard.

    Raises:
        StoreError: A shard could not be asked; what the others had is gone.
    """
    failed: StoreError | None = None
    computing = list(prefixes)
    while computing:
        # What is being computed may turn out to have the tag. Nobody can tell before it is done, so it is not stored.
        answers = yield from _tried([Revoke(prefix, UNTAGGED, ops.AT_ONCE) for prefix in computing])
        asked, computing = computing, []
        for prefix, answer in zip(asked, answers, strict=True):
            if isinstance(answer, StoreError):
                failed = failed or answer
            elif answer[1]:
                computing.append(prefix)
    total = 0
    for tag in tags:
        try:
            total += yield from drop_matching(prefixes, tag)
        except StoreError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return total
