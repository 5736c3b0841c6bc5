"""Tables of a run, as Markdown: who takes how many times what."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from . import hits, keys, link_hits, many, memory, processes, stampede, values
from .goals import GOALS
from .results import OURS, Ratio, Record, Results, quartiles

CHANGED = "†"  # marks a value that comes back as something else
ASYNC = f"{OURS}, async"
ON_A_LOOP = ("cashews", "aiocache")
"""How the names of those begin who memoize coroutine functions only: where there is a choice, they meet our async side."""

QUANTITIES: list[tuple[str, str]] = [
    (values.PART, "stored bytes"),
    (values.PART, "store"),
    (values.PART, "hit"),
    (link_hits.PART, "hit"),
    (keys.PART, keys.QUANTITY),
    (hits.PART, hits.MEDIAN),
    (hits.PART, hits.SLOW),
    (many.PART, many.QUANTITY),
    (many.PART, many.MOSTLY),
    (processes.PART, processes.QUANTITY),
    (stampede.PART, stampede.RUNS),
    (stampede.PART, stampede.LAST),
    (memory.PART, f"store: {memory.ABOVE}"),
    (memory.PART, f"hit: {memory.ABOVE}"),
]
"""What is compared, part by part: of all of these less is better."""


def figure(number: float) -> str:
    """Two or three digits, and never an exponent."""
    if number == 0 or number >= 99.5:
        return f"{number:,.0f}"
    if number >= 0.0995:
        return f"{number:.{2 if number < 9.995 else 1}f}"
    return f"{number:.{1 - math.floor(math.log10(number))}f}"


def count(number: float) -> str:
    """A whole number."""
    return f"{number:.0f}"


def spread(ratio: Ratio, say: Callable[[float], str] = figure) -> str:
    """The median, and the quartiles where they are not the same."""
    middle, low, high = map(say, ratio)
    return middle if low == high else f"{middle} ({low}-{high})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Column:
    """A column: which contest it shows, and how it says what a contestant did in it."""

    title: str
    part: str
    case: str
    quantity: str
    say: Callable[[Record], str]


def grid(results: Results, columns: Sequence[Column]) -> str:
    """A row for each contestant."""
    contests = [results.contest(column.part, column.case, column.quantity) for column in columns]
    subjects = list(dict.fromkeys(subject for contest in contests for subject in contest))
    rows = []
    for subject in subjects:
        records = [contest.get(subject) for contest in contests]
        rows.append([subject, *("" if r is None else c.say(r) for c, r in zip(columns, records, strict=True))])
    return table(["", *(column.title for column in columns)], rows)


def times(results: Results, part: str, case: str, quantity: str, *, reference: str, title: str) -> Column:
    """Figures as multiples of a contestant's; of ours, those that are less stand out."""

    def say(record: Record) -> str:
        ratio = results.ratio(part, case, quantity, record.subject, reference)
        if ratio is None:
            return record.note
        mark = f" {CHANGED}" if record.note else ""
        ahead = ratio.median < 1 and reference == OURS and record.kind in {"peer", "code"}
        said = "1" if record.subject == reference else spread(ratio)
        return f"**{said}**{mark}" if ahead else f"{said}{mark}"

    return Column(title, part, case, quantity, say)


def plain(part: str, case: str, quantity: str, title: str, say: Callable[[float], str] = figure) -> Column:
    """Figures as they are."""

    def said(record: Record) -> str:
        return spread(quartiles(record.samples), say) if record.samples else record.note

    return Column(title, part, case, quantity, said)


def against(results: Results, part: str, quantity: str, reference: str) -> str:
    """All cases of a part, as multiples of a contestant's figures."""
    cases = results.cases(part, quantity)
    return grid(results, [times(results, part, case, quantity, reference=reference, title=case) for case in cases])


@dataclass(frozen=True)
class Loss:
    """Somebody's figure that is less than ours."""

    part: str
    quantity: str
    case: str
    subject: str
    ratio: Ratio


def losses(results: Results) -> list[Loss]:
    """Every figure in which another memoizer, or code by hand, is ahead of us."""
    found = []
    for part, quantity in QUANTITIES:
        for case in results.cases(part, quantity):
            contest = results.contest(part, case, quantity)
            for record in contest.values():
                on_a_loop = record.subject.startswith(ON_A_LOOP) and ASYNC in contest
                ratio = results.ratio(part, case, quantity, record.subject, ASYNC if on_a_loop else OURS)
                if record.kind in {"peer", "code"} and ratio is not None and ratio.median < 1:
                    found.append(Loss(part, quantity, case, record.subject, ratio))
    return found


def lost(results: Results) -> str:
    """A row for each case in which we are behind: by whom, and what part of ours theirs is."""
    grouped: dict[tuple[str, str, str], list[Loss]] = {}
    for loss in losses(results):
        grouped.setdefault((loss.part, loss.quantity, loss.case), []).append(loss)
    rows = []
    for (part, quantity, case), ahead in grouped.items():
        ahead.sort(key=lambda loss: loss.ratio.median)
        said = (f"{loss.subject} {spread(loss.ratio)}{'' if loss.ratio.high < 1 else ' ~'}" for loss in ahead)
        rows.append([f"{part}: {quantity}", case, "; ".join(said)])
    return (
        table(["", "case", "ahead of redis_memo, and its figure as a part of ours"], rows)
        if rows
        else "Nowhere in this run."
    )


def goals(results: Results) -> str:
    """A row for each goal that this run has a figure for."""
    found = [(goal, goal.measured(results)) for goal in GOALS]
    rows = (
        [goal.text, f"{goal.bound:.3g}", spread(measured), "yes" if measured.median <= goal.bound else "**no**"]
        for goal, measured in found
        if measured is not None
    )
    return table(["", "at most", "measured", "met"], rows)
