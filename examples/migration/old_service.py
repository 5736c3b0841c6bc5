"""The service as it was: four private caches, each with an expiry of its own.

``python old_service.py`` runs it for a moment, and leaves its folders ``cache`` and ``models`` where it was run.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections import OrderedDict
from datetime import date, datetime
from pathlib import Path

import broker
import pandas as pd


class MarketData:
    """Candles in ``cache/*.csv`` by MD5, with a metadata file; models as pickles; indicators and quotes in memory."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.models = folder / "models"
        self.cache.mkdir(exist_ok=True)
        self.models.mkdir(exist_ok=True)
        self.metadata_file = self.cache / "cache_metadata.json"
        self.metadata = json.loads(self.metadata_file.read_text()) if self.metadata_file.exists() else {}
        self.data_cache: dict[str, tuple[pd.DataFrame, dict]] = {}
        self.indicators: OrderedDict[tuple[str, int], float] = OrderedDict()

    def historical(self, symbol: str, exchange: str, interval: str, from_date: date, to_date: date) -> pd.DataFrame:
        """Candles, from the file if there is one."""
        name = hashlib.md5(f"{symbol}:{exchange}:{interval}:{from_date}:{to_date}".encode()).hexdigest()  # noqa: S324
        path = self.cache / f"{name}.csv"
        if path.exists():
            frame = pd.read_csv(path, index_col="date", parse_dates=True)
            self.data_cache[f"{exchange}:{symbol}"] = frame, self.metadata[name]
            return frame
        frame = pd.DataFrame(broker.historical(symbol, interval, from_date, to_date)).set_index("date")
        frame.to_csv(path)
        self.metadata[name] = {
            "symbol": symbol, "exchange": exchange, "interval": interval, "from_date": str(from_date),
            "to_date": str(to_date), "rows": len(frame), "timestamp": datetime.now().isoformat(),  # noqa: DTZ005 - as such services do
        }  # fmt: skip
        self.metadata_file.write_text(json.dumps(self.metadata, indent=2))
        return frame

    def sma(self, symbol: str, window: int) -> float:
        """An indicator, from an LRU."""
        if (symbol, window) in self.indicators:
            self.indicators.move_to_end((symbol, window))
            return self.indicators[symbol, window]
        frame = self.historical(symbol, "NSE", "day", date(2026, 1, 1), date(2026, 2, 28))
        value = self.indicators[symbol, window] = float(frame["close"].tail(window).mean())
        if len(self.indicators) > 100:
            self.indicators.popitem(last=False)
        return value

    def model(self, symbol: str) -> dict:
        """A trained model, from its pickle if there is one."""
        path = self.models / f"{symbol}_trend.pkl"
        if path.exists():
            return pickle.loads(path.read_bytes())
        model = broker.train(symbol)
        path.write_bytes(pickle.dumps(model))
        return model


def main() -> None:
    """Ask for what a morning asks for."""
    service = MarketData(Path())
    for symbol in ("INFY", "TCS", "M&M"):
        for interval in ("day", "minute"):
            service.historical(symbol, "NSE", interval, date(2026, 1, 1), date(2026, 2, 28))
        service.model(symbol)
    print(f"{len(service.metadata)} histories are in cache, {len(list(service.models.iterdir()))} models in models")


if __name__ == "__main__":
    main()
