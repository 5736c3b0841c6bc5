"""``map``: many calls of one decorated function, with a few exchanges instead of one or several for each."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ._crew import Tasks, Threads
from ._hits import DIGEST, Hits
from ._in_order import InOrder
from ._many import Crowd
from ._near_invocation import call_of
from ._ops import Raised
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from . import _ops as ops
    from ._engine import Engine
    from ._handle import Handle
    from ._invocation import Invocation

__all__ = ["Options", "Progress", "amapped", "mapped", "side_by_side"]

Progress: TypeAlias = "bool | Callable[[int, int], object]"

SHORT = 1.0  # seconds after which a run is long enough to say how far it is
SAY_EVERY = 0.5
NOTE = "redis_memo: call "


class Options(NamedTuple):
    """How calls are mapped; see `Memoized.map`."""

    workers: int | None
    batch: Callable[[list[Any]], Any] | None
    batch_size: int
    return_exceptions: bool
    progress: Progress


def mapped(handle: Handle, calls: Iterable[object], options: Options) -> list[Any]:
    """The results of the calls, in their order."""
    given, crowd = _crowd(handle, calls, options)
    if not given:
        return []
    memo = handle._memo  # noqa: SLF001
    told = _Told(memo.shown, len(given), options.progress)
    kind = InOrder if options.workers is None else Threads
    crew = kind(memo.engine, memo.namespace, given, workers=options.workers, batch=options.batch, report=told.done)
    try:
        results = crew.run(crowd)
    finally:
        told.close()
    return _returned(memo.shown, results, options)


async def amapped(handle: Handle, calls: Iterable[object], options: Options) -> list[Any]:
    """As `mapped`, from a task."""
    given, crowd = _crowd(handle, calls, options)
    if not given:
        return []
    memo = handle._memo  # noqa: SLF001
    told = _Told(memo.shown, len(given), options.progress)
    crew = Tasks(memo.engine, memo.namespace, given, workers=options.workers, batch=options.batch, report=told.done)
    try:
        results = await crew.run(crowd)
    finally:
        told.close()
    return _returned(memo.shown, results, options)


def side_by_side(engine: Engine, namespace: str, flows: Sequence[ops.Flow]) -> list[Any]:
    """What flows return that run no function, in few exchanges; raises what one of them raised."""
    crowd = Crowd(lambda number, _: _Flow(flows[number]), len(flows), lease=engine.settings.lease)
    crew = InOrder(engine, namespace, flows, workers=None, batch=None, report=lambda _: None)
    results = crew.run(crowd)
    for result in results:
        if type(result) is Raised:
            raise result.error
    return results


class _Flow(NamedTuple):
    """One of many, as if it were a call."""

    asks: ops.Flow

    def flow(self) -> ops.Flow:
        return self.asks

    def compute(self) -> Any:
        raise AssertionError("there is no function to run")

    def begin(self) -> None:
        raise AssertionError("there is no function to run")


def _crowd(handle: Handle, calls: Iterable[object], options: Options) -> tuple[list[object], Crowd]:
    workers, batch = options.workers, options.batch
    for name, number in (("workers", workers), ("batch_size", options.batch_size)):
        if number is not None and (type(number) is not int or number < 1):
            raise ConfigurationError(f"{name}= of map() takes a whole number from 1 on")
    if batch is not None and not callable(batch):
        raise ConfigurationError("batch= of map() takes a function of a list of calls, which returns their results")
    if isinstance(calls, (str, bytes, bytearray, Mapping)) or not isinstance(calls, Iterable):
        raise TypeError(f"map() takes an iterable of calls, such as a list, not a {type(calls).__name__}")
    given = list(calls)
    memo, bound = handle._memo, handle._bound  # noqa: SLF001
    handle._check_class()  # noqa: SLF001
    for number, call in enumerate(given):
        if type(call) not in _PLAIN:
            _check(number, call)

    def arguments(number: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        call: Any = given[number]
        kind = type(call)
        if kind is str:
            return (*bound, call), _NONE
        if kind is tuple:
            return (*bound, *call), _NONE
        if isinstance(call, dict):
            return bound, call
        if kind is inspect.BoundArguments:
            return (*bound, *call.args), call.kwargs
        return (*bound, call), _NONE

    def start(number: int, entry: str | None) -> Invocation:
        args, kwargs = arguments(number)
        call = call_of(memo, args, kwargs.copy(), plain=None if entry is None else entry[DIGEST])
        call.exposed = True  # to the calls before it, while it waits for its turn
        return call

    crowd = Crowd(
        start,
        len(given),
        hits=Hits.of(memo, arguments),
        workers=workers or 1,
        batch=0 if batch is None else options.batch_size,
        lease=memo.engine.settings.lease,
    )
    return given, crowd


_PLAIN = frozenset({str, int, tuple})
_NONE: dict[str, Any] = {}  # as keywords it takes no time, and nobody keeps it


def _check(number: int, call: object) -> None:
    """Refuse what could be meant in two ways."""
    if isinstance(call, dict):
        if not all(isinstance(name, str) for name in call):
            raise TypeError(
                f"map(): call {number} is a dict whose keys are no names of parameters; "
                "if the dict is the call's one argument, write a tuple around it: (value,)"
            )
    elif isinstance(call, (list, tuple, Mapping)):
        raise TypeError(
            f"map(): call {number} is a {type(call).__name__}, which could be meant as one argument or as several: "
            "write (value,) for one, a plain tuple for several, a dict for arguments by name"
        )


def _returned(shown: str, results: list[Any], options: Options) -> list[Any]:
    failed = [number for number, result in enumerate(results) if type(result) is Raised]
    if not failed:
        return results
    if not options.return_exceptions:
        error: BaseException = results[failed[0]].error
        further = f", and so did {len(failed) - 1} more" if len(failed) > 1 else ""
        if not any(note.startswith(NOTE) for note in getattr(error, "__notes__", ())):  # others joined that run
            error.add_note(
                f"{NOTE}{failed[0]} of {len(results)} in map() of {shown} failed{further}. What the others "
                "returned is stored as usual; return_exceptions=True returns errors in the place of results"
            )
        raise error
    for number in failed:
        results[number] = results[number].error
    return results


class _Told:
    """Says how far it is: to the user's function, or on stderr once it takes long."""

    def __init__(self, shown: str, total: int, progress: Progress) -> None:
        self._shown = shown
        self._total = total
        self._progress = progress
        self._due = time.monotonic() + SHORT
        self._began = time.monotonic()
        self._said = False

    def done(self, count: int) -> None:
        """So many calls are done."""
        if callable(self._progress):
            self._progress(count, self._total)
            return
        now = time.monotonic()
        if not self._progress or (now < self._due and not (self._said and count == self._total)):
            return
        self._due = now + SAY_EVERY
        left = (now - self._began) / count * (self._total - count)
        text = f"{self._shown}: {count:,} of {self._total:,}, about {left:,.0f} s left"
        # A terminal's line is written over; a file gets lines.
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{text:79}")
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
        self._said = True

    def close(self) -> None:
        """End the line."""
        if self._said and sys.stderr.isatty():
            sys.stderr.write("\n")
