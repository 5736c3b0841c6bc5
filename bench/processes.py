"""Throughput: one to eight processes that hit the same entry, each one call after the other."""

from __future__ import annotations

from collections.abc import Callable

from . import data
from .crew import Crew, crew
from .hits import BareGet
from .measure import Bench, turns
from .peers import PEERS
from .results import Record
from .subjects import Ours, Pickle, Subject

PART = "processes"
QUANTITY = "time a hit, all processes together"
FRAME = "100 KB frame"
CASES = {data.DICT: ("quote", ("INFY",)), FRAME: ("produce", (FRAME,))}
KINDS: list[type[Subject]] = [BareGet, Ours, *PEERS, Pickle]


def measure(bench: Bench) -> None:
    """Measure both values with every number of processes."""
    most = max(bench.scale.processes)
    seconds = 0.15 if bench.scale.least > 1 else 0.02
    with crew(most) as members:
        members.order(most, "learn", FRAME, data.minutes(2_083 / 93_750))
        for case, (name, args) in CASES.items():
            for db, kind in enumerate(KINDS):
                members.order(most, "open", kind, bench.place(db), name, args)
            for number in bench.scale.processes:
                contest = {kind.name: _hits(members, number, (kind, name, args, seconds)) for kind in KINDS}
                kinds = {kind.name: kind.kind for kind in KINDS}
                for subject, samples in turns(contest, bench.scale.in_rounds()).items():
                    bench.add(Record(PART, named(case, number), QUANTITY, subject, kinds[subject], samples))


def named(case: str, number: int) -> str:
    """The case of a value that a number of processes hit."""
    return f"{case}, {number} process{'es' * (number > 1)}"


def _hits(members: Crew, number: int, order: tuple[type[Subject], str, tuple[str, ...], float]) -> Callable[[], float]:
    seconds = order[-1]

    def measure() -> float:
        return seconds / max(1, int(sum(members.order(number, "count", *order))))

    return measure
