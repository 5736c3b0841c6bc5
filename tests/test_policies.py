"""Policies that read a call's arguments, compose and explain themselves. P7: short where an answer may differ."""

from __future__ import annotations

import enum
import logging
import math
import subprocess
import sys
import timeit
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redis_memo import CacheDict, CacheManager, connect, jittered, market, redis_cached, ttl
from redis_memo.errors import ConfigurationError
from redis_memo.ttl import Call, arg, market_aware, resolve, until

IST = ZoneInfo("Asia/Kolkata")


def ist(text):
    return datetime.fromisoformat(text).replace(tzinfo=IST)


def call(at, started=None, value=None, **arguments):
    started = started if started is None or isinstance(started, datetime) else ist(started)
    return Call(function="shop.candles", arguments=arguments, value=value, now=ist(at).astimezone(UTC), started=started)


def life(policy, at, started=None, value=None, **arguments):
    return resolve(policy, call(at, started, value, **arguments))


def ends(policy, at, started=None, **arguments):
    return (ist(at) + timedelta(seconds=life(policy, at, started, **arguments))).replace(microsecond=0)


# --- the exchange


def test_p7_the_exchange_of_the_call_decides():
    policy = market_aware(arg("exchange"))
    at = "2026-07-10 20:00"  # a Friday evening: NSE is closed, MCX trades
    assert ends(policy, at, exchange="NSE") == ist("2026-07-13 09:00")
    assert life(policy, at, exchange="MCX") == 60
    assert life(policy, at, exchange="xnse") == life(policy, at, exchange="NSE")
    assert life(market_aware(), at, exchange="MCX") == 60, "the argument counts where nothing else is said"
    assert life(market_aware(), at, symbol="INFY") == life(market_aware("NSE"), at)
    assert life(market_aware("NSE"), at, exchange="MCX") > 86400, "a name that was written counts"
    assert life(market_aware(arg("market", "MCX")), at) == 60


@pytest.mark.parametrize("exchange", ["NSEE", "", "TOPSECRET", "x" * 5000])
def test_p5_p6_an_argument_that_names_no_exchange_lives_short_and_is_not_repeated(exchange, caplog):
    caplog.set_level(logging.WARNING, logger="redis_memo.market")
    assert life(market_aware(open="5m"), "2026-07-11 12:00", exchange=exchange) == 60
    assert all("TOPSECRET" not in record.getMessage() for record in caplog.records)


class Listed(enum.Enum):
    MCX = "MCX"


class ListedText(str, enum.Enum):  # noqa: UP042 - its str() is not its value
    MCX = "MCX"


def test_p7_an_exchange_that_is_named_otherwise_is_not_taken_for_the_default():
    at = "2026-07-10 20:00"  # NSE is closed until Monday, MCX trades
    market.phase("NSE")  # the default is at hand
    assert life(market_aware(), at, exchange=None) > 86400, "as if it were left out"
    for exchange in (ListedText.MCX, np.str_("MCX"), Listed.MCX, 5, ["MCX"], object()):
        assert life(market_aware(open="30s"), at, exchange=exchange) == 30
    assert life(market_aware(), at, exchange=np.str_("NSE")) > 86400


# --- candles


@pytest.mark.parametrize(
    ("interval", "at", "until_"),
    [
        ("5minute", "2026-07-10 10:07:30", "2026-07-10 10:10:02"), ("5m", "2026-07-10 10:09:59", "2026-07-10 10:10:02"),
        ("15minute", "2026-07-10 09:16", "2026-07-10 09:30:02"), ("60minute", "2026-07-10 10:14", "2026-07-10 10:15:02"),
        ("1h", "2026-07-10 10:16", "2026-07-10 11:15:02"), ("minute", "2026-07-10 10:07:30", "2026-07-10 10:08:02"),
        ("3 min", "2026-07-10 09:17", "2026-07-10 09:18:02"), ("30T", "2026-07-10 09:17", "2026-07-10 09:45:02"),
        # Published two seconds later: whoever asks in between has not seen the end of the last one.
        ("5minute", "2026-07-10 10:10:01", "2026-07-10 10:10:02"), ("5minute", "2026-07-10 10:10:02", "2026-07-10 10:15:02"),
        # The last candle ends with the session.
        ("60minute", "2026-07-10 15:20", "2026-07-10 15:30"), ("4h", "2026-07-10 14:00", "2026-07-10 15:30"),
    ],
)  # fmt: skip
def test_p7_candles_live_until_the_running_one_is_complete_and_published(interval, at, until_):
    assert ends(market_aware(), at, interval=interval) == ist(until_)
    assert ends(market_aware(), at, interval=timedelta(minutes=5)) <= ist(at) + timedelta(minutes=5, seconds=2)


