"""Keys: what naming a call costs, by size and type of its argument."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import blake3
import joblib
import numpy as np
import pandas as pd

from . import functions
from .measure import Bench, batched, turns
from .results import OURS, Kind, Record
from .subjects import Ours

PART = "keys"
QUANTITY = "key"
JOBLIB, PICKLED, DIGEST = "joblib.hash", "pickle 5, blake3", "blake3 of the bytes"
KINDS: dict[str, Kind] = {OURS: "ours", JOBLIB: "peer", PICKLED: "code", DIGEST: "limit"}


def measure(bench: Bench) -> None:
    """Measure the keys of all arguments; nothing is asked of the server."""
    ours = Ours(bench.place(0))
    quote, size = ours.memoize("quote"), ours.decorate(functions.size, "size")
    for case, argument in _arguments(bench.scale.size).items():
        memoized, given = (quote, argument) if isinstance(argument, tuple) else (size, (argument,))
        contest: dict[str, Callable[[], object]] = {
            OURS: lambda: memoized.cache_key(*given),
            JOBLIB: lambda: joblib.hash(argument),
            PICKLED: lambda: blake3.blake3(pickle.dumps(argument, protocol=5)).digest(),
            DIGEST: _digest(argument),
        }
        batches = {name: batched(function, bench.scale) for name, function in contest.items()}
        for name, samples in turns(batches, bench.scale).items():
            bench.add(Record(PART, case, QUANTITY, name, KINDS[name], samples))
    ours.close()


def _arguments(scale: float) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    arguments: dict[str, Any] = {
        "four scalars": ("INFY", "NSE", "day", 365),
        "dict of 100": {f"feature {number}": number * 0.5 for number in range(100)},
        "list of 10,000 str": [f"NSE:SYMBOL{number}" for number in range(10_000)],
        "1 MB of bytes": rng.bytes(1_000_000),
    }
    for megabytes in (8, 80):
        matrix = rng.random((int(megabytes * 12_500 * scale), 10))
        frame = pd.DataFrame(matrix, columns=list("abcdefghij"), copy=False)
        arguments[f"{megabytes} MB frame, by row"] = frame
        arguments[f"{megabytes} MB frame, by column"] = pd.DataFrame(
            {name: frame[name].to_numpy().copy() for name in frame}
        )
    return arguments


def _digest(argument: Any) -> Callable[[], object]:
    """Blake3 alone, over bytes that are made beforehand: a frame's memory, another argument's pickle."""
    if isinstance(argument, pd.DataFrame):
        held = np.ascontiguousarray(argument.to_numpy()).reshape(-1).view(np.uint8).data
    else:
        held = memoryview(argument if isinstance(argument, bytes) else pickle.dumps(argument, protocol=5))
    return lambda: blake3.blake3(held).digest()
