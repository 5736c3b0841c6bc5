"""A trading day, a Diwali Sunday and a backtest, in a second: ``python examples/market_day.py``.

The clock is set (`redis_memo.testing.at`), the server is the embedded one. Counted is how often the function runs.
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from itertools import count

from redis_memo import Call, as_of, configure, market, market_aware, redis_cached, testing
from redis_memo.ttl import arg

calls = {"NSE": 0, "MCX": 0}
prices = count(1412.95, 0.05)


@redis_cached(namespace="market_demo", ttl=market_aware(arg("exchange")))
def quote(symbol: str, exchange: str = "NSE") -> float:
    """A last price; the broker is asked as often as the market makes it necessary."""
    del symbol
    calls[exchange] += 1
    return next(prices)


def day(title: str, begins: str, minutes: int) -> None:
    """Ask for two prices every minute, and count what reached the broker."""
    calls.update(NSE=0, MCX=0)
    with testing.at(begins) as clock:
        for _ in range(minutes):
            quote("INFY")
            quote("GOLD", exchange="MCX")
            clock.move(timedelta(minutes=1))
    print(f"    {title:42} {minutes:6}  {calls['NSE']:6} {calls['MCX']:6}")


def main() -> None:
    """Tell the story."""
    with tempfile.TemporaryDirectory(prefix="redis_memo_demo") as folder:
        cache = configure(f"embedded://{folder}")

        print("\n  one call a minute                              calls     NSE    MCX   of them asked the broker")
        day("Friday 2026-07-10, 09:00 to 16:00", "2026-07-10 09:00 IST", 420)
        day("that night, to Saturday noon", "2026-07-10 16:00 IST", 1200)
        day("election day 2026-01-15: MCX in the evening", "2026-01-15 00:00 IST", 1440)
        day("Sunday 2026-02-01, a budget", "2026-02-01 00:00 IST", 1440)

        print("\n  why does it live so long?")
        with testing.at("2026-07-10 20:00 IST"):
            for line in market_aware().explain(Call(arguments={"symbol": "INFY"})).splitlines():
                print(f"    {line}")

        print("\n  a backtest cannot read what came later")
        live = quote("INFY")
        for moment in ("2024-03-01 11:00 IST", "2024-03-02 10:30 IST"):
            with as_of(moment):
                seen = quote("INFY")
                print(f"    as of {moment}: NSE is {market.phase('NSE'):6} the live price was seen: {seen == live}")

        cache.clear("market_demo")
        cache.close()
        print()


if __name__ == "__main__":
    main()
