"""The service as it is: functions, each with one decorator."""

from __future__ import annotations

from datetime import date

import broker
import pandas as pd

from redis_memo import redis_cached


@redis_cached(namespace="stock_data", ttl="30d")
def historical(symbol: str, exchange: str, interval: str, from_date: date, to_date: date) -> pd.DataFrame:  # noqa: ARG001 - the broker knows one exchange
    return pd.DataFrame(broker.historical(symbol, interval, from_date, to_date)).set_index("date")


@redis_cached(namespace="indicators", ttl="6h")
def sma(symbol: str, window: int = 20) -> float:
    frame = historical(symbol, "NSE", "day", date(2026, 1, 1), date(2026, 2, 28))
    return float(frame["close"].tail(window).mean())


@redis_cached(namespace="models", ttl="30d")
def model(symbol: str) -> dict[str, object]:
    return broker.train(symbol)
