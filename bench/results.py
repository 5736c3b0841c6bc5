"""What a run measured: a record for each contestant of each contest, kept as JSON, compared turn by turn."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

OURS = "redis_memo"

Kind: TypeAlias = Literal["ours", "peer", "code", "limit"]
"""Of a contestant: ourselves, another memoizer, code that people write by hand, or what bounds all of them."""


class Ratio(NamedTuple):
    """Median and quartiles of the ratios of two contestants, turn by turn."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Record:
    """One contestant in one contest.

    Args:
        part: Which part of the run, as in ``python -m bench PART``.
        case: What was stored, hashed or called.
        quantity: What was measured.
        subject: Who it was measured of.
        kind: What kind of contestant that is.
        samples: One figure per turn: seconds, bytes, calls a second, as the quantity says. Empty where there is none.
        note: Why there is none, or what to know about it.
    """

    part: str
    case: str
    quantity: str
    subject: str
    kind: Kind
    samples: Sequence[float]
    note: str = ""


@dataclass
class Results:
    """All records of a run, and what it ran on."""

    machine: dict[str, object] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote."""
        raw = json.loads(path.read_text())
        records = [
            Record(contest["part"], contest["case"], contest["quantity"], *who)
            for contest in raw["contests"]
            for who in contest["who"]
        ]
        return cls(raw["machine"], raw["versions"], records)

    def save(self, path: Path) -> None:
        """Write all of it, a contestant a line; figures to four digits."""
        contests: dict[tuple[str, str, str], list[str]] = {}
        for record in self.records:
            samples = [float(f"{sample:.4g}") for sample in record.samples]
            who = json.dumps([record.subject, record.kind, samples, *([record.note] if record.note else [])])
            contests.setdefault((record.part, record.case, record.quantity), []).append(who)
        head = json.dumps({"machine": self.machine, "versions": self.versions})[:-1]
        lines = []
        for (part, case, quantity), whoever in contests.items():
            contest = json.dumps({"part": part, "case": case, "quantity": quantity})[:-1]
            lines.append(contest + ', "who": [\n' + ",\n".join(whoever) + "\n]}")
        path.write_text(head + ', "contests": [\n' + ",\n".join(lines) + "\n]}\n")

    def cases(self, part: str, quantity: str) -> list[str]:
        """The cases of a part in which a quantity was measured, in order."""
        return list(dict.fromkeys(r.case for r in self.records if (r.part, r.quantity) == (part, quantity)))

    def contest(self, part: str, case: str, quantity: str) -> dict[str, Record]:
        """Who took part in a contest, by name, in order."""
        where = (part, case, quantity)
        return {r.subject: r for r in self.records if (r.part, r.case, r.quantity) == where}

    def ratio(self, part: str, case: str, quantity: str, subject: str, reference: str) -> Ratio | None:
        """How many times the reference's figure the subject's is, or None where one of them has none."""
        contest = self.contest(part, case, quantity)
        above, below = contest.get(subject), contest.get(reference)
        if above is None or below is None or not above.samples or not below.samples:
            return None
        return quartiles([a / b for a, b in zip(above.samples, below.samples, strict=False)])


def quartiles(figures: Sequence[float]) -> Ratio:
    """Median, lower and upper quartile."""
    if len(figures) == 1:
        return Ratio(figures[0], figures[0], figures[0])
    low, middle, high = statistics.quantiles(figures, n=4, method="inclusive")
    return Ratio(middle, low, high)
