"""Leases of this process's running computations, renewed for as long as they run."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from typing import TYPE_CHECKING

from .errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from . import _ops as ops
    from ._backend import Backend

__all__ = ["Leases"]


class Leases:
    """Renews the leases of running computations: one thread, each lease at a third of its length.

    A process that dies stops renewing, which is how its leases end.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, ops.Renew]] = []
        self._standing: set[int] = set()
        self._number = itertools.count()
        self._chores: list[Callable[[], object]] = []
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def holding(self, renew: ops.Renew) -> Iterator[None]:
        """Renew a lease until the end of the block."""
        number = next(self._number)
        with self._changed:
            self._standing.add(number)
            heapq.heappush(self._due, (time.monotonic() + renew.lease / 3, number, renew))
            self._start()
            if self._due[0][1] == number:
                self._changed.notify()
        try:
            yield
        finally:
            # Without a lock: a fork from inside the computation may have replaced this object.
            self._standing.discard(number)

    def later(self, chore: Callable[[], object]) -> None:
        """Do something on this thread that no caller should wait for."""
        with self._changed:
            self._chores.append(chore)
            self._start()
            self._changed.notify()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="redis_memo leases", daemon=True)
            self._thread.start()

    def _next(self) -> tuple[int, ops.Renew] | Callable[[], object]:
        with self._changed:
            while True:
                if self._chores:
                    return self._chores.pop()
                while self._due and self._due[0][1] not in self._standing:
                    heapq.heappop(self._due)
                pause = self._due[0][0] - time.monotonic() if self._due else None
                if pause is not None and pause <= 0:
                    _, number, renew = heapq.heappop(self._due)
                    return number, renew
                self._changed.wait(pause)

    def _run(self) -> None:
        while True:
            found = self._next()
            if not isinstance(found, tuple):
                with contextlib.suppress(StoreError):  # it comes up again
                    found()
                continue
            number, renew = found
            with contextlib.suppress(StoreError):  # counted by the calls; the fill will tell how it ended
                if not self._backend.perform(renew):
                    self._standing.discard(number)
            with self._changed:
                heapq.heappush(self._due, (time.monotonic() + renew.lease / 3, number, renew))
