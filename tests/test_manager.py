"""`CacheManager`: results by kind of data and parameters; the same entries as functions and mappings; what it tells."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from redis_memo import (
    MISSING,
    Cache,
    CacheDict,
    CacheManager,
    configure,
    connect,
    get_cache_manager,
    redis_cached,
    testing,
)
from redis_memo.errors import ConfigurationError, KeyingError, StoreError

from .conftest import SECRET, Server, free_port, start_server, until, valkey


@pytest.fixture
def manager(cache: Cache, namespace: str) -> CacheManager:
    return CacheManager(cache, namespace=namespace)


# ------------------------------------------------------------------------------------------------------------- entries


def test_a_value_is_found_by_kind_and_parameters(manager: CacheManager) -> None:
    """P1: names and values tell them apart, their order does not."""
    assert manager.get("indicators", symbol="INFY", window=20) is None
    assert manager.set("indicators", {"rsi": 61.2}, symbol="INFY", window=20) is True
    assert manager.get("indicators", window=20, symbol="INFY") == {"rsi": 61.2}
    for kind, params in [
        ("indicators", {"symbol": "INFY"}),
        ("indicators", {"symbol": "INFY", "window": 20.0}),
        ("indicators", {"symbol": "INFY", "window": 20, "exchange": "NSE"}),
        ("patterns", {"symbol": "INFY", "window": 20}),
        ("indicators", {}),
    ]:
        assert manager.get(kind, **params) is None
    manager.set("indicators", "of none")
    assert manager.get("indicators") == "of none"


def test_none_is_a_value(manager: CacheManager) -> None:
    assert manager.get("predictions", default=MISSING, symbol="INFY") is MISSING
    manager.set("predictions", None, symbol="INFY")
    assert manager.get("predictions", default=MISSING, symbol="INFY") is None
    assert manager.get("predictions", 7, symbol="INFY") is None


def test_any_name_but_its_own_options_may_be_a_parameter(manager: CacheManager) -> None:
    params = {"data_type": 1, "value": 2, "function": 3, "name": 4, "parameters": 5, "self": 6}
    manager.set("x", "here", **params)
    assert manager.get("x", **params) == "here"
    assert manager.delete("x", **params) == 1


def test_what_has_some_parameters_is_deleted(manager: CacheManager) -> None:
    for symbol in ("INFY", "TCS"):
        for window in (10, 20):
            manager.set("indicators", window, symbol=symbol, window=window)
    assert manager.delete("indicators", symbol="INFY", window=10) == 1
    assert manager.delete("indicators", symbol="INFY") == 1
    assert manager.delete("indicators", symbol="INFY") == 0
    assert manager.get("indicators", symbol="TCS", window=10) == 10
    assert manager.delete("indicators") == 2


def test_parameters_by_position_are_refused_in_words(manager: CacheManager) -> None:
    manager.set("quotes", 1.0, symbol="INFY")
    delete: Any = manager.delete  # which a type checker refuses as well
    with pytest.raises(
        TypeError, match=r"^quotes: delete\(\) takes parameters by name, as in delete\(.quotes., symbol="
    ):
        delete("quotes", "INFY")
    assert manager.get("quotes", symbol="INFY") == 1.0


def test_a_kind_is_cleared_or_all_are(manager: CacheManager, cache: Cache, namespace: str) -> None:
    other = CacheManager(cache, namespace=f"{namespace}x")
    for each in (manager, other):
        each.set("a", 1, x=1)
        each.set("b", 1, x=1)
    assert manager.clear("a") == 1
    assert manager.clear() == 1
    assert (other.get("a", x=1), manager.get("b", x=1)) == (1, None)
    assert other.clear() == 2


def test_it_is_one_for_all_processes(valkey_server: Server, manager: CacheManager, namespace: str) -> None:
    code = f"""
