"""What a `_many.Crowd` asks for, as plain data, and what it needs to know of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from . import _ops as ops

__all__ = [
    "NO_HIT", "Begin", "Fetch", "Hits", "Launch", "OneCall", "Report", "Rest", "Withdraw", "Work",
]  # fmt: skip

NO_HIT: Final = object()


class OneCall(Protocol):
    """One of the calls."""

    def flow(self) -> ops.Flow:
        """Its flow; one that returns without an operation has its answer from nearer than the store."""

    def compute(self) -> Any:
        """Run the function."""

    def begin(self) -> None:
        """Be told that a batch function is about to run for it."""


class Hits(Protocol):
    """What nearly every call of a map ends with, without a flow: `_core.read_through` up to its first return."""

    def entry(self, number: int) -> str:
        """The key of a call's entry; raises what the call would."""

    def values(self, entries: Collection[str], found: Mapping[str, Any]) -> list[Any]:
        """Of each entry its value, `NO_HIT` where the call's flow has to say what it comes to."""


class Fetch(NamedTuple):
    """Get the entries at these keys in one exchange: a list of what `_ops.Read` is answered for each, or StoreError."""

    entries: list[str]


class Work(NamedTuple):
    """Run the function for these calls when there is a worker; `Rest` tells how it ended, for each of them."""

    numbers: tuple[int, ...]
    calls: tuple[OneCall, ...]
    computes: tuple[ops.Compute, ...]


class Begin(NamedTuple):
    """Begin to wait on behalf of one call; `Rest` tells what came."""

    number: int
    op: ops.Join | ops.Listen | ops.Wait | ops.Await


class Launch(NamedTuple):
    """Drive a flow of one call behind the caller: as `ops.Spawn`."""

    call: OneCall
    op: ops.Spawn


class Rest(NamedTuple):
    """Wait for something that was begun, at most so long: a list of (call, result), perhaps empty."""

    seconds: float | None


class Withdraw(NamedTuple):
    """Begin nothing any more, and end what can be ended; returns what has ended, as `Rest` does."""


class Report(NamedTuple):
    """Tell the user how many calls are done."""

    done: int