def test_p7_the_publication_delay_is_yours():
    assert ends(market_aware(delay="30s"), "2026-07-10 10:07", interval="5minute") == ist("2026-07-10 10:10:30")
    assert ends(market_aware(delay=0), "2026-07-10 10:07", interval="5minute") == ist("2026-07-10 10:10")


def test_p7_candles_of_other_exchanges_count_from_their_own_open():
    at = datetime(2025, 6, 2, 10, 5, tzinfo=ZoneInfo("America/New_York"))
    policy = market_aware("XNYS")
    assert resolve(policy, Call(now=at.astimezone(UTC), arguments={"interval": "1h"})) == 25 * 60 + 2
    evening = ist("2026-07-10 21:10")
    assert (
        resolve(market_aware("MCX"), Call(now=evening.astimezone(UTC), arguments={"interval": "60minute"}))
        == 50 * 60 + 2
    )


@pytest.mark.parametrize("interval", ["day", "1d", "D", "week", "1wk", "month", "1M", "1mo"])
def test_p7_a_days_bar_asked_before_the_close_is_never_frozen_as_final(interval):
    policy = market_aware()
    for at in ("2026-07-10 09:05", "2026-07-10 11:00", "2026-07-10 15:29:30", "2026-07-10 15:35", "2026-07-10 15:59"):
        assert life(policy, at, interval=interval) <= 60
        assert life(policy, at, interval=interval, to_date="2026-07-10") <= 60
    assert life(policy, "2026-07-10 16:00:05", started="2026-07-10 15:59:50", interval=interval) <= 60
    assert ends(policy, "2026-07-10 16:00:05", started="2026-07-10 16:00:01", interval=interval) == ist(
        "2026-07-13 09:00"
    )


@pytest.mark.parametrize("interval", [5, None, "often", "", "0m", object(), [], "5 parsecs", b"5m", True])
def test_p7_an_interval_that_cannot_be_told_is_none(interval):
    assert life(market_aware(), "2026-07-10 10:07", interval=interval) == 60


def test_p7_a_candle_that_ended_while_the_call_ran_is_asked_for_again_soon():
    policy = market_aware()
    at, began = "2026-07-10 10:10:20", "2026-07-10 10:09:55"
    assert life(policy, at, started=began, interval="5minute") == 60
    assert life(market_aware(open="10s"), at, started=began, interval="5minute") == 10
    assert life(policy, "2026-07-10 10:14:50", started=began, interval="5minute") == 12  # nor past the next one


# --- ranges


def test_p7_a_range_that_ended_before_todays_session_is_immutable():
    policy = market_aware(immutable="30d")
    month = 30 * 86400
    for at in ("2026-07-10 11:00", "2026-07-10 20:00", "2026-07-11 12:00", "2026-07-10 02:00"):
        for to in (
            "2026-07-09",
            "2019-12-31",
            "2026-07-09 15:30:00",
            date(2026, 7, 9),
            datetime(2026, 7, 9, 15, 30),
            ist("2026-07-09 15:30"),
        ):
            assert life(policy, at, interval="5minute", to_date=to) == month, (at, to)
    assert life(market_aware(), "2026-07-10 11:00", to_date="2026-07-08") == 7 * 86400


@pytest.mark.parametrize(
    "to",
    [
        None,
        "2026-07-10",
        "2026-07-31",
        "now",
        "10-07-2026",
        20260709,
        date(2026, 7, 10),
        object(),
        ["2026-07-01"],
        math.nan,
    ],
)
def test_p7_a_range_up_to_now_or_one_that_cannot_be_told_is_short_while_the_market_is_open(to):
    assert life(market_aware(), "2026-07-10 11:00", interval="day", to_date=to) == 60
    assert life(market_aware(), "2026-07-10 11:00", interval="60minute", to_date=to) <= 3600
    assert life(market_aware(open="10s"), "2026-07-10 11:00", interval="5minute", to_date=to) <= 10 or isinstance(
        to, list
    )


