"""Market time. P7: an expiry that knows the exchange, and is never too long.

The expected answers of the first table are written from the exchanges' circulars and the press (the sources are in
``redis_memo/data/nse_sessions.toml``), not computed.
"""

import dataclasses
import logging
import math
import os
import random
import subprocess
import sys
import threading
import tomllib
import warnings
from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import redis_memo
from redis_memo import _exchanges, _sessions, market
from redis_memo.errors import ConfigurationError
from redis_memo.market import known_until, market_aware, next_close, next_open, phase
from redis_memo.ttl import Call, as_policy, jittered, resolve

IST = ZoneInfo("Asia/Kolkata")
ROOT = Path(redis_memo.__path__[0])
FIRST, LAST = datetime(2020, 1, 1, tzinfo=IST), datetime(2026, 12, 31, tzinfo=IST)


def ist(text):
    return datetime.fromisoformat(text).replace(tzinfo=IST)


def call(at, started=None):
    return Call(
        function="f", arguments={}, value=None, now=at.astimezone(UTC), started=started and started.astimezone(UTC)
    )


def lifetime(policy, at, started=None):
    return resolve(policy, call(at, started))


@pytest.fixture(scope="module")
def libraries():
    """Opens and closes of both libraries for NSE, 2020-2026, as sorted epoch seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import exchange_calendars
        import pandas_market_calendars

        schedules = (
            exchange_calendars.get_calendar("XBOM", start="2020-01-01", end="2026-12-31").schedule[["open", "close"]],
            pandas_market_calendars.get_calendar("NSE").schedule("2020-01-01", "2026-12-31")[
                ["market_open", "market_close"]
            ],
        )
        return [
            tuple([stamp.timestamp() for stamp in schedule[column]] for column in schedule) for schedule in schedules
        ]


@pytest.fixture
def fresh():
    """No calendar is loaded yet."""
    before = dict(_exchanges._calendars)
    _exchanges._calendars.clear()
    yield
    _exchanges._calendars.clear()
    _exchanges._calendars.update(before)


# Instant, phase, next open, next close; None where the row is about something else.
NAMED = [
    # An ordinary Friday, to the edge of each phase.
    ("2026-07-10 08:59:59", "closed", "2026-07-10 09:15", "2026-07-10 15:30"),
    ("2026-07-10 09:00", "pre_open", "2026-07-10 09:15", "2026-07-10 15:30"),
    ("2026-07-10 09:14:59", "pre_open", "2026-07-10 09:15", None),
    ("2026-07-10 09:15", "open", "2026-07-13 09:15", "2026-07-10 15:30"),
    ("2026-07-10 15:29:59", "open", "2026-07-13 09:15", "2026-07-10 15:30"),
    ("2026-07-10 15:30", "closing", "2026-07-13 09:15", "2026-07-13 15:30"),
    ("2026-07-10 15:40", "post_close", "2026-07-13 09:15", None),
    ("2026-07-10 15:59:59", "post_close", "2026-07-13 09:15", None),
    ("2026-07-10 16:00", "closed", "2026-07-13 09:15", None),
    ("2026-07-12 12:00", "closed", "2026-07-13 09:15", None),
    # Since the closing auction of August 2026, derivatives trade to 15:40 and the post-close session begins at 15:50.
    ("2026-08-03 15:45", "closing", None, None),
    ("2026-08-03 15:50", "post_close", None, None),
    ("2026-08-03 16:00", "closed", "2026-08-04 09:15", None),
    # Budget days on a weekend.
    ("2020-01-31 17:00", "closed", "2020-02-01 09:15", "2020-02-01 15:30"),
    ("2020-02-01 12:00", "open", "2020-02-03 09:15", "2020-02-01 15:30"),
    ("2025-01-31 17:00", "closed", "2025-02-01 09:15", "2025-02-01 15:30"),
    ("2025-02-01 15:29", "open", "2025-02-03 09:15", None),
    ("2026-01-31 12:00", "closed", "2026-02-01 09:15", "2026-02-01 15:30"),
    ("2026-02-01 11:00", "open", "2026-02-02 09:15", "2026-02-01 15:30"),
    # Muhurat: evenings, weekends, one afternoon.
    ("2020-11-13 17:00", "closed", "2020-11-14 18:15", "2020-11-14 19:15"),
    ("2020-11-14 18:20", "open", "2020-11-17 09:15", "2020-11-14 19:15"),
    ("2021-11-04 11:00", "closed", "2021-11-04 18:15", "2021-11-04 19:15"),
    ("2021-11-04 18:05", "pre_open", "2021-11-04 18:15", None),
    ("2021-11-04 19:30", "post_close", "2021-11-08 09:15", None),
    ("2022-10-24 09:30", "closed", "2022-10-24 18:15", "2022-10-24 19:15"),
    ("2022-10-24 19:00", "open", "2022-10-25 09:15", "2022-10-24 19:15"),
    ("2023-11-10 17:00", "closed", "2023-11-12 18:15", "2023-11-12 19:15"),
    ("2023-11-12 18:15", "open", "2023-11-13 09:15", "2023-11-12 19:15"),
    ("2024-11-01 12:00", "closed", "2024-11-01 18:00", "2024-11-01 19:00"),
    ("2024-11-01 18:30", "open", "2024-11-04 09:15", None),
    ("2025-10-20 17:00", "closed", "2025-10-21 13:45", "2025-10-21 14:45"),
    ("2025-10-21 11:00", "closed", "2025-10-21 13:45", None),
    ("2025-10-21 14:00", "open", "2025-10-23 09:15", "2025-10-21 14:45"),
    ("2025-10-21 18:30", "closed", "2025-10-23 09:15", None),
    # Announced without an hour: the whole day may be open.
    ("2026-11-06 17:00", "closed", "2026-11-08 09:00", None),
    ("2026-11-08 10:00", "uncertain", None, None),
    ("2026-11-08 13:50", "uncertain", None, None),
    ("2026-11-08 18:20", "open", "2026-11-09 09:15", "2026-11-08 19:15"),
    ("2026-11-08 20:00", "closed", "2026-11-09 09:15", None),
    # Saturdays of 2024: one full session, two days of two short ones.
    ("2024-01-19 17:00", "closed", "2024-01-20 09:15", "2024-01-20 15:30"),
    ("2024-01-20 15:00", "open", "2024-01-23 09:15", "2024-01-20 15:30"),
    ("2024-03-02 09:30", "open", "2024-03-02 11:30", "2024-03-02 10:00"),
    ("2024-03-02 10:30", "break", "2024-03-02 11:30", "2024-03-02 12:30"),
    ("2024-03-02 11:20", "pre_open", "2024-03-02 11:30", None),
    ("2024-03-02 12:00", "open", "2024-03-04 09:15", "2024-03-02 12:30"),
    ("2024-05-18 09:59", "open", "2024-05-18 11:30", "2024-05-18 10:00"),
    ("2024-05-18 12:35", "open", "2024-05-21 09:15", "2024-05-18 12:40"),
    # Closures outside the annual lists.
    ("2024-01-22 11:00", "closed", "2024-01-23 09:15", None),
    ("2024-05-20 11:00", "closed", "2024-05-21 09:15", None),
    ("2024-11-19 16:00", "closed", "2024-11-21 09:15", None),
    ("2026-01-15 11:00", "closed", "2026-01-16 09:15", None),
    ("2023-06-28 11:00", "open", "2023-06-30 09:15", None),  # moved by a day, the day before
    ("2023-06-29 11:00", "closed", "2023-06-30 09:15", None),
    # Annual holidays and a long weekend.
    ("2025-08-14 17:00", "closed", "2025-08-18 09:15", None),
    ("2025-04-09 16:00", "closed", "2025-04-11 09:15", None),
    ("2022-04-13 18:00", "closed", "2022-04-18 09:15", None),
    ("2026-12-24 18:00", "closed", "2026-12-28 09:15", None),
    ("2020-07-31 12:00", "open", "2020-08-03 09:15", None),
    # The outage of 2021: trading was extended to 17:00.
    ("2021-02-24 16:30", "open", "2021-02-25 09:15", "2021-02-24 17:00"),
    ("2021-02-24 17:20", "post_close", "2021-02-25 09:15", None),
    # Trading days that other calendars have off.
    ("2025-09-05 12:00", "open", "2025-09-08 09:15", None),
    ("2024-10-31 12:00", "open", "2024-11-01 18:00", None),
]


@pytest.mark.parametrize(("at", "is_", "opens", "closes"), NAMED, ids=[row[0] for row in NAMED])
@pytest.mark.parametrize("exchange", ["NSE", "BSE", "XNSE", "xbom"])
def test_p7_the_phase_and_the_next_session_on_the_days_that_matter(exchange, at, is_, opens, closes):
    assert phase(exchange, ist(at)) == is_
    if opens is not None:
        assert next_open(exchange, ist(at)) == ist(opens)
    if closes is not None:
        assert next_close(exchange, ist(at)) == ist(closes)


@pytest.mark.parametrize(("at", "is_", "opens", "closes"), NAMED, ids=[row[0] for row in NAMED])
def test_p7_an_entry_of_those_days_ends_with_the_pre_open_or_is_short(at, is_, opens, closes):
    life = lifetime(market_aware(), ist(at))
    if is_ == "closed":
        assert 60 < life <= (ist(opens) - ist(at)).total_seconds() or at == "2026-07-10 08:59:59"
        # It is not needlessly short either: only the pre-open, 15 minutes before, and a day without an hour come first.
        assert life >= (ist(opens) - ist(at)).total_seconds() - 15 * 60
    else:
        assert 0 < life <= 60


def test_p7_the_same_instant_in_any_zone_has_the_same_answer():
    at = ist("2023-11-12 18:30")
    for zone in (UTC, ZoneInfo("America/New_York"), timezone(timedelta(hours=-12)), timezone(timedelta(hours=14))):
        assert phase("NSE", at.astimezone(zone)) == "open"
        assert next_close("NSE", at.astimezone(zone)) == ist("2023-11-12 19:15")
    assert next_open("NSE", at.astimezone(UTC)).utcoffset() == timedelta(hours=5, minutes=30)


@pytest.mark.parametrize("ask", [phase, next_open, next_close])
@pytest.mark.parametrize("at", [datetime(2026, 7, 10, 12), date(2026, 7, 10), None, 1.0, "2026-07-10"])
def test_p7_what_names_no_instant_is_refused(ask, at):
    with pytest.raises(ConfigurationError, match="aware|naive"):
        ask("NSE", at)


def test_p7_pandas_instants_are_instants_and_nat_is_none():
    import pandas

    assert phase("NSE", pandas.Timestamp("2026-07-10 12:00", tz="Asia/Kolkata")) == "open"
    for at in (pandas.NaT, pandas.Timestamp("2026-07-10 12:00")):
        with pytest.raises(ConfigurationError):
            phase("NSE", at)


# --- the table itself ---


def test_p7_each_fact_of_the_table_is_dated_once_and_has_a_source():
    data = tomllib.loads((ROOT / "data" / "nse_sessions.toml").read_text())
    assert data["source"]
    sessions, closed = ([entry["date"] for entry in data[kind]] for kind in ("session", "closed"))
    assert sessions == sorted(set(sessions))
    assert closed == sorted(set(closed))
    assert not set(sessions) & set(closed)
    assert all(day.weekday() < 5 for day in closed), "a weekend needs no closure"
    assert all(entry["source"] and entry["name"] for entry in data["session"])
    assert all(data["first"] <= day <= data["last"] for day in sessions + closed)
    for year in range(2020, 2027):
        assert 10 <= sum(day.year == year for day in closed) <= 16
        assert sum(entry["date"].year == year and "Muhurat" in entry["name"] for entry in data["session"]) == 1
    for entry in data["session"] + [{**hours, "windows": [hours["window"]]} for hours in data["hours"]]:
        times = [text for window in entry["windows"] for text in window]
        times += [entry[key] for key in ("post_close", "settled") if key in entry]
        assert times == sorted(times)


def test_p7_we_differ_from_the_libraries_only_where_they_are_known_to_be_wrong(libraries):
    ours = set()
    at = FIRST - timedelta(seconds=1)
    while (at := next_open("NSE", at)) <= LAST + timedelta(days=1):
        if phase("NSE", at) == "open":
            ours.add(at.date())
    ours = {day for day in ours if day.year <= 2026}
    xbom, nse = ({datetime.fromtimestamp(t, IST).date() for t in opens} for opens, _ in libraries)
    missed_by_both = {
        date(2020, 2, 1), date(2020, 11, 14), date(2023, 11, 12), date(2024, 3, 2), date(2024, 5, 18), date(2026, 2, 1),
        date(2026, 11, 8), date(2024, 1, 20), date(2025, 2, 1),
    }  # fmt: skip
    assert xbom | nse <= ours, "a session that a library knows and we do not"
    # A later release of theirs may have learnt some of these.
    assert ours - (xbom | nse) <= missed_by_both


# --- agreement and safety against both libraries ---


def is_open(schedule, t):
    opens, closes = schedule
    index = bisect_right(opens, t) - 1
    return index >= 0 and t < closes[index]


def test_p7_random_instants_are_answered_like_both_libraries_where_they_agree(libraries):
    special = set(tomllib_dates("session"))
    draw = random.Random(20261123)
    compared = 0
    while compared < 3000:
        at = FIRST + timedelta(seconds=draw.uniform(0, (LAST - FIRST).total_seconds() - 30 * 86400))
        if at.date() in special or is_open(libraries[0], at.timestamp()) != is_open(libraries[1], at.timestamp()):
            continue
        compared += 1
        assert (phase("NSE", at) == "open") == is_open(libraries[0], at.timestamp()), at
        after = [opens[bisect_right(opens, at.timestamp())] for opens, _ in libraries]
        if after[0] == after[1]:
            found = next_open("NSE", at)
            assert found.timestamp() == after[0] or found.date() in special, at


def tomllib_dates(kind):
    return [entry["date"] for entry in tomllib.loads((ROOT / "data" / "nse_sessions.toml").read_text())[kind]]


@settings(max_examples=400, deadline=None)
@given(st.floats(min_value=FIRST.timestamp(), max_value=(LAST - timedelta(days=10)).timestamp()), st.floats(0, 0.9))
def test_p7_an_entry_never_outlives_the_phase_it_was_made_in_nor_any_open(libraries, t, jitter):
    at = datetime.fromtimestamp(t, UTC)
    life = lifetime(market_aware(open="5m", jitter=jitter), at)
    assert life >= 0
    end = t + life
    assert end <= next_open("NSE", at).timestamp() + 1e-3
    assert phase("NSE", datetime.fromtimestamp(max(t, end - 1e-3), UTC)) == phase("NSE", at)
    for opens, _ in libraries:
        assert end <= opens[bisect_right(opens, t)] + 1e-3
        if phase("NSE", at) == "closed":
            assert not is_open((opens, _), t)
    if phase("NSE", at) != "closed":
        assert life <= 300


DAYS = [
    "2020-02-01", "2020-11-14", "2021-02-24", "2021-11-04", "2022-10-24", "2023-06-28", "2023-11-11", "2023-11-12",
    "2024-01-20", "2024-01-22", "2024-03-02", "2024-05-18", "2024-05-20", "2024-11-01", "2025-02-01", "2025-10-20",
    "2025-10-21", "2026-01-15", "2026-02-01", "2026-07-10", "2026-08-03", "2026-11-08", "2026-12-25", "2026-12-31",
]  # fmt: skip


@pytest.mark.parametrize("day", DAYS)
def test_p7_each_minute_of_a_chosen_day_no_entry_lives_past_a_change_and_closed_hours_hit(day):
    start = ist(f"{day} 00:00")
    policy = market_aware()
    expires, hits, closed = -math.inf, 0, 0
    stored_phase = None
    for minute in range(24 * 60):
        at = start + timedelta(minutes=minute)
        now_phase = phase("NSE", at)
        closed += now_phase == "closed"
        if at.timestamp() < expires:
            assert stored_phase == now_phase, "an entry outlived its phase"
            hits += now_phase == "closed"
        else:
            expires, stored_phase = at.timestamp() + lifetime(policy, at), now_phase
    assert hits >= 0.99 * closed


# --- the edge of knowledge ---


def weekday_after(year, number):
    """Return noon in India of the first ``number`` weekday in March of a far year, of which nobody knows anything."""
    day = date(year, 3, 1)
    while day.weekday() != number:
        day += timedelta(days=1)
    return datetime(day.year, day.month, day.day, 12, tzinfo=IST)


def test_p7_beyond_what_is_known_every_weekday_may_be_open_and_no_day_is_surely_closed():
    policy = market_aware()
    monday, saturday, sunday = (weekday_after(2150, number) for number in (0, 5, 6))
    assert phase("NSE", monday) == "open"
    assert phase("NSE", saturday) == phase("NSE", sunday) == "uncertain"
    for at in (monday, saturday, sunday, monday.replace(hour=18), saturday.replace(hour=19, minute=59)):
        assert lifetime(policy, at) <= 60
    # At night nothing has ever been traded, but the next morning may always bring a session.
    for at in (saturday.replace(hour=21), sunday.replace(hour=23), monday.replace(hour=20)):
        assert phase("NSE", at) == "closed"
        assert lifetime(policy, at) <= ((at + timedelta(days=1)).replace(hour=9, minute=0) - at).total_seconds()
    assert next_open("NSE", saturday).astimezone(IST) <= (saturday + timedelta(days=2)).replace(hour=9, minute=15)


def test_p7_the_last_evening_of_the_table_does_not_bet_on_the_year_after():
    at = ist("2026-12-31 17:00")
    assert lifetime(market_aware(), at) <= 16 * 3600
    assert next_open("NSE", at) <= ist("2027-01-04 09:15")
    assert known_until("NSE") >= date(2026, 12, 31)


def test_p7_a_process_that_lives_over_many_new_years_keeps_answering():
    policy = market_aware()
    at = ist("2025-12-31 17:00")
    while at.year < 2032:
        assert 0 < lifetime(policy, at) <= 5 * 86400
        assert next_open("NSE", at) > at
        at += timedelta(days=1)


@pytest.mark.parametrize("year", [1970, 1999, 2014, 2019])
def test_p7_a_clock_before_the_table_is_not_trusted_with_a_long_life(year):
    for hour in range(0, 24, 3):
        assert lifetime(market_aware(), datetime(year, 6, 15, hour, tzinfo=IST)) <= 60


@pytest.mark.parametrize(
    "at", [datetime(1, 1, 2, tzinfo=UTC), datetime(1960, 1, 1, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)]
)
def test_p7_a_clock_outside_all_reason_is_a_clear_error(at):
    for ask in (phase, next_open, next_close):
        with pytest.raises(ConfigurationError, match="1970 to 2199"):
            ask("NSE", at)


def test_p7_beyond_the_known_the_log_says_so_once_and_names_the_remedy(fresh, caplog):
    caplog.set_level(logging.WARNING, logger="redis_memo.market")
    phase("NSE", ist("2026-07-10 12:00"))
    lifetime(market_aware(), ist("2026-12-31 17:00"))
    assert not caplog.records
    for hour in range(24):
        lifetime(market_aware(), weekday_after(2150, 1).replace(hour=hour))
    [record] = caplog.records
    assert "Upgrade" in record.getMessage()
    assert "2026-12-31" in record.getMessage() or known_until("NSE") > date(2026, 12, 31)


def test_p7_before_the_known_the_log_asks_about_the_clock(fresh, caplog):
    caplog.set_level(logging.WARNING, logger="redis_memo.market")
    for _ in range(3):
        lifetime(market_aware(), ist("1971-01-01 12:00"))
    [record] = caplog.records
    assert "clock" in record.getMessage()


# --- the library: lazily, safely, or not at all ---


def run(code, **env):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT.parent), **env},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_p8_the_calendar_library_loads_when_a_date_first_needs_it_and_not_before():
    said = run("""
