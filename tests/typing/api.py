"""What type checkers see (P8): read by mypy --strict and pyright, never run.

An ``ignore`` here is an assertion: both checkers report one that is not needed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from datetime import date, datetime, timedelta, timezone
from typing import Any

from typing_extensions import assert_type

from redis_memo import (
    MISSING,
    Cache,
    CacheDict,
    CacheInfo,
    CacheManager,
    Call,
    Limits,
    as_of,
    cache_info,
    clear,
    configure,
    connect,
    get_cache_manager,
    invalidate,
    jittered,
    market,
    market_aware,
    redis_cached,
    testing,
    ttl,
)
from redis_memo._events import CacheInfoNow
from redis_memo._handle import Missing
from redis_memo.migrate import Outcome, Report, migrate_mapping
from redis_memo.ttl import Policy

# --------------------------------------------------------------------------------------------------------- functions


@redis_cached(namespace="typing", ttl=market_aware())
def fetch(symbol: str, exchange: str = "NSE", *, period: int = 365) -> list[float]:
    return [float(period)]


assert_type(fetch("INFY"), list[float])
assert_type(fetch("INFY", "BSE", period=1), list[float])
assert_type(fetch.__wrapped__("INFY"), list[float])
assert_type(fetch.refresh("INFY"), list[float])
assert_type(fetch.peek("INFY", period=3), list[float] | Missing)
assert_type(fetch.peek_columns(["close"], "INFY", period=3), list[float] | Missing)
assert_type(fetch.store([1.0], "INFY", period=3), bool)
assert_type(fetch.cache_info(), CacheInfo)
assert_type(fetch.cache_info().hits, int)
assert_type(fetch.cache_info(everywhere=True), CacheInfo)
assert_type(fetch.cache_info().currbytes, int | None)
assert_type(fetch.cache_clear(), int)
assert_type(fetch.invalidate(symbol="INFY"), int)
assert_type(fetch.cache_key("INFY"), str)
assert_type(fetch.map(["INFY", ("TCS", "BSE"), {"symbol": "SBIN"}]), list[list[float]])
assert_type(fetch.map(["INFY"], workers=4, progress=True), list[list[float]])
assert_type(fetch.map(["INFY"], return_exceptions=True), list[list[float] | Exception])
assert_type(fetch.map(iter("AB"), batch=lambda symbols: {symbol: [1.0] for symbol in symbols}), list[list[float]])
assert_type(fetch.map(["INFY"], progress=lambda done, total: print(done, total)), list[list[float]])
assert_type(fetch.__name__, str)
assert_type(fetch.explain("INFY").state, str)

fetch(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
fetch()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
fetch("INFY", preiod=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
fetch("INFY", "NSE", 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
fetch.peek(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
fetch.store("text", "INFY")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
fetch.store([1.0])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
fetch.refresh()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
fetch.explain()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
fetch.invalidate("INFY")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
invalidate(fetch, "INFY")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
invalidate("stock_data", "INFY")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
fetch.peeek("INFY")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]

report = migrate_mapping({"INFY": [1.0]}, into=fetch, key=lambda symbol: {"symbol": symbol})
assert_type(report, Report)
assert_type(report.failed, list[Outcome])
assert_type(report.count("migrated"), int)

found = fetch.peek("INFY")
if found is not MISSING:
    assert_type(found, list[float])

as_callback: Callable[[str], list[float]] = fetch
as_mapped: list[list[float]] = list(map(fetch, ["INFY", "TCS"]))


@redis_cached(namespace="typing", ttl=60)
def names(ttl: int, key: str, namespace: str, fn: int, value: str, function: int) -> None: ...


names(1, "", "", 1, value="", function=1)
names.store(None, 1, "", "", 1, value="", function=1)


@redis_cached(namespace="typing", ttl="5m")
def variadic(first: int, /, *rest: str, **options: bool) -> int:
    return first


assert_type(variadic(1, "a", "b", flag=True), int)
variadic(1, 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
variadic(first=1)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]

assert_type(redis_cached(namespace="typing", ttl=1)(lambda: 1)(), int)

# ------------------------------------------------------------------------------------------------------------- async


@redis_cached(namespace="typing", ttl=timedelta(minutes=5))
async def quote(symbol: str, depth: int = 5) -> dict[str, float]:
    return {}


async def use_async() -> None:
    assert_type(await quote("INFY"), dict[str, float])
    assert_type(await quote.refresh("INFY"), dict[str, float])
    assert_type(await quote.peek("INFY"), dict[str, float] | Missing)
    assert_type(await quote.peek_columns(["close"], "INFY"), dict[str, float] | Missing)
    assert_type(await quote.store({}, "INFY", depth=1), bool)
    assert_type(quote.cache_info(), CacheInfoNow)
    assert_type(quote.cache_info().hits, int)
    assert_type(await quote.cache_info(), CacheInfo)
    assert_type(await quote.cache_info(everywhere=True), CacheInfo)
    quote.cache_info(everywhere=True).hits  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    assert_type(await quote.invalidate(symbol="INFY"), int)
    await quote.invalidate("INFY")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await quote.cache_clear(), int)
    assert_type(await quote.map(["INFY", ("TCS", 20)], workers=8), list[dict[str, float]])
    assert_type(await quote.map(["INFY"], return_exceptions=True), list[dict[str, float] | Exception])
    assert_type((await quote.explain("INFY")).key, str)
    assert_type(quote.cache_key("INFY"), str)
    assert_type(await invalidate(quote, symbol="INFY"), int)
    assert_type(await clear(quote), int)
    assert_type(cache_info(quote), CacheInfoNow)
    assert_type(await cache_info(quote, everywhere=True), CacheInfo)
    await quote(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await quote()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await quote.peek(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await quote.store([], "INFY")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    as_coroutine_function: Callable[[str], Coroutine[Any, Any, dict[str, float]]] = quote
    await as_coroutine_function("INFY")


# ----------------------------------------------------------------------------------------------------------- methods


class Client:
    @redis_cached(namespace="typing", ttl=60)
    def candles(self, symbol: str, days: int = 30) -> list[int]:
        return [days]

    @redis_cached(namespace="typing", ttl=60)
    async def ticks(self, symbol: str) -> list[str]:
        return [symbol]

    @redis_cached(namespace="typing", ttl=60)
    @classmethod
    def of(cls, name: str) -> bytes:
        return name.encode()

    @redis_cached(namespace="typing", ttl=60)
    @staticmethod
    def pure(x: float) -> complex:
        return complex(x)

    @classmethod
    @redis_cached(namespace="typing", ttl=60)
    def below_classmethod(cls, name: str) -> bytes:
        return name.encode()

    @staticmethod
    @redis_cached(namespace="typing", ttl=60)
    def below_staticmethod(x: float) -> complex:
        return complex(x)

    @redis_cached(namespace="typing", ttl=60)
    @classmethod
    async def aof(cls, name: str) -> bytes:
        return name.encode()

    @redis_cached(namespace="typing", ttl=60)
    @staticmethod
    async def apure(x: float) -> complex:
        return complex(x)

    @property
    @redis_cached(namespace="typing", ttl=60)
    def below_property(self) -> int:
        return 1


client = Client()
assert_type(client.candles("INFY"), list[int])
assert_type(client.candles.peek("INFY", days=2), list[int] | Missing)
assert_type(client.candles.store([1], "INFY"), bool)
assert_type(client.candles.refresh("INFY"), list[int])
assert_type(client.candles.invalidate(symbol="INFY"), int)
assert_type(Client.candles(client, "INFY"), list[int])
assert_type(Client.candles.peek(client, "INFY"), list[int] | Missing)
assert_type(invalidate(client.candles, symbol="INFY"), int)
assert_type(invalidate(Client.candles), int)
client.candles(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
client.candles.invalidate("INFY")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
client.candles()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
client.candles.peek(client, "INFY")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Client.candles("INFY")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]

assert_type(client.of("x"), bytes)
assert_type(Client.of("x"), bytes)
assert_type(Client.of.peek("x"), bytes | Missing)
assert_type(client.of.peek("x"), bytes | Missing)
Client.of(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
client.of(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

assert_type(client.pure(1.0), complex)
assert_type(Client.pure(1.0), complex)
assert_type(Client.pure.peek(1.0), complex | Missing)
assert_type(client.pure.store(1j, 1.0), bool)
Client.pure("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
client.pure("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

assert_type(Client.below_classmethod("x"), bytes)
assert_type(client.below_classmethod("x"), bytes)
assert_type(Client.below_staticmethod(1.0), complex)
assert_type(client.below_staticmethod(1.0), complex)
assert_type(client.below_property, int)


async def use_async_methods() -> None:
    assert_type(await client.ticks("INFY"), list[str])
    assert_type(await client.ticks.peek("INFY"), list[str] | Missing)
    assert_type(await Client.ticks(client, "INFY"), list[str])
    assert_type(await Client.aof("x"), bytes)
    assert_type(await client.aof.peek("x"), bytes | Missing)
    assert_type(await Client.apure(1.0), complex)
    assert_type(await client.apure.peek(1.0), complex | Missing)
    await client.ticks(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Source(ABC):
    @redis_cached(namespace="typing", ttl=60)
    @abstractmethod
    def load(self, name: str) -> int: ...


class File(Source):
    @redis_cached(namespace="typing", ttl=60)
    def load(self, name: str) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(name)


assert_type(File().load("x"), int)
assert_type(File().load.peek("x"), int | Missing)
assert_type(File().load.map(["x", "y"]), list[int])

# --------------------------------------------------------------------------------------------------------- from code

assert_type(cache_info(fetch), CacheInfo)
assert_type(cache_info(fetch, everywhere=True), CacheInfo)
assert_type(invalidate(fetch, symbol="INFY"), int)
assert_type(clear(fetch), int)
assert_type(clear("typing"), int)
assert_type(configure("redis://localhost", ttl=60), Cache)
assert_type(configure(limits={"typing": Limits(maxsize=1000, maxbytes="2gb")}), Cache)
assert_type(redis_cached(namespace="typing", ttl=None, maxsize=10, maxbytes="1mb", evict="worth")(lambda: 1)(), int)
assert_type(connect(), Cache)
assert_type(connect(secret=["at least sixteen bytes", b"and the one before"], read_from="replica", wait=1), Cache)
configure(timout=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
configure(timeout="1s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
connect(read_from="replicas")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def identify(symbol: str) -> str:
    return symbol


def until_tomorrow(call: Call) -> timedelta:
    return timedelta(days=1)


def by_last(call: Call) -> float:
    return 2.0 if call.arguments["day"] > 3 else 60.0


@redis_cached(namespace="typing", ttl=jittered(until_tomorrow), key=identify, ignore=("client",))
def with_options(symbol: str, client: Client) -> int:
    return 1


redis_cached(identify)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
redis_cached("typing", ttl=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
redis_cached("typing", namespace="typing")  # type: ignore[misc]  # pyright: ignore[reportCallIssue]
redis_cached()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
redis_cached(ttl=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
redis_cached(namespace="typing", compress="best")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
redis_cached(namespace="typing", evict="lfu")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
redis_cached(namespace="typing", ttl=[1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
redis_cached(namespace="typing", ttl=lambda: 60)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
redis_cached(namespace="typing", ttl=market_aware)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
redis_cached(namespace="typing", ttl=by_last)
redis_cached(namespace="typing", ttl=lambda call: 30 if call.value is None else "1h")
redis_cached(namespace="typing", ttl=None, tags=lambda call: call.value)
redis_cached(namespace="typing", shards=16)
redis_cached(namespace="typing", shards="16")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
redis_cached(namespace="typing", on_error="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
redis_cached(namespace="typing", tll=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

# -------------------------------------------------------------------------------------------------------- market time

assert_type(market_aware(), Policy)
assert_type(market_aware(ttl.arg("exchange"), open="5m", closed=timedelta(hours=1)) | "5m", Policy)
assert_type(ttl.min("5m", until_tomorrow, ttl.session_end()), Policy)
assert_type(ttl.until("08:30", tz="Asia/Kolkata").explain(), str)
assert_type(ttl.historical("MCX", open="5m"), Policy)
assert_type(market.next_open("NSE"), datetime)
assert_type(market.sessions("NSE", date(2026, 1, 1), date(2026, 1, 31)), list[market.Session])
assert_type(market.moment(), datetime | None)
with as_of("2024-03-01 11:00 IST") as moment:
    assert_type(moment, datetime)


@as_of("2024-03-01 11:00 IST")
async def backtest(symbol: str) -> int:
    return len(symbol)


as_backtest: Callable[[str], Coroutine[Any, Any, int]] = backtest
with testing.at(datetime(2026, 11, 8, tzinfo=timezone.utc)) as clock:
    assert_type(clock.move("1h"), datetime)

redis_cached(namespace="typing", ttl=ttl.by_value(lambda value: None if value else 30) | market_aware())
configure("redis://localhost", calendar={"NSE": {date(2027, 1, 26): "closed"}})
market_aware(to="to_date")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
market.phase("NSE", "2026-11-08")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ttl.until(830)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# ------------------------------------------------------------------------------------------- mappings and managers

prices: CacheDict[str, float] = CacheDict("typing", ttl="5m")
prices["INFY"] = 1.5
assert_type(prices["INFY"], float)
assert_type(prices.get("INFY"), float | None)
assert_type(prices.get("INFY", 0.0), float)
assert_type(prices.get("INFY", "none"), float | str)
assert_type(prices.pop("INFY"), float)
assert_type(prices.popitem(last=False), tuple[str, float])
assert_type(prices.setdefault("INFY", 1.5), float)
assert_type(prices.set("INFY", 1.5, ttl="1m"), bool)
assert_type(prices.get_or_compute("INFY", float, "1.5"), float)
assert_type(prices.copy(), dict[str, float])
assert_type(list(prices.items()), list[tuple[str, float]])
assert_type(prices.cache_info().hits, int)
prices["INFY"] = "text"  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
prices[1] = 1.5  # type: ignore[index]  # pyright: ignore[reportArgumentType]
prices.get_or_compute("INFY", float, 1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
assert_type(CacheDict.of(fetch), CacheDict[Any, Any])
assert_type(CacheDict[str, int]("typing", ttl="5m")["INFY"], int)
CacheDict[str, int]("typing", ttl={})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

manager: CacheManager = get_cache_manager()
assert_type(manager.set("quotes", 1.5, ttl="2s", symbol="INFY"), bool)
assert_type(manager.delete("quotes", symbol="INFY"), int)
assert_type(manager.get_or_compute("quotes", lambda: 1.5, symbol="INFY"), float)
assert_type(manager.get_image("chart", symbol="INFY"), bytes | None)
assert_type(manager.get_stats()["hit_rate"], float)
assert_type(manager.get_stats()["types"]["quotes"]["entries"], int | None)
assert_type(manager.get_live_quotes(["NSE:INFY"]), dict[str, Any])
manager.bind("historical", fetch)
manager.set_image("chart", "text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def use_async_manager() -> None:
    async def compute() -> int:
        return 1

    assert_type(await manager.aget_or_compute("quotes", compute, symbol="INFY"), int)
    assert_type(await manager.aset("quotes", 1.5, symbol="INFY"), bool)
    assert_type(await prices.aset("INFY", 1.5), bool)


# -------------------------------------------------------------------------------------------------------------- near


@redis_cached(namespace="typing", ttl=60, near=True)
def near_price(symbol: str) -> float:
    return 1.0


@redis_cached(namespace="typing", ttl=60, near="64mb")
async def anear_price(symbol: str) -> float:
    return 1.0


assert_type(near_price("INFY"), float)
redis_cached(namespace="typing", near=10_000)
redis_cached(namespace="typing", near=1.5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