def test_p7_of_today_only_complete_candles_are_kept_for_the_session():
    policy = market_aware()
    assert ends(policy, "2026-07-10 11:00", interval="15minute", to_date="2026-07-10 10:00:00") == ist(
        "2026-07-10 15:30"
    )
    assert life(policy, "2026-07-10 11:03", interval="15minute", to_date="2026-07-10 11:00:00") == 60
    assert life(policy, "2026-07-10 11:00:01", interval="15minute", to_date="2026-07-10 10:50:00") == 1
    assert life(policy, "2026-07-10 11:00", to_date="2026-07-10 10:00:00") == 60, (
        "without an interval nothing is complete"
    )


def test_p7_a_session_that_goes_on_after_midnight_is_not_over():
    policy = market_aware("MCX", immutable="30d")
    assert life(policy, "2026-12-22 00:05", to_date="2026-12-21") <= 60  # 23:55 was ten minutes ago
    assert life(policy, "2026-12-22 00:15", to_date="2026-12-21") == 30 * 86400
    at = datetime(2025, 6, 3, 1, tzinfo=ZoneInfo("America/Chicago"))  # of the session that began on June 2, 17:00
    cme = Call(now=at.astimezone(UTC), arguments={"to_date": "2025-06-02"})
    assert resolve(market_aware("CMES", immutable="30d"), cme) <= 60


def test_p7_a_week_that_is_not_over_is_not_immutable():
    policy = market_aware(immutable="30d")
    assert life(policy, "2026-07-10 11:00", interval="week", to_date="2026-07-09") == 60  # Thursday of this very week
    assert life(policy, "2026-07-10 11:00", interval="week", to_date="2026-07-03") == 30 * 86400
    assert life(policy, "2026-07-10 11:00", interval="month", to_date="2026-07-03") == 60
    assert life(policy, "2026-07-10 11:00", interval="month", to_date="2026-06-30") == 30 * 86400


@pytest.mark.parametrize(
    ("interval", "final", "not_yet"),
    [
        ("3mo", "2026-05-15", "2026-07-31"),  # a quarter began on July 1
        ("3d", "2026-08-15", "2026-08-17"),
        ("12M", "2025-08-01", "2025-12-31"),
        ("year", "2025-08-18", "2026-08-19"),
        ("1W-FRI", "2025-08-18", "2026-08-19"),
        (10080, "2025-08-18", "2026-08-19"),
    ],
)
def test_p7_a_candle_of_a_long_or_an_unknown_length_is_not_over_for_as_long_as_it_may_run(interval, final, not_yet):
    at = "2026-08-20 11:00"
    assert life(market_aware(), at, interval=interval, to_date=not_yet) == 60
    assert life(market_aware(), at, interval=interval, to_date=final) == 7 * 86400


# Few of each, so that calls meet what others left behind.
FEW_MOMENTS = st.builds(
    lambda day, hour: datetime(2026, 7, day, hour, 5), st.integers(9, 11), st.sampled_from([0, 8, 11, 16, 20])
)
FEW_CANDLES = st.sampled_from([None, "60minute", "day", "week", "3mo"])
FEW_ENDS = st.one_of(
    st.dates(date(2026, 7, 7), date(2026, 7, 11)), FEW_MOMENTS.map(str), st.sampled_from([None, [], "2020-01-01"])
)


@given(
    st.sampled_from(["NSE", "MCX", "CMES"]),
    st.sampled_from([0, "3h"]),
    st.lists(FEW_CANDLES, min_size=1, max_size=2),
    st.lists(FEW_ENDS, min_size=1, max_size=2),
    st.data(),
)
@settings(deadline=None, max_examples=150)
def test_p7_what_a_policy_remembers_of_other_calls_changes_no_answer(exchange, grace, candles, ranges, data):
    """One policy asked for all of them answers each as one that was asked for nothing else."""
    policy = market_aware(exchange, grace=grace)
    for _ in range(20):
        now = data.draw(FEW_MOMENTS).replace(tzinfo=IST)
        started = now - timedelta(seconds=data.draw(st.sampled_from([0, 20_000, 50_000, 90_000])))
        asked = {"interval": data.draw(st.sampled_from(candles)), "to_date": data.draw(st.sampled_from(ranges))}
        one = Call(now=now, started=started, arguments=asked)
        assert policy(one) == market_aware(exchange, grace=grace)(one)


