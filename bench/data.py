"""The values that are stored: real daily prices, and what else a market-data service keeps, made from fixed seeds.

Each is a function of ``size``, the part of its full size that is wanted.
"""

from __future__ import annotations

import datetime as dt
import string
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from dateutil.tz import tzoffset

GOOG = "GOOG daily"
MINUTES = "a year of minutes"
INSTRUMENTS = "instruments"
CANDLES = "candles"
FLOATS = "random floats"
STRINGS = "strings"
WIDE = "wide frame"
QUOTES = "200 quotes"
DICT = "small dict"

TICK = 0.05
IST = tzoffset(None, 19800)  # what Kite's candles carry


def goog(size: float) -> pd.DataFrame:
    """Real prices of 2,148 days, which the backtesting package ships."""
    from backtesting.test import GOOG as FRAME

    return pd.DataFrame(FRAME.head(max(50, int(len(FRAME) * size))))


def _prices(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Open, high, low, close on the exchange's grid of ticks, and volume: a walk with quiet and busy times of day."""
    steps = np.rint(rng.normal(0, 4, rows) * (1 + 1.5 * np.cos(np.linspace(0, rows / 375 * 2 * np.pi, rows)) ** 2))
    close = np.maximum(28_000 + np.cumsum(steps).astype(np.int64), 200)
    opened = np.roll(close, 1) + rng.integers(-1, 2, rows)
    opened[0] = 28_000
    high = np.maximum(opened, close) + rng.geometric(0.25, rows) - 1
    low = np.minimum(opened, close) - rng.geometric(0.25, rows) + 1
    ticks = {"open": opened, "high": high, "low": low, "close": close}
    columns = {name: np.round(column * TICK, 2) for name, column in ticks.items()}
    return columns | {"volume": rng.lognormal(8, 1.1, rows).astype(np.int64)}


def _sessions(rows: int, first: str) -> pd.DatetimeIndex:
    """The minutes of NSE's sessions, 375 a day."""
    days = pd.bdate_range(first, periods=-(-rows // 375)).to_numpy("datetime64[m]")
    moments = np.add.outer(days, np.arange(375) + 9 * 60 + 15).ravel()[:rows]
    return pd.DatetimeIndex(moments.astype("datetime64[ns]"), name="date").tz_localize("Asia/Kolkata")


def minutes(size: float) -> pd.DataFrame:
    """A stock's year of minutes: 250 sessions."""
    rows = int(93_750 * size)
    return pd.DataFrame(_prices(rows, np.random.default_rng(2)), index=_sessions(rows, "2025-01-01"))


def candles(size: float) -> list[dict[str, Any]]:
    """Minutes as Kite's client returns them, as many as one request may ask for (59 days); whole prices are integers."""
    rows = int(59 * 375 * size)
    columns = {name: column.tolist() for name, column in _prices(rows, np.random.default_rng(3)).items()}
    dates = [moment.to_pydatetime().replace(tzinfo=IST) for moment in _sessions(rows, "2025-06-02").tz_localize(None)]
    columns = {
        name: [int(figure) if figure == int(figure) else figure for figure in column]
        for name, column in columns.items()
    }
    return [dict(zip(("date", *columns), row, strict=True)) for row in zip(dates, *columns.values(), strict=True)]


def _words(number: int, letters: int, rng: np.random.Generator) -> list[str]:
    alphabet = np.array(list(string.ascii_uppercase))
    return ["".join(word) for word in alphabet[rng.integers(0, 26, (number, letters))]]


def instruments(size: float) -> list[dict[str, Any]]:
    """The morning's list of 100,000 instruments, as Kite's client returns it: options mostly, futures, stocks."""
    rng = np.random.default_rng(4)
    number = int(100_000 * size)
    names = _words(220, 7, rng)
    words = _words(900, 6, rng)
    expiries = [dt.date(2026, 7, 7) + dt.timedelta(weeks=week) for week in range(18)]
    kinds = rng.choice(["CE", "PE", "FUT", "NSE", "BSE"], number, p=[0.39, 0.39, 0.02, 0.1, 0.1]).tolist()
    tokens = rng.choice(np.arange(1_000, 1_200_000), number, replace=False).tolist()
    picks = rng.integers(0, 1 << 30, (number, 4)).tolist()
    rows = []
    for kind, token, (a, b, c, d) in zip(kinds, tokens, picks, strict=True):
        if kind in {"NSE", "BSE"}:
            series = ("", "", "-BE", "-BL", "-SM")[b % 5] if kind == "NSE" else ""
            symbol, name = f"{words[a % 900][:4]}{words[c % 900]}{series}", f"{words[a % 900]} {words[c % 900]}"
            expiry, strike, lot, tick, typed, segment, exchange = "", 0.0, 1, (0.05, 0.01)[d % 4 == 0], "EQ", kind, kind
        else:
            name, expiry = names[a % _underlyings(b)], expiries[b % 18]
            exchange = "BFO" if c % 8 == 0 else "NFO"
            lot, tick, typed = (25, 50, 75, 250, 500, 1100)[a % 6], 0.05, kind
            strike = 0.0 if kind == "FUT" else float(100 + 50 * (d % 600))
            tail = "FUT" if kind == "FUT" else f"{strike:.0f}{kind}"
            symbol = f"{name}{expiry:%y%b}".upper() + tail
            segment = f"{exchange}-{'FUT' if kind == 'FUT' else 'OPT'}"
        rows.append(
            {
                "instrument_token": token * 256 + 1,
                "exchange_token": str(token),
                "tradingsymbol": symbol,
                "name": name,
                "last_price": 0.0,
                "expiry": expiry,
                "strike": strike,
                "tick_size": tick,
                "lot_size": lot,
                "instrument_type": typed,
                "segment": segment,
                "exchange": exchange,
            }
        )
    return rows


def _underlyings(pick: int) -> int:
    """Of how many underlyings one is drawn: half of all options are on a handful of indexes."""
    return 6 if pick % 2 else 220


def floats(size: float) -> pd.DataFrame:
    """8 MB that nothing can compress."""
    values = np.random.default_rng(5).random((10, int(100_000 * size)))
    return pd.DataFrame(values.T, columns=list("abcdefghij"), copy=False)


def strings(size: float) -> pd.DataFrame:
    """An order book: identifiers that are all different, symbols, and words that repeat."""
    rng = np.random.default_rng(6)
    rows = int(100_000 * size)
    symbols = np.array(_words(2_000, 8, rng))
    return pd.DataFrame(
        {
            "order_id": [str(number) for number in 250_700_000_000_000 + np.cumsum(rng.integers(1, 900, rows))],
            "tradingsymbol": symbols[rng.zipf(1.3, rows) % 2_000],
            "exchange": rng.choice(["NSE", "BSE", "NFO"], rows),
            "status": rng.choice(["COMPLETE", "REJECTED", "CANCELLED", "OPEN"], rows, p=[0.8, 0.08, 0.1, 0.02]),
            "tag": [None if pick < 0.5 else f"strategy {pick:.4f}" for pick in rng.random(rows).tolist()],
        }
    )


def wide(size: float) -> pd.DataFrame:
    """500 closing prices of each of 2,000 stocks."""
    rng = np.random.default_rng(7)
    stocks, rows = max(20, int(2_000 * size)), 500
    first = rng.integers(2_000, 80_000, (1, stocks))
    ticks = np.maximum(first + np.cumsum(np.rint(rng.normal(0, 1, (rows, stocks)) * first / 250), axis=0), 20)
    return pd.DataFrame(
        np.round(ticks * TICK, 2),
        index=pd.bdate_range("2024-01-01", periods=rows, name="date"),
        columns=[f"{word}{number}" for number, word in enumerate(_words(stocks, 5, rng))],
    )


def quotes(size: float) -> dict[str, dict[str, Any]]:
    """What Kite's client returns for 200 symbols: a dict of dicts, each with the five best offers of both sides."""
    rng = np.random.default_rng(9)
    number = max(10, int(200 * size))
    found = {}
    for symbol, last in zip(_words(number, 6, rng), (rng.integers(2_000, 80_000, number) / 20).tolist(), strict=True):
        steps, counts = rng.integers(1, 400, (2, 5)).tolist(), rng.integers(1, 9_000, (8, 5)).tolist()
        found[f"NSE:{symbol}"] = {
            "instrument_token": int(rng.integers(1_000, 1_200_000)) * 256 + 1,
            "timestamp": dt.datetime(2026, 2, 2, 11, 30, int(rng.integers(60))),
            "last_trade_time": dt.datetime(2026, 2, 2, 11, 29, int(rng.integers(60))),
            "last_price": last,
            "last_quantity": counts[0][0],
            "buy_quantity": counts[1][0] * 100,
            "sell_quantity": counts[1][1] * 100,
            "volume": counts[1][2] * 1_000,
            "average_price": round(last * 1.001, 2),
            "oi": 0,
            "oi_day_high": 0,
            "oi_day_low": 0,
            "net_change": 0,
            "lower_circuit_limit": round(last * 0.9, 1),
            "upper_circuit_limit": round(last * 1.1, 1),
            "ohlc": {"open": last, "high": round(last + 2.5, 2), "low": round(last - 2.5, 2), "close": last},
            "depth": {
                side: [
                    {"quantity": quantity, "price": round(last + sign * step / 20, 2), "orders": orders}
                    for quantity, step, orders in zip(*columns, strict=True)
                ]
                for side, sign, columns in (
                    ("buy", -1, (counts[2], steps[0], counts[3])),
                    ("sell", 1, (counts[4], steps[1], counts[5])),
                )
            },
        }
    return found


def small(size: float) -> dict[str, Any]:  # noqa: ARG001
    """A quote."""
    return {"symbol": "INFY", "exchange": "NSE", "interval": "day", "period": 365}


VALUES: dict[str, Callable[[float], Any]] = {
    GOOG: goog,
    MINUTES: minutes,
    INSTRUMENTS: instruments,
    CANDLES: candles,
    FLOATS: floats,
    STRINGS: strings,
    WIDE: wide,
    QUOTES: quotes,
    DICT: small,
}


def frame_of(size: float) -> pd.DataFrame:
    """Random floats of a number of bytes, made without a second copy of them."""
    return _frame(_random((10, int(size / 80))).T)


def walk_of(size: float) -> pd.DataFrame:
    """As `frame_of`, of prices that nobody rounded."""
    return _frame(_walk(_random((10, int(size / 80))), 1).T)


def rows_of(size: float) -> pd.DataFrame:
    """Such prices row by row, as `DataFrame.cumsum` returns them."""
    return _frame(_walk(_random((int(size / 80), 10)), 0))


def _random(shape: tuple[int, int]) -> Any:
    return np.random.default_rng(8).random(out=np.empty(shape))


def _walk(steps: Any, axis: int) -> Any:
    steps -= 0.5
    np.cumsum(steps, axis=axis, out=steps)
    steps += 1500
    return steps


def _frame(matrix: Any) -> pd.DataFrame:
    return pd.DataFrame(matrix, columns=list("abcdefghij"), copy=False)


def in_memory(value: Any) -> int | None:
    """Bytes of a frame's columns and index; None where Python objects are strewn over the memory."""
    if not isinstance(value, pd.DataFrame) or not all(dtype.kind in "fiuM" for dtype in value.dtypes):
        return None
    return int(value.memory_usage(index=True).sum())
