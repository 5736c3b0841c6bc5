"""The circuit breaker: who asks a server that does not answer, and how often.

Callers do not. While the breaker is open they fail at once, and one daemon thread asks on behalf of all.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import weakref
from typing import TYPE_CHECKING, Literal, TypeAlias

from .errors import StoreError
from .events import BreakerClosed, BreakerOpened

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._hook import Hook

__all__ = ["Breaker"]

log = logging.getLogger("redis_memo")

PAUSE = (0.2, 0.5)  # seconds between probes; random, lest all processes ask a returning server in the same moment
QUICK = 1.0  # seconds a probe usually waits: longer, and one that was swallowed would delay the next
PATIENT = 4  # one probe in so many waits the full timeout, which a far server may need
CALM = 2.0  # seconds after its last opening from which an opening is probed at once

_random = random.Random()  # noqa: S311 - spreads the probes; the module's own is the user's, who may have seeded it

State: TypeAlias = Literal["closed", "open"]


class Breaker:
    """Knows whether the server answers.

    Callers read ``reason`` without a lock: None while it is closed.

    Args:
        probe: Asks the server, waiting so many seconds at most; raises StoreError while it is not to be used.
        timeout: What a call would wait.
        hook: Is told of every change.
    """

    def __init__(self, probe: Callable[[float], None], timeout: float, hook: Hook) -> None:
        self.reason: StoreError | None = None
        self.epoch = 0  # counts the changes
        self.quiet = False  # whether the process is about to end
        self._probe = probe
        self._timeout = timeout
        self._hook = hook
        self._lock = threading.Lock()
        self._server = ""
        self._opened = float("-inf")
        self._previous = float("-inf")
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._due = 0.0

    @property
    def state(self) -> State:
        """Whether the server is asked ("closed") or not ("open")."""
        return "closed" if self.reason is None else "open"

    def refuse(self) -> None:
        """Fail fast, if it is open.

        Raises:
            StoreError: Of the class with which it opened, saying why.
        """
        if self._thread is None:
            self._without_thread()
        reason = self.reason
        if reason is not None:
            raise type(reason)(f"{reason} (not asked again so soon)")

    def failed(self, reason: StoreError, server: str, epoch: int) -> bool:
        """Open, because of an operation that began in ``epoch``; False if that says nothing of the present state."""
        with self._lock:
            if epoch != self.epoch or self.reason is not None:
                return False
            self.epoch += 1
            self._previous, self._opened = self._opened, time.monotonic()
            self._server = server
            # Without its traceback, whose frames hold the caller's values.
            self.reason = type(reason)(str(reason))
            self._hook.put(BreakerOpened(server, str(reason)))
            self._start()
        if not self.quiet:
            said = "redis_memo: %s; calls compute their results until it answers. `redis-memo doctor` says more"
            log.warning(said, str(reason).rstrip("."))
        self._hook.deliver()
        return True

    def answered(self) -> None:
        """Close, because the server answered."""
        with self._lock:
            if self.reason is None:
                return
            self.epoch += 1
            self.reason = None
            self._stop()
            self._hook.put(BreakerClosed(self._server, time.monotonic() - self._opened))
        log.warning("redis_memo: the server answers again")
        self._hook.deliver()

    def close(self) -> None:
        """End the thread. Should the cache be used again, it starts again."""
        with self._lock:
            self._stop()

    # The thread. It holds no reference while it waits: a cache that nobody has any more is not probed for.

    def _start(self) -> bool:
        wake = self._wake = threading.Event()
        calm = self._opened - self._previous > CALM
        thread = threading.Thread(
            target=_watch, args=(weakref.ref(self), wake, calm), name="redis_memo probe", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            # No more threads, or the interpreter is about to end: a caller probes now and then.
            self._due = time.monotonic() + PAUSE[1]
            return False
        self._thread = thread
        return True

    def _stop(self) -> None:
        self._wake.set()
        self._thread = None

    def _without_thread(self) -> None:
        with self._lock:
            now = time.monotonic()
            if self.reason is None or self._thread is not None or now < self._due:
                return
            started = self._start()
        if not started:
            self.ask(self._timeout)

    def ask(self, seconds: float) -> None:
        """Probe once."""
        try:
            self._probe(seconds)
        except StoreError as error:
            with self._lock:
                if self.reason is not None:
                    self.reason = type(error)(str(error))
        else:
            self.answered()

    def limit(self, number: int) -> float:
        """How long one probe of many waits."""
        return self._timeout if number % PATIENT == 0 else min(self._timeout, QUICK)


def _watch(found: weakref.ref[Breaker], wake: threading.Event, at_once: bool) -> None:
    number = 0
    while at_once or not wake.wait(_random.uniform(*PAUSE)):
        at_once = False
        number += 1
        breaker = found()
        if breaker is None:
            return
        try:
            breaker.ask(breaker.limit(number))
        except Exception:
            # Nothing may end the watch but an answer: callers rely on it.
            log.debug("redis_memo: the probe failed", exc_info=True)
        if wake.is_set():
            return
        del breaker