def test_p7_grace_keeps_the_last_session_from_being_final():
    policy = market_aware(grace="20h", immutable="30d")
    assert life(policy, "2026-07-10 08:00", to_date="2026-07-09") <= 60  # closed 16.5 hours ago
    assert life(policy, "2026-07-11 12:00", to_date="2026-07-09") == 30 * 86400


def test_p7_history_lives_no_longer_than_to_the_next_corporate_action():
    split = {"INFY": date(2026, 7, 15), "TCS": None, "ITC": ist("2026-07-13 08:00")}
    policy = market_aware(immutable="30d", corporate_actions=lambda call: split[call.arguments["symbol"]])
    at = "2026-07-10 11:00"
    assert ends(policy, at, symbol="INFY", to_date="2020-01-01") == ist("2026-07-15 00:00")
    assert ends(policy, at, symbol="ITC", to_date="2020-01-01") == ist("2026-07-13 08:00")
    assert life(policy, at, symbol="TCS", to_date="2020-01-01") == 30 * 86400
    assert life(policy, "2026-07-16 11:00", symbol="INFY", to_date="2020-01-01") == 30 * 86400, "that one is in it"
    assert life(policy, "2026-07-15 00:00:10", "2026-07-14 23:59:50", symbol="INFY", to_date="2020-01-01") == 0
    with pytest.raises(ConfigurationError):
        life(market_aware(corporate_actions=lambda call: "soon"), at, to_date="2020-01-01")


MOMENTS = st.floats(min_value=ist("2024-01-01 00:00").timestamp(), max_value=ist("2026-12-20 00:00").timestamp())


@settings(max_examples=400, deadline=None)
@given(
    MOMENTS,
    st.sampled_from(["minute", "5minute", "15minute", "60minute", "day", None]),
    st.integers(-3, 2),
    st.floats(0, 100),
)
def test_p7_whatever_the_arguments_an_entry_ends_where_its_answer_may_change(t, interval, days, took):
    """Of a range that reaches into today, nothing outlives the phase; of a candle, nothing outlives its publication."""
    now = datetime.fromtimestamp(t, UTC)
    local = now.astimezone(IST)
    to = (local.date() + timedelta(days=days)).isoformat()
    arguments = {"interval": interval, "to_date": to}
    given = Call(now=now, started=now - timedelta(seconds=took), arguments=arguments)
    found = resolve(market_aware(), given)
    assert found >= 0
    if days >= 0:
        assert t + found <= market.next_open("NSE", now).timestamp() + 1e-3
        if market.phase("NSE", now) != "closed":
            assert found <= 60
    elif (now - timedelta(seconds=took)).astimezone(IST).date() == local.date():
        assert found == 7 * 86400
    alone = resolve(market_aware(), Call(now=now, arguments={"interval": interval}))
    if market.phase("NSE", now) == "open" and interval not in ("day", None):
        size = {"minute": 60, "5minute": 300, "15minute": 900, "60minute": 3600}[interval]
        opened = local.replace(hour=9, minute=15, second=0, microsecond=0)
        if local.date().weekday() < 5 and 9 <= local.hour <= 15:
            assert 0 < alone <= size + 2
            edge = (t + alone - 2 - opened.timestamp()) % size
            at_close = market.next_close("NSE", now).timestamp() == pytest.approx(t + alone, abs=1e-2)
            assert at_close or min(edge, size - edge) < 1e-3


def test_p7_a_clock_that_may_be_wrong_leaves_a_margin_around_a_candles_end():
    policy = market_aware(skew="10s")
    assert ends(policy, "2026-07-10 10:00", interval="60minute") == ist("2026-07-10 10:14:52")
    for at in ("10:14:53", "10:15:01", "10:15:11"):  # by the right clock the hour may be over, or not
        assert life(policy, f"2026-07-10 {at}", interval="60minute") == 60
    assert ends(policy, "2026-07-10 10:15:12", interval="60minute") == ist("2026-07-10 11:14:52")