from redis_memo import CacheManager, connect
manager = CacheManager(connect({valkey_server.url!r}, secret={SECRET!r}), namespace={namespace!r})
print(manager.get("quotes", symbol="INFY"))
manager.set("quotes", 2, symbol="TCS")
"""
    manager.set("quotes", 1, ttl=60, symbol="INFY")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "1"
    assert manager.get_stats()["types"]["quotes"]["entries"] == 2


def test_what_is_missing_is_computed_once(manager: CacheManager) -> None:
    """P4, for code that is not a function of its own."""
    runs, results, go = [], [], threading.Barrier(6)

    def compute() -> int:
        runs.append(1)
        return len(runs)

    def call() -> None:
        go.wait()
        results.append(manager.get_or_compute("models", compute, ttl="5m", symbol="INFY"))

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1] * 6
    assert len(runs) == 1


def test_what_cannot_be_told_is_refused(manager: CacheManager) -> None:
    with pytest.raises(KeyingError, match="a parameter of 'x' cannot be told by value: _thread.lock"):
        manager.get("x", lock=threading.Lock())
    for kind in ("", None, 5):
        with pytest.raises(ConfigurationError, match="named by a string"):
            manager.get(kind)
    with pytest.raises(ConfigurationError):
        CacheManager(namespace="")
    with pytest.raises(ConfigurationError):
        CacheManager(lifetimes={"a": "soon"})
    with pytest.raises(
        TypeError, match=r"CacheManager has no option 'option'; its options are namespace, ttl, lifetimes"
    ):
        CacheManager(option=1)
    with pytest.raises(ConfigurationError, match=r"CacheManager has no option 'namspace'; did you mean 'namespace'\?"):
        CacheManager(namspace="x")
    with pytest.raises(TypeError, match="CacheManager has no option 'name'"):
        CacheManager(name="x")


def test_a_parameter_without_its_name_is_no_default(manager: CacheManager) -> None:
    """``get("quotes", "TCS")`` gave "TCS" as the quote."""
    for wrong in (("TCS",), ("TCS", "NSE")):
        with pytest.raises(TypeError, match=r"get\(\) takes parameters by name, as in get\('quotes', symbol=\.\.\.\)"):
            manager.get("quotes", *wrong)
        with pytest.raises(TypeError, match="takes parameters by name"):
            asyncio.run(manager.aget("quotes", *wrong))
    assert manager.get("quotes", 7, symbol="INFY") == manager.get("quotes", default=7) == 7
    assert asyncio.run(manager.aget("quotes", 7, symbol="INFY")) == 7


# ----------------------------------------------------------------------------------------------------------- lifetimes


def lifetime(manager: CacheManager, server: Server, kind: str, ttl: object = None, **params: object) -> float:
    """Seconds that Redis gives an entry; stored anew where it was gone before it could be looked at."""
    left: list[int] = []

    def stored() -> bool:
        assert manager.set(kind, 1, ttl=ttl, **params)
        with server.client() as client:
            found = client.scan_iter(f"memo:{{{manager._namespace}:{kind}:#0}}:{'[0-9a-f]' * 40}", count=1000)
            left[:] = [each for each in map(client.pttl, found) if each > 0]
        return len(left) == 1

    until(stored, 60)
    return left[0] / 1000


@pytest.mark.parametrize(
    ("kind", "params", "at", "lives"),
    [
        ("live_quotes", {}, "2026-07-08 11:00 IST", 2),
        ("quotes", {}, "2026-07-08 11:00 IST", 2),
        ("stock_data", {}, "2026-07-08 11:00 IST", 60),
        ("predictions", {}, "2026-07-08 11:00 IST", 900),
        ("images", {}, "2026-07-08 11:00 IST", 300),
        ("my_own", {}, "2026-07-08 11:00 IST", 60),
        ("live_quotes", {}, "2026-07-08 20:00 IST", 13 * 3600),  # to the next morning's 09:00
        ("live_quotes", {"exchange": "MCX"}, "2026-07-08 20:00 IST", 2),
        ("candles", {"interval": "5minute"}, "2026-07-08 11:01 IST", 240),
        ("historical", {"interval": "day", "to_date": "2026-07-01"}, "2026-07-08 11:00 IST", 7 * 86400),
        ("instruments", {}, "2026-07-08 06:00 IST", 9000),
        ("access_token", {}, "2026-07-08 07:00 IST", 23 * 3600),
    ],
)
def test_each_kind_has_its_lifetime(manager, valkey_server, kind, params, at, lives) -> None:
    with testing.at(at):
        found = lifetime(manager, valkey_server, kind, symbol="INFY", **params)
    assert lives - 20 < found <= lives + 2  # 2: what a candle takes to be published


def test_lifetimes_can_be_chosen(cache: Cache, namespace: str, valkey_server: Server) -> None:
    chosen = CacheManager(
        cache,
        namespace=namespace,
        ttl="1h",
        lifetimes={"quotes": lambda call: call.arguments["window"] * 10},
        exchange="MCX",
    )
    assert 150 < lifetime(chosen, valkey_server, "quotes", window=20) <= 200
    assert 3550 < lifetime(chosen, valkey_server, "other") <= 3600
    own = lambda call: 300 if (call.arguments, call.value) == ({"a": 1}, 1) else 0  # noqa: E731
    assert 250 < lifetime(chosen, valkey_server, "own", ttl=own, a=1) <= 300
    with testing.at("2026-07-08 20:00 IST"):
        assert 30 < lifetime(chosen, valkey_server, "stock_data") <= 60
    assert chosen.set("other", 1, ttl=lambda call: 0) is False
    assert "1h" in repr(chosen.lifetime("other"))
    assert "MCX" in repr(chosen.lifetime("stock_data"))


# ------------------------------------------------------------------------------------------ functions and mappings


def test_a_kind_and_a_function_name_the_same_entries(manager: CacheManager, cache: Cache, namespace: str) -> None:
    runs = []

    @redis_cached(namespace=f"{namespace}-f", ttl=60, cache=cache)
    def history(symbol, exchange="NSE", interval="day", from_date=None, to_date=None):
        runs.append(symbol)
        return [symbol]

    manager.bind("historical", history)
    assert manager.set_historical_data("INFY", ["given"])
    assert history("INFY") == ["given"]
    assert history("TCS", interval="minute") == manager.get_historical_data("TCS", interval="minute") == ["TCS"]
    assert manager.get("historical", symbol="TCS", interval="minute") == ["TCS"], "defaults are the function's"
    assert runs == ["TCS"]
    with pytest.raises(TypeError, match="smybol"):
        manager.get("historical", smybol="INFY")
    assert manager.delete("historical", symbol="TCS") == 1
    assert history.peek("TCS", interval="minute") is MISSING
    assert repr(manager.lifetime("historical")) == repr(history.cache_parameters()["ttl"])
    manager.set("other", 1)
    assert manager.clear() == 2
    assert history.peek("INFY") is MISSING


def test_kinds_name_entries_of_methods_coroutines_and_mappings(manager, cache, namespace) -> None:
    class Client:
        def __init__(self, account: str) -> None:
            self.account = account

        @redis_cached(namespace=f"{namespace}-f", ttl=60, cache=cache)
        def portfolio(self, day):
            return self.account

    @redis_cached(namespace=f"{namespace}-f", ttl=60, cache=cache)
    async def quote(symbol):
        return 1.5

    mine, prices = Client("mine"), CacheDict(namespace, ttl=60, cache=cache)
    manager.bind("portfolio", mine.portfolio)
    manager.bind("quotes", quote)
    manager.bind("prices", prices)
    manager.set("portfolio", "given", day=1)
    assert (mine.portfolio(1), Client("other").portfolio(1)) == ("given", "other")
    assert manager.delete("portfolio", day=1) == 1
    manager.set("quotes", 2.5, symbol="INFY")
    assert asyncio.run(quote("INFY")) == 2.5
    manager.set("prices", 3.5, key="INFY")
    assert dict(prices) == {"INFY": 3.5}
    prices["TCS"] = 4.5
    assert manager.get("prices", key="TCS") == 4.5
    assert manager.delete("prices", key="TCS") == 1
    assert manager.clear() == 2
    assert (mine.portfolio.peek(1), Client("other").portfolio.peek(1)) == (MISSING, "other"), "another's entries stand"
    assert manager.clear("portfolio") == 0
    with pytest.raises(TypeError, match="not decorated"):
        manager.bind("x", len)


# ---------------------------------------------------------------------------------------------------- common shapes


def test_the_common_shapes(manager: CacheManager) -> None:
    candles = pd.DataFrame(
        {"close": [1.5, 2.5]}, index=pd.date_range("2026-01-05 09:15", periods=2, freq="5min", tz="Asia/Kolkata")
    )
    assert manager.get_historical_data("INFY", interval="5minute") is None
    assert manager.set_historical_data("INFY", candles, interval="5minute", from_date="2026-01-05")
    found = manager.get_historical_data("INFY", interval="5minute", from_date="2026-01-05")
    pd.testing.assert_frame_equal(found, candles)
    assert manager.get_historical_data("INFY", interval="5minute", default=MISSING) is MISSING

    manager.set_instruments([{"tradingsymbol": "INFY", "instrument_token": 408065}], "NSE")
    assert manager.get_instruments("NSE")[0]["instrument_token"] == 408065
    assert manager.get_instruments() is None

    assert manager.set_live_quotes({"NSE:INFY": {"last_price": 1500.5}, "MCX:GOLD": None}, ttl=60) == 2
    assert manager.get_live_quotes(["INFY", "MCX:GOLD", "TCS"]) == {"INFY": {"last_price": 1500.5}, "MCX:GOLD": None}
    assert manager.get_live_quotes("NSE:INFY") == {"NSE:INFY": {"last_price": 1500.5}}
    assert manager.get("live_quotes", symbol="INFY", exchange="NSE") == {"last_price": 1500.5}

    assert manager.set_image("candles", b"\x89PNG", symbol="INFY")
    assert manager.get_image("candles", symbol="INFY") == b"\x89PNG"
    assert manager.get_image("candles") is None


# ---------------------------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize("which", ["valkey_server", "redis_server", "redis_6_server", "redis_8_server"])
def test_what_it_tells(which: str, request: pytest.FixtureRequest, namespace: str) -> None:
    server: Server = request.getfixturevalue(which)
    manager = CacheManager(connect(server.url, secret=SECRET), namespace=namespace)
    manager.set("a", "x" * 10_000, ttl=60, symbol="INFY")
    manager.get("a", symbol="INFY")
    manager.get("b", symbol="INFY")
    manager.get_or_compute("a", lambda: 1, ttl=60, symbol="TCS")
    manager.get("a", symbol="TCS")
    stats = json.loads(json.dumps(manager.get_stats()))
    assert (stats["hits"], stats["misses"], stats["hit_rate"], stats["entries"]) == (2, 2, 0.5, 2)
    assert (stats["types"]["a"]["hits"], stats["types"]["b"]["misses"], stats["types"]["b"]["entries"]) == (2, 1, 0)
    assert stats["bytes_stored"] > 0
    assert stats["bytes_saved"] > 5_000
    assert stats["seconds_saved"] > 0
    assert (stats["evictions"], stats["errors"], stats["refused"]) == (0, 0, 0)
    with server.client() as client:
        info = client.info()
    facts = stats["server"]
    assert facts["available"] is True
    assert facts["where"] == server.url
    assert (facts["name"], facts["version"]) == (
        ("valkey", info["valkey_version"]) if "valkey_version" in info else ("redis", info["redis_version"])
    )
    assert facts["used_memory"] > 100_000
    assert (facts["maxmemory"], facts["maxmemory_policy"], facts["evicted_keys"]) == (0, "noeviction", 0)
    assert asyncio.run(manager.aget_stats())["server"]["version"] == facts["version"]
    manager.clear()


def test_it_tells_how_the_market_is(cache: Cache, namespace: str) -> None:
    manager = CacheManager(cache, namespace=namespace, exchange="MCX")
    with testing.at("2026-07-08 20:00 IST"):
        assert manager.get_stats()["market"] == {
            "exchange": "MCX",
            "phase": "open",
            "next_open": "2026-07-09T09:00:00+05:30",
            "next_close": "2026-07-08T23:30:00+05:30",
        }


# ------------------------------------------------------------------------------------------------------------- outages


@pytest.fixture
def doomed() -> Iterator[Server]:
    server = start_server(valkey())
    yield server
    server.stop()


def test_without_its_server_everything_is_missing(doomed: Server) -> None:
    """P5; what is to be deleted stands, so that raises."""
    manager = CacheManager(connect(doomed.url, secret=SECRET))
    manager.set("a", 1, x=1)
    doomed.stop()
    assert manager.get("a", default=MISSING, x=1) is MISSING
    assert manager.set("a", 2, x=1) is False
    assert manager.get_or_compute("a", lambda: 3, x=1) == 3
    assert manager.get_live_quotes(["INFY"]) == {}
    for delete in (lambda: manager.delete("a", x=1), lambda: manager.clear("a"), manager.clear):
        with pytest.raises(StoreError):
            delete()
    stats = manager.get_stats()
    assert stats["server"] == {"available": False, "where": doomed.url}
    assert stats["entries"] is None
    assert stats["errors"] >= 4


def test_who_wants_to_know_is_told() -> None:
    manager = CacheManager(connect(f"redis://127.0.0.1:{free_port()}"), on_error="raise")
    for use in (lambda: manager.get("a"), lambda: manager.set("a", 1), lambda: manager.get_or_compute("a", lambda: 1)):
        with pytest.raises(StoreError):
            use()


# ------------------------------------------------------------------------------------------------------- shared, async


def test_there_is_one_that_all_share(valkey_server: Server) -> None:
    found: list[CacheManager] = []
    threads = [threading.Thread(target=lambda: found.append(get_cache_manager())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*map(id, found), id(get_cache_manager())}) == 1
    cache = configure(valkey_server.url, secret=SECRET)
    assert get_cache_manager().cache is cache, "it follows configure()"
    get_cache_manager().set("test", 1, ttl=60, a=1)
    assert get_cache_manager().get("test", a=1) == 1
    assert get_cache_manager().clear("test") == 1


def test_tasks_use_it_too(manager: CacheManager) -> None:
    runs = []

    async def compute() -> str:
        runs.append(1)
        await asyncio.sleep(0)
        return "computed"

    async def main() -> None:
        assert await manager.aget("a", default=MISSING, x=1) is MISSING
        assert await manager.aset("a", None, ttl=60, x=1)
        assert await manager.aget("a", default=MISSING, x=1) is None
        found = await asyncio.gather(*(manager.aget_or_compute("b", compute, ttl=60, x=1) for _ in range(5)))
        assert found == ["computed"] * 5
        assert await manager.adelete("a", x=1) == 1
        assert (await manager.aget_stats())["entries"] == 1
        assert await manager.aclear("b") == 1
        await manager.aset("b", 1, ttl=60)
        assert await manager.aclear() == 1

    asyncio.run(main())
    assert len(runs) == 1
