"""What redis_memo aims at, as bounds on ratios; the page says of each whether the run met it."""

from __future__ import annotations

from dataclasses import dataclass

from . import data, hits, keys, link_hits, many, memory, near, values
from .results import OURS, Ratio, Record, Results, quartiles
from .subjects import Gzip, Pickle, Records, Zstd


@dataclass(frozen=True)
class Goal:
    """A bound on one figure of ours.

    Args:
        text: The figure, in words.
        part: Where it is measured, as are the next two.
        case: Likewise.
        quantity: Likewise.
        bound: What it may be at most.
        against: The contestant whose figure is 1; `REDIS` is the best of the peers on Redis,
            None is the unit of the figure itself.
    """

    text: str
    part: str
    case: str
    quantity: str
    bound: float
    against: str | None

    def measured(self, results: Results) -> Ratio | None:
        """The figure in a run, or None where that lacks it."""
        contest = results.contest(self.part, self.case, self.quantity)
        if OURS not in contest:
            return None
        if self.against is None:
            samples = contest[OURS].samples
            return quartiles(list(samples)) if samples else None
        against = [self.against] if self.against in contest else [r.subject for r in contest.values() if self._takes(r)]
        found = [results.ratio(self.part, self.case, self.quantity, OURS, name) for name in against]
        return max((ratio for ratio in found if ratio), key=lambda ratio: ratio.median, default=None)

    def _takes(self, record: Record) -> bool:
        return self.against == REDIS and record.kind == "peer" and record.subject not in FILES


REDIS = "the best peer on Redis"
FILES = frozenset({"joblib.Memory", "diskcache"})
"""Peers that keep files on this machine and talk to no server."""

_BYTES, _STORE, _HIT = "stored bytes", "store", "hit"


def _value(text: str, case: str, quantity: str, bound: float, against: str) -> Goal:
    return Goal(f"{case}: {text}", values.PART, case, quantity, bound, against)


GOALS = [
    _value("bytes, of gzip -6 of its pickle", data.GOOG, _BYTES, 0.45, Gzip.name),
    _value("bytes, of gzip -6 of its pickle", data.MINUTES, _BYTES, 0.42, Gzip.name),
    *(
        goal
        for case in (data.GOOG, data.MINUTES)
        for goal in (
            _value("encoding, of gzip -6 of its pickle", case, values.ENCODE, 1 / 30, Gzip.name),
            _value("store, of gzip -6 of its pickle", case, _STORE, 1 / 30, Gzip.name),
            _value("hit, of to_dict and gzip -6", case, _HIT, 0.1, Records.name),
            _value("hit on loopback, of the best peer on Redis", case, _HIT, 1.3, REDIS),
            Goal(f"{case}: hit over the link, of the best peer on Redis", link_hits.PART, case, _HIT, 1, REDIS),
        )
    ),
    _value("bytes, of those in memory", data.FLOATS, _BYTES, 1.01, "in memory"),
    _value("store, of pickle 5", data.FLOATS, _STORE, 1.25, Pickle.name),
    _value("hit, of pickle 5", data.FLOATS, _HIT, 1.25, Pickle.name),
    _value("bytes, of zstd -3 of its pickle", data.INSTRUMENTS, _BYTES, 0.35, Zstd.name),
    _value("hit, of zstd -3 of its pickle", data.INSTRUMENTS, _HIT, 1.2, Zstd.name),
    *(
        goal
        for case in memory.FRAMES
        for goal in (
            Goal(f"{case}: peak memory of a hit, in frames", memory.PART, case, f"hit: {memory.ABOVE}", 2.2, None),
            Goal(f"{case}: peak memory of storing, in frames", memory.PART, case, f"store: {memory.ABOVE}", 1.6, None),
        )
    ),
    Goal("small hit, of a bare redis-py GET", hits.PART, hits.CASE, hits.MEDIAN, 1.2, hits.BareGet.name),
    Goal("small hit, of the best peer on Redis", hits.PART, hits.CASE, hits.MEDIAN, 1, REDIS),
    Goal("hit with maxsize=, of one without", hits.PART, hits.BOUNDED, hits.TRACKED, 1.05, hits.UNBOUNDED),
    Goal("map() of 500 stored calls, of single hits", many.PART, many.NEAR, many.QUANTITY, 1 / 4, many.SINGLE),
    Goal("map() over a link of 1 ms, of single hits", many.PART, many.FAR, many.QUANTITY, 1 / 50, many.SINGLE),
    Goal("map() of 490 stored calls of 500, of single hits", many.PART, many.NEAR, many.MOSTLY, 1 / 4, many.SINGLE),
    Goal("the same over a link of 1 ms", many.PART, many.FAR, many.MOSTLY, 1 / 50, many.SINGLE),
    *(
        Goal(f"near hit, {case}, of {against}", near.PART, case, near.QUANTITY, bound, against)
        for case in near.PLAIN
        for against, bound in ((near.LRU, 2.5), (near.CACHEBOX, 0.5))
    ),
    Goal("key of four scalars, of joblib.hash", keys.PART, "four scalars", keys.QUANTITY, 0.5, keys.JOBLIB),
    *(
        Goal(f"key of an {case}, of joblib.hash", keys.PART, case, keys.QUANTITY, 0.2, keys.JOBLIB)
        for case in ("80 MB frame, by row", "80 MB frame, by column")
    ),
    *(
        Goal(f"{text}, of {hits.LIMITS[case]}", hits.PART, case, "policy", bound, hits.LIMITS[case])
        for case, text, bound in (
            (hits.POLICY, "market_aware('NSE') when closed", 40),
            (hits.RANGE, "market_aware() of a range of candles", 60),
            (hits.UNTIL, "until('08:30')", 40),
            (hits.IMPORT, "import redis_memo", 2),
        )
    ),
]
