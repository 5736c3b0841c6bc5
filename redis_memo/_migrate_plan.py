"""What becomes of an item: opened, its call found, its value sealed as of when it was computed, its lifetime known."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from . import _clock as clock
from . import _ops as ops
from ._codecs import dumps, loads
from ._durations import format_duration
from ._envelope import TAG
from ._keys import encode
from ._large import Large
from ._migrate_calls import computed
from ._migrate_fields import Unfit
from ._migrate_frames import to_frame
from ._migrate_items import open_item
from ._migrate_sources import created_in
from ._policy import resolve
from .errors import KeyingError, RedisMemoError, UnsupportedType

if TYPE_CHECKING:
    from ._invocation import Invocation
    from ._large import Envelope
    from ._migrate_calls import Target
    from ._migrate_items import Item, Mark
    from ._migrate_rules import Rules

__all__ = ["Outcome", "Ready", "as_returned", "difference", "frames_differ", "prepare", "same", "tag_of"]

_ROWS: Final = ("rows", "row_count", "num_rows", "n_rows", "nrows")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an item.

    Attributes:
        item: Its name.
        state: ``"ready"`` (a dry run would migrate it), ``"migrated"``, ``"present"`` (an equal result is in Redis
            already), ``"done"`` (by an earlier run), ``"stale"``, ``"superseded"`` (another item has a newer result of
            the same call), ``"newer"`` (Redis has one), ``"skipped"`` (the mapping says so), or ``"failed"``.
        why: Of the states from ``"stale"`` on.
        key: Of the entry, once its call is known.
        size: Bytes that are stored, or would be.
        created: When the value was computed, seconds since 1970.
        remaining: Seconds that the entry would be served from now.
    """

    item: str
    state: str
    why: str = ""
    key: str = ""
    size: int = 0
    created: float = 0.0
    remaining: float = 0.0


@dataclass(frozen=True, slots=True)
class Ready:
    """An item that can be stored."""

    item: Item
    call: Invocation
    value: Any
    mark: Mark
    sealed: ops.Sealed
    created: float
    until: float
    fresh_until: float

    @property
    def place(self) -> ops.Place:
        """Where its entry goes."""
        return self.call.locate()

    def outcome(self, state: str, why: str = "") -> Outcome:
        """What became of it."""
        remaining = max(min(self.fresh_until, self.until) - clock.now(), 0.0)
        return Outcome(self.item.name, state, why, self.call.entry, len(self.sealed.envelope), self.created, remaining)


def prepare(item: Item, target: Target, rules: Rules, now: float, *, trust: bool) -> Ready | Outcome:
    """Open an item, and seal its value for the call that it answers; or say why that cannot be.

    Raises:
        StoreError: The embedded server, which keeps the secret, cannot be started.
    """
    call = None
    if item.of is not None and item.of != rules.where.get("function", target.name):
        return Outcome(item.name, "skipped", f"is of the function {item.of}")
    try:
        opened = open_item(item, rules, trust=trust)
        fields = {**opened.fields, **item.fields}
        if any(fields.get(name) != wanted for name, wanted in rules.where.items() if name != "function"):
            return Outcome(item.name, "skipped", "the mapping's [where] leaves it")
        _check_rows(opened.value, fields)
        call = target.invocation(fields, rules) if item.call is None else target.bare(*item.call)
        if call is None:
            return Outcome(item.name, "skipped", "the mapping leaves it")
        created = created_in(fields, rules) if item.created is None else item.created
        created = min(now if created is None else created, now)
        value = (
            opened.value if rules.reader is not None else as_returned(opened.value, target.annotations.get("return"))
        )
        place = call.locate()
        sealed = call.seal(place, ops.Computed(value, 0.0), created)
    except Unfit as error:
        return Outcome(item.name, "failed", str(error), "" if call is None else call.entry)
    if sealed is None or sealed.ttl <= 0:
        return Outcome(item.name, *_why_not(call, value, created), key=call.entry, created=created)
    if isinstance(sealed.envelope, Large):
        sealed = sealed._replace(envelope=sealed.envelope.settle())
    memo = target.memo
    until = created + sealed.ttl
    fresh_until = until - max(memo.stale, memo.stale_if_error)
    if item.expires is not None:
        until = min(until, item.expires)
    if min(fresh_until, until) <= now:
        since = format_duration(round(max(now - min(fresh_until, until), 1)))
        which = "its old cache says" if until < fresh_until else "the function's ttl= says"
        why = f"is stale for {since}: {which} so, of a result that is {_age(now - created)} old"
        return Outcome(item.name, "stale", why, call.entry, len(sealed.envelope), created)
    return Ready(item, call, value, opened.mark, sealed, created, until, fresh_until)


def as_returned(value: Any, annotation: Any) -> Any:
    """A value as the function says that it returns it; records become a frame.

    Raises:
        Unfit: It is something else: all of a document, say, of which the function returned a part.
    """
    kinds = [typing.get_origin(each) or each for each in _choices(annotation)]
    if not kinds or not all(isinstance(kind, type) for kind in kinds):
        return value
    try:
        fits = isinstance(value, tuple(kinds)) or (float in kinds and type(value) is int)
    except TypeError:  # a TypedDict, or a protocol: not to be told from the value
        return value
    if fits:
        return value
    if [kind.__name__ for kind in kinds if kind is not type(None)] == ["DataFrame"] and isinstance(value, list):
        return to_frame(value)
    said = " or ".join(kind.__name__ for kind in kinds)
    raise Unfit(
        f"holds a {type(value).__name__}, and the function says that it returns a {said}: value= says where in it the "
        "result stands, reader= makes it of the file; else correct the annotation"
    )


