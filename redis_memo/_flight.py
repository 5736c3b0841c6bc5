"""A computation in flight, and those who wait for it in this process."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, InvalidStateError
from typing import Any

from . import _ops as ops
from ._large import Large

__all__ = ["Flight"]


class Flight:
    """A computation that others in this process can wait for.

    A large result shares the memory of the value that its first caller is about to get, and may change. Whoever waits
    is handed a copy; it is made only if somebody waits, and who comes too late for it finds the entry in the store.

    Args:
        taken: Its place in the order in which this process's flights began.
    """

    __slots__ = ("_awaited", "_future", "taken")

    def __init__(self, taken: int) -> None:
        self.taken = taken
        self._future: Future[Any] = Future()
        self._awaited = False

    def joined(self) -> Future[Any]:
        """What to wait for, before `outcome`."""
        self._awaited = True
        return self._future

    def land(self, result: ops.Sealed | ops.Raised | ops.Uncacheable | None) -> None:
        """End it, unless it has ended."""
        if self._future.done():
            return
        if isinstance(result, ops.Sealed) and isinstance(result.envelope, Large):
            result = result._replace(envelope=result.envelope.settle()) if self._awaited else None
        with contextlib.suppress(InvalidStateError):
            self._future.set_result(result)

    def outcome(self) -> ops.Sealed | ops.Raised | ops.Uncacheable | None:
        """How it ended; None where it came to nothing."""
        found: ops.Sealed | ops.Raised | ops.Uncacheable | None = self._future.result()
        return found
