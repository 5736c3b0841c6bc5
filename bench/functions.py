"""The functions that everybody memoizes, at the top level of a module, as every memoizer wants them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 0.05  # what `slow` takes

values: dict[str, Any] = {}
"""What `produce` returns."""


def produce(case: str) -> Any:
    """Return a value that is there already: what a miss costs beside the function."""
    return values[case]


async def aproduce(case: str) -> Any:
    return values[case]


def quote(symbol: str, exchange: str = "NSE", interval: str = "day", period: int = 365) -> dict[str, object]:
    """Return a small dict, from four small arguments."""
    return {"symbol": symbol, "exchange": exchange, "interval": interval, "period": period}


async def aquote(symbol: str, exchange: str = "NSE", interval: str = "day", period: int = 365) -> dict[str, object]:
    return quote(symbol, exchange, interval, period)


def slow(key: str, folder: str) -> str:
    """Take 50 ms, and leave a mark for each time that it runs."""
    _mark(folder)
    time.sleep(SECONDS)
    return key


async def aslow(key: str, folder: str) -> str:
    _mark(folder)
    await asyncio.sleep(SECONDS)
    return key


def _mark(folder: str) -> None:
    """Add a byte to a file: what several processes append at once is all there."""
    file = os.open(Path(folder) / "runs", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, b".")
    os.close(file)


def size(frame: Any) -> int:
    """Take one argument of any size: its key is what is measured."""
    return len(frame)


PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "produce": (produce, aproduce),
    "quote": (quote, aquote),
    "slow": (slow, aslow),
}
"""Each function, and what it is for those who memoize coroutine functions only."""
