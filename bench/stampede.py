"""Stampede: many callers, one missing key, a function of 50 ms. How often it runs, and when the last has its value."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

from .crew import Crew, StuckError
from .functions import SECONDS
from .measure import Bench
from .peers import GUARDED, PEERS
from .results import Record
from .subjects import Ours, OursAsync, Subject

PART = "stampede"
RUNS, LAST, ERRORS = "runs", "until the last has it", "callers that got an error"
ALONE = "the function alone"
KINDS: list[type[Subject]] = [Ours, OursAsync, *PEERS, *GUARDED]


@dataclass
class _Found:
    runs: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    note: str = ""


def measure(bench: Bench) -> None:
    """One process with 50 threads (or tasks), then eight with 25 each."""
    rounds = bench.scale.in_rounds().most
    most = max(bench.scale.processes)
    for number, callers in ((1, 50), (most, 25)) if rounds > 1 else ((1, 4), (most, 2)):
        case = f"{number} process{'es' * (number > 1)}, {number * callers} callers"
        found = _Rushes(bench, number, callers).run(rounds)
        for kind in KINDS:
            one = found[kind]
            for quantity, samples in ((RUNS, one.runs), (LAST, one.last), (ERRORS, one.errors)):
                bench.add(Record(PART, case, quantity, kind.name, kind.kind, samples, one.note))
        bench.add(Record(PART, case, LAST, ALONE, "limit", [SECONDS] * rounds))


class _Rushes:
    """Rushes of all contestants, in turns; one that hangs is left out from then on."""

    def __init__(self, bench: Bench, number: int, callers: int) -> None:
        self._bench = bench
        self._number = number
        self._callers = callers
        self._keys = itertools.count()
        self._found = {kind: _Found() for kind in KINDS}

    def run(self, rounds: int) -> dict[type[Subject], _Found]:
        crew = self._crew()
        for _ in range(rounds):
            for kind in KINDS:
                if self._found[kind].note:
                    continue
                try:
                    self._rush(crew, kind)
                except (StuckError, RuntimeError) as error:
                    self._found[kind] = _Found(note="hangs" if isinstance(error, StuckError) else "fails")
                    crew.close()
                    crew = self._crew()
        crew.close()
        return self._found

    def _crew(self) -> Crew:
        crew = Crew(self._number)
        for db, kind in enumerate(KINDS):
            if not self._found[kind].note:
                self._folder(kind).mkdir(parents=True, exist_ok=True)
                args = (f"open {next(self._keys)}", str(self._folder(kind)))
                crew.order(self._number, "open", kind, self._bench.place(db), "slow", args)
                self._order(crew, kind)  # every connection that a rush needs is there before one is measured
        return crew

    def _folder(self, kind: type[Subject]) -> Path:
        return self._bench.folder / "runs" / kind.name

    def _order(self, crew: Crew, kind: type[Subject]) -> list[tuple[float, int]]:
        args = (f"key {self._number} {next(self._keys)}", str(self._folder(kind)))
        return crew.order(self._number, "rush", kind, "slow", args, self._callers)

    def _rush(self, crew: Crew, kind: type[Subject]) -> None:
        marks = self._folder(kind) / "runs"
        before = marks.stat().st_size
        said = self._order(crew, kind)
        found = self._found[kind]
        found.runs.append(marks.stat().st_size - before)
        found.last.append(max(seconds for seconds, _ in said))
        found.errors.append(sum(errors for _, errors in said))
