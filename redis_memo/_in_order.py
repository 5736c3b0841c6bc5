"""One call after the other, in the caller's own thread: the function and the crowd's flows take turns in it.

Nothing is handed over to another thread for a function that comes back within milliseconds. Once it does not, a helper
goes on with the flows, and the caller only computes: else results would have to wait, unstored, for as long as the
next computation takes, and so would who waits for them elsewhere.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ._crew import Threads
from ._drive import drive
from ._many_ops import Report, Rest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._many_ops import Work

__all__ = ["InOrder"]

OVERDUE = 0.025  # seconds between looks at a job; one that runs at two of them holds up the flows


class InOrder(Threads):
    """As `Threads`, but the caller's thread is the only worker."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._apart = False  # whether a helper runs the flows
        self._lent: tuple[Any, Generator[Any, Any, Any]] | None = None  # a flow that stands still during a job
        self._seen: object = None
        self._watched = self._over = False
        self._outcome: Future[list[Any]] = Future()

    def _drive(self, flow: Generator[Any, Any, list[Any]]) -> list[Any]:
        interrupt: BaseException | None = None
        try:
            op = flow.send(None)
            while True:
                try:
                    if type(op) is Rest and not self._jobs.empty():
                        interrupt = self._done(self._jobs.get(), (op, flow))
                        if self._taken():
                            break
                        if interrupt is not None:
                            raise interrupt  # noqa: TRY301 - to the flow
                        result = self._await(0.0)
                    else:
                        result = self._perform(op)
                except BaseException as error:  # noqa: BLE001 - the flow decides
                    if self._taken():
                        interrupt = error
                        break
                    op = flow.throw(error)
                else:
                    op = flow.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            self._over = True
        return self._serve_helper(interrupt)

    def _done(
        self, job: Callable[[], object] | None, lent: tuple[Any, Generator[Any, Any, Any]] | None = None
    ) -> BaseException | None:
        """Do a job; a helper may go on with what is lent meanwhile, for good. Returns what kept it from its end."""
        try:
            self._lent = lent
            if lent is not None and not self._watched:
                self._watched = True
                self._watch()
            if job is not None and not self._halted:
                job()
        except BaseException as error:  # noqa: BLE001 - an interrupt, for the flow
            return error
        return None

    def _taken(self) -> bool:
        """Whether a helper has what was lent; if not, it is lent no longer."""
        with self._changed:
            self._lent = None
            return self._apart

    def _watch(self) -> None:
        self._engine.leases.after(OVERDUE, self._look)

    def _look(self) -> None:
        """If the job that ran at the last look is still running, let a helper go on."""
        with self._changed:
            seen, self._seen = self._seen, self._lent
            if self._lent is not None and self._lent is seen:
                helper = threading.Thread(
                    target=self._context.run, args=(self._go_on, *self._lent), name="redis_memo map", daemon=True
                )
                self._apart = True
                try:
                    helper.start()
                except RuntimeError:  # no more threads, or the interpreter is about to end
                    self._apart = False
                else:
                    return
        if not self._over:
            self._watch()

    def _go_on(self, op: Any, flow: Generator[Any, Any, Any]) -> None:
        try:
            self._outcome.set_result(drive(_from(op, flow), self._perform))
        except BaseException as error:  # noqa: BLE001 - for the caller
            self._outcome.set_exception(error)
        self._jobs.put(None)

    def _serve_helper(self, interrupt: BaseException | None) -> list[Any]:
        """Do the jobs that a helper finds, to its end."""
        while True:
            try:
                if interrupt is not None:
                    if self._interrupt is not None:
                        raise interrupt  # noqa: TRY301 - the second one, which ends all
                    self._halted = True
                    with self._changed:
                        self._interrupt = interrupt
                        self._changed.notify()
                    interrupt = None
                job = self._jobs.get()
            except BaseException as error:
                if self._interrupt is not None:
                    raise
                interrupt = error
                continue
            if job is None:
                results = self._outcome.result()
                if self._interrupt is not None:  # it came when all was done
                    raise self._interrupt
                return results
            interrupt = self._done(job)

    def _perform(self, op: Any) -> Any:
        if self._apart and type(op) is Report:  # progress is told in the caller's thread
            self._jobs.put(lambda: self._report(op.done))
            return None
        return super()._perform(op)

    def _take_on(self, work: Work) -> None:
        with self._changed:
            self._hold(work)
        self._jobs.put(lambda: self._work(work))

    def _rest(self, seconds: float | None) -> Any:
        return self._await(seconds)


def _from(op: Any, flow: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """A flow that was driven as far as this operation, from there on."""
    try:
        while True:
            try:
                result = yield op
            except GeneratorExit:
                flow.close()
                raise
            except BaseException as error:  # noqa: BLE001 - the flow decides
                op = flow.throw(error)
            else:
                op = flow.send(result)
    except StopIteration as stop:
        return stop.value
