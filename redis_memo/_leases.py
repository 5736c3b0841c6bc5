"""Leases of this process's running computations, renewed for as long as they run."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from . import _ops as ops
from ._large import Large
from ._wakeup import Wakeup
from .errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ._backend import Backend

__all__ = ["Leases"]

log = logging.getLogger("redis_memo")

Due: TypeAlias = "tuple[float, int, ops.Renew | ops.Release | Callable[[], object]]"

OWED_EVERY = 0.25  # seconds between attempts to give a lease back to a server that does not answer
IDLE = 10.0  # seconds without anything to do after which the thread ends: nobody may have the cache any more


class Leases:
    """Renews the leases of running computations: one thread, each lease at a third of its length.

    A process that dies stops renewing, which is how its leases end. The thread begins with the first lease, and ends
    when there is nothing to do.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.RLock()  # what the collector calls within a call may call itself
        self._changed = Wakeup()
        self._due: list[Due] = []
        self._standing: set[int] = set()
        self._owed: dict[bytes, float] = {}
        self._number = itertools.count()
        self._chores: list[Callable[[], object]] = []
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def holding(self, renew: ops.Renew) -> Iterator[None]:
        """Renew a lease until the end of the block."""
        number = self.number()
        try:
            self.hold(renew, number)
            yield
        finally:
            self.let_go((number,))

    def number(self) -> int:
        """A number by which a lease can be let go of, even where an interrupt comes while it is taken hold of."""
        return next(self._number)

    def hold(self, renew: ops.Renew, number: int) -> None:
        """Renew a lease until it is let go of, by this number."""
        with self._lock:
            self._standing.add(number)
            heapq.heappush(self._due, (time.monotonic() + renew.lease / 3, number, renew))
            self._start()
            if self._due[0][1] == number:
                self._changed.set()

    def let_go(self, numbers: Iterable[int]) -> None:
        """Renew leases no longer."""
        # Without a lock: a fork from inside the computation may have replaced this object. And in one go, which no
        # interrupt parts.
        self._standing.difference_update(numbers)

    def sending(self, fill: ops.Fill, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Renew a lease while its result is sent, if that is large: a gigabyte takes longer than a lease lasts."""
        if not isinstance(fill.envelope, Large):
            return contextlib.nullcontext()
        return self.holding(ops.Renew(fill.place, fill.token, seconds))

    def owe(self, release: ops.Release, seconds: float) -> None:
        """Give a lease back once the server can be reached, if that is before it ends by itself."""
        with self._lock:
            heapq.heappush(self._due, (time.monotonic() + OWED_EVERY, next(self._number), release))
            self._owed[release.token] = time.monotonic() + seconds
            self._start()
            self._changed.set()

    def later(self, chore: Callable[[], object]) -> None:
        """Do something on this thread that no caller should wait for."""
        with self._lock:
            self._chores.append(chore)
            self._start()
            self._changed.set()

    def after(self, seconds: float, chore: Callable[[], object]) -> None:
        """As `later`, when so many seconds have passed."""
        number = next(self._number)
        with self._lock:
            heapq.heappush(self._due, (time.monotonic() + seconds, number, chore))
            self._start()
            if self._due[0][1] == number:
                self._changed.set()

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="redis_memo leases", daemon=True)
            with contextlib.suppress(RuntimeError):  # no more threads: the call goes on, and the next one tries again
                thread.start()
                self._thread = thread

    def _next(self) -> tuple[int, ops.Release] | list[tuple[int, ops.Renew]] | Callable[[], object] | None:
        """What to do now; None after a while without anything."""
        woken = True
        while True:
            with self._lock:
                if self._chores:
                    return self._chores.pop()
                first = self._first()
                if first is None and not woken:
                    self._thread = None  # whoever comes next starts another
                    return None
                pause = IDLE if first is None else first[0] - time.monotonic()
                if first is not None and pause <= 0:
                    _, number, op = first
                    if isinstance(op, ops.Renew):
                        return self._with_others(number, op)
                    return (number, op) if isinstance(op, ops.Release) else op
                if first is not None:
                    heapq.heappush(self._due, first)
            woken = self._changed.wait(pause)

    def _with_others(self, number: int, renew: ops.Renew) -> list[tuple[int, ops.Renew]]:
        """What is to be renewed now, and what would be soon: hundreds of leases are renewed in one round trip."""
        found = [(number, renew)]
        soon = time.monotonic() + renew.lease / 12
        while len(found) < ops.AT_ONCE and (first := self._first()) is not None:
            due, number, op = first
            if due > soon or not isinstance(op, ops.Renew):
                heapq.heappush(self._due, first)
                break
            found.append((number, op))
        return found

    def _first(self) -> Due | None:
        """Take out what is due first; only then look at it, as the collector may have put something before it."""
        while self._due:
            first = heapq.heappop(self._due)
            if first[1] in self._standing or not isinstance(first[2], ops.Renew):
                return first
        return None

    def _pay(self, number: int, release: ops.Release) -> None:
        try:
            self._backend.perform(release)
        except StoreError:
            now = time.monotonic()
            if now < self._owed.get(release.token, 0.0):
                with self._lock:
                    heapq.heappush(self._due, (now + OWED_EVERY, number, release))
                return
        self._owed.pop(release.token, None)

    def _run(self) -> None:
        while (found := self._next()) is not None:
            try:
                if isinstance(found, tuple):
                    self._pay(*found)
                elif isinstance(found, list):
                    self._renew(found)
                else:
                    with contextlib.suppress(StoreError):  # it comes up again
                        found()
            except Exception:
                # Nothing may end this thread: every lease of this process would end with it.
                log.exception("redis_memo: what is done behind the callers failed")

    def _renew(self, found: list[tuple[int, ops.Renew]]) -> None:
        answers: list[Any] = [None] * len(found)
        try:
            answers = self._backend.perform_many([renew for _, renew in found])
        finally:
            self._renewed(found, answers)

    def _renewed(self, found: list[tuple[int, ops.Renew]], answers: list[Any]) -> None:
        with self._lock:
            for (number, renew), stands in zip(found, answers, strict=True):
                if stands is False:
                    self._standing.discard(number)
                else:  # an error is counted by the calls; the fill will tell how it ended
                    heapq.heappush(self._due, (time.monotonic() + renew.lease / 3, number, renew))
