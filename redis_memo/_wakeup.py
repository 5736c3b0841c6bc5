"""How threads and tasks are woken, whatever comes in between.

What wakes and waits is interrupted: by a signal's handler that raises (the time limit of a job, Ctrl-C), or by the
collector, which runs finalizers that call. What `threading` and `concurrent.futures` wait with is Python around a lock,
which the one can leave held, and the other finds held by its own thread. A SimpleQueue and a deque are C.
"""

from __future__ import annotations

from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Promise", "Wakeup"]


class Wakeup:
    """As ``threading.Event``, for one thread that waits; its wait clears it."""

    __slots__ = ("_signals",)

    def __init__(self) -> None:
        self._signals: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Wake the thread, or let its next wait end at once."""
        if self._signals.empty():
            self._signals.put(None)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait to be woken; False when it took too long."""
        try:
            self._signals.get(timeout=None if seconds is None else max(0.0, seconds))
        except Empty:
            return False
        return True


class Promise:
    """As ``concurrent.futures.Future``, of what cannot fail and is not cancelled.

    Attributes:
        result: What it was kept with; None before.
    """

    __slots__ = ("_kept", "_open", "_waiting", "result")

    def __init__(self) -> None:
        self.result: Any = None
        self._open = deque((None,))  # taken by who keeps it
        self._kept = False
        self._waiting: deque[Callable[[Promise], object]] = deque()

    def done(self) -> bool:
        """Whether it was kept."""
        return self._kept

    def keep(self, result: Any = None) -> bool:
        """Give it a result; False where it has one."""
        try:
            self._open.pop()
        except IndexError:
            return False
        self.result = result
        self._kept = True
        self._tell()
        return True

    def add_done_callback(self, callback: Callable[[Promise], object]) -> None:
        """Call ``callback``, which does not raise, when it was kept; at once if it was."""
        self._waiting.append(callback)
        if self._kept:  # else who keeps it finds the callback
            self._tell()

    def _tell(self) -> None:
        while self._waiting:
            try:
                callback = self._waiting.popleft()
            except IndexError:  # another thread tells, too
                return
            callback(self)
