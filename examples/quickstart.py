"""A market-data service stops repeating itself: ``make demo``, or ``python examples/quickstart.py``.

The real Kite client fetches real prices over HTTP from a local server with Kite's rate limit. The first look at five
stocks fetches, computes and predicts; the second look, and another process's, find it all in Redis (here the
embedded server in a temporary folder; in your service the one that ``REDIS_MEMO_URL`` names).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from kite_server import SYMBOLS, KiteServer
from kiteconnect import KiteConnect
from service import MarketData, indicators, predict

from redis_memo import CacheInfo, cache_info, clear, invalidate


def look(market: MarketData, title: str) -> None:
    """Fetch, compute and predict for every stock, and say how long it took."""
    print(f"\n  {title}")
    began = time.perf_counter()
    histories = {symbol: market.history(symbol) for symbol in SYMBOLS}
    print(f"    {len(histories)} histories{'':55}{(time.perf_counter() - began) * 1000:8.1f} ms")
    for symbol, prices in histories.items():
        started = time.perf_counter()
        features = indicators(prices)
        expected = predict(prices, features)
        took = (time.perf_counter() - started) * 1000
        print(
            f"    {symbol:9} {len(prices):4} days   close {prices['close'].iloc[-1]:8.2f}   "
            f"RSI {features['rsi'].iloc[-1]:5.1f}   expected {expected:+.2%}   {took:8.1f} ms"
        )
    print(f"    {'together':68}{(time.perf_counter() - began) * 1000:8.1f} ms")


def summary() -> None:
    """What the cache did in this process."""
    print("\n                  calls   hits  misses  entries      stored   seconds saved")
    for name, function in (("history", MarketData.history), ("indicators", indicators), ("predict", predict)):
        info: CacheInfo = cache_info(function)
        print(
            f"    {name:12} {info.hits + info.misses:6} {info.hits:6} {info.misses:7} {info.currsize:8} "
            f"{info.bytes_stored / 1024:8.1f} kB {info.seconds_saved:15.2f}"
        )


def main() -> None:
    """Tell the story."""
    with tempfile.TemporaryDirectory(prefix="redis_memo_demo") as folder, KiteServer() as server:
        os.environ["REDIS_MEMO_URL"] = f"embedded://{folder}"
        os.environ["KITE_ROOT"] = server.root
        market = MarketData(KiteConnect("demo", "demo", root=server.root))

        print("\nredis_memo: five stocks, three decorators, one server")
        look(market, "First look: everything is fetched and computed")
        look(market, "Second look: everything is a hit")
        summary()

        print("\n  Another process, started now, knows it too:", flush=True)
        requests = server.requests
        subprocess.run([sys.executable, __file__, "--again"], check=True)
        print(f"    requests it sent to Kite: {server.requests - requests}")

        gone = invalidate(MarketData.history, symbol="RELIANCE")
        print(f"\n  invalidate(history, symbol='RELIANCE') removed {gone} entry")
        look(market, "Third look: RELIANCE is fetched again, the rest are hits")

        info = cache_info(MarketData.history)
        print(
            f"\n  {info.hits + info.misses} calls of history() cost {info.misses} requests to Kite "
            f"({server.limited} met its rate limit), and saved {info.seconds_saved:.1f} s of waiting for it."
        )
        print("\n  Where one call stands:\n")
        print("\n".join(f"    {line}" for line in str(market.history.explain("INFY")).splitlines()))
        removed = sum(clear(namespace) for namespace in ("stock_data", "indicators", "predictions"))
        print(f"\n  clear() removed {removed} entries; the embedded server ends with its last user.\n")


if __name__ == "__main__":
    if "--again" in sys.argv:
        look(MarketData(KiteConnect("demo", "demo", root=os.environ["KITE_ROOT"])), f"Process {os.getpid()}")
    else:
        main()
