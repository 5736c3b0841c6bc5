"""A market-data service as one writes it: fetch, indicators, a prediction. The cache is the decorators, nothing else."""

from __future__ import annotations

import datetime as dt
import time

import numpy as np
import pandas as pd
from kiteconnect import KiteConnect
from kiteconnect.exceptions import NetworkException
from sklearn.ensemble import RandomForestRegressor

from redis_memo import market_aware, redis_cached


class MarketData:
    """Daily prices through the official Kite client.

    The prices of a symbol are the same for every client of the service, so ``self`` is no part of the call.
    """

    def __init__(self, kite: KiteConnect) -> None:
        self.kite = kite

    @redis_cached(namespace="stock_data", ttl="1d", ignore=("self",))
    def instruments(self, exchange: str = "NSE") -> dict[str, int]:
        """Instrument tokens by symbol."""
        return {row["tradingsymbol"]: row["instrument_token"] for row in self.kite.instruments(exchange)}

    @redis_cached(namespace="stock_data", ttl=market_aware(), ignore=("self",), cache_if=lambda frame: len(frame) > 0)
    def history(self, symbol: str, exchange: str = "NSE", interval: str = "day", period: int = 365) -> pd.DataFrame:
        """OHLCV of the last ``period`` days, indexed by date; waits where Kite's rate limit says so."""
        token = self.instruments(exchange)[symbol]
        today = dt.datetime.now(dt.timezone(dt.timedelta(hours=5, minutes=30))).date()
        for pause in (0.4, 0.8, 1.6, None):
            try:
                rows = self.kite.historical_data(token, today - dt.timedelta(days=period), today, interval)
                break
            except NetworkException:
                if pause is None:
                    raise
                time.sleep(pause)
        return pd.DataFrame(rows).set_index("date")


@redis_cached(namespace="indicators", ttl="1h")
def indicators(prices: pd.DataFrame, window: int = 20) -> pd.DataFrame:
    """Moving average, Bollinger bands, RSI and volatility; the frame itself is part of the key."""
    close = prices["close"]
    mean, deviation = close.rolling(window).mean(), close.rolling(window).std()
    gain = close.diff().clip(lower=0).ewm(alpha=1 / window).mean()
    loss = -close.diff().clip(upper=0).ewm(alpha=1 / window).mean()
    return pd.DataFrame(
        {
            "sma": mean,
            "upper": mean + 2 * deviation,
            "lower": mean - 2 * deviation,
            "rsi": 100 - 100 / (1 + gain / loss),
            "volatility": np.log(close).diff().rolling(window).std() * np.sqrt(252),
        }
    )


@redis_cached(namespace="predictions", ttl=market_aware(open="15m"))
def predict(prices: pd.DataFrame, features: pd.DataFrame, trees: int = 200) -> float:
    """Tomorrow's return by a random forest on the indicators, as a fraction."""
    returns = prices["close"].pct_change().shift(-1)
    known = features.notna().all(axis=1) & returns.notna()
    model = RandomForestRegressor(n_estimators=trees, random_state=7, n_jobs=1)
    model.fit(features[known], returns[known])
    return float(model.predict(features.iloc[[-1]])[0])