def test_p7_a_clock_that_may_be_wrong_leaves_a_margin():
    policy = market_aware("NSE", skew="10s")
    assert ends(policy, "2026-07-10 20:00") == ist("2026-07-13 08:59:50")
    assert life(policy, "2026-07-10 16:00:05") <= 5
    assert ends(policy, "2026-07-10 16:00:10") == ist("2026-07-13 08:59:50")
    assert life(policy, "2026-07-13 08:59:55") == 0
    assert life(policy, "2026-07-10 15:29:30") == 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": "often"}, {"interval": 5}, {"interval": []}, {"to": "to_date"}, {"delay": -1}, {"delay": "8d"}, {"immutable": 0},
        {"corporate_actions": 5}, {"corporate_actions": lambda: None}, {"skew": True}, {"exchange": arg("exchange", "NSEE")},
    ],
    ids=lambda wrong: next(iter(wrong)),
)  # fmt: skip
def test_p7_a_wrong_setting_is_said_at_decoration(wrong):
    with pytest.raises(ConfigurationError):
        market_aware(**wrong)


@pytest.mark.parametrize("name", ["", "not a name", None, 5])
def test_arg_takes_a_parameters_name(name):
    with pytest.raises(ConfigurationError, match="parameter"):
        arg(name)


# --- until, session_end, next_open


@pytest.mark.parametrize(
    ("policy", "at", "until_"),
    [
        (until("08:30"), "2026-07-10 08:00", "2026-07-10 08:30"), (until("08:30"), "2026-07-10 08:30", "2026-07-11 08:30"),
        (ttl.instruments(), "2026-07-10 23:00", "2026-07-11 08:30"), (ttl.access_token(), "2026-07-10 05:59:59", "2026-07-10 06:00"),
        (ttl.access_token(), "2026-07-10 06:00", "2026-07-11 06:00"), (until("08:30:15"), "2026-07-10 08:30", "2026-07-10 08:30:15"),
        (ttl.session_end(), "2026-07-10 11:00", "2026-07-10 15:30"), (ttl.session_end(), "2026-07-10 20:00", "2026-07-13 15:30"),
        (ttl.session_end(), "2023-11-10 20:00", "2023-11-12 19:15"), (ttl.session_end("MCX"), "2026-07-10 20:00", "2026-07-10 23:30"),
        (ttl.session_end(), "2024-03-02 09:30", "2024-03-02 10:00"), (ttl.session_end(), "2024-03-02 10:30", "2024-03-02 12:30"),
        (ttl.next_open(), "2026-07-10 11:00", "2026-07-13 09:00"), (ttl.next_open(), "2026-07-10 20:00", "2026-07-13 09:00"),
        (ttl.next_open(), "2025-10-20 20:00", "2025-10-21 13:30"), (ttl.next_open("MCX"), "2026-03-02 23:59", "2026-03-03 16:45"),
    ],
)  # fmt: skip
def test_p7_moments_are_met_to_the_second(policy, at, until_):
    assert ends(policy, at) == ist(until_)


def test_p7_where_a_session_is_possible_boundaries_are_not_bet_on():
    for policy in (ttl.session_end(), ttl.next_open()):
        assert life(policy, "2026-11-08 12:00") <= 60  # Muhurat at an hour to be notified
        assert ends(policy, "2026-11-07 12:00") <= ist("2026-11-08 09:00")
        assert life(policy, "2150-03-07 12:00") <= 60
    with pytest.raises(ConfigurationError):
        ttl.session_end("NSEE")


def test_p7_what_never_closes_has_a_bounded_life_all_the_same():
    for policy in (ttl.session_end("24/7"), ttl.next_open("24/7")):
        assert 0 < life(policy, "2026-07-10 12:00") <= 90 * 86400


@pytest.mark.parametrize("policy", [until("08:30"), ttl.session_end(), ttl.next_open()])
def test_p7_a_call_that_spanned_the_moment_is_not_kept_for_the_next(policy):
    moment = {"until": "08:30", "session_end": "15:30", "next_open": "16:00"}[repr(policy).partition("(")[0]]
    began = ist(f"2026-07-10 {moment}") - timedelta(seconds=5)
    after = (ist(f"2026-07-10 {moment}") + timedelta(seconds=5)).strftime("%Y-%m-%d %H:%M:%S")
    if repr(policy).startswith("next_open"):
        began, after = ist("2026-07-10 08:59:55"), "2026-07-10 09:00:05"
    assert life(policy, after, started=began) <= 60
    assert life(policy, after) > 60