import sys
from datetime import datetime, timezone
from redis_memo.market import market_aware, phase
from redis_memo.ttl import Call
heavy = lambda: sorted({"pandas", "numpy", "exchange_calendars", "pandas_market_calendars"} & set(sys.modules))
nse, xnys = market_aware(), market_aware("XNYS", open="5m")
print("decorated", *heavy())
c = Call(function="f", arguments={}, value=1, now=datetime(2026, 7, 10, 12, tzinfo=timezone.utc))
nse(c)
print("nse", *heavy())
xnys(c)
print("xnys", *heavy())
""")
    assert said == ["decorated", "nse", "xnys", "exchange_calendars", "numpy", "pandas"]


def test_p5_without_the_library_nse_still_answers_and_others_say_what_to_install(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    assert phase("NSE", ist("2026-02-01 12:00")) == "open"
    assert lifetime(market_aware(), ist("2027-01-01 12:00")) <= 60
    assert known_until("NSE") == date(2026, 12, 31)
    with pytest.raises(ConfigurationError, match="exchange-calendars"):
        phase("XNYS", ist("2026-07-10 12:00"))


def test_p5_a_library_that_fails_costs_nse_nothing(fresh, monkeypatch):
    def broken(*_):
        raise RuntimeError("pandas 9 took something away")

    monkeypatch.setattr(_sessions, "read_library", broken)
    assert 0 < lifetime(market_aware(), ist("2026-12-31 17:00")) <= 16 * 3600
    assert phase("NSE", ist("2028-03-01 12:00")) == "open"


def test_p7_days_that_only_the_library_lists_may_still_hold_an_evening_session(fresh):
    """The library has no Muhurat and no weekend session: its closed days beyond our table are not surely closed."""
    calendar = _exchanges.calendar_of("NSE")
    calendar._read_library(date(2026, 12, 31))
    calendar._table = dataclasses.replace(calendar._table, last=date(2022, 12, 31), facts={})
    policy = market_aware()
    assert phase("NSE", ist("2023-11-09 12:00")) == "open"
    assert phase("NSE", ist("2023-11-09 17:00")) == "closed"
    assert lifetime(policy, ist("2023-11-10 17:00")) == 16 * 3600  # Friday evening to Saturday morning, no further
    assert lifetime(policy, ist("2023-11-12 18:15")) <= 60  # Muhurat, which it does not know
    assert phase("NSE", ist("2023-11-14 12:00")) == "uncertain"  # a holiday it lists
    assert next_open("NSE", ist("2023-11-13 16:00")) == ist("2023-11-14 09:00")  # the earliest possible
    assert next_open("NSE", ist("2023-11-14 21:00")) == ist("2023-11-15 09:15")


def test_p8_a_machine_without_zone_data_knows_india():
    said = run(
        """
