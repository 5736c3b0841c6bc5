"""Leases of this process's running computations, renewed for as long as they run."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from typing import TYPE_CHECKING

from . import _ops as ops
from ._large import Large
from .errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._backend import Backend

__all__ = ["Leases"]


OWED_EVERY = 0.25  # seconds between attempts to give a lease back to a server that does not answer


class Leases:
    """Renews the leases of running computations: one thread, each lease at a third of its length.

    A process that dies stops renewing, which is how its leases end.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, ops.Renew | ops.Release]] = []
        self._standing: set[int] = set()
        self._owed: dict[bytes, float] = {}
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

    def sending(self, fill: ops.Fill, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Renew a lease while its result is sent, if that is large: a gigabyte takes longer than a lease lasts."""
        if not isinstance(fill.envelope, Large):
            return contextlib.nullcontext()
        return self.holding(ops.Renew(fill.place, fill.token, seconds))

    def owe(self, release: ops.Release, seconds: float) -> None:
        """Give a lease back once the server can be reached, if that is before it ends by itself."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + OWED_EVERY, next(self._number), release))
            self._owed[release.token] = time.monotonic() + seconds
            self._start()
            self._changed.notify()

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

    def _next(self) -> tuple[int, ops.Renew | ops.Release] | Callable[[], object]:
        with self._changed:
            while True:
                if self._chores:
                    return self._chores.pop()
                while self._due and not self._counts(*self._due[0][1:]):
                    heapq.heappop(self._due)
                pause = self._due[0][0] - time.monotonic() if self._due else None
                if pause is not None and pause <= 0:
                    _, number, op = heapq.heappop(self._due)
                    return number, op
                self._changed.wait(pause)

    def _counts(self, number: int, op: ops.Renew | ops.Release) -> bool:
        return number in self._standing or isinstance(op, ops.Release)

    def _pay(self, number: int, release: ops.Release) -> None:
        try:
            self._backend.perform(release)
        except StoreError:
            now = time.monotonic()
            if now < self._owed.get(release.token, 0.0):
                with self._changed:
                    heapq.heappush(self._due, (now + OWED_EVERY, number, release))
                return
        self._owed.pop(release.token, None)

    def _run(self) -> None:
        while True:
            found = self._next()
            if not isinstance(found, tuple):
                with contextlib.suppress(StoreError):  # it comes up again
                    found()
                continue
            number, op = found
            if isinstance(op, ops.Release):
                self._pay(number, op)
                continue
            renew = op
            with contextlib.suppress(StoreError):  # counted by the calls; the fill will tell how it ended
                if not self._backend.perform(renew):
                    self._standing.discard(number)
            with self._changed:
                heapq.heappush(self._due, (time.monotonic() + renew.lease / 3, number, renew))