def test_p7_until_where_clocks_change_is_never_late():
    """02:30 comes twice in New York on 2025-11-02 (well, 01:30 does) and not at all on 2025-03-09."""
    ny = ZoneInfo("America/New_York")
    for text, day in (("01:30", datetime(2025, 11, 2, tzinfo=ny)), ("02:30", datetime(2025, 3, 9, tzinfo=ny))):
        policy = until(text, tz="America/New_York")
        t = day.timestamp()
        ends_ = []
        while t < day.timestamp() + 24 * 3600:
            t += resolve(policy, Call(now=datetime.fromtimestamp(t, UTC)))
            ends_.append(datetime.fromtimestamp(t, ny))
        assert len(ends_) == 3, ends_  # both readings of the clock, then the next day's
        assert ends_[-1].strftime("%d %H:%M") == f"{day.day + 1:02d} {text}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"at": "25:00"},
        {"at": "8.30"},
        {"at": 830},
        {"at": None},
        {"at": "08:30", "tz": "Asia/Nowhere"},
        {"at": "08:30", "tz": 5},
        {"at": "08:30+05:30"},
    ],
)
def test_p7_a_wrong_time_of_day_is_said_at_decoration(wrong):
    with pytest.raises(ConfigurationError):
        until(**wrong)


# --- composing


def test_p7_min_is_the_shorter_and_or_is_the_first_with_an_opinion():
    shorter = ttl.min("5m", market_aware("NSE"), until("08:30"))
    assert life(shorter, "2026-07-10 20:00") == 300
    assert life(shorter, "2026-07-10 11:00") == 60
    assert life(shorter, "2026-07-10 08:29:50") == 10
    either = (lambda call: "1d" if call.arguments.get("final") else None) | market_aware("NSE")
    assert life(either, "2026-07-10 11:00") == 60
    assert life(either, "2026-07-10 11:00", final=True) == 86400
    assert life((lambda call: 0) | market_aware("NSE"), "2026-07-10 11:00") == 0, "0 is an opinion: do not store"
    assert life(market_aware("NSE") | "5m", "2026-07-10 11:00") == 60
    with pytest.raises(ConfigurationError, match="None"):
        life((lambda call: None) | ttl.by_value(lambda value: None), "2026-07-10 11:00")
    with pytest.raises(ConfigurationError):
        ttl.min()
    with pytest.raises(TypeError):
        market_aware() | None


def test_p7_the_result_decides():
    policy = ttl.by_value(lambda rows: None if rows else "30s") | market_aware("NSE")
    assert life(policy, "2026-07-10 20:00", value=[]) == 30
    assert life(policy, "2026-07-10 20:00", value=[1]) > 86400
    chosen = ttl.by_value(lambda value: until("08:30") if value else market_aware("NSE"))
    assert ends(chosen, "2026-07-10 20:00", value=None) == ist("2026-07-13 09:00")
    assert life(chosen, "2026-07-10 20:00", value=1) == 12.5 * 3600
    for wrong in (5, None, "5m", lambda: 5, market_aware(), market_aware):
        with pytest.raises(ConfigurationError):
            ttl.by_value(wrong)
    with pytest.raises(ConfigurationError, match="corporate_actions="):
        market_aware(corporate_actions=until("08:30"))


FACTORIES = {name: getattr(ttl, name) for name in ttl.__all__ if name in {
    "access_token", "by_value", "historical", "indicators", "instruments", "jittered", "live_quotes", "market_aware",
    "min", "next_open", "patterns", "predictions", "sector_data", "session_end", "stock_data", "until",
}} | {"ttl.next_open": market.next_open, "ttl.session_end": market.next_close}  # fmt: skip


@pytest.mark.parametrize("name", FACTORIES)
def test_p7_what_makes_a_policy_is_none_itself_and_is_refused_before_any_call(name):
    """``ttl=market_aware`` would be found out when the first result is stored, and then by an argument of its own."""
    factory = FACTORIES[name]
    for mistake in (
        lambda: ttl.as_policy(factory),
        lambda: redis_cached(namespace="x", ttl=factory)(len),
        lambda: jittered(factory),
        lambda: ttl.min("5m", factory),
        lambda: ttl.by_value(lambda _: None) | factory,
        lambda: factory | ttl.by_value(lambda _: None),
        lambda: market_aware(open=factory),
        lambda: market_aware(closed=factory),
        lambda: market_aware(immutable=factory),
        lambda: CacheDict("x", ttl=factory),
        lambda: CacheManager(ttl=factory),
        lambda: CacheManager(lifetimes={"quotes": factory}),
        lambda: connect(ttl=factory),
        lambda: ttl.by_value(factory),
    ):
        with pytest.raises(ConfigurationError, match=rf"write (ttl\.)?{name.removeprefix('ttl.')}\(") as caught:
            mistake()
        written = caught.value.args[0].rpartition("write ")[2]
        assert eval(written, {"ttl": ttl} | vars(ttl)), "what the message says to write is a policy"


