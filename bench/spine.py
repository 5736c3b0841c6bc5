"""How the hot paths compare with the limits, as ratios within one run: ``make bench``.

Each pair is measured in turns, a short batch of one and a short batch of the other, so that a machine whose speed
drifts slows both. Printed are the median ratio and its quartiles.
"""

from __future__ import annotations

import datetime as dt
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import joblib
import numpy as np
import pandas as pd
import redis

import redis_memo
from redis_memo import Call, configure, market_aware, redis_cached, ttl

ROUNDS = 41


def ratio(title: str, ours: Callable[[], object], limit: Callable[[], object], number: int, bound: float) -> None:
    """Print how many times longer ``ours`` takes than ``limit``."""

    def batch(function: Callable[[], object]) -> float:
        began = time.perf_counter()
        for _ in range(number):
            function()
        return (time.perf_counter() - began) / number

    batch(ours)
    batch(limit)
    pairs = [(batch(ours), batch(limit)) for _ in range(ROUNDS)]
    ratios = sorted(a / b for a, b in pairs)
    a, b = (statistics.median(side) * 1e6 for side in zip(*pairs, strict=True))
    low, middle, high = ratios[ROUNDS // 4], ratios[ROUNDS // 2], ratios[3 * ROUNDS // 4]
    print(f"{title:62} {a:10.1f} us {b:10.1f} us   {middle:5.2f}  ({low:.2f} - {high:.2f})   at most {bound:.2f}")


def run(code: str) -> None:
    """In an interpreter of its own."""
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own lines


def main() -> None:
    """Measure everything."""
    folder = tempfile.mkdtemp(prefix="redis_memo_bench")
    cache = configure(f"embedded://{folder}")

    @redis_cached(namespace="bench", ttl=600, name="quote")
    def quote(symbol: str, exchange: str = "NSE", interval: str = "day", period: int = 365) -> dict[str, object]:
        return {"symbol": symbol, "exchange": exchange, "interval": interval, "period": period}

    @redis_cached(namespace="bench", ttl=600, name="indicator")
    def indicator(frame: pd.DataFrame) -> int:
        return len(frame)

    quote("INFY")
    client = redis.Redis(unix_socket_path=cache.backend._pools[0].connection_kwargs["path"])  # type: ignore[index]
    client.set("limit", client.get(quote.cache_key("INFY")))
    rows = 1_000_000
    by_row = pd.DataFrame(np.random.default_rng(1).random((rows, 10)), columns=list("abcdefghij"))
    by_column = pd.DataFrame({name: by_row[name].to_numpy().copy() for name in by_row})
    arguments = ("INFY", "NSE", "day", 365)

    print(f"redis_memo {redis_memo.__version__}, Python {sys.version.split()[0]}, {os.cpu_count()} cores\n")
    print(f"{'':62} {'ours':>10}    {'limit':>10}      ratio (quartiles)")
    ratio("small hit / bare redis-py GET", lambda: quote("INFY"), lambda: client.get("limit"), 200, 1.5)
    ratio("key of four small arguments / joblib.hash", lambda: quote.cache_key("INFY"), lambda: joblib.hash(arguments), 500, 0.5)
    for title, frame in (("stored by row", by_row), ("stored by column", by_column)):
        ratio(f"key of an 80 MB frame {title} / joblib.hash", lambda f=frame: indicator.cache_key(f), lambda f=frame: joblib.hash(f), 1, 0.2)  # type: ignore[misc]
    for title, now in (("closed", dt.datetime(2026, 7, 10, 18, tzinfo=dt.UTC)), ("open", dt.datetime(2026, 7, 10, 6, tzinfo=dt.UTC))):
        plain = Call(function="f", now=now)
        candles = Call(
            function="f", now=now, started=now - dt.timedelta(milliseconds=300),
            arguments={"symbol": "INFY", "exchange": "NSE", "interval": "5minute", "to_date": "2026-07-09"},
        )  # fmt: skip
        policy, aware = market_aware("NSE"), market_aware()
        ratio(f"market_aware('NSE') while {title} / an empty function", lambda p=policy, c=plain: p(c), lambda: None, 5000, 30)  # type: ignore[misc]
        ratio(f"market_aware() of a range while {title} / an empty function", lambda p=aware, c=candles: p(c), lambda: None, 5000, 60)  # type: ignore[misc]
    morning = ttl.until("08:30")
    ratio("until('08:30') / an empty function", lambda: morning(plain), lambda: None, 5000, 20)
    ratio("import redis_memo / import redis", lambda: run("import redis_memo"), lambda: run("import redis"), 1, 2.0)
    cache.clear("bench")


if __name__ == "__main__":
    main()
