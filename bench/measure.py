"""Turns: how contestants are measured against each other, and the scale on which a run does so."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from .results import Record, Results
from .servers import Place, Server

T = TypeVar("T")


@dataclass(frozen=True)
class Scale:
    """How much a run measures.

    Args:
        seconds: Roughly what one contest may take.
        least: Turns that a contest has even if it takes longer.
        most: Turns after which it ends even if it took less.
        batch: Seconds that a batch of fast calls lasts.
        size: Size of the values, as a part of their full one.
        calls: Calls of which the slow end is taken.
        processes: How many processes hit at once, in each round of that part.
        frame: Bytes of the frame whose memory is measured.
    """

    seconds: float = 3.2
    least: int = 3
    most: int = 31
    batch: float = 0.01
    size: float = 1.0
    calls: int = 200
    processes: tuple[int, ...] = (1, 2, 4, 8)
    frame: float = 500e6

    def longer(self, times: float) -> Scale:
        """The same with more time for a contest."""
        return replace(self, seconds=self.seconds * times)


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
    leaves behind (a warm cache, freed memory) does not always help or hurt the same neighbour.
    """
    names = list(contestants)
    for name in names:
        contestants[name]()
    said: dict[str, list[T]] = {name: [] for name in names}
    end = time.monotonic() + scale.seconds
    for turn in range(scale.most):
        if turn >= scale.least and time.monotonic() > end:
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            said[name].append(contestants[name]())
    return said


def batched(function: Callable[[], object], scale: Scale) -> Callable[[], float]:
    """Measure a plain function: seconds a call, in batches that last long enough for the clock."""
    number = fitting(function, scale)

    def measure() -> float:
        began = time.perf_counter()
        for _ in range(number):
            function()
        return (time.perf_counter() - began) / number

    return measure


def fitting(function: Callable[[], object], scale: Scale) -> int:
    """How many calls make a batch."""
    function()
    began = time.perf_counter()
    function()
    took = time.perf_counter() - began
    return max(1, min(10_000, int(scale.batch / max(took, 1e-7))))