import sys
sys.modules["tzdata"] = None
from datetime import datetime, timezone
from redis_memo import market
print(market.next_open("NSE", datetime(2025, 10, 20, 12, tzinfo=timezone.utc)).isoformat())
""",
        PYTHONTZPATH="",
    )
    assert said == ["2025-10-21T13:45:00+05:30"]


def test_p8_threads_that_ask_first_together_get_one_calendar_and_one_answer(fresh):
    barrier, found = threading.Barrier(16), []

    def ask():
        barrier.wait()
        found.append(
            (
                _exchanges.calendar_of("NSE"),
                next_open("NSE", ist("2026-12-31 17:00")),
                phase("XNYS", ist("2026-07-10 21:00")),
            )
        )

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(found)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_p5_a_fork_while_a_calendar_is_built_does_not_hang_the_child():
    said = run("""
import os, threading, warnings
warnings.simplefilter("ignore")
from datetime import datetime, timezone
from redis_memo import _exchanges, _sessions, market
held, release = threading.Event(), threading.Event()
def build():
    with _sessions._lock:
        held.set()
        release.wait()
thread = threading.Thread(target=build)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    print(market.phase("NSE", datetime(2026, 7, 10, 6, tzinfo=timezone.utc)), flush=True)
    os._exit(0)
