"""What a year of minute candles costs to keep, and what it costs to read one column: ``python examples/columns.py``.

The embedded server in a temporary folder, and a year of generated NSE minutes. The same frame is pickled and compressed
with gzip for comparison; then one column is read without the others.
"""

from __future__ import annotations

import gzip
import pickle
import tempfile

import numpy as np
import pandas as pd

from redis_memo import MISSING, configure, redis_cached

DAYS, MINUTES = 250, 375


@redis_cached(namespace="columns_demo", ttl="1h")
def minutes(symbol: str) -> pd.DataFrame:
    """A year of candles, as Kite would send them: prices on a grid of five paise."""
    rng = np.random.default_rng(sum(symbol.encode()))
    days = pd.bdate_range("2025-11-03", periods=DAYS, tz="Asia/Kolkata")
    index = pd.DatetimeIndex(
        np.add.outer(days.asi8, pd.to_timedelta(np.arange(MINUTES) + 555, unit="min").as_unit(days.unit).asi8).ravel()
    )
    close = 1500 + np.cumsum(rng.normal(0, 0.8, len(index)))
    paise = {
        "open": np.roll(close, 1),
        "high": close + rng.exponential(1, len(index)),
        "low": close - rng.exponential(1, len(index)),
        "close": close,
    }
    frame = pd.DataFrame(
        {name: np.round(np.round(column / 0.05) * 0.05, 2) for name, column in paise.items()}, index=index
    )
    frame["volume"] = rng.lognormal(9, 1, len(index)).astype("int64")
    return frame


@redis_cached(namespace="columns_demo", ttl="1h")
def features(symbol: str) -> pd.DataFrame:
    """Forty columns of what a model is fed with: random to a compressor, and so stored as they are."""
    return pd.DataFrame(np.random.default_rng(len(symbol)).random((50_000, 40))).add_prefix("f")


def main() -> None:
    """Store, compare, read a part."""
    with tempfile.TemporaryDirectory(prefix="redis_memo") as folder:
        cache = configure(f"embedded://{folder}")
        frame = minutes("INFY")
        stored = minutes.cache_info().bytes_stored
        pickled = pickle.dumps(frame, protocol=5)
        print(
            f"{len(frame):,} candles are {len(pickled):,} bytes as a pickle, {len(gzip.compress(pickled, 6)):,} with gzip, {stored:,} here"
        )
        pd.testing.assert_frame_equal(minutes("INFY"), frame)

        features("INFY")
        part = features.peek_columns(["f3", "f17"], "INFY")
        assert part is not MISSING
        print(f"of {features.cache_info().bytes_stored:,} bytes of features, two columns: {part.shape}")
        cache.close()


if __name__ == "__main__":
    main()
