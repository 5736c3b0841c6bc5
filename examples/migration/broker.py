"""Stands for the broker's API: candles made from the symbol's name, and a count of the requests."""

from __future__ import annotations

import hashlib
from datetime import date, datetime, timedelta

from dateutil.tz import tzoffset

IST = tzoffset(None, 19800)
requests = 0


def historical(symbol: str, interval: str, from_date: date, to_date: date) -> list[dict[str, object]]:
    """Candles as KiteConnect returns them: a list of dicts, dates with dateutil's offset."""
    global requests  # noqa: PLW0603
    requests += 1
    step = timedelta(days=1) if interval == "day" else timedelta(minutes=1)
    at = datetime(from_date.year, from_date.month, from_date.day, 9, 15, tzinfo=IST)
    seed = int.from_bytes(hashlib.blake2b(symbol.encode(), digest_size=4).digest(), "big")
    rows = []
    for number in range(40):
        price = 100 + (seed + number * 7919) % 50_000 / 20
        rows.append({"date": at, "open": price, "high": price + 1.05, "low": price - 0.95, "close": price + 0.1, "volume": 1000 + number})
        at += step
    return [row for row in rows if row["date"].date() <= to_date]


def train(symbol: str) -> dict[str, object]:
    """What a model that took an hour to train looks like from outside."""
    global requests  # noqa: PLW0603
    requests += 1
    return {"symbol": symbol, "weights": [len(symbol) / 7, 0.25, -1.5]}