def test_every_factory_of_policies_is_known_as_one():
    """A new one says by its annotation that it returns a policy, and has to be among them."""
    makers = {
        each
        for each in ttl.__all__
        if "Policy" in str(getattr(getattr(ttl, each), "__annotations__", {}).get("return"))
    }
    assert makers - {"as_policy"} == {name for name in FACTORIES if "." not in name}


def test_p7_a_callable_that_answers_a_policy_is_told_what_to_write():
    for answer in (market_aware(), until("08:30")):
        with pytest.raises(ConfigurationError, match=r"shop\.candles answered a policy.*policy\(call\)"):
            life(ttl.as_policy(lambda _, answer=answer: answer), "2026-07-10 20:00")


@pytest.mark.parametrize("wrong", ["5 parsecs", "stock_data", -1, 0, True, lambda: 5, object()])
def test_p7_a_wrong_default_expiry_is_said_by_configure(wrong):
    with pytest.raises(ConfigurationError):
        connect(ttl=wrong)


def test_p8_policies_compare_by_value_and_read_as_written():
    def choose(value):
        return None

    pairs = [
        (lambda: ttl.min("5m", market_aware("NSE")), "min(5m, market_aware('NSE', open=1m, closed='next_open'))"),
        (lambda: ttl.by_value(choose) | until("08:30"), f"by_value({__name__}.{choose.__qualname__}) | until('08:30', tz='Asia/Kolkata')"),
        (lambda: ttl.session_end("MCX"), "session_end('MCX')"),
        (lambda: ttl.next_open(arg("exchange")), "next_open(arg('exchange'))"),
        (lambda: market_aware(arg("ex", "MCX"), interval="day", to=arg("end"), delay=5, skew=1, immutable="2d"),
         "market_aware(arg('ex', 'MCX'), open=1m, closed='next_open', interval='day', to=arg('end'), immutable=2d, delay=5s, skew=1s)"),
    ]  # fmt: skip
    for make, shown in pairs:
        assert make() == make()
        assert hash(make()) == hash(make())
        assert repr(make()) == shown
    assert until("08:30") != until("08:31")
    assert market_aware() != market_aware(delay=3)


# --- explaining


def test_p7_a_policy_explains_why_an_entry_lives_41_minutes():
    said = market_aware().explain(call("2026-07-10 10:34", interval="60minute", symbol="TOPSECRET"))
    assert said.splitlines()[0] == "lives 41m2s, until Fri 2026-07-10 11:15:02 IST"
    assert "running candle is complete and published" in said
    assert "NSE at 10:34:00 is open, from Fri 09:15 to Fri 2026-07-10 15:30" in said
    assert "TOPSECRET" not in said


@pytest.mark.parametrize(
    ("policy", "at", "arguments", "words"),
    [
        (market_aware(), "2026-02-01 11:00", {}, ["lives 1m", "prices move", "Union Budget", "NSE/CMTR/72349"]),
        (market_aware(), "2026-11-08 12:00", {}, ["uncertain", "Muhurat", "no source says when"]),
        (market_aware(), "2026-07-10 20:00", {}, ["until Mon 2026-07-13 09:00:00 IST", "next session's pre-open"]),
        (market_aware(), "2026-07-10 11:00", {"to_date": "2020-01-01"}, ["lives 1w", "corporate action"]),
        (market_aware(), "2027-03-03 20:30", {}, ["unknown", "no source covers this day"]),
        (market_aware(), "2026-07-10 11:00", {"exchange": "TOPSECRET"}, ["lives 1m", "names no exchange"]),
        (market_aware("XNYS"), "2026-07-10 11:00", {}, ["EDT", "exchange_calendars"]),
        (until("08:30"), "2026-07-10 08:00", {}, ["lives 30m, until Fri 2026-07-10 08:30:00 IST"]),
        (ttl.min("5m", until("08:30")), "2026-07-10 08:00", {}, ["lives 5m", "the shortest of these", "lives 30m"]),
        (ttl.by_value(lambda v: None) | market_aware(), "2026-07-10 20:00", {}, ["has no opinion", "the first of these"]),
        (ttl.session_end(), "2026-07-10 11:00", {}, ["trading ends", "15:30:00 IST"]),
        (ttl.jittered("5m"), "2026-07-10 11:00", {}, ["lives 5m", "random part of up to 10%"]),
        (ttl.as_policy("5m"), "2026-07-10 11:00", {}, ["lives 5m"]),
        (ttl.as_policy(lambda call: 0), "2026-07-10 11:00", {}, ["is not stored"]),
    ],
)  # fmt: skip
def test_p7_every_policy_explains_itself(policy, at, arguments, words):
    said = policy.explain(call(at, value="TOPSECRET", **arguments))
    for word in words:
        assert word in said, said
    assert "TOPSECRET" not in said


