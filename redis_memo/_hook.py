"""Delivery of events: each once, in order, outside of every lock, and at nobody's cost."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import Event, EventHook

__all__ = ["Hook"]

log = logging.getLogger("redis_memo")


class Hook:
    """Delivers events to the user's function.

    Whoever has something to tell queues it at once, perhaps under a lock of its own, and delivers later, under none.
    One thread delivers at a time, and takes along what others queue meanwhile; so nobody waits, and the order stays.

    Args:
        function: The user's, if there is one.
    """

    def __init__(self, function: EventHook | None) -> None:
        self._function = function
        self._queue: deque[Event] = deque()
        self._delivering = threading.Lock()
        self._complained = False

    def put(self, event: Event) -> None:
        """Queue an event."""
        if self._function is not None:
            self._queue.append(event)

    def deliver(self) -> None:
        """Call the user's function with what is queued, unless somebody is at it already."""
        # Looked at again after each round: another thread may have queued something, and left, in between.
        while self._queue and self._delivering.acquire(blocking=False):
            try:
                self._deliver(self._queue.popleft())
            except IndexError:
                pass
            finally:
                self._delivering.release()

    def tell(self, event: Event) -> None:
        """Queue an event and deliver."""
        self.put(event)
        self.deliver()

    def _deliver(self, event: Event) -> None:
        assert self._function is not None
        try:
            self._function(event)
        except Exception:
            if not self._complained:
                self._complained = True
                log.exception("redis_memo: on_event= raised, which is ignored and not logged again")
