"""How a thread that works behind the callers is woken."""

from __future__ import annotations

from queue import Empty, SimpleQueue

__all__ = ["Wakeup"]


class Wakeup:
    """As ``threading.Event``, for one thread that waits; its wait clears it.

    Callers set it, in the middle of whatever interrupts them: a signal's handler that raises, or the collector, which
    runs finalizers that call. `threading` has its events and conditions in Python, where either finds a lock held that
    nobody will release. A SimpleQueue is C, and its ``put`` may come amid another one.
    """

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
