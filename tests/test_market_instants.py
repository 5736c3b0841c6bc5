"""Market time against an outside table and against the libraries. P7: right, or conservatively short; never too long."""

from __future__ import annotations

import csv
import random
import warnings
from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from redis_memo._exchanges import calendar_of
from redis_memo.market import market_aware, next_open, phase
from redis_memo.ttl import Call, resolve

TABLE = Path(__file__).parent / "market" / "instants.csv"
DAY = timedelta(days=1)


def rows():
    lines = [line for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]
    return list(csv.reader(lines))


def local(exchange, text):
    return datetime.fromisoformat(text).replace(tzinfo=calendar_of(exchange).zone)


def life(exchange, at, **arguments):
    return resolve(market_aware(exchange), Call(now=at.astimezone(UTC), arguments=arguments))


def test_the_table_is_one_of_some_150_instants_from_2020_to_2027():
    table = rows()
    assert len(table) >= 150
    assert {row[1][:4] for row in table} == {str(year) for year in range(2020, 2028)}
    assert sum(row[4] == "exact" for row in table) >= 0.85 * len(table)


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}-{row[1]}")
def test_p7_an_instant_is_answered_right_or_conservatively_short(row):
    exchange, at, state, opens, sure = row[0], row[1], row[2], row[3], row[4]
    at, opens = local(exchange, at), local(exchange, opens)
    found, expires = phase(exchange, at), at + timedelta(seconds=life(exchange, at))
    assert next_open(exchange, at) <= opens
    assert expires <= opens
    if state == "open":
        assert found in ("open", "uncertain") if sure == "short" else found == "open"
        assert expires - at <= timedelta(seconds=60)
    if sure == "exact":
        assert (found == "open") == (state == "open")
        assert next_open(exchange, at) == opens
        if found == "closed":  # nor is it needlessly short: only the pre-open comes first
            assert expires >= opens - timedelta(minutes=31)


# --- every minute of forty days: what an entry may not outlive


CHOSEN = [
    ("NSE", "2020-02-01"), ("NSE", "2020-11-14"), ("NSE", "2021-02-24"), ("NSE", "2021-11-04"), ("NSE", "2022-10-24"),
    ("NSE", "2023-06-28"), ("NSE", "2023-11-11"), ("NSE", "2023-11-12"), ("NSE", "2024-01-20"), ("NSE", "2024-01-22"),
    ("NSE", "2024-03-02"), ("NSE", "2024-05-18"), ("NSE", "2024-05-20"), ("NSE", "2024-11-01"), ("NSE", "2025-02-01"),
    ("NSE", "2025-10-21"), ("NSE", "2026-01-15"), ("NSE", "2026-02-01"), ("NSE", "2026-07-10"), ("NSE", "2026-08-03"),
    ("NSE", "2026-11-08"), ("NSE", "2026-12-31"), ("NSE", "2027-01-26"), ("BSE", "2025-12-31"), ("NFO", "2026-08-04"),
    ("MCX", "2020-04-02"), ("MCX", "2021-03-11"), ("MCX", "2023-03-13"), ("MCX", "2023-11-06"), ("MCX", "2024-11-20"),
    ("MCX", "2025-01-01"), ("MCX", "2025-02-01"), ("MCX", "2026-01-15"), ("CDS", "2024-04-01"), ("CDS", "2025-09-08"),
    ("XNYS", "2025-03-09"), ("XNYS", "2025-11-28"), ("XLON", "2025-10-26"), ("XTKS", "2025-06-02"), ("CMES", "2025-06-01"),
]  # fmt: skip
# What an independent observer sees of these days: spans in which a fetch may give another answer than one a minute before,
# local time. Pre-open, trading and the making of the closing price; from the circulars.
MOVING = {
    ("NSE", "regular"): [("09:00", "16:00")],
    ("NSE", "2020-02-01"): [("09:00", "16:00")], ("NSE", "2020-11-14"): [("18:00", "19:35")],
    ("NSE", "2021-02-24"): [("09:00", "17:30")], ("NSE", "2021-11-04"): [("18:00", "19:35")],
    ("NSE", "2022-10-24"): [("18:00", "19:35")], ("NSE", "2023-11-11"): [], ("NSE", "2023-11-12"): [("18:00", "19:35")],
    ("NSE", "2024-01-22"): [], ("NSE", "2024-03-02"): [("09:00", "10:00"), ("11:15", "12:50")],
    ("NSE", "2024-05-18"): [("09:00", "10:00"), ("11:15", "12:50")], ("NSE", "2024-05-20"): [],
    ("NSE", "2024-11-01"): [("17:45", "19:20")], ("NSE", "2025-10-21"): [("13:30", "15:05")], ("NSE", "2026-01-15"): [],
    ("NSE", "2026-11-08"): [("17:45", "19:35")], ("NSE", "2027-01-26"): [],
    ("MCX", "regular"): [("09:00", "23:55")], ("MCX", "2020-04-02"): [], ("MCX", "2021-03-11"): [("17:00", "23:55")],
    ("MCX", "2023-03-13"): [("09:00", "23:30")], ("MCX", "2024-11-20"): [("17:00", "23:55")],
    ("MCX", "2025-01-01"): [("09:00", "17:00")], ("MCX", "2025-02-01"): [("09:00", "17:00")],
    ("MCX", "2026-01-15"): [("17:00", "23:55")], ("CDS", "2024-04-01"): [], ("CDS", "2025-09-08"): [],
    ("XNYS", "2025-03-09"): [], ("XNYS", "2025-11-28"): [("09:30", "13:00")], ("XLON", "2025-10-26"): [],
    ("XTKS", "2025-06-02"): [("09:00", "11:30"), ("12:30", "15:30")], ("CMES", "2025-06-01"): [("17:00", "23:59")],
}  # fmt: skip


