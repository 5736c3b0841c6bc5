"""The long search among values: ``python -m tests.fuzz --minutes 60``, or ``make fuzz``.

Two searches in turn, until the time is over. **Values**: generated ones of every registered type go through an envelope
and must come back the same (P2). **Envelopes**: real ones are damaged in every part (stream, segments, how they say that
they are stored) and given a right checksum, as anyone who can write to Redis could without a secret. Reading them may
give a value or `UnreadableEntry`; it may not raise anything else, hang, fill the memory or end the process (P5, P6).

Damaged envelopes are read in child processes with a limit on memory and a time limit for each. A child that dies names
the seed of its batch: ``python -m tests.fuzz --seed N`` reads that batch again.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import resource
import signal
import subprocess
import sys
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redis_memo import _codecs_pandas, _envelope, _segments
from redis_memo._codecs import dumps, loads
from redis_memo._envelope import Sealer, Stamp
from redis_memo._large import Large
from redis_memo._segments import Segment, pack
from redis_memo.errors import UnreadableEntry

BATCH = 2_000
SLOWEST = 10.0  # seconds for one damaged envelope
MEMORY = 3 << 30  # bytes that a child may have beside what it needs to begin with
EXAMPLES = 10_000
STAMP = Stamp(0.0, 0.0, 0.0, 0.0)


def samples() -> list[Any]:
    """Values that between them have every kind of segment and stream."""
    from .test_values import _golden_values

    rng = np.random.default_rng(4)
    prices = np.round(1500 + np.cumsum(rng.normal(0, 1, 3_000)), 2)
    candles = pd.DataFrame(
        {"close": prices, "rsi": np.sqrt(prices), "volume": rng.integers(0, 9_000, 3_000) * 25},
        index=pd.date_range("2026-01-01", periods=3_000, freq="min", tz="Asia/Kolkata"),
    )
    mixed = candles.reset_index().assign(
        gone=np.where(rng.random(3_000) < 0.1, np.nan, prices),
        never=pd.Series([pd.NaT, pd.Timestamp("2026-01-01")] * 1_500),
        text=[f"S{number}" for number in range(3_000)],
        kind=pd.Categorical(rng.choice(["EQ", "CE"], 3_000)),
        object=pd.Series([None, 1, "x"] * 1_000, dtype=object),
    )
    rows = [
        {"token": str(number * 256), "price": number / 20, "name": f"N{number % 7}", "n": number, "on": number % 2 == 0}
        for number in range(5_000)
    ]
    options = [
        {
            "symbol": f"{name}26{month}{strike}{kind}",
            "name": name,
            "month": month,
            "strike": float(strike),
            "kind": kind,
            "lot": len(name),
        }
        for name in [f"STOCK{number}" for number in range(20)] + [f"R{number}" for number in range(10)]
        for month in ("JUL", "AUG", "SEP")
        for strike in range(100, 3_000, 50)
        for kind in ("CE", "PE")
    ]
    large = pd.DataFrame(rng.random((30_000, 4)))
    return [
        *_golden_values().values(),
        candles,
        candles.head(250),
        candles[["close"]].head(90).T.copy(),
        mixed,
        mixed.tail(120),
        rows,
        options,
        large,
        pd.DataFrame(rng.random((5_000, 4)), copy=False),  # row by row
        rng.integers(0, 99, 9_000) / 3,
        "text " * 9_000,
    ]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, taken out, doubled or put in."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(min(len(out), rng.choice((16, 64, 1 << 30))) or 1)
        way = rng.randrange(5)
        if way == 0 and out:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))
        elif way == 1 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif way == 2:
            del out[at : at + rng.choice((1, 4, 8, 100))]
        elif way == 3:
            out[at:at] = out[at : at + rng.choice((1, 8, 64))]
        else:
            out[at:at] = rng.randbytes(rng.choice((1, 8)))
    return bytes(out)


def planted(payload: Any, rng: random.Random) -> Any:
    """An envelope with a right checksum around damaged parts."""
    meta = damaged(payload.meta, rng) if rng.random() < 0.7 else payload.meta
    compress = rng.choice(("auto", "fast", "small", None))
    hit = (
        rng.randrange(len(payload.buffers)) if payload.buffers and (meta is payload.meta or rng.random() < 0.3) else -1
    )

    def pack_damaged(buffers: Any, compression: Any) -> list[Segment]:
        return [segment for data, kind in buffers for segment in pack_one(data, kind, compression)]

    def pack_one(data: Any, kind: str, compression: Any) -> list[Segment]:
        nonlocal hit
        segments = pack([(data, kind)], compression)
        if data is not meta:
            if hit == 0:
                at = rng.randrange(len(segments))
                one = segments[at]
                way = rng.randrange(4)
                if way < 2:
                    one = one._replace(data=damaged(bytes(one.data), rng))
                elif way == 2:
                    one = one._replace(how=rng.randrange(6))
                else:
                    one = one._replace(raw=max(0, one.raw + rng.choice((-8, -1, 1, 8, 1 << 16, 1 << 31))) % (1 << 32))
                segments[at] = one
            hit -= 1
        return segments

    kept, _envelope.pack = _envelope.pack, pack_damaged
    try:
        envelope, _ = Sealer(()).seal(
            "key", meta, payload.buffers, kinds=payload.kinds, pickled=False, stamp=STAMP, compress=compress
        )
    finally:
        _envelope.pack = kept
    return b"".join(envelope.pieces) if isinstance(envelope, Large) else envelope


def read_batch(seed: int) -> str:
    """Read a batch of damaged envelopes in this process; how many gave a value."""
    faulthandler.enable()
    warnings.simplefilter("ignore")  # what libraries say of damaged data

    def late(*_: object) -> None:
        raise SystemExit(f"seed {seed}: one envelope took more than {SLOWEST:g} s")

    signal.signal(signal.SIGALRM, late)
    _codecs_pandas.ACROSS = 1 << 12
    payloads = [dumps(sample, allow_pickle=False) for sample in samples()]
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    if seed % 2:  # by several threads, however little there is
        _segments.threads = lambda most=4: min(most, 3)
        _segments.WORTH = _segments.LONG = _envelope.WORTH = 1
    rng = random.Random(seed)
    values = 0
    for _ in range(BATCH):
        envelope = planted(rng.choice(payloads), rng)
        signal.setitimer(signal.ITIMER_REAL, SLOWEST)
        try:
            entry = Sealer(()).open("key", envelope)
            loads(entry.meta, entry.buffers, trusted=False)
            values += 1
        except UnreadableEntry:
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return f"{values}"


def check_values(examples: int, after: str) -> None:
    """Every registered type behind that one in the alphabet through an envelope, compressed in every way."""
    from .strategies import STRATEGIES, same
    from .test_values import lower_limits, sealed_and_back

    each = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    for name in sorted(name for name in STRATEGIES if name > after):
        tried = 0  # fewer than asked for where there are no more

        @each
        @given(STRATEGIES[name], st.sampled_from(["auto", "fast", "small", None]), st.booleans(), st.booleans())
        def check(value: Any, compress: Any, many: bool, large: bool) -> None:
            nonlocal tried
            tried += 1
            value = [value] * 20 if many else value
            with pytest.MonkeyPatch.context() as patch:
                if large:
                    lower_limits(patch)
                assert same(value, sealed_and_back(value, compress)) is True

        began = time.monotonic()
        check()
        print(f"values: {name:28} {tried:>7,} in {time.monotonic() - began:5.0f} s", flush=True)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Search for a value that is not kept.")
    parser.add_argument("--minutes", type=float, default=60, help="for damaged envelopes (default: 60)")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="values of each type (default: 10,000; 0: none)")
    parser.add_argument("--after", default="", help="go on behind this type, where a search was stopped")
    parser.add_argument("--seed", type=int, help="one batch of damaged envelopes, in this process")
    asked = parser.parse_args()
    if asked.seed is not None:
        print(read_batch(asked.seed))
        return 0
    broken = envelopes = values = 0
    end = time.monotonic() + 60 * asked.minutes
    seed = random.SystemRandom().randrange(1 << 30)
    while time.monotonic() < end:
        seed += 1
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", "--seed", str(seed)], capture_output=True, text=True, check=False
        )
        envelopes += BATCH
        if done.returncode:
            broken += 1
            print(f"envelopes: seed {seed} ended with {done.returncode}\n{done.stderr[-2000:]}", flush=True)
        else:
            values += int(done.stdout)
    print(f"envelopes: {envelopes:,} damaged, {values:,} gave a value, {broken} batches broken", flush=True)
    if asked.examples:
        check_values(asked.examples, asked.after)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
