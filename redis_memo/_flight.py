"""A computation in flight, and those who wait for it in this process."""

from __future__ import annotations

from typing import TypeAlias

from . import _ops as ops
from ._large import Large
from ._wakeup import Promise

__all__ = ["Flight"]

Landing: TypeAlias = "ops.Sealed | ops.Raised | ops.Uncacheable | None"


class Flight:
    """A computation that others in this process can wait for.

    A large result shares the memory of the value that its first caller is about to get, and may change. Whoever waits
    is handed a copy; it is made only if somebody waits, and who comes too late for it finds the entry in the store.

    Args:
        taken: Its place in the order in which this process's flights began.
    """

    __slots__ = ("_awaited", "_landed", "taken")

    def __init__(self, taken: int) -> None:
        self.taken = taken
        self._landed = Promise()
        self._awaited = False

    def joined(self) -> Promise:
        """What to wait for, before `outcome`."""
        self._awaited = True
        return self._landed

    def land(self, result: Landing) -> None:
        """End it, unless it has ended."""
        if self._landed.done():
            return
        if isinstance(result, ops.Sealed) and isinstance(result.envelope, Large):
            result = result._replace(envelope=result.envelope.settle()) if self._awaited else None
        self._landed.keep(result)

    def outcome(self) -> Landing:
        """How it ended; None where it came to nothing."""
        found: Landing = self._landed.result
        return found
