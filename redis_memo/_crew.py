"""Who performs what a `Crowd` asks for: threads, or tasks of an event loop; in order, see `_in_order`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import heapq
import inspect
import itertools
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from . import _ops as ops
from ._batch import in_order
from ._drive import adrive, drive
from ._engine import LOCAL
from ._inside import Queue, atimed, early, queueing, timed
from ._many_ops import Begin, Fetch, Launch, Report, Rest, Withdraw, Work
from .errors import BatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ._engine import Engine, Waited
    from ._many import Crowd

__all__ = ["Tasks", "Threads"]

Ended = list[tuple[int, Any]]


class _Crew:
    """What threads and tasks have in common.

    Args:
        engine: Whose store, leases and flights they are.
        namespace: Of the function.
        given: The calls as the user wrote them, for ``batch``.
        workers: How many runs of the function go on at once.
        batch: Computes several calls at once, if not None.
        report: Is told how many calls are done.
    """

    def __init__(
        self,
        engine: Engine,
        namespace: str,
        given: Sequence[object],
        *,
        workers: int | None,
        batch: Callable[[list[Any]], Any] | None,
        report: Callable[[int], None],
    ) -> None:
        self._engine = engine
        self._namespace = namespace
        self._given = given
        self._workers = workers
        self._batch = batch
        self._report = report
        self._halted = False  # the function ended not with an error but with an interrupt: nothing is begun any more
        # Of what is leased, or may be by now, and not begun: a computation must not wait for what is queued behind it.
        self._queued = Queue()
        self._holds: dict[bytes, int] = {}
        self._serial = itertools.count()
        self._waits: dict[int, tuple[int, Waited]] = {}
        self._deadlines: list[tuple[float, int, int]] = []

    # Leases are renewed from when a computation is queued until its result is stored.

    def _hold(self, work: Work) -> None:
        for op in work.computes:
            if op.place is not None:
                renew = ops.Renew(op.place, op.token, self._engine.settings.lease)
                # Noted before it begins: an interrupt in between must not leave one that nobody lets go of.
                number = self._holds[op.token] = self._engine.leases.number()
                self._engine.leases.hold(renew, number)

    def _asking(self, several: list[Any]) -> None:
        self._queued.update(op.token for op in several if type(op) is ops.Acquire)

    def _answered(self, several: list[Any], answers: list[Any]) -> None:
        for op, answer in zip(several, answers, strict=True):
            if type(op) is ops.Acquire and type(answer) is not ops.Leased:
                self._queued.discard(op.token)
            elif type(op) in (ops.Fill, ops.Release):
                number = self._holds.pop(op.token, None)
                if number is not None:
                    self._engine.leases.let_go((number,))

    def _let_all_go(self) -> None:
        self._engine.leases.let_go(self._holds.values())

    def _in_turn(self, work: Work) -> tuple[Work, Ended]:
        """What is left of it to run when its turn comes, and what was computed ahead of that."""
        ahead: Ended = []
        left = []
        for each in zip(work.numbers, work.calls, work.computes, strict=True):
            number, _, (place, token) = each
            found = early(ops.Early(token)) if place is None and token else self._queued.early.pop(token, None)
            if found is None or found.result is None:
                left.append(each)
                continue
            ahead.append((number, found))
            self._queued.discard(token)
        if ahead:
            numbers, calls, computes = zip(*left, strict=True) if left else ((), (), ())
            work = Work(numbers, calls, computes)
        return work, ahead

    def _inside(self, work: Work) -> set[bytes]:
        """The tokens of what begins now."""
        own = {op.token for op in work.computes if op.place is not None}
        self._queued -= own
        return own

    def _spawn(self, spawn: Callable[..., Any], launch: Launch) -> Any:
        self._queued.discard(launch.op.token)
        with queueing(self._queued):  # it takes this context along
            return spawn(launch.op, launch.call.compute, self._namespace)

    # Waiting on behalf of calls.

    def _begin(self, begin: Begin, heard: Callable[[int, int], None]) -> tuple[int, Any] | None:
        waited = self._engine.waited(begin.op)
        if waited is None:
            return begin.number, None
        serial = next(self._serial)
        self._waits[begin.number] = serial, waited
        heapq.heappush(self._deadlines, (time.monotonic() + waited.seconds, serial, begin.number))
        waited.future.add_done_callback(lambda _: heard(begin.number, serial))
        return None

    def _ended_wait(self, number: int, serial: int, *, came: bool) -> Ended:
        known = self._waits.get(number)
        if known is None or known[0] != serial:
            return []
        del self._waits[number]
        return [(number, known[1].outcome(came))]

    def _overdue(self) -> Ended:
        ended: Ended = []
        now = time.monotonic()
        while self._deadlines and (self._deadlines[0][0] <= now or not self._awaited(*self._deadlines[0][1:])):
            _, serial, number = heapq.heappop(self._deadlines)
            ended += self._ended_wait(number, serial, came=False)
        return ended

    def _awaited(self, serial: int, number: int) -> bool:
        known = self._waits.get(number)
        return known is not None and known[0] == serial

    def _patience(self, seconds: float | None) -> float | None:
        if not self._deadlines:
            return seconds
        left = max(0.0, self._deadlines[0][0] - time.monotonic())
        return left if seconds is None else min(left, seconds)

    # What is run, and what that answers.

    def _compute(self, work: Work) -> Callable[[], Any]:
        if self._batch is None:
            return work.calls[0].compute
        return functools.partial(self._batched, work, self._batch)

    def _batched(self, work: Work, batch: Callable[[list[Any]], Any]) -> Any:
        for call in work.calls:
            call.begin()
        return batch([self._given[number] for number in work.numbers])

    def _unpacked(self, work: Work, answer: ops.Computed | ops.Raised) -> Ended:
        if type(answer) is ops.Raised and not isinstance(answer.error, Exception):
            self._halted = True
        if type(answer) is ops.Raised or self._batch is None:
            return [(number, answer) for number in work.numbers]
        assert isinstance(answer, ops.Computed)
        try:
            values = in_order([self._given[number] for number in work.numbers], answer.value)
        except BatchError as error:
            return [(number, ops.Raised(error)) for number in work.numbers]
        share, ran = answer.seconds / len(values), answer.seconds
        return [
            (number, ops.Raised(value) if isinstance(value, Exception) else ops.Computed(value, share, ran))
            for number, value in zip(work.numbers, values, strict=True)
        ]


class Threads(_Crew):
    """Performs what a crowd asks for with threads, of which the caller's runs the flows; see `_Crew`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._changed = threading.Condition()
        self._ended: Ended = []
        self._heard: deque[tuple[int, int]] = deque()
        self._interrupt: BaseException | None = None
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._threads = 0
        self._context = contextvars.copy_context()

    def run(self, crowd: Crowd) -> list[Any]:
        """Run it to its end."""
        try:
            return self._drive(crowd.run())
        finally:
            self._let_all_go()
            for _ in range(self._threads):
                self._jobs.put(None)

    def _drive(self, flow: Generator[Any, Any, list[Any]]) -> list[Any]:
        return drive(flow, self._perform)  # type: ignore[no-any-return]

    def _perform(self, op: Any) -> Any:
        kind = type(op)
        if kind is Fetch:
            return self._engine.entries(op.entries)
        if kind is ops.Together:
            self._asking(op.ops)
            answers = self._engine.exchange(op.ops, self._namespace)
            self._answered(op.ops, answers)
            return answers
        if kind in LOCAL:
            return self._engine.local(op)
        if kind is Rest:
            return self._rest(op.seconds)
        if kind is Work:
            return self._take_on(op)
        if kind is Begin:
            answer = self._begin(op, self._hear)
            if answer is not None:
                self._ended.append(answer)
            return None
        if kind is Launch:
            return self._spawn(self._engine.spawn, op)
        if kind is Report:
            self._report(op.done)
            return None
        assert kind is Withdraw
        with contextlib.suppress(Empty):
            while True:
                self._jobs.get_nowait()
        with self._changed:
            ended, self._ended = self._ended, []
        self._waits.clear()
        return ended

    def _take_on(self, work: Work) -> None:
        with self._changed:
            self._hold(work)
        context = self._context.copy()  # a worker has the caller's, as in asyncio.to_thread
        self._jobs.put(lambda: context.run(self._work, work))
        if self._threads < (self._workers or 1):
            thread = threading.Thread(target=self._serve, name="redis_memo map", daemon=True)
            with contextlib.suppress(RuntimeError):  # then there are fewer; without any the flows' own thread works
                thread.start()
                self._threads += 1

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not self._halted:
                job()

    def _work(self, work: Work) -> None:
        with self._changed:
            work, ended = self._in_turn(work)
            inside = self._inside(work)
        if work.numbers:
            with queueing(self._queued):
                ended += self._unpacked(work, timed(self._compute(work), inside))
        with self._changed:
            self._ended += ended
            self._changed.notify()

    def _hear(self, number: int, serial: int) -> None:
        with self._changed:
            self._heard.append((number, serial))
            self._changed.notify()

    def _rest(self, seconds: float | None) -> Ended:
        if not self._threads and not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                job()
        return self._await(seconds)

    def _await(self, seconds: float | None) -> Ended:
        end = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while not self._ended and not self._heard and self._interrupt is None:
                overdue = self._overdue()
                left = None if end is None else max(0.0, end - time.monotonic())
                if overdue or left == 0.0:
                    return overdue
                self._changed.wait(self._patience(left))
            if self._interrupt is not None:
                raise self._interrupt
            ended, self._ended = self._ended, []
            while self._heard:
                ended += self._ended_wait(*self._heard.popleft(), came=True)
        return ended


