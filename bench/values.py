"""Values: bytes kept, time to store and time of a hit, by what the function returns."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import blake3
import numpy as np
import pandas as pd

from redis_memo._codecs import dumps
from redis_memo._envelope import Sealer, Stamp

from . import data, functions
from .measure import Bench, Scale, batched, fitted, turns
from .peers import PEERS
from .results import OURS, Record
from .subjects import BY_HAND, Gzip, Ours, Subject

PART = "values"
BARE = "bare GET and SET"
ENCODE = "encode"
ENCODED = (data.GOOG, data.MINUTES)
_SEALER = Sealer(())
_KEY = "memo:{bench:produce:#0}:" + "0" * 40


def measure(bench: Bench) -> None:
    """Measure all values, one after the other, so that the server holds one at a time."""
    with opened(bench, [Ours, *PEERS, *BY_HAND]) as subjects:
        for case, make in data.VALUES.items():
            functions.values[case] = make(bench.scale.size)
            _one_value(bench, case, subjects)
            del functions.values[case]


@contextmanager
def opened(bench: Bench, kinds: list[type[Subject]]) -> Iterator[dict[Subject, Any]]:
    """Contestants with ``produce`` memoized, each in a database of its own."""
    subjects = [kind(bench.place(db)) for db, kind in enumerate(kinds)]
    try:
        yield {subject: subject.memoize("produce") for subject in subjects}
    finally:
        for subject in subjects:
            subject.close()


def hits_or_why(subject: Subject, memoized: Any, case: str) -> str:
    """Store a value and read it: the note on what comes back; raises `CannotError` where nothing does."""
    value = functions.values[case]
    try:
        subject.call(memoized, case)
        functions.values[case] = None  # a second computation would be seen
        returned = subject.call(memoized, case)
    except Exception as error:
        raise CannotError(f"raises {type(error).__name__}") from error
    finally:
        functions.values[case] = value
    if returned is None:
        raise CannotError("is not stored")
    return "" if same(returned, value) else "returns something else"


class CannotError(Exception):
    """Why a contestant cannot take part."""


def same(returned: Any, value: Any) -> bool:
    """Whether what was returned is what was stored, to the dtypes."""
    if not isinstance(value, pd.DataFrame):
        return bool(returned == value)
    try:
        pd.testing.assert_frame_equal(returned, value, check_exact=True, check_freq=True)
    except AssertionError:
        return False
    return True


def _one_value(bench: Bench, case: str, subjects: dict[Subject, Any]) -> None:
    able: dict[str, tuple[Subject, Any]] = {}
    notes: dict[str, str] = {}
    for subject, memoized in subjects.items():
        try:
            notes[subject.name] = hits_or_why(subject, memoized, case)
        except CannotError as why:
            for quantity in ("stored bytes", "hit", "store"):
                bench.add(Record(PART, case, quantity, subject.name, subject.kind, [], str(why)))
        else:
            able[subject.name] = subject, memoized
    _stored_bytes(bench, case, able)

    limits = _Limits(bench, case, able[OURS][0].stored())
    kinds = {name: subject.kind for name, (subject, _) in able.items()}
    hits = {name: hit(subject, memoized, case, bench.scale) for name, (subject, memoized) in able.items()}
    for name, samples in turns(hits | limits.hits(), bench.scale).items():
        bench.add(Record(PART, case, "hit", name, kinds.get(name, "limit"), samples, notes.get(name, "")))
    stores = {name: _store(subject, memoized, case, bench.scale) for name, (subject, memoized) in able.items()}
    for name, samples in turns(stores | limits.stores(), bench.scale).items():
        bench.add(Record(PART, case, "store", name, kinds.get(name, "limit"), samples))

    if case in ENCODED:
        encoders = {OURS: _encode, Gzip.name: Gzip.dumps}
        value = functions.values[case]
        encoded = {name: batched(functools.partial(encode, value), bench.scale) for name, encode in encoders.items()}
        for name, samples in turns(encoded, bench.scale).items():
            bench.add(Record(PART, case, ENCODE, name, kinds[name], samples))

    limits.close()
    for subject, memoized in subjects.items():
        with suppress(Exception):
            subject.forget(memoized, case)


def _stored_bytes(bench: Bench, case: str, able: dict[str, tuple[Subject, Any]]) -> None:
    for name, (subject, _) in able.items():
        stored = subject.stored()
        note = "" if stored else "within its database file"
        bench.add(Record(PART, case, "stored bytes", name, subject.kind, [stored] if stored else [], note))
    if (raw := data.in_memory(functions.values[case])) is not None:
        bench.add(Record(PART, case, "stored bytes", "in memory", "limit", [raw]))


def _encode(value: Any) -> object:
    """What a store does to a value before it talks to the server: the envelope, with its checksum."""
    payload = dumps(value, allow_pickle=False)
    stamp = Stamp(0.0, 0.0, 0.0, 0.0)
    return _SEALER.seal(_KEY, payload.meta, payload.buffers, kinds=payload.kinds, pickled=payload.pickled, stamp=stamp)


def hit(subject: Subject, memoized: Any, case: str, scale: Scale) -> Callable[[], float]:
    """Measure hits, in batches."""
    return fitted(lambda number: subject.time(memoized, case, number=number), scale)


def _store(subject: Subject, memoized: Any, case: str, scale: Scale) -> Callable[[], float]:
    def batch(number: int) -> float:
        took = 0.0
        for _ in range(number):
            subject.forget(memoized, case)
            took += subject.time(memoized, case)
        return took / number

    return fitted(batch, scale)


class _Limits:
    """What bounds everybody: moving our bytes and no more, and a copy and a digest of the value's memory."""

    def __init__(self, bench: Bench, case: str, stored: int) -> None:
        self._scale = bench.scale
        self._client = bench.place(31).client()
        self._bytes = b"\1" * stored
        self._client.set("limit", self._bytes)
        value = functions.values[case]
        if data.in_memory(value) is not None:
            self._memory = np.ascontiguousarray(value.to_numpy(np.float64)).reshape(-1).view(np.uint8)
        else:
            self._memory = np.frombuffer(pickle.dumps(value), np.uint8)

    def hits(self) -> dict[str, Callable[[], float]]:
        return {
            BARE: batched(lambda: self._client.get("limit"), self._scale),
            "memory copied": batched(self._memory.copy, self._scale),
            "blake3": batched(lambda: blake3.blake3(self._memory.data).digest(), self._scale),
        }

    def stores(self) -> dict[str, Callable[[], float]]:
        return {BARE: batched(lambda: self._client.set("limit", self._bytes), self._scale)}

    def close(self) -> None:
        self._client.delete("limit")
        self._client.close()
