"""What is served when an answer is old, or the broker is down: ``python examples/stale.py``.

Three functions and the embedded server in a temporary folder: a rate that is served stale and computed anew behind its
callers, a quote that survives an outage of the broker, and an index whose members are found by tag.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable

from redis_memo import configure, invalidate_tags, redis_cached

RATES = {"USDINR": iter((83.12, 83.15, 83.19))}
MEMBERS = {"NIFTY IT": ["INFY", "TCS"], "NIFTY BANK": ["HDFCBANK"]}
broker = {"up": True}


@redis_cached(namespace="stale_demo", ttl="50ms", stale="1h")
def rate(pair: str) -> float:
    """A rate that takes a while to get, and that nobody should wait for."""
    time.sleep(0.2)
    return next(RATES[pair])


@redis_cached(namespace="stale_demo", ttl="50ms", stale_if_error="1d")
def quote(symbol: str) -> float:
    """A price; yesterday's is better than none."""
    if not broker["up"]:
        raise ConnectionError(f"the broker is down, no price of {symbol}")
    return 1412.95


@redis_cached(namespace="stale_demo", ttl="1d", tags=lambda call: call.value)
def members(index: str) -> list[str]:
    """The stocks of an index, found by each of them."""
    return MEMBERS[index]


def timed(what: str, call: Callable[[], object]) -> None:
    """Print what a call returns and how long it took."""
    began = time.perf_counter()
    value = call()
    print(f"    {what:44} {value!s:22} {(time.perf_counter() - began) * 1000:7.1f} ms")


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    while not condition():
        time.sleep(0.005)


def main() -> None:
    """Tell the story."""
    logging.getLogger("redis_memo").setLevel(logging.ERROR)  # it would warn of the failing broker, which is meant here
    with tempfile.TemporaryDirectory(prefix="redis_memo_demo") as folder:
        cache = configure(f"embedded://{folder}")

        print("\n  stale=: nobody waits for a refresh")
        timed("first call, runs the function", lambda: rate("USDINR"))
        until(lambda: rate.explain("USDINR").fresh_for <= 0)
        timed("past its expiry, served at once", lambda: rate("USDINR"))
        until(lambda: rate.peek("USDINR") != 83.12)
        timed("a moment later, the new one", lambda: rate("USDINR"))
        print(f"    refreshes behind callers: {rate.cache_info().refreshes >= 1}")

        print("\n  stale_if_error=: the broker goes down")
        timed("while it is up", lambda: quote("INFY"))
        until(lambda: quote.explain("INFY").fresh_for <= 0)
        broker["up"] = False
        timed("down, and past the expiry", lambda: quote("INFY"))
        try:
            quote("TCS")
        except ConnectionError as error:
            print(f"    a call with nothing to fall back on:         {type(error).__name__}: {error}")

        print("\n  tags: what has INFY in it, whatever the arguments were")
        for index in MEMBERS:
            members(index)
        print(f"    invalidate_tags(members, 'INFY') removed {invalidate_tags(members, 'INFY')} entry")
        print(f"    still there: {members.peek('NIFTY BANK')}")

        until(lambda: rate.explain("USDINR").lease_seconds is None)
        cache.clear("stale_demo")
        cache.close()
        print()


if __name__ == "__main__":
    main()
