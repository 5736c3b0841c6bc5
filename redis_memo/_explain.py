"""Where one call stands: what its key is made of, and what is stored there."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _ops as ops
from ._codecs import loads
from ._keys import digest, encode
from ._policy import Policy
from .errors import KeyingError, StoreError, UnreadableEntry

if TYPE_CHECKING:
    from ._envelope import Entry
    from ._invocation import Invocation

__all__ = ["Explanation", "Part", "explain"]


@dataclass(frozen=True, slots=True)
class Part:
    """One argument's part in the key.

    Attributes:
        name: The parameter.
        type_name: Type of the argument; never the argument itself.
        token: Eight bytes of its digest in hex: equal for equal arguments; empty where it cannot be keyed.
        ignored: It takes no part.
    """

    name: str
    type_name: str
    token: str
    ignored: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer of ``explain``; printed, it is made for people.

    Attributes:
        function: Name of the function.
        key: Redis key of the call's entry.
        parts: The arguments.
        server: Where it was looked for.
        state: ``"stored"``, ``"absent"``, ``"computing"`` (a lease stands), ``"unreadable"`` or ``"unknown"``.
        detail: Why, for the last two.
        expires_in: Seconds the entry has left.
        age: Seconds since it was made, by its writer's clock.
        compute_seconds: What it took to compute.
        size: Bytes stored.
        lease_seconds: Seconds that a computation's lease has left before it must be renewed.
        fresh_for: Seconds until its soft expiry; below zero it is stale.
        evicted_after: How many entries are evicted sooner; None where the function has no bounds.
        entries: How many there are, where it has.
        near: Whether this process holds it, so that a call would not ask Redis.
        expiry: Why it was given the lifetime that it has; empty where the policy does not say.
    """

    function: str
    key: str
    parts: tuple[Part, ...]
    server: str
    state: str
    detail: str = ""
    expires_in: float | None = None
    age: float | None = None
    compute_seconds: float | None = None
    size: int | None = None
    lease_seconds: float | None = None
    fresh_for: float | None = None
    expiry: str = ""
    evicted_after: int | None = None
    entries: int = 0
    near: bool = False

    def __str__(self) -> str:
        lines = [self.function, f"  key      {self.key}", f"  server   {self.server}"]
        width = max((len(part.name) for part in self.parts), default=0)
        for number, part in enumerate(self.parts):
            said = "ignored" if part.ignored else part.token or "does not identify the call"
            lines.append(f"  {'' if number else 'keyed by':8} {part.name:{width}}  {part.type_name}  {said}")
        state = self.state + (f": {self.detail}" if self.detail else "")
        if self.expires_in is not None:
            state += f", {self.size:,} bytes, {self.age:.0f} s old, expires in {self.expires_in:.0f} s"
            state += f", took {self.compute_seconds:.3f} s to compute"
            if self.fresh_for is not None and self.fresh_for < self.expires_in - 1:
                state += f", stale in {self.fresh_for:.0f} s" if self.fresh_for > 0 else ", stale"
        if self.evicted_after is not None:
            state += f", {self.evicted_after} of {self.entries} entries evicted sooner"
        if self.lease_seconds is not None:
            state += f", being computed (lease renewed within {self.lease_seconds:.1f} s)"
        lines.append(f"  entry    {state}{', held by this process' if self.near else ''}")
        lines += [f"  {'' if number else 'expiry':8} {line}" for number, line in enumerate(self.expiry.splitlines())]
        return "\n".join(lines)


def _parts(call: Invocation) -> tuple[Part, ...]:
    callkey = call.memo.callkey
    parts = []
    for name, value in callkey.binder.arguments(call.values).items():
        ignored = name in call.memo.ignore
        cls = type(value)
        type_name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
        token = ""
        if not ignored:
            with contextlib.suppress(KeyingError):  # key= may have made it unnecessary
                token = digest(encode(value))[:8].hex()
        parts.append(Part(name, type_name, token, ignored))
    return tuple(parts)


def _expiry(call: Invocation, opened: Entry) -> str:
    """What the policy says of the stored result; it is asked once more, with the times of then."""
    with contextlib.suppress(Exception):  # the user's own policy, or a value that cannot be read: then nothing is said
        policy = call.memo.lifetime()
        if isinstance(policy, Policy):
            value = loads(opened.meta, opened.buffers, trusted=opened.trusted)
            return policy.explain(call.finished(value, opened.stamp.created, opened.stamp.compute))
    return ""


def explain(call: Invocation) -> ops.Flow:
    """The flow behind ``explain``."""
    place = call.locate()
    said: dict[str, Any] = {
        "function": call.memo.shown,
        "key": place.entry,
        "parts": _parts(call),
        "server": call.memo.engine.backend.where,
        "near": call.memo.near is not None and call.memo.near.holds(call.digest),
    }
    try:
        standing = yield ops.Inspect(place)
        envelope = yield ops.Read(place.entry)
        if envelope is None:
            state = "absent" if standing.lease_ttl is None else "computing"
            return Explanation(**said, state=state, lease_seconds=standing.lease_ttl)
        opened = call.memo.engine.sealer.open(place.entry, envelope)
        stamp = opened.stamp
    except UnreadableEntry as error:
        return Explanation(**said, state="unreadable", detail=str(error), lease_seconds=standing.lease_ttl)
    except StoreError as error:
        return Explanation(**said, state="unknown", detail=str(error))
    now = yield ops.Clock()
    return Explanation(
        **said,
        state="stored",
        expires_in=standing.entry_ttl,
        fresh_for=stamp.fresh_until - now,
        age=max(0.0, now - stamp.created),
        compute_seconds=stamp.compute,
        size=len(envelope),
        lease_seconds=standing.lease_ttl,
        expiry=_expiry(call, opened),
        evicted_after=standing.before,
        entries=standing.entries,
    )