release.set()
thread.join()
os.waitpid(child, 0)
""")
    assert said == ["open"]


# --- other exchanges ---


@pytest.mark.parametrize(
    ("exchange", "at", "is_", "opens"),
    [
        ("XNYS", "2025-01-09T15:00+00:00", "closed", "2025-01-10T14:30+00:00"),  # a day of mourning
        ("XNYS", "2025-11-28T18:30+00:00", "closed", "2025-12-01T14:30+00:00"),  # half day, after 13:00 + 30 min
        ("XNYS", "2025-03-07T15:00+00:00", "open", "2025-03-10T13:30+00:00"),  # clocks go forward
        ("NYSE", "2025-11-03T14:29+00:00", "pre_open", "2025-11-03T14:30+00:00"),  # and back
        ("XLON", "2025-06-02T10:00+00:00", "open", "2025-06-03T07:00+00:00"),
        ("XTKS", "2025-06-02T11:40+09:00", "break", "2025-06-02T12:30+09:00"),
        ("XHKG", "2025-06-02T09:10+08:00", "pre_open", "2025-06-02T09:30+08:00"),
        ("CMES", "2025-06-02T03:00+00:00", "open", "2025-06-02T17:00-05:00"),
        ("24/7", "2025-06-01T03:00+00:00", "open", "2025-06-02T00:00+00:00"),
    ],
)
def test_p7_exchanges_of_the_library_go_the_same_way(exchange, at, is_, opens):
    at = datetime.fromisoformat(at)
    assert phase(exchange, at) == is_
    assert next_open(exchange, at) == datetime.fromisoformat(opens)
    life = lifetime(market_aware(exchange), at)
    assert life <= 60 if is_ != "closed" else 60 < life <= (datetime.fromisoformat(opens) - at).total_seconds()


def test_p7_an_exchange_whose_list_has_ended_is_short_from_then_on():
    at = datetime(2099, 6, 3, 11, tzinfo=ZoneInfo("Asia/Shanghai"))  # a Wednesday; the library is asked year by year
    assert known_until("XSHG") < at.date()
    assert phase("XSHG", at) == "open"
    assert lifetime(market_aware("XSHG"), at) <= 60


@pytest.mark.parametrize(
    ("name", "near"), [("NSEE", "NSE"), ("XNY", "XNYS"), ("NASDQ", "NASDAQ"), ("BOMBAY", None), ("", None)]
)
def test_p7_an_unknown_exchange_is_said_at_decoration_with_names_near_it(name, near):
    with pytest.raises(ConfigurationError, match="unknown exchange") as caught:
        market_aware(name)
    assert near is None or near in str(caught.value)
    with pytest.raises(ConfigurationError):
        phase(name, ist("2026-07-10 12:00"))


@pytest.mark.parametrize("exchange", [None, 5, ["NSE"], b"NSE"])
def test_p7_an_exchange_is_a_string(exchange):
    for ask in (market_aware, lambda name: phase(name, ist("2026-07-10 12:00"))):
        with pytest.raises(ConfigurationError, match="string"):
            ask(exchange)


def test_p5_a_calendar_that_fails_within_its_library_is_read_from_the_other_or_says_what_failed(fresh, monkeypatch):
    import exchange_calendars
    import pandas_market_calendars

    def broken(*_, **__):
        raise NotImplementedError("pandas took it away")

    at = datetime(2026, 7, 8, 12, tzinfo=ZoneInfo("America/New_York"))
    monkeypatch.setattr(exchange_calendars, "get_calendar", broken)
    assert phase("NYSE", at) == "open"
    assert market.sessions("NYSE", at, at)[0].source.startswith("pandas_market_calendars")
    monkeypatch.setattr(pandas_market_calendars, "get_calendar", broken)
    with pytest.raises(ConfigurationError, match="raised NotImplementedError"):
        phase("XLON", at)
    assert phase("NSE", ist("2027-03-01 12:00")) == "open"


# --- the policy's settings ---


def test_p7_open_takes_any_ttl_and_is_cut_where_the_phase_ends():
    for ttl in ("10m", 600, timedelta(minutes=10), lambda call: "10m"):
        policy = market_aware(open=ttl)
        assert lifetime(policy, ist("2026-07-10 12:00")) == 600
        assert lifetime(policy, ist("2026-07-10 15:29")) == 60
        assert lifetime(policy, ist("2026-07-10 15:35")) == 300
        assert lifetime(policy, ist("2026-07-10 08:30")) == 1800
    assert lifetime(market_aware(open=lambda call: 0), ist("2026-07-10 12:00")) == 0


def test_p7_closed_takes_any_ttl_and_is_cut_at_the_next_session():
    policy = market_aware(closed="2h")
    assert lifetime(policy, ist("2026-07-10 20:00")) == 7200
    assert lifetime(policy, ist("2026-07-10 08:00")) == 3600
    assert lifetime(market_aware(closed=jittered("2h", random=lambda: 0.5)), ist("2026-07-10 20:00")) == 6840


def test_p7_grace_keeps_entries_short_until_late_data_are_out():
    policy = market_aware(grace="3h")
    assert lifetime(policy, ist("2026-07-10 18:29:30")) == 30
    assert lifetime(policy, ist("2026-07-10 16:30")) == 60
    assert (
        lifetime(policy, ist("2026-07-10 18:30")) == (ist("2026-07-13 09:00") - ist("2026-07-10 18:30")).total_seconds()
    )
    assert lifetime(policy, ist("2023-11-12 21:00")) == 60  # after Muhurat as well
    assert lifetime(policy, ist("2023-11-12 17:00")) == 3600  # and not before it


def test_p7_a_call_that_began_before_the_last_change_is_not_kept_for_the_night():
    policy = market_aware()
    assert lifetime(policy, ist("2026-07-10 16:00:05"), started=ist("2026-07-10 15:59:55")) == 60
    assert lifetime(policy, ist("2026-07-10 16:00:05"), started=ist("2026-07-10 16:00:01")) > 86400
    assert lifetime(policy, ist("2026-07-11 12:00"), started=ist("2026-07-09 17:00")) == 60
    late = market_aware(grace="3h")
    assert lifetime(late, ist("2026-07-10 18:30:05"), started=ist("2026-07-10 18:29:55")) == 60


def test_p7_market_jitter_only_shortens():
    draw = random.Random(3).random
    policy = market_aware(jitter=0.2, random=draw)
    whole = (ist("2026-07-13 09:00") - ist("2026-07-11 09:00")).total_seconds()
    found = {lifetime(policy, ist("2026-07-11 09:00")) for _ in range(200)}
    assert len(found) == 200
    assert 0.8 * whole <= min(found) < 0.82 * whole
    assert 0.98 * whole < max(found) <= whole


@pytest.mark.parametrize(
    "wrong",
    [
        {"open": None}, {"open": 0}, {"open": "soon"}, {"closed": None}, {"closed": "next"}, {"closed": -1}, {"jitter": 1}, {"jitter": -0.1},
        {"jitter": math.nan}, {"grace": -1}, {"grace": "8d"}, {"grace": None}, {"grace": True}, {"grace": False}, {"grace": lambda call: 5},
    ],
    ids=lambda wrong: "-".join(f"{name}-{type(value).__name__}" for name, value in wrong.items()),
)  # fmt: skip
def test_p7_a_wrong_setting_is_said_at_decoration(wrong):
    with pytest.raises(ConfigurationError):
        market_aware(**wrong)


def test_p7_the_policy_reads_as_it_was_written_and_compares_by_value():
    assert repr(market_aware()) == "market_aware(arg('exchange', 'NSE'), open=1m, closed='next_open')"
    assert repr(market_aware("NSE")) == "market_aware('NSE', open=1m, closed='next_open')"
    assert repr(market_aware("xbom", open="5m", closed="2h", grace="3h", jitter=0.1)) == (
        "market_aware('BSE', open=5m, closed=2h, grace=3h, jitter=0.1)"
    )
    assert market_aware("NSE") == market_aware("XNSE", open="1m")
    assert market_aware() == market_aware(open="1m") != market_aware("NSE")
    assert as_policy(market_aware()) == market_aware()


@pytest.mark.parametrize("exchange", ["MCX", "CDS"])
@pytest.mark.parametrize("day", ["2024-01-20", "2024-03-02", "2024-05-18"])
def test_p7_on_saturdays_of_the_stock_exchanges_of_which_others_say_nothing_nothing_is_bet(exchange, day):
    assert phase(exchange, ist(f"{day} 11:00")) == "uncertain"


def test_p7_a_time_before_the_table_does_not_use_up_the_warning_of_its_end(caplog):
    _exchanges.set_overlays(_exchanges._read)  # as in a process that has warned of nothing yet
    caplog.set_level(logging.WARNING, logger="redis_memo.market")
    for at in (
        "2019-07-10 12:00",
        "2019-08-10 12:00",
        "2027-07-14 12:00",
        "2027-08-14 12:00",
    ):  # a backtest, then New Year
        phase("NSE", ist(at))
    assert [("Is the clock right" in message, "calendar import" in message) for message in caplog.messages] == [
        (True, False), (False, True)
    ]  # fmt: skip


def test_a_process_that_lives_over_new_year_reads_a_yearly_calendar_again(caplog: pytest.LogCaptureFixture) -> None:
    """Of exchanges that only pandas_market_calendars has, sessions are believed to the end of the year of reading."""
    from redis_memo import testing

    december, january = (datetime(*day, 17, tzinfo=UTC) for day in ((2026, 12, 30), (2027, 1, 13)))
    with testing.at(december):
        assert market.phase("CME_Equity", january) == "open"  # a weekday that nobody knows about may be
        assert market.known_until("CME_Equity") == date(2026, 12, 31)
    caplog.clear()
    with testing.at(january):
        assert market.known_until("CME_Equity") == date(2027, 12, 31)
        assert market.phase("CME_Equity", datetime(2027, 1, 16, 17, tzinfo=UTC)) == "closed"
    assert caplog.text == ""