def _choices(annotation: Any) -> tuple[Any, ...]:
    if annotation in (None, Any, object):
        return ()
    if typing.get_origin(annotation) is typing.Annotated:
        return _choices(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(each for choice in typing.get_args(annotation) for each in (_choices(choice) or (Any,)))
    return (annotation,)


def _age(seconds: float) -> str:
    return format_duration(round(max(seconds, 1)))


def _check_rows(value: Any, fields: Any) -> None:
    """A frame that lost rows shows where its metadata counted them."""
    for name in _ROWS:
        count = fields.get(name)
        if type(count) is int and hasattr(value, "columns") and hasattr(value, "index") and len(value) != count:
            raise Unfit(f"has {len(value)} rows, and its metadata says {count}: it was cut off, or has changed since")


def _why_not(call: Invocation, value: object, created: float) -> tuple[str, str]:
    """State and reason of a value that was not sealed."""
    memo = call.memo
    try:
        if memo.cache_if is not None and not memo.cache_if(value):
            return "skipped", "the function's cache_if= keeps such a result out"
        if resolve(memo.lifetime(), call.finished(value, created, 0.0)) <= 0:
            return "stale", "the function's ttl= stores no such result of that moment"
        dumps(value, allow_pickle=memo.engine.sealer.may_pickle)
    except UnsupportedType as error:
        remedy = " (REDIS_MEMO_SECRET or configure(secret=...) sets one)" if error.secret_helps else ""
        return "failed", f"cannot be stored: {error}{remedy}"
    except RedisMemoError as error:
        return "failed", str(error)
    except Exception as error:  # noqa: BLE001 - a user's cache_if or policy may raise anything
        return "failed", f"cache_if=, ttl= or tags= of the function raised {type(error).__name__}"
    return "failed", "is too large to be stored"


def difference(ready: Ready, target: Target) -> str:
    """What is different about the value that the function itself returns now; empty if nothing is.

    It runs the function, which may ask whatever it asks.
    """
    try:
        value = computed(ready.call)
    except Exception as error:  # noqa: BLE001 - the user's function
        return f"the function raised {type(error).__name__}{target.hint}"
    try:
        if same(ready.value, value):
            return ""
    except UnsupportedType:
        return f"the function returned a {type(value).__name__}, which cannot be stored"
    if type(ready.value) is not type(value):
        return f"the function returned a {type(value).__name__}, and this is a {type(ready.value).__name__}"
    if type(value).__module__.partition(".")[0] == "pandas":
        return frames_differ(ready.value, value)
    return f"both are of type {type(value).__name__}, and differ"


def frames_differ(ours: Any, theirs: Any, *, values: bool = True) -> str:
    """The first of the things in which frames differ that a mapping can put right; without values: empty if nothing."""
    if hasattr(ours, "columns"):
        one, other = ([f"{name} {dtype}" for name, dtype in frame.dtypes.items()] for frame in (ours, theirs))
        if one != other:
            return f"the function's columns are {', '.join(other)}; these {', '.join(one)}"
    if hasattr(ours, "index"):
        shown = [
            f"{type(f.index).__name__} {f.index.name!r} of {f.index.dtype} "
            f"({type(getattr(f.index, 'tz', None)).__module__}, freq {getattr(f.index, 'freq', None)})"
            for f in (ours, theirs)
        ]
        if shown[0] != shown[1]:
            return f"the function's index is a {shown[1]}, this one a {shown[0]}"
    if not values:
        return ""
    if len(ours) != len(theirs):
        return f"the function returned {len(theirs)} rows, and these are {len(ours)}"
    return "types and rows are alike, and some values (or attrs) differ"


def tag_of(envelope: Envelope) -> str:
    """What tells an entry from all others: its tag in hex; empty for what is no entry."""
    head = envelope.pieces[0] if isinstance(envelope, Large) else envelope
    return bytes(head[TAG]).hex()


def same(one: object, other: object) -> bool:
    """Whether two values are equal in everything that is stored: types, dtypes, indexes, zones, order, bits.

    They are compared as they are encoded, for values and, where they can be keyed, for keys too: two encoders that know
    nothing of each other. A pickle differs from that of an equal object by which strings it shares, a set by the order
    in which it was filled; so where the first comparison fails, it is made with a copy that went through the same.
    """
    if type(one) is not type(other):
        return False
    mine, theirs = (dumps(each, allow_pickle=True, as_it_lies=False) for each in (one, other))
    equal = (mine.meta, list(map(bytes, mine.buffers))) == (theirs.meta, list(map(bytes, theirs.buffers)))
    if not equal:
        back = loads(mine.meta, [bytes(each) for each in mine.buffers], trusted=True)
        again = dumps(back, allow_pickle=True, as_it_lies=False)
        if (again.meta, list(map(bytes, again.buffers))) != (theirs.meta, list(map(bytes, theirs.buffers))):
            return False
    try:
        return encode(one) == encode(other)
    except KeyingError:
        return equal or mine.pickled
