"""Turns: how contestants are measured against each other, and the scale on which a run does so."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from .results import Record, Results
from .servers import Place, Server

T = TypeVar("T")

PATIENCE = 2.0  # seconds of one measurement, beyond which repeating it is not worth the wait


@dataclass(frozen=True)
class Scale:
    """How much a run measures.

    Args:
        seconds: Roughly what one contest may take.
        least: Turns that a contest has even if it takes longer.
        most: Turns after which it ends even if it took less.
        batch: Seconds that a batch of fast calls lasts: long enough that caches which others left cold are the least
            of it.
        size: Size of the values, as a part of their full one.
        calls: Calls of which the slow end is taken.
        processes: How many processes hit at once, in each round of that part.
        frame: Bytes of the frame whose memory is measured.
    """

    seconds: float = 5.0
    least: int = 3
    most: int = 31
    batch: float = 0.05
    size: float = 1.0
    calls: int = 200
    processes: tuple[int, ...] = (1, 2, 4, 8)
    frame: float = 500e6

    def longer(self, times: float) -> Scale:
        """The same with more time for a contest."""
        return replace(self, seconds=self.seconds * times)

    def in_rounds(self) -> Scale:
        """The same with five turns for a contest, however long they take; one where one is the least."""
        rounds = 5 if self.least > 1 else 1
        return replace(self, least=rounds, most=rounds)


QUICK = Scale(seconds=0.0, least=1, most=1, batch=0.0005, size=0.01, calls=10, processes=(1, 2), frame=8e6)


@dataclass
class Bench:
    """One run: the server that all share, the scale, and what was found so far."""

    server: Server
    folder: Path
    scale: Scale
    results: Results = field(default_factory=Results)

    def place(self, db: int) -> Place:
        """A database of the server and a folder, for one contestant alone."""
        return self.server.place(db, self.folder)

    def add(self, *found: Record) -> None:
        """Note what was found."""
        self.results.records.extend(found)


def turns(contestants: Mapping[str, Callable[[], T]], scale: Scale) -> dict[str, list[T]]:
    """Let each measure itself once, again and again, and return what they said, turn by turn.

    A turn before the first one warms up and is not counted. Who begins changes from turn to turn, so that what one
    leaves behind (a warm cache, freed memory) does not always help or hurt the same neighbour. Whoever is slow beyond all
    comparison takes part in the first turn only.
    """
    names = list(contestants)
    said: dict[str, list[T]] = {name: [] for name in names}
    with _own_garbage() as clean:
        slow = {name for name in names if _takes_long(contestants[name])}
        end = time.monotonic() + scale.seconds
        for turn in range(scale.most):
            if turn >= scale.least and time.monotonic() > end:
                break
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                if turn == 0 or name not in slow:
                    clean()
                    said[name].append(contestants[name]())
    return said


def _takes_long(measure: Callable[[], object]) -> bool:
    began = time.monotonic()
    measure()
    return time.monotonic() - began > PATIENCE


@contextmanager
def _own_garbage() -> Iterator[Callable[[], object]]:
    """Yield what to call before each measurement, so that nobody pays for collecting the garbage of another one.

    What was there before is kept out of it: else each collection would look at all modules and values anew.
    """
    gc.collect()
    gc.freeze()
    try:
        yield gc.collect
    finally:
        gc.unfreeze()


def fitted(batch: Callable[[int], float], scale: Scale) -> Callable[[], float]:
    """Measure in batches: what takes a number of calls and says how long one took finds out itself how many to make."""
    number = 0

    def calls(seconds: float, took: float) -> int:
        return max(1, min(200_000, int(seconds / max(took, 1e-7))))

    def measure() -> float:
        nonlocal number
        if number:
            return batch(number)
        took = batch(1)
        if took < scale.batch:
            # Of what takes microseconds the first call takes several times as long as those that follow.
            took = batch(calls(scale.batch / 4, took))
        number = calls(scale.batch, took)
        return took

    return measure


def batched(function: Callable[[], object], scale: Scale) -> Callable[[], float]:
    """Measure a plain function: seconds a call, in batches that last long enough for the clock."""

    def batch(number: int) -> float:
        began = time.perf_counter()
        for _ in range(number):
            function()
        return (time.perf_counter() - began) / number

    function()
    return fitted(batch, scale)