def moving_minutes(exchange, day):
    """For each minute of a day: whether a fetch may differ from one a minute before."""
    spans = MOVING.get((exchange, day), MOVING.get(({"BSE": "NSE", "NFO": "NSE"}.get(exchange, exchange), "regular")))
    mask = np.zeros(1440, bool)
    for start, end in spans:
        low, high = ((int(text[:2]) * 60 + int(text[3:])) for text in (start, end))
        mask[low:high] = True
    return mask


@pytest.mark.parametrize(("exchange", "day"), CHOSEN, ids="-".join)
def test_p7_no_entry_of_any_minute_outlives_the_next_change_and_closed_hours_hit(exchange, day):
    zone = calendar_of(exchange).zone
    midnight = datetime.fromisoformat(day).replace(tzinfo=zone)
    moving = moving_minutes(exchange, day)
    # An entry of a closed minute may live to the next moving minute of the day, and not past it.
    following = np.where(moving, np.arange(1440), 10**6)[::-1]
    next_moving = np.minimum.accumulate(following)[::-1]
    hits = closed = 0
    expires = -1.0
    stored = -1
    for minute in range(1440):
        at = midnight.astimezone(UTC) + timedelta(minutes=minute)
        wall = at.astimezone(zone)
        slot = wall.hour * 60 + wall.minute if wall.date() == midnight.date() else 1439
        fresh = at.timestamp() < expires
        if fresh:
            assert not moving[stored:slot].any() or at.timestamp() - 60 < midnight.timestamp() + stored * 60, (
                "outlived a change"
            )
        else:
            lived = life(exchange, at)
            expires, stored = at.timestamp() + lived, slot
            if moving[slot]:
                assert lived <= 60
            elif next_moving[slot] < 1440 and wall.date() == midnight.date():
                assert lived <= (next_moving[slot] - slot) * 60 + 1e-6
        if phase(exchange, at) == "closed":
            closed += 1
            hits += fresh
    assert hits >= 0.99 * closed - 3  # each closed stretch has its first call


def test_hits_while_closed_are_over_99_percent_on_all_days_together():
    hits = closed = 0
    for exchange, day in CHOSEN:
        midnight = datetime.fromisoformat(day).replace(tzinfo=calendar_of(exchange).zone).astimezone(UTC)
        expires = -1.0
        for minute in range(1440):
            at = midnight + timedelta(minutes=minute)
            fresh = at.timestamp() < expires
            if not fresh:
                expires = at.timestamp() + life(exchange, at)
            if phase(exchange, at) == "closed":
                closed, hits = closed + 1, hits + fresh
    assert closed > 20000
    assert hits / closed > 0.99


# --- both libraries, where they agree


AGREEING = {"NSE": ("XBOM", "NSE"), "XNYS": ("XNYS", "NYSE"), "XLON": ("XLON", "LSE"), "XETR": ("XETR", "XETR"), "XTKS": ("XTKS", "JPX")}  # fmt: skip
# Of these days both libraries are wrong about NSE in the same way: weekends with a session.
BOTH_WRONG = {
    date(2020, 2, 1), date(2020, 11, 14), date(2021, 2, 24), date(2023, 11, 12), date(2024, 1, 20), date(2024, 3, 2),
    date(2024, 5, 18), date(2025, 2, 1), date(2026, 2, 1), date(2026, 11, 8),
}  # fmt: skip


@pytest.mark.parametrize("exchange", AGREEING)
def test_p7_2000_random_instants_are_answered_as_both_libraries_do_where_they_agree(exchange):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import exchange_calendars
        import pandas_market_calendars

        ours, theirs = AGREEING[exchange]
        one = exchange_calendars.get_calendar(ours, start="2020-01-01", end="2026-12-31").schedule
        two = pandas_market_calendars.get_calendar(theirs).schedule("2020-01-01", "2026-12-31")
    spans = []
    for frame, opens, closes in ((one, "open", "close"), (two, "market_open", "market_close")):
        breaks = [
            (s.timestamp(), e.timestamp())
            for s, e in zip(frame.get("break_start", []), frame.get("break_end", []), strict=True)
            if s == s
        ]
        spans.append((
            [t.timestamp() for t in frame[opens]], [t.timestamp() for t in frame[closes]], breaks,
        ))  # fmt: skip
    zone = calendar_of(exchange).zone
    low, high = datetime(2020, 1, 2, tzinfo=zone), datetime(2026, 12, 1, tzinfo=zone)
    draw = random.Random(20261125)
    compared = agreed = 0
    while compared < 2000:
        at = low + timedelta(seconds=draw.uniform(0, (high - low).total_seconds()))
        t = at.timestamp()
        answers = []
        for opens, closes, breaks in spans:
            index = bisect_right(opens, t) - 1
            inside = index >= 0 and t < closes[index] and not any(s <= t < e for s, e in breaks)
            later = [*(o for o in opens[index + 1 : index + 2]), *(e for s, e in breaks if e > t)]
            answers.append((inside, min(later)))
        compared += 1
        if answers[0] != answers[1]:
            continue
        agreed += 1
        open_, opens_next = answers[0]
        found = next_open(exchange, at)
        if exchange == "NSE" and {at.date(), found.date()} & BOTH_WRONG:
            assert found.timestamp() <= opens_next
            continue
        assert (phase(exchange, at) == "open") == open_, at
        assert found.timestamp() == opens_next, at
    assert agreed >= 1700
