"""A service's ``self.data_cache = {}`` becomes one dict for all its processes: ``python examples/data_cache.py``.

The line that changes is the last one of ``Shared.__init__``. Three processes of a service, one after the other, ask for
the same five prices: with a dict of their own each fetches them all, with a `CacheDict` the first one does.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import MutableMapping

from redis_memo import CacheDict, configure, get_cache_manager

SYMBOLS = ["INFY", "TCS", "RELIANCE", "HDFCBANK", "ITC"]


class Service:
    """As many services are written: look into the dict, fetch, put into the dict."""

    def __init__(self) -> None:
        self.requests = 0
        self.data_cache: MutableMapping[str, dict[str, float]] = {}

    def price(self, symbol: str) -> dict[str, float]:
        """A price, fetched at the first use."""
        if symbol not in self.data_cache:
            self.data_cache[symbol] = self.fetch(symbol)
        return self.data_cache[symbol]

    def fetch(self, symbol: str) -> dict[str, float]:
        """What a broker would answer."""
        self.requests += 1
        return {"last_price": 100.0 + SYMBOLS.index(symbol)}


class Shared(Service):
    """The same service."""

    def __init__(self) -> None:
        super().__init__()
        self.data_cache = CacheDict("data_cache_demo", ttl="5m")


def worker(url: str) -> None:
    """One process of the service."""
    configure(url)
    counts = []
    for service in (Service(), Shared()):
        for symbol in SYMBOLS * 4:
            service.price(symbol)
        counts.append(service.requests)
    print(*counts)


def main() -> None:
    """Tell the story."""
    with tempfile.TemporaryDirectory(prefix="redis_memo_demo") as folder:
        url = f"embedded://{folder}"
        cache = configure(url)
        print("requests to the broker, for 20 prices:   dict  CacheDict")
        for number in range(1, 4):
            command = [sys.executable, __file__, url]
            own, shared = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            print(f"    process {number} {own:>31} {shared:>10}")

        prices = CacheDict[str, dict[str, float]]("data_cache_demo", ttl="5m")
        print(f"\nhere, in a fourth: {len(prices)} prices, the first is that of {next(iter(prices))}")
        print(f"    pop     {prices.pop('TCS')} for one caller, whatever process pops it too")
        print(f"    left    {list(prices)}")

        manager = get_cache_manager()
        manager.bind("prices", prices)
        print(f"\nby the manager: {manager.get('prices', key='ITC')}")
        cache.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        worker(sys.argv[1])
    else:
        main()