class Tasks(_Crew):
    """Performs what a crowd asks for with tasks of the running loop; see `_Crew`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._ended: Ended = []
        self._waiting: deque[Work] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._cancelled: asyncio.CancelledError | None = None

    async def run(self, crowd: Crowd) -> list[Any]:
        """Run it to its end."""
        await self._engine.begin()
        try:
            results = await adrive(crowd.run(), self._perform)
        finally:
            self._let_all_go()
        if self._cancelled is not None:
            raise self._cancelled
        return results  # type: ignore[no-any-return]

    async def _perform(self, op: Any) -> Any:
        kind = type(op)
        if kind in LOCAL:
            return self._engine.local(op)
        if kind is Fetch:
            return await self._engine.aentries(op.entries)
        if kind is ops.Together:
            return await self._together(op.ops)
        if kind is Withdraw:
            return await self._withdraw()
        if self._cancelled is not None:
            error, self._cancelled = self._cancelled, None
            raise error
        if kind is Rest:
            return await self._rest(op.seconds)
        if kind is Work:
            self._hold(op)
            self._waiting.append(op)
            self._start()
        elif kind is Begin:
            answer = self._begin(op, self._hear)
            if answer is not None:
                self._ended.append(answer)
        elif kind is Launch:
            return self._spawn(self._engine.aspawn, op)
        else:
            assert kind is Report
            self._report(op.done)
        return None

    async def _together(self, several: list[Any]) -> list[Any]:
        self._asking(several)
        if not any(type(op) in (ops.Fill, ops.Release) for op in several):
            answers = await self._engine.aexchange(several, self._namespace)
            self._answered(several, answers)
            return answers
        # A caller that is cancelled must not take with it what was computed, and cancelled once more not the release.
        task = asyncio.ensure_future(self._engine.aexchange(several, self._namespace))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            await asyncio.wait({task})
            self._cancelled = error
        answers = task.result()
        self._answered(several, answers)
        return answers

    def _compute(self, work: Work) -> Callable[[], Any]:
        compute = super()._compute(work)
        if self._batch is None:
            return compute

        async def results() -> Any:
            answer = compute()
            if not inspect.isawaitable(answer):
                raise BatchError("the batch function of an async def has to be an async def, too")
            return await answer

        return results

    def _start(self) -> None:
        while self._waiting and not self._halted and len(self._running) < (self._workers or 1):
            work = self._waiting.popleft()
            task = self._loop.create_task(self._work(work), name="redis_memo map")
            self._running.add(task)
            task.add_done_callback(functools.partial(self._done, work))

    def _done(self, work: Work, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:  # the function raised GeneratorExit, which looks like the end of its coroutine
            self._halted = True
            self._ended += [(number, ops.Raised(error)) for number in work.numbers]
            self._changed.set()
        self._start()

    async def _work(self, work: Work) -> None:
        work, ended = self._in_turn(work)
        if work.numbers:
            with queueing(self._queued):
                answer = await atimed(self._compute(work), self._inside(work), self._engine.closed)
            ended += self._unpacked(work, answer)
        self._ended += ended
        self._changed.set()

    async def _withdraw(self) -> Ended:
        self._waiting.clear()
        for task in self._running:
            task.cancel()
        if self._running:
            # Cancelled once more it waits no longer for those who do not end, but goes on to give the leases back.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(set(self._running))
        self._waits.clear()
        ended, self._ended = self._ended, []
        return ended

    def _hear(self, number: int, serial: int) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so is the crowd
            self._loop.call_soon_threadsafe(self._heard, number, serial)

    def _heard(self, number: int, serial: int) -> None:
        self._ended += self._ended_wait(number, serial, came=True)
        self._changed.set()

    async def _rest(self, seconds: float | None) -> Ended:
        end = None if seconds is None else time.monotonic() + seconds
        while not self._ended:
            overdue = self._overdue()
            left = None if end is None else max(0.0, end - time.monotonic())
            if overdue or left == 0.0:
                return overdue
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience(left)):
                    await self._changed.wait()
        ended, self._ended = self._ended, []
        return ended
