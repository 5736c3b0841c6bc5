"""Calls as of a moment, and a clock that tests set; on a real server.

P1: a moment is a key space of its own. P3: an invalidation outside reaches all moments. P7: a test's clock decides what
has expired.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from redis_memo import (
    MISSING,
    Call,
    as_of,
    invalidate,
    invalidate_tags,
    market,
    market_aware,
    redis_cached,
    testing,
    ttl,
)
from redis_memo._clock import market_now
from redis_memo.errors import ConfigurationError

from .conftest import until

MARCH, APRIL = "2024-03-01 11:00 IST", "2024-04-01 11:00 IST"


@pytest.fixture
def price(cache, namespace):
    """A function that counts its runs and tells the moment it ran in."""
    runs = []

    @redis_cached(namespace=namespace, ttl="1h", cache=cache, tags=lambda call: [call.arguments["symbol"]])
    def price(symbol, day="today"):
        runs.append(market.moment())
        return len(runs), symbol

    price.runs = runs
    yield price
    cache.clear(namespace)


def test_p1_a_moment_sees_its_own_entries_and_no_others(price):
    assert price("INFY") == (1, "INFY")
    with as_of(MARCH) as moment:
        assert moment == datetime(2024, 3, 1, 5, 30, tzinfo=UTC)
        assert price.peek("INFY") is MISSING
        assert price("INFY") == (2, "INFY")
        assert price("INFY") == (2, "INFY")
    with as_of(APRIL):
        assert price.peek("INFY") is MISSING
        assert price("INFY") == (3, "INFY")
    with as_of("2024-03-01 11:00:00.000001 IST"):
        assert price.peek("INFY") is MISSING, "a moment is an instant, to the microsecond"
    with as_of(datetime(2024, 3, 1, 0, 30, tzinfo=ZoneInfo("America/New_York"))):
        assert price("INFY") == (2, "INFY"), "the same instant, however it is written"
    assert price("INFY") == (1, "INFY")
    assert price.runs == [None, datetime(2024, 3, 1, 5, 30, tzinfo=UTC), datetime(2024, 4, 1, 5, 30, tzinfo=UTC)]


def test_p1_store_refresh_key_and_explain_are_the_moments_own(price):
    outside = price.cache_key("INFY")
    with as_of(MARCH):
        assert price.cache_key("INFY") != outside
        assert price.cache_key("INFY") == price.cache_key(symbol="INFY", day="today")
        assert price.store("stored", "INFY")
        assert price("INFY") == "stored"
        assert price.refresh("INFY") == (1, "INFY")
        assert price.explain("INFY").state == "stored"
    assert price.peek("INFY") is MISSING
    assert price.explain("INFY").state == "absent"


def test_p3_an_invalidation_within_is_the_moments_own(price):
    price("INFY")
    for moment in (MARCH, APRIL):
        with as_of(moment):
            price("INFY")
            price("TCS")
    with as_of(MARCH):
        assert price.invalidate(symbol="INFY", day="today") == 1
        assert price.peek("INFY") is MISSING
        assert price.invalidate(symbol="TCS") == 1
        assert price.peek("TCS") is MISSING
        price("INFY")
        assert price.invalidate_tags("INFY") == 1
        price("INFY")
        assert price.cache_clear() == 1
    assert price.peek("INFY") == (1, "INFY")
    with as_of(APRIL):
        assert price.peek("INFY") is not MISSING
        assert price.peek("TCS") is not MISSING


@pytest.mark.parametrize("how", ["one call", "by argument", "by tag", "all", "namespace"])
def test_p3_an_invalidation_outside_reaches_every_moment(price, cache, namespace, how):
    price("INFY")
    for moment in (MARCH, APRIL):
        with as_of(moment):
            price("INFY")
    gone = {
        "one call": lambda: invalidate(price, symbol="INFY", day="today"),
        "by argument": lambda: price.invalidate(symbol="INFY"),
        "by tag": lambda: invalidate_tags(price, "INFY"),
        "all": lambda: price.invalidate(),
        "namespace": lambda: cache.clear(namespace),
    }[how]()
    assert gone == 3
    for moment in (MARCH, APRIL):
        with as_of(moment):
            assert price.peek("INFY") is MISSING


def test_p3_a_computation_of_a_moment_that_is_in_flight_is_revoked_too(cache, namespace):
    entered, go_on = threading.Event(), threading.Event()

    @redis_cached(namespace=namespace, ttl="1h", cache=cache)
    def slow(x):
        entered.set()
        go_on.wait(10)
        return "old"

    def backtest():
        with as_of(MARCH):
            return slow(1)

    with ThreadPoolExecutor() as pool:
        running = pool.submit(backtest)
        entered.wait(10)
        slow.invalidate(x=1)
        go_on.set()
        assert running.result() == "old"
    with as_of(MARCH):
        assert slow.peek(1) is MISSING
    cache.clear(namespace)


def test_p7_policies_and_market_see_the_moment(cache, namespace):
    seen = []

    def policy(call: Call):
        seen.append(call)
        return "1h"

    @redis_cached(namespace=namespace, ttl=policy, cache=cache)
    def f():
        return market.phase("NSE"), market.next_open("NSE"), market.next_close("NSE").date().isoformat()

    with as_of("2024-03-02 09:30 IST"):
        assert f()[0] == "open"
        assert str(f()[1]) == "2024-03-02 11:30:00+05:30"
        assert market_aware("NSE").explain().startswith("lives 1m, until Sat 2024-03-02 09:31:00 IST")
    assert seen[0].now == seen[0].started == datetime(2024, 3, 2, 4, tzinfo=UTC)
    assert market.moment() is None
    cache.clear(namespace)


def test_p7_an_entry_lives_as_long_as_the_policy_says_and_a_policy_may_tell_a_moment(cache, namespace):
    keep = (lambda call: "30d" if market.moment() else None) | market_aware("NSE")

    @redis_cached(namespace=namespace, ttl=keep, cache=cache)
    def f():
        return 1

    with as_of(MARCH):
        f()
        assert f.explain().expires_in == pytest.approx(30 * 86400, abs=60)
    cache.clear(namespace)


async def test_p1_tasks_and_awaited_calls_keep_their_moments_apart(cache, namespace):
    @redis_cached(namespace=namespace, ttl="1h", cache=cache)
    async def price(symbol):
        await asyncio.sleep(0)
        return market.moment(), symbol

    async def at(moment):
        if moment is None:
            return await price("INFY")
        with as_of(moment):
            first = await price("INFY")
            assert await asyncio.create_task(price("INFY")) == first
            assert await price.peek("INFY") == first
            assert (await asyncio.to_thread(market.moment)) == first[0]
            assert await price.invalidate(symbol="INFY") == 1
            return await price("INFY")

    found = await asyncio.gather(*(at(moment) for moment in (None, MARCH, APRIL, None)))
    assert {each[0] for each in found} == {
        None,
        datetime(2024, 3, 1, 5, 30, tzinfo=UTC),
        datetime(2024, 4, 1, 5, 30, tzinfo=UTC),
    }
    await cache.aclear(namespace)


def test_p1_a_refresh_behind_the_caller_keeps_the_moment(cache, namespace):
    moments = []

    @redis_cached(namespace=namespace, ttl="20ms", stale="1h", cache=cache)
    def f():
        moments.append(market.moment())
        return len(moments)

    with as_of(MARCH):
        f()
        until(lambda: f.explain().fresh_for <= 0)
        f()
        until(lambda: len(moments) == 2)
        until(lambda: f.peek() == 2)
    assert moments == [datetime(2024, 3, 1, 5, 30, tzinfo=UTC)] * 2
    assert f.peek() is MISSING
    until(lambda: f.explain().lease_seconds is None)
    cache.clear(namespace)


def test_a_thread_of_ones_own_has_the_moment_with_a_copied_context():
    with as_of(MARCH), ThreadPoolExecutor() as pool:
        assert pool.submit(contextvars.copy_context().run, market.moment).result() == datetime(
            2024, 3, 1, 5, 30, tzinfo=UTC
        )


def test_a_moment_is_of_the_past_and_a_block_within_goes_to_no_later_one():
    for wrong in (
        datetime.now(UTC) + timedelta(seconds=5),
        "2150-01-01 00:00 UTC",
        datetime(2024, 3, 1),
        "2024-03-01 11:00",
        None,
        5,
        "yesterday",
        "2024-13-01 11:00 IST",
        "2024-03-01 11:00 Asia/Nowhere",
    ):
        with pytest.raises(ConfigurationError):
            with as_of(wrong):
                pass
    with as_of(MARCH):
        with pytest.raises(ConfigurationError, match="later than the moment"):
            with as_of(APRIL):
                pass
        with as_of("2024-02-01 11:00 IST"):
            assert market.moment().month == 2
        assert market.moment().month == 3
    assert market.moment() is None


def test_the_moment_ends_with_the_block_however_it_ends():
    with pytest.raises(KeyError):
        with as_of(MARCH):
            raise KeyError
    assert market.moment() is None


# --- as decorators


@pytest.mark.parametrize("block", [lambda: as_of(MARCH), lambda: testing.at(MARCH)], ids=["as_of", "testing.at"])
def test_p1_a_block_that_decorates_holds_for_what_it_decorates(block):
    """An ``async def`` runs after its call has returned: by then the moment must not be over, nor before it."""
    march = datetime(2024, 3, 1, 5, 30, tzinfo=UTC)

    def now():
        return datetime.fromtimestamp(market_now(), UTC)  # what policies see

    @block()
    def plain(x):
        """Says so."""
        return x, now()

    @block()
    async def later(x):
        await asyncio.sleep(0)
        return x, now()

    assert [plain(1), plain(x=2)] == [(1, march), (2, march)]
    assert plain.__doc__ == "Says so."
    assert [asyncio.run(later(1)), asyncio.run(later(x=2))] == [(1, march), (2, march)]
    assert inspect.iscoroutinefunction(later)
    waiting = later(3)
    assert now() != march
    assert asyncio.run(waiting) == (3, march)


def test_p1_a_block_decorates_no_generator_function():
    """Its body runs between what others do, a moment of theirs."""

    def items():
        yield 1

    async def aitems():
        yield 1

    for wrong in (items, aitems):
        for block in (as_of(MARCH), testing.at(MARCH)):
            with pytest.raises(ConfigurationError, match=r"items: .* with "):
                block(wrong)


# --- testing.at


def test_p7_a_tests_clock_decides_what_has_expired(cache, namespace):
    runs = []

    @redis_cached(namespace=namespace, ttl=market_aware("NSE"), cache=cache)
    def quote(symbol):
        runs.append(symbol)
        return len(runs)

    with testing.at("2026-11-09 11:00 IST") as clock:
        assert market.phase("NSE") == "open"
        assert quote("INFY") == quote("INFY") == 1
        clock.move("59s")
        assert quote("INFY") == 1
        clock.move(1)
        assert quote.peek("INFY") is MISSING
        assert quote("INFY") == 2, "the server still holds it, and the clock says that it is over"
        clock.set("2026-11-09 16:00 IST")
        assert quote("INFY") == 3
        clock.set("2026-11-11 08:59:59 IST")
        assert quote("INFY") == 3, "through Balipratipada"
        assert quote.cache_info().hits == 3
        clock.move("1s")
        assert quote("INFY") == 4
        clock.set("2026-11-09 11:00 IST")
        assert quote.peek("INFY") is MISSING, "at that time it had not been made"
    assert quote.cache_info().misses == 4
    cache.clear(namespace)


def test_p7_entries_are_stored_with_the_lifetime_that_the_policy_yields(cache, namespace):
    @redis_cached(namespace=namespace, ttl=ttl.until("08:30"), cache=cache)
    def instruments():
        return ["INFY"]

    with testing.at("2026-11-08 18:20 IST"):
        instruments()
        said = instruments.explain()
        assert said.expires_in == pytest.approx((14 * 60 + 10) * 60, abs=20)
        assert "until Mon 2026-11-09 08:30:00 IST" in str(said)
    cache.clear(namespace)


def test_the_clock_holds_for_all_threads_and_nothing_else_is_patched():
    before = time.time()
    with testing.at("2026-11-08 18:20 IST") as clock:
        assert clock.now == datetime(2026, 11, 8, 12, 50, tzinfo=UTC)
        with ThreadPoolExecutor() as pool:
            assert pool.submit(market.phase, "NSE").result() == "open"
        assert Call().now == clock.now
        assert abs(time.time() - before) < 60
        with testing.at("2025-10-21 14:00 Asia/Kolkata"):
            assert market.next_close("NSE").isoformat() == "2025-10-21T14:45:00+05:30"
        assert market.phase("NSE") == "open"
        with as_of("2026-11-07 12:00 IST"):
            assert market.phase("NSE") == "closed"
        with pytest.raises(ConfigurationError):
            with as_of("2026-11-08 18:21 IST"):
                pass
        assert "2026-11-08 12:50" in repr(clock)
    assert abs(Call().now.timestamp() - time.time()) < 60


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-08 18:20 IST",
        "2026-11-08T18:20 IST",
        "2026-11-08 12:50 UTC",
        "2026-11-08 12:50:00 Z",
        "2026-11-08 18:20 +05:30",
        "2026-11-08T18:20+0530",
        "2026-11-08 18:20:00.0 Asia/Kolkata",
        "2026-11-08 07:50 America/New_York",
    ],
)
def test_an_instant_is_written_in_many_ways(text):
    with testing.at(text) as clock:
        assert clock.now == datetime(2026, 11, 8, 12, 50, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong",
    [
        "2026-11-08 18:20",
        "18:20 IST",
        "",
        "2026-11-08 25:20 IST",
        None,
        5,
        datetime(2026, 11, 8),
        "٢٠٢٦-11-08 18:20 IST",
    ],
)
def test_what_names_no_instant_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        with testing.at(wrong):
            pass


@pytest.mark.parametrize("by", [0, -1, "soon", None])
def test_a_clock_moves_forward(by):
    with testing.at("2026-11-08 18:20 IST") as clock, pytest.raises(ConfigurationError):
        clock.move(by)
