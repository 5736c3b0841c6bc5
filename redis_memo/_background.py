"""Work behind the callers: a bounded number of daemon threads or tasks, and an orderly end.

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
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Job", "Workers"]

FAREWELL = 5.0  # seconds that the interpreter's exit waits for what runs


class Job:
    """One flow behind its caller.

    Args:
        give_up: Called at exit where the job has not finished by then.
    """

    def __init__(self, give_up: Callable[[], object]) -> None:
        self.give_up = give_up
        self.future: Future[Any] = Future()
        self.task: asyncio.Task[Any] | None = None

    def withdraw(self) -> bool:
        """Take the job back if it has not begun."""
        return self.task is None and self.future.cancel()


class Workers:
    """Threads and tasks of one cache.

    Args:
        most: How many may run at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._running: set[Job] = set()
        self._queue: deque[tuple[Job, Callable[[], Any]]] = deque()
        self._closed = False
        _all.add(self)

    def start(self, job: Job, work: Callable[[], Any], *, queue: bool) -> bool:
        """Run ``work`` in a thread with a copy of this one's context; False where there is no room for it.

        Args:
            job: Whose future it completes.
            work: What to run.
            queue: Let it wait for its turn instead.
        """
        context = contextvars.copy_context()

        def in_context() -> Any:
            return context.run(work)

        with self._lock:
            if self._closed:
                return False
            if len(self._running) >= self._most:
                if queue:
                    self._queue.append((job, in_context))
                return queue
            self._running.add(job)
        try:
            threading.Thread(
                target=self._run, args=(job, in_context), name="redis_memo background", daemon=True
            ).start()
        except RuntimeError:  # none can be started any more: the interpreter ends, or the system has no more
            with self._lock:
                self._running.discard(job)
            return False
        return True

    def start_task(self, job: Job, work: Callable[[], Coroutine[Any, Any, Any]], *, queue: bool) -> bool:
        """As `start`, in a task of the running loop; tasks that are waited for are not counted, as they cost little."""
        with self._lock:
            if self._closed or (not queue and len(self._running) >= self._most):
                return False
            self._running.add(job)  # also keeps the task from being collected
        job.task = asyncio.get_running_loop().create_task(work(), name="redis_memo background")
        job.task.add_done_callback(lambda task: self._ended(job, task))
        return True

    def _ended(self, job: Job, task: asyncio.Task[Any]) -> None:
        with self._lock:
            self._running.discard(job)
        if task.cancelled():
            job.future.cancel()
        elif (error := task.exception()) is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(task.result())

    def _run(self, job: Job, work: Callable[[], Any]) -> None:
        while True:
            if job.future.set_running_or_notify_cancel():
                try:
                    job.future.set_result(work())
                except BaseException as error:  # noqa: BLE001 - for whoever waits for it
                    job.future.set_exception(error)
            with self._lock:
                self._running.discard(job)
                if not self._queue:
                    return
                job, work = self._queue.popleft()
                self._running.add(job)

    def close(self) -> list[Job]:
        """Take no more; return what still runs."""
        with self._lock:
            self._closed = True
            queued, self._queue = self._queue, deque()
            running = list(self._running)
        for job, _ in queued:
            job.future.cancel()
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
