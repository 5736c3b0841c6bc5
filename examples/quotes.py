"""Five hundred quotes, one request: ``python examples/quotes.py``.

A broker as Kite Connect is: one quote request a second, for up to 500 instruments. A screen of 500 symbols is refreshed;
each symbol is memoized on its own, and what is missing is asked for together.
"""

from __future__ import annotations

import tempfile
import time

from redis_memo import configure, redis_cached

SYMBOLS = [f"NSE:SYMBOL{number:03}" for number in range(500)]
PER_REQUEST = 500
LATENCY = 0.06  # seconds, about what a request to Kite takes from India


class Broker:
    """Answers quote requests, and refuses the second within a second."""

    def __init__(self) -> None:
        self.requests: list[int] = []
        self._free_at = 0.0

    def quote(self, instruments: list[str]) -> dict[str, dict[str, float]]:
        """Last prices by instrument; what it does not know is not in the answer."""
        now = time.monotonic()
        if now < self._free_at or len(instruments) > PER_REQUEST:
            raise PermissionError("429: too many requests")
        self._free_at = now + 1
        self.requests.append(len(instruments))
        time.sleep(LATENCY)
        return {name: {"last_price": 100.0 + len(name)} for name in instruments if not name.endswith("499")}


broker = Broker()


@redis_cached(namespace="quotes_demo", ttl="1m")
def quote(instrument: str) -> dict[str, float]:
    """The last price of one instrument."""
    return broker.quote([instrument])[instrument]


def refresh(what: str) -> None:
    """Show all symbols, and say what that took."""
    began = time.perf_counter()
    quotes = quote.map(SYMBOLS, batch=broker.quote, batch_size=PER_REQUEST, return_exceptions=True)
    took = time.perf_counter() - began
    known = sum(not isinstance(each, Exception) for each in quotes)
    print(f"    {what:34} {known} quotes {took * 1000:7.1f} ms, requests so far: {broker.requests}")


def main() -> None:
    """Tell the story."""
    with tempfile.TemporaryDirectory(prefix="redis_memo_demo") as folder:
        cache = configure(f"embedded://{folder}")
        print("\n  map() with a batch function: one request for what is missing")
        refresh("nothing is stored")
        for name in SYMBOLS[:10]:
            quote.invalidate(instrument=name)
        time.sleep(1)
        refresh("490 of 500 are stored")
        print(f"    the one that the broker does not know is an error in its place: {errors()}")
        cache.clear("quotes_demo")
        cache.close()
        print()


def errors() -> list[str]:
    """The kinds of errors among the last ten."""
    time.sleep(1)
    last = quote.map(SYMBOLS[-10:], batch=broker.quote, return_exceptions=True)
    return [type(each).__name__ for each in last if isinstance(each, Exception)]


if __name__ == "__main__":
    main()
