"""Plots of a run: dots on a logarithmic scale, where 1 is what the others are compared with."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from . import hits, keys, link_hits, processes, values
from .results import OURS, Ratio, Results

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "redis_memo",  # equal results make equal files
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
COLOURS = {"ours": "#c6302b", "peer": "#2f6db3", "code": "#3c8d5a", "limit": "#8a8a8a"}
MARKERS = "osD^vPX<>*hdp|x"


def draw(results: Results, folder: Path) -> None:
    """Draw what the run has figures for."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, part, quantity, reference, title in (
        ("stored", values.PART, "stored bytes", OURS, "Bytes stored, as multiples of redis_memo's"),
        ("store", values.PART, "store", OURS, "Time to store, as multiples of redis_memo's"),
        ("hit", values.PART, "hit", OURS, "Time of a hit on loopback, as multiples of redis_memo's"),
        ("link", link_hits.PART, "hit", OURS, "Time of a hit over 1 Gbit/s and 0.5 ms, as multiples of redis_memo's"),
        ("keys", keys.PART, keys.QUANTITY, OURS, "Time to make a key, as multiples of redis_memo's"),
        ("small", hits.PART, hits.MEDIAN, hits.BareGet.name, "Time of a small hit, as multiples of a bare GET's"),
        (
            "processes",
            processes.PART,
            processes.QUANTITY,
            OURS,
            "Time a hit, of several processes, as multiples of redis_memo's",
        ),
    ):
        if results.cases(part, quantity):
            with mpl.rc_context(STYLE):
                drawing = _dots(results, part, quantity, reference=reference, title=title)
                _save(drawing, folder / f"{name}.svg")


def _save(drawing: Figure, path: Path) -> None:
    """Write it without date and version, and with no more digits than the eye sees."""
    written = io.StringIO()
    drawing.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    short = re.sub(r"\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}", written.getvalue())
    path.write_text("".join(f"{line.rstrip()}\n" for line in short.splitlines()))


def _dots(results: Results, part: str, quantity: str, *, reference: str, title: str) -> Figure:
    """A line for each case, a dot with its quartiles for each contestant."""
    cases = results.cases(part, quantity)
    contests = {case: results.contest(part, case, quantity) for case in cases}
    subjects = {subject: record.kind for contest in contests.values() for subject, record in contest.items()}
    shown = [subject for subject in subjects if subject != reference]
    height = max(len(cases) * max(0.45, 0.055 * len(shown)), 0.17 * len(shown)) + 0.9
    drawing = Figure(figsize=(9, height), layout="constrained")
    axes = drawing.subplots()
    for nth, subject in enumerate(shown):
        points: list[tuple[float, Ratio]] = []
        for line, case in enumerate(cases):
            ratio = results.ratio(part, case, quantity, subject, reference)
            if ratio is not None:
                points.append((line + 0.7 * ((nth + 0.5) / len(shown) - 0.5), ratio))
        if points:
            heights, ratios = zip(*points, strict=True)
            middles = [ratio.median for ratio in ratios]
            around = [[r.median - r.low for r in ratios], [r.high - r.median for r in ratios]]
            axes.errorbar(
                middles, heights, xerr=around, label=subject, linestyle="none", elinewidth=0.8, markersize=4,
                clip_on=False, marker=MARKERS[nth % len(MARKERS)], color=COLOURS[subjects[subject]],
                markerfacecolor="white" if subjects[subject] == "limit" else COLOURS[subjects[subject]],
            )  # fmt: skip
    axes.axvline(1, color=COLOURS["ours"] if reference == OURS else COLOURS["limit"], linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(cases)), cases)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(axis="x", linewidth=0.3)
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    return drawing