@settings(max_examples=150, deadline=None)
@given(MOMENTS, st.sampled_from(["5minute", "day", None]), st.sampled_from([None, "2024-01-01", "2026-12-31"]))
def test_p7_the_explanation_tells_the_lifetime_that_the_policy_gives(t, interval, to):
    given = Call(now=datetime.fromtimestamp(t, UTC), arguments={"interval": interval, "to_date": to})
    policy = market_aware()
    seconds = resolve(policy, given)
    shown = ttl.format_duration(seconds if seconds < 1 else round(seconds)) if seconds else "is not stored"
    assert shown in policy.explain(given).splitlines()[0]


def test_p7_the_explanation_names_the_right_hour_where_clocks_are_put_forward():
    friday = datetime(2026, 3, 6, 22, 0, tzinfo=UTC)  # 17:00 in New York, where summer begins on Sunday
    assert "until Mon 2026-03-09 09:00:00 EDT" in market_aware("XNYS").explain(Call(now=friday))
    saturday = datetime(2026, 3, 7, 22, 0, tzinfo=UTC)
    assert "until Sun 2026-03-08 08:30:00 EDT" in until("08:30", tz="America/New_York").explain(Call(now=saturday))


def test_explain_without_a_call_is_about_now():
    assert market_aware("24/7").explain().startswith("lives 1m, until ")


def test_p7_a_call_without_a_zone_is_refused():
    for wrong in (
        {"now": datetime(2026, 7, 10, 11)},
        {"now": ist("2026-07-10 11:00"), "started": datetime(2026, 7, 10, 11)},
    ):
        with pytest.raises(ConfigurationError, match="aware"):
            Call(**wrong)


# --- presets


@pytest.mark.parametrize(
    ("name", "open_"),
    [("live_quotes", 2), ("stock_data", 60), ("historical", 60), ("indicators", 60), ("patterns", 300), ("sector_data", 300), ("predictions", 900)],
)  # fmt: skip
def test_p7_presets_have_a_lifetime_for_the_session_and_one_for_after(name, open_):
    policy = getattr(ttl, name)()
    assert life(policy, "2026-07-10 11:00") == open_
    assert ends(policy, "2026-07-10 20:00") == ist("2026-07-13 09:00")
    assert life(policy, "2026-07-10 20:00", exchange="MCX") == open_
    assert life(getattr(ttl, name)("MCX", open="7s", closed="1h"), "2026-07-10 20:00") == 7
    assert life(getattr(ttl, name)(closed="1h"), "2026-07-10 20:00") == 3600
    with pytest.raises(TypeError):
        getattr(ttl, name)(opne="7s")


# --- what it costs


def test_p8_a_policy_call_costs_some_forty_empty_calls_at_most_and_loads_nothing():
    code = """
import sys
import redis_memo, redis_memo.ttl, redis_memo.testing
heavy = {"pandas", "numpy", "exchange_calendars", "pandas_market_calendars", "pytz", "dateutil"} & set(sys.modules)
print(sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    policy, given = market_aware(), call("2026-07-10 20:00", symbol="INFY", exchange="NSE", interval="day", period=365)
    policy(given)

    def empty(_):
        return None

    pairs = [
        (min(timeit.repeat(lambda: policy(given), number=2000, repeat=5)), min(timeit.repeat(lambda: empty(given), number=2000, repeat=5)))
        for _ in range(5)
    ]  # fmt: skip
    assert sorted(ours / theirs for ours, theirs in pairs)[2] < 60  # 25 to 30 where it was measured: 1.5 us
