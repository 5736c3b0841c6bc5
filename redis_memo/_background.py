"""Work that outlives its callers' patience, and work behind them: daemon threads or tasks, and an orderly end.

A run that a caller waits for begins at once, in a thread of its own: it is what the caller would have done itself, so
there are no more of these than callers, and none waits for a place that another one holds. What grows without callers
is bounded: refreshes, and of each function the runs that were abandoned, as their callers had waited for long enough,
and go on.

Daemon threads, because a function that hangs must not keep the interpreter from exiting, as the threads of
``concurrent.futures`` do. At exit what runs gets a while to finish (a script that was served a stale result would
otherwise never see its refresh through), and what does not gives its lease back.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import threading
import time
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Job", "Workers"]

FAREWELL = 5.0  # seconds that the interpreter's exit waits for what runs


class Job:
    """One flow that is not driven by its caller.

    Args:
        workers: Who runs it.
        give_up: Called at exit where the job has not finished by then.
        function: Whose run it is.
        awaited: Whether the caller waits for it.
    """

    def __init__(self, workers: Workers, give_up: Callable[[], object], *, function: str, awaited: bool) -> None:
        self._workers = workers
        self.give_up = give_up
        self.function = function
        self.awaited = awaited
        self.future: Future[Any] = Future()
        self.task: asyncio.Task[Any] | None = None

    def withdraw(self) -> bool:
        """Take the job back if it has not begun."""
        return self.task is None and self.future.cancel()

    def abandon(self) -> None:
        """Its caller waits for it no longer."""
        self._workers.abandoned(self)

    @property
    def lost(self) -> bool:
        """Whether its event loop has ended without it."""
        return self.task is not None and self.task.get_loop().is_closed()


class Workers:
    """Threads and tasks of one cache.

    Args:
        most: How many refreshes may run at once; after how many abandoned runs that go on a function is left alone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # Taken again by whatever comes in between: a signal's handler, the collector that closes an abandoned flow.
        self._lock = threading.RLock()
        self._awaited: set[Job] = set()
        self._behind: set[Job] = set()
        self._abandoned: dict[str, set[Job]] = {}
        self._closed = False
        _all.add(self)

    def full(self, function: str) -> bool:
        """Whether so many runs of this function go on without a caller that no other one is to begin."""
        with self._lock:
            jobs = self._abandoned.get(function, set())
            if len(jobs) >= self._most:
                jobs.difference_update([job for job in list(jobs) if job.lost])
            return len(jobs) >= self._most

    def abandoned(self, job: Job) -> None:
        """A job's caller waits for it no longer; what has ended by now is not meant."""
        with self._lock:
            if job in self._awaited:
                self._abandoned.setdefault(job.function, set()).add(job)

    def start(self, job: Job, work: Callable[[], Any]) -> bool:
        """Run ``work`` in a thread with a copy of this one's context; False where there is no room for it."""
        context = contextvars.copy_context()
        if not self._enter(job):
            return False
        thread = threading.Thread(
            target=self._run, args=(job, context, work), name="redis_memo background", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # none can be started any more: the interpreter ends, or the system has no more
            self._leave(job)
            return False
        return True

    def start_task(self, job: Job, work: Callable[[], Coroutine[Any, Any, Any]]) -> bool:
        """As `start`, in a task of the running loop."""
        if not self._enter(job):  # noted, it is also kept from being collected
            return False
        job.task = asyncio.get_running_loop().create_task(work(), name="redis_memo background")
        job.task.add_done_callback(lambda task: self._ended(job, task))
        return True

    def _enter(self, job: Job) -> bool:
        with self._lock:
            if self._closed or (not job.awaited and len(self._behind) >= self._most):
                return False
            (self._awaited if job.awaited else self._behind).add(job)
        return True

    def _leave(self, job: Job) -> None:
        with self._lock:
            self._awaited.discard(job)
            self._behind.discard(job)
            jobs = self._abandoned.get(job.function, set())
            jobs.discard(job)
            if not jobs:
                self._abandoned.pop(job.function, None)

    def _ended(self, job: Job, task: asyncio.Task[Any]) -> None:
        self._leave(job)
        if task.cancelled():
            job.future.cancel()
        elif (error := task.exception()) is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(task.result())

    def _run(self, job: Job, context: contextvars.Context, work: Callable[[], Any]) -> None:
        if not job.future.set_running_or_notify_cancel():
            self._leave(job)
            return
        try:
            result = context.run(work)
        except BaseException as error:  # noqa: BLE001 - for whoever waits for it
            self._leave(job)
            job.future.set_exception(error)
        else:
            self._leave(job)  # first, so that whoever is told of its end finds its place free
            job.future.set_result(result)

    def close(self) -> list[Job]:
        """Take no more; return what still runs in threads."""
        with self._lock:
            self._closed = True
            running = [*self._awaited, *self._behind]
        return [job for job in running if job.task is None]


_all: weakref.WeakSet[Workers] = weakref.WeakSet()


@atexit.register
def _farewell() -> None:
    end = time.monotonic() + FAREWELL
    for job in [job for workers in list(_all) for job in workers.close()]:
        try:
            job.future.exception(max(0.0, end - time.monotonic()))
        except TimeoutError:
            with contextlib.suppress(Exception):  # whatever is wrong now, nobody is left to be told
                job.give_up()
