"""Hits over a paced link of 1 Gbit/s and half a millisecond: where fewer bytes are less time."""

from __future__ import annotations

from . import data, functions
from .measure import Bench, turns
from .peers import PEERS
from .results import Record
from .servers import paced
from .subjects import BY_HAND, Ours, Subject
from .values import CannotError, hit, hits_or_why

PART = "link"
CASES = (data.GOOG, data.MINUTES, data.INSTRUMENTS, data.FLOATS, data.DICT)
KINDS: list[type[Subject]] = [Ours, *(kind for kind in PEERS if kind.on_server), *BY_HAND]


def measure(bench: Bench) -> None:
    """Store and hit each value through the link."""
    with paced(bench.server.port) as port:
        subjects = [kind(bench.place(db).by(port)) for db, kind in enumerate(KINDS)]
        memoized = {subject: subject.memoize("produce") for subject in subjects}
        for case in CASES:
            functions.values[case] = data.VALUES[case](bench.scale.size)
            contest, notes = {}, {}
            for subject in subjects:
                try:
                    notes[subject.name] = hits_or_why(subject, memoized[subject], case)
                except CannotError as why:
                    bench.add(Record(PART, case, "hit", subject.name, subject.kind, [], str(why)))
                else:
                    contest[subject.name] = hit(subject, memoized[subject], case, bench.scale)
            kinds = {subject.name: subject.kind for subject in subjects}
            for name, samples in turns(contest, bench.scale).items():
                bench.add(Record(PART, case, "hit", name, kinds[name], samples, notes[name]))
            for subject in subjects:
                subject.forget(memoized[subject], case)
        for subject in subjects:
            subject.close()
