"""The user's own calendar and ``redis-memo calendar``. P7: what the user says counts, and nothing is skipped in silence."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redis_memo import _cli, _market_aware, configure, connect, market, testing
from redis_memo._calendar_file import _ics, _toml, read_circular, read_file
from redis_memo._user_calendar import use_calendar
from redis_memo.errors import ConfigurationError
from redis_memo.market import known_until, next_open, phase, sessions
from redis_memo.ttl import Call, market_aware, resolve

IST = ZoneInfo("Asia/Kolkata")


def ist(text):
    return datetime.fromisoformat(text).replace(tzinfo=IST)


def life(exchange, at):
    return resolve(market_aware(exchange), Call(now=ist(at).astimezone(UTC)))


@pytest.fixture(autouse=True)
def _nobody_elses_calendar():
    yield
    use_calendar(None)


TOML = """
exchanges = ["NSE", "BSE"]
source = "NSE/CMTR/99999"
covers = [2027-01-01, 2027-12-31]

[[closed]]
date = 2027-01-26
name = "Republic Day"

[[session]]
date = 2027-10-29
name = "Muhurat"
windows = [["18:00", "18:15", "19:15"]]

[[uncertain]]
date = 2027-02-28
name = "Sunday, budget perhaps"
may_open = ["09:00", "17:00"]

[[closed]]
date = 2026-07-10
exchanges = ["NSE"]
name = "a closure at short notice"
"""


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    return path


def test_p7_a_file_comes_before_the_table_and_goes_beyond_it(toml, caplog):
    caplog.set_level(logging.WARNING, logger="redis_memo.market")
    configure("redis://127.0.0.1:1", calendar=toml)
    assert phase("NSE", ist("2026-07-10 12:00")) == "closed"
    assert phase("BSE", ist("2026-07-10 12:00")) == "open", "the entry was about NSE"
    assert phase("NFO", ist("2026-07-10 12:00")) == "closed", "derivatives follow their exchange"
    assert next_open("NSE", ist("2026-07-09 17:00")) == ist("2026-07-13 09:15")
    # 2027 is known now: a holiday is one, the Saturday is one, Diwali's evening is open and its morning is not.
    assert known_until("NSE") == date(2027, 12, 31)
    assert next_open("NSE", ist("2027-01-25 17:00")) == ist("2027-01-27 09:15")
    assert life("NSE", "2027-01-22 17:00") > 2 * 86400
    assert phase("NSE", ist("2027-10-29 12:00")) == "closed"
    assert phase("NSE", ist("2027-10-29 18:30")) == "open"
    assert phase("NSE", ist("2027-02-28 12:00")) == "uncertain"
    assert phase("NSE", ist("2027-03-01 17:30")) == "closed", "no evening session is feared any more"
    assert not caplog.records
    life("NSE", "2028-03-01 12:00")
    assert "calendar import" in caplog.text


def test_p7_configure_without_a_calendar_goes_back_to_what_is_known(toml):
    configure("redis://127.0.0.1:1", calendar=toml)
    assert phase("NSE", ist("2026-07-10 12:00")) == "closed"
    configure("redis://127.0.0.1:1")
    assert phase("NSE", ist("2026-07-10 12:00")) == "open"
    assert known_until("NSE") < date(2027, 12, 31) or known_until("NSE").year > 2027


def test_a_policy_made_before_follows(toml):
    policy = market_aware("NSE")
    given = Call(now=ist("2026-07-10 12:00").astimezone(UTC))
    assert resolve(policy, given) == 60
    use_calendar(toml)
    assert resolve(policy, given) > 86400
    use_calendar(None)
    assert resolve(policy, given) == 60


def test_the_calendar_is_the_processs_and_not_one_caches(toml):
    with pytest.raises(ConfigurationError, match="configure"):
        connect("redis://127.0.0.1:1", calendar=toml)


def test_the_environment_names_one_or_several(toml, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("date,exchange,open,close,name\n2026-07-11,NSE,09:15,12:30,a test\n")
    code = """
from datetime import datetime, timezone
from redis_memo import market
print(market.phase("NSE", datetime(2026, 7, 10, 6, tzinfo=timezone.utc)), market.phase("NSE", datetime(2026, 7, 11, 6, tzinfo=timezone.utc)))
"""
    environ = {"REDIS_MEMO_CALENDAR": f"{toml}:{other}"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["closed", "open"]
    wrong = subprocess.run(
        [sys.executable, "-c", code], env={"REDIS_MEMO_CALENDAR": "/nowhere.toml"}, capture_output=True, text=True
    )
    assert "REDIS_MEMO_CALENDAR: the calendar nowhere.toml cannot be read" in wrong.stderr
    fine = subprocess.run(
        [sys.executable, "-c", "import redis_memo"], env={"REDIS_MEMO_CALENDAR": "/nowhere.toml"}, capture_output=True
    )
    assert fine.returncode == 0, "who asks no exchange is not bothered"


def test_a_wrong_file_of_the_environment_is_named_where_it_costs_the_caching(valkey_server, namespace):
    code = f"""
from redis_memo import market_aware, redis_cached
f = redis_cached(namespace={namespace!r}, ttl=market_aware())(lambda: 5)
print(f(), f.cache_info().refused)
"""
    environ = {"REDIS_MEMO_CALENDAR": "/nowhere.toml", "REDIS_MEMO_URL": valkey_server.url}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["5", "1"]
    assert "failed (REDIS_MEMO_CALENDAR: the calendar nowhere.toml cannot be read" in done.stderr


def test_p7_code_says_it_too():
    use_calendar({
        "NSE": {
            "2026-07-10": "closed", date(2026, 7, 11): [("09:15", "12:30")], "2026-07-12": "open", "2026-07-13": "uncertain",
            "2026-07-14": "18:15-19:15", "2026-07-15": None, "covers": ("2027-01-01", "2027-03-31"),
        },
        "XNYS": lambda day: "closed" if day == date(2026, 7, 8) else None,
    })  # fmt: skip
    assert phase("NSE", ist("2026-07-10 12:00")) == "closed"
    assert phase("NSE", ist("2026-07-11 09:05")) == "pre_open"
    assert phase("NSE", ist("2026-07-11 12:29")) == "open"
    assert phase("NSE", ist("2026-07-12 12:00")) == "open"
    assert phase("NSE", ist("2026-07-13 12:00")) == "uncertain"
    assert phase("NSE", ist("2026-07-14 12:00")) == "closed"
    assert phase("NSE", ist("2026-07-14 18:30")) == "open"
    assert phase("NSE", ist("2026-07-15 12:00")) == "open"
    assert known_until("NSE") >= date(2027, 3, 31)
    new_york = ZoneInfo("America/New_York")
    assert phase("XNYS", datetime(2026, 7, 8, 12, tzinfo=new_york)) == "closed"
    assert phase("XNYS", datetime(2026, 7, 9, 12, tzinfo=new_york)) == "open"


def test_p5_a_function_that_fails_makes_the_day_uncertain_and_breaks_no_call(caplog):
    def calendar(exchange, day):
        if day == date(2026, 7, 10):
            raise RuntimeError("the database is down")
        return "open at noon" if day == date(2026, 7, 13) else None

    use_calendar(calendar)
    for day in ("2026-07-10", "2026-07-13"):
        assert phase("NSE", ist(f"{day} 12:00")) == "uncertain"
        assert life("NSE", f"{day} 12:00") == 60
    assert phase("MCX", ist("2026-07-10 20:00")) == "uncertain"
    assert phase("NSE", ist("2026-07-14 12:00")) == "open"
    assert "the calendar function failed" in caplog.text


def test_later_sources_come_before_earlier_ones(toml):
    use_calendar([toml, {"NSE": {"2026-07-10": "open"}}])
    assert phase("NSE", ist("2026-07-10 12:00")) == "open"
    use_calendar([{"NSE": {"2026-07-10": "open"}}, str(toml)])
    assert phase("NSE", ist("2026-07-10 12:00")) == "closed"


def test_what_is_said_of_one_exchange_and_of_all_is_put_together(toml):
    use_calendar([
        {"NSE": {"2026-07-13": "closed"}, "NFO": {"2026-07-13": "open", "2026-07-15": "closed"}},
        lambda exchange, day: "closed" if day == date(2026, 7, 14) else None,
    ])  # fmt: skip
    closed = {
        name: [day for day in (13, 14, 15) if phase(name, ist(f"2026-07-{day} 12:00")) == "closed"]
        for name in ("NSE", "NFO", "BSE")
    }
    assert closed == {"NSE": [13, 14], "NFO": [14, 15], "BSE": [14]}


@pytest.mark.parametrize(
    "wrong",
    [5, b"x.toml", {"NSEE": {}}, {"NSE": 5}, {"NSE": {"tomorrow": "closed"}}, {"NSE": {"2026-07-10": "shut"}}, {"NSE": {5: "closed"}},
     {"NSE": {"2026-07-10": [("15:30", "09:15")]}}, {"NSE": {"2026-07-10": [("09:15",)]}}, {"NSE": {"2026-07-10": []}}, {"NSE": {"covers": 5}},
     {"NSE": {"covers": ["2027-01-01"]}}, {"NSE": {"covers": ("2027-12-31", "2027-01-01")}}, {"NSE": {"2026-07-10": "clsoed"}}, {"NSE": {"2026-07-10": [("9.15", "10:00")]}}, "/nowhere/at/all.toml"],
    ids=str,
)  # fmt: skip
def test_a_wrong_calendar_is_said_at_configure(wrong):
    with pytest.raises(ConfigurationError):
        configure("redis://127.0.0.1:1", calendar=wrong)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[closed]]\nname = 'x'", "date"), ("[[closd]]\ndate = 2027-01-01", "did you mean 'closed'"), ("[[session]]\ndate = 2027-01-01", "windows"),
        ("[[session]]\ndate = 2027-01-01\nwindows = [['19:15', '18:15']]", "follow each other"), ("[[closed]]\ndate = 2027-01-01\nnmae = 'x'", "did you mean 'name'"),
        ("covers = [2027-12-31, 2027-01-01]", "covers"), ("exchanges = [5]", "named by strings"), ("closed = 5", "table"), ("nonsense", "not TOML"),
        ("exchanges = ['NSEE']\n[[closed]]\ndate = 2027-01-01", "unknown exchange"), ("[[session]]\ndate = 2027-01-01\nwindows = [['18:15', '99:15']]", "not a time"),
    ],
)  # fmt: skip
def test_a_wrong_file_names_the_file_and_the_entry(tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        use_calendar(path)
    assert "mine.toml" in str(caught.value)


def test_p7_what_one_file_says_twice_of_a_day_is_put_together_or_refused(tmp_path):
    day, path = date(2027, 1, 30), tmp_path / "mine.toml"  # a Saturday
    closed = "[[closed]]\ndate = 2027-01-30\n{}\n"
    session = '[[session]]\ndate = 2027-01-30\nwindows = [["09:15", "{}"]]\n'

    def read(*parts):
        path.write_text("".join(parts))
        use_calendar(path)
        return [(f"{opens:%H:%M}", f"{closes:%H:%M}") for s in sessions("NSE", day, day) for opens, closes in s.windows]

    for parts in ((closed.format(""), session.format("15:30")), (session.format("15:30"), closed.format(""))):
        assert read(*parts) == [("09:15", "15:30")], "the longer one: a holiday may have its hour of Muhurat"
    later = session.format("12:30").replace("09:15", "11:30")
    assert read(later, session.format("10:00")) == [("09:15", "10:00"), ("11:30", "12:30")]
    assert read(session.format("10:00"), closed.format('exchanges = ["NSE"]')) == [], "what names the exchange counts"
    with pytest.raises(ConfigurationError, match=r"mine\.toml, NSE 2027-01-30"):
        read(session.format("15:30"), session.format("12:30"))


def test_p7_a_list_of_the_year_takes_back_a_holiday_that_was_moved(tmp_path):
    path = tmp_path / "2026.toml"
    path.write_text("covers = [2026-01-01, 2026-12-31]\n[[closed]]\ndate = 2026-05-27\n")
    use_calendar(path)
    assert phase("NSE", ist("2026-05-27 11:00")) == "closed"
    assert phase("NSE", ist("2026-05-28 11:00")) == "open", "closed by the table, and not in the newer list"
    assert phase("NSE", ist("2026-11-08 18:30")) == "open", "of sessions on weekends such lists say nothing"


def test_p7_an_alarm_in_an_event_does_not_speak_for_it():
    alarm = "BEGIN:VALARM\nTRIGGER:-PT15M\nSUMMARY:Reminder\nEND:VALARM\n"
    read = _ics(f"BEGIN:VEVENT\nDTSTART:20271029\nSUMMARY:Muhurat\n{alarm}END:VEVENT\n", "x", IST)
    assert [(entry.fact.kind, entry.fact.name) for entry in read.entries] == [("uncertain", "Muhurat")]


def test_p7_an_icalendar_file_that_was_cut_is_refused(tmp_path):
    path = tmp_path / "mine.ics"
    whole = "BEGIN:VEVENT\nDTSTART:20270126\nSUMMARY:x\nEND:VEVENT\n"
    path.write_text(whole + "BEGIN:VEVENT\nDTSTART:20270130T091500\nDTEND:20270130T153000\n")
    with pytest.raises(ConfigurationError, match=r"mine\.ics has an event that does not end"):
        use_calendar(path)
    path.write_text(whole.replace(":2027", ";TZID=India Standard Time:2027").replace("0126", "0126T091500"))
    with pytest.raises(ConfigurationError, match=r"mine\.ics, event 'x'.*India Standard Time"):
        use_calendar(path)


# --- circulars


CIRCULAR_CSV = """Sr. No.,Date,Day,Description
1,"January 26, 2027",Tuesday,Republic Day
2,"March 26, 2027",Friday,Good Friday
3,"October 29, 2027",Friday,Diwali Laxmi Pujan*
4,"December 25, 2027",Saturday,Christmas
"""
CIRCULAR_TORN = CIRCULAR_CSV.replace('"', "")
CIRCULAR_TEXT = """National Stock Exchange of India Limited
Trading holidays for the calendar year 2027
Sr. No. Date Day Description
1 January 26,2027 Tuesday Republic Day
2 March 26,2027 Friday Good Friday
3 October 29,2027 Friday Diwali - Laxmi Pujan*
The holidays falling on Saturday / Sunday are as follows:
4 December 25,2027 Saturday Christmas
*Muhurat Trading will be conducted on Friday, October 29, 2027. Timings shall be notified subsequently.
"""
CIRCULAR_HTML = """<table><tr><th>Sr. No.</th><th>Date</th><th>Day</th><th>Description</th></tr>
<tr><td>1</td><td>26-Jan-2027</td><td>Tuesday</td><td>Republic&nbsp;Day</td></tr>
<tr><td>2</td><td><b>26-Mar-2027</b></td><td>Friday</td><td>Good Friday</td></tr>
<tr><td>3</td><td>29-Oct-2027</td><td>Friday</td><td>Diwali Laxmi Pujan*</td></tr>
<tr><td>4</td><td>25-Dec-2027</td><td>Saturday</td><td>Christmas</td></tr></table>"""
CIRCULAR_BARS = """| Sr. No. | Date | Day | Holiday |
|---|---|---|---|
| 1 | 26/01/2027 | Tuesday | Republic Day |
| 2 | 26/03/2027 | Friday | Good Friday |
| 3 | 29/10/2027 | Friday | Diwali Laxmi Pujan* |
| 4 | 25/12/2027 | Saturday | Christmas |
"""


@pytest.mark.parametrize(
    "text",
    [
        CIRCULAR_CSV,
        CIRCULAR_TORN,
        CIRCULAR_TEXT,
        CIRCULAR_HTML,
        CIRCULAR_BARS,
        CIRCULAR_CSV.replace(",", "\t")
        .replace('"January 26\t 2027"', "2027-01-26")
        .replace('"March 26\t 2027"', "2027-03-26")
        .replace('"October 29\t 2027"', "29th October 2027")
        .replace('"December 25\t 2027"', "25 Dec 2027"),
    ],
)
def test_p7_a_circular_is_read_in_every_form_in_which_exchanges_publish_it(text):
    read = read_circular(text, "holidays")
    assert [(entry.day, entry.fact.kind) for entry in read.entries] == [
        (date(2027, 1, 26), "closed"), (date(2027, 3, 26), "closed"), (date(2027, 10, 29), "uncertain"), (date(2027, 12, 25), "closed"),
    ]  # fmt: skip
    assert read.entries[0].fact.name.split() == ["Republic", "Day"]
    assert "*" not in read.entries[2].fact.name


def test_p7_half_holidays_of_mcx_are_read():
    text = """Sr. No.,Holiday,Date,Day,Morning Session (9:00 AM to 5:00 PM),Evening Session (5:00 PM to 11:30/11:55 PM)
1,New Year Day,01-Jan-2027,Friday,Open,Closed
2,Republic Day,26-Jan-2027,Tuesday,Closed,Closed
3,Holi,22-Mar-2027,Monday,Closed,Open
4,Diwali Laxmi Pujan,29-Oct-2027,Friday,-,-
"""
    read = read_circular(text, "mcx")
    use = {entry.day: entry.fact for entry in read.entries}
    assert [fact.kind for fact in use.values()] == ["session", "closed", "session", "uncertain"]
    assert use[date(2027, 3, 22)].day.windows == ((16 * 60 + 45, 17 * 60, 23 * 60 + 55),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CIRCULAR_CSV.replace("Tuesday", "Monday"), "2027-01-26 is a Tuesday"), (CIRCULAR_TEXT.replace("Tuesday", "Monday"), "line 4"),
        ("nothing here", "no line with a date"), ("", "no line"), ("Date,Description\n", "no line"), ("date,kind\n2027-01-26,half\n", "line 2"),
        (CIRCULAR_HTML.replace("26-Jan-2027", "26-Jam-2027"), "cannot be read"), (CIRCULAR_BARS.replace("26/01/2027", "26/13/2027"), "line 3: '26/13/2027' is not a date"), (CIRCULAR_BARS.replace("26/01/2027", "Jan 26"), "'Jan 26' is not a date"),
        ("date,open,close\n2027-01-26,,\n2027/01/30,09:15,15:30\n", "line 3: '2027/01/30' is not a date"), ("date,open,close\n2027-01-30,09:15,\n", "line 2.* lacks one"),
        ("date,day,open,close,name\n2027-01-26,Tuesday,,,x\n2027-13-30,Saturday,09:15,15:30,y\n", "line 3: '2027-13-30' is not a date"),
        ("date,open,close\n2027-01-30,9.15,15:30\n", "holidays, line 2: '9.15' is not a time"), (CIRCULAR_TEXT.replace("January", "Xanuary"), "is not a date"),
    ],
)  # fmt: skip
def test_p7_what_cannot_be_told_is_an_error_and_not_skipped(text, said):
    with pytest.raises(ConfigurationError, match=said):
        read_circular(text, "holidays")


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_p6_any_text_is_read_or_refused_never_anything_else(text):
    try:
        read_circular(text, "x")
    except ConfigurationError:
        pass


@given(
    st.lists(st.sampled_from([
        "BEGIN:VEVENT", "END:VEVENT", "DTSTART:20260713", "DTSTART;VALUE=DATE:00010101", "DTEND:99991231", "DTSTART:99991231", "DTSTART:20260713T091500Z",
        "DTEND:20260713T123000Z", "DTSTART;TZID=Nowhere/At/All:20260713T091500", "DTEND:20260714", "SUMMARY:x", "SUMMARY", "RRULE:x", " folded", "DTSTART:",
    ])),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_p6_any_icalendar_is_read_or_refused_never_anything_else(lines):
    try:
        assert len(_ics("\n".join(lines), "x.ics", IST).entries) < 5000
    except ConfigurationError:
        pass


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.dates(),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    ),
    st.sampled_from(["exchanges", "covers", "source", "closed", "date", "windows", "may_open", "name"]),
)
@settings(max_examples=300, deadline=None)
def test_p6_any_toml_is_read_or_refused_never_anything_else(value, key):
    def written(value):
        if isinstance(value, list):
            return f"[{', '.join(map(written, value))}]"
        return str(value) if isinstance(value, date) else json.dumps(value) if value is not None else '"none"'

    inside = key in ("date", "windows", "may_open", "name")
    text = f"{'[[session]]' if inside else ''}\n{key} = {written(value)}\n"
    if inside and key != "date":
        text += "date = 2027-01-01\n"
    if inside and key != "windows":
        text += 'windows = [["18:15", "19:15"]]\n'
    try:
        _toml(text, "x.toml")
    except ConfigurationError:
        pass


def test_p7_icalendar_is_read_with_its_zones_and_folds(tmp_path):
    path = tmp_path / "nse.ics"
    path.write_text(
        "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20260713\r\nDTEND;VALUE=DATE:20260715\r\nSUMMARY:Two days\\, cl\r\n osed\r\nEND:VEVENT\r\n"
        "BEGIN:VEVENT\r\nDTSTART:20260711T034500Z\r\nDTEND:20260711T070000Z\r\nSUMMARY:Saturday test\r\nEND:VEVENT\r\n"
        "BEGIN:VEVENT\r\nDTSTART;TZID=Asia/Kolkata:20260716T181500\r\nDTEND;TZID=Asia/Kolkata:20260716T191500\r\nSUMMARY:Evening\r\nEND:VEVENT\r\n"
        "BEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20260717\r\nSUMMARY:Muhurat Trading\r\nEND:VEVENT\r\n"
        "BEGIN:VEVENT\r\nSTATUS:CANCELLED\r\nDTSTART;VALUE=DATE:20260710\r\nSUMMARY:no\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    use_calendar({"NSE": path})
    assert phase("NSE", ist("2026-07-10 12:00")) == "open"
    assert next_open("NSE", ist("2026-07-10 17:00")) == ist("2026-07-11 09:15")
    assert phase("NSE", ist("2026-07-11 12:29")) == "open"
    assert phase("NSE", ist("2026-07-13 12:00")) == phase("NSE", ist("2026-07-14 12:00")) == "closed"
    assert phase("NSE", ist("2026-07-16 12:00")) == "closed"
    assert phase("NSE", ist("2026-07-16 18:20")) == "open"
    assert phase("NSE", ist("2026-07-17 18:20")) == "uncertain"
    assert read_file(path, IST).entries[0].fact.name == "Two days, closed"
    for wrong in ("RRULE:FREQ=YEARLY", "DTSTART:soon"):
        path.write_text(
            f"BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART;VALUE=DATE:20260713\n{wrong}\nSUMMARY:Holi\nEND:VEVENT\nEND:VCALENDAR"
        )
        with pytest.raises(ConfigurationError, match="Holi"):
            use_calendar({"NSE": path})


# --- market.sessions


def test_sessions_lists_days_with_their_windows_and_where_they_are_known_from():
    found = sessions("NSE", date(2024, 2, 29), date(2024, 3, 4))
    assert [(each.date.isoformat(), len(each.windows), each.name) for each in found] == [
        ("2024-02-29", 1, ""), ("2024-03-01", 1, ""), ("2024-03-02", 2, "Disaster-recovery switch-over"), ("2024-03-04", 1, ""),
    ]  # fmt: skip
    assert [str(t) for t in found[2].windows[1]] == ["2024-03-02 11:30:00+05:30", "2024-03-02 12:30:00+05:30"]
    assert found[2].certain
    assert found[2].known == "table"
    assert "Hindustan Times" in found[2].source
    [muhurat] = sessions("NSE", ist("2026-11-07 12:00"), date(2026, 11, 8))
    assert not muhurat.certain
    beyond = sessions("NSE", date(2150, 3, 6), date(2150, 3, 9))
    assert len(beyond) == 4
    assert not any(each.certain for each in beyond)
    assert {each.known for each in beyond} == {"unknown"}
    assert {each.known for each in sessions("XNYS", date(2026, 7, 6), date(2026, 7, 7))} == {"library"}
    for wrong in (
        (date(2026, 7, 7), date(2026, 7, 6)),
        (date(1900, 1, 1), date(2026, 1, 1)),
        ("2026-07-07", date(2026, 7, 8)),
        (datetime(2026, 7, 7), date(2026, 7, 8)),
    ):
        with pytest.raises(ConfigurationError):
            sessions("NSE", *wrong)


def test_pandas_market_calendars_names_work_where_it_is_installed():
    zone = ZoneInfo("America/New_York")
    assert phase("SIFMAUS", datetime(2026, 7, 8, 12, tzinfo=zone)) == "open"
    assert phase("sifmaus", datetime(2026, 7, 11, 12, tzinfo=zone)) == "closed"
    assert sessions("SIFMAUS", date(2026, 7, 8), date(2026, 7, 8))[0].source.startswith("pandas_market_calendars")


# --- the command


def run(*arguments, capsys):
    code = _cli.main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_calendar_shows_sessions_sources_and_what_is_unknown(capsys):
    with testing.at("2026-11-06 18:00 IST"):
        code, out, _ = run("calendar", capsys=capsys)
        assert code == 0
        assert "NSE (Asia/Kolkata) is closed now; opens next Sun 2026-11-08 09:00" in out
        assert "Sun 2026-11-08  18:00-19:15; may be 09:00-20:00  Muhurat" in out
        assert "Diwali Balipratipada" in out
        assert "NSE/CMTR/71775" in out
        assert "Known until 2026-12-31" in out
        assert "calendar import" in out
        code, out, _ = run("calendar", "MCX", "--days", "3", "--from", "2027-01-01", capsys=capsys)
        assert code == 0
        assert out.count("unknown [") == 3
        assert "00:10+1d" in out
        code, out, _ = run("calendar", "show", "--json", "--days", "5", capsys=capsys)
    answer = json.loads(out)
    assert answer["phase"] == "closed"
    assert answer["known_until"] == "2026-12-31"
    assert [day["state"] for day in answer["days"]] == ["session", "closed", "uncertain", "session", "closed"]
    assert answer["days"][2]["may_open"] == [["2026-11-08T09:00:00+05:30", "2026-11-08T20:00:00+05:30"]]


def test_calendar_check_is_for_cron(capsys):
    with testing.at("2026-11-06 18:00 IST"):
        assert run("calendar", "--check", "30", capsys=capsys)[0] == 0
        assert run("calendar", "--check", "90", capsys=capsys)[0] == 1
        assert run("calendar", "XNYS", "--check", "900", capsys=capsys)[0] == 0


@pytest.mark.parametrize("day", ["9999-12-30", "0001-01-01", "1969-12-31", "2200-01-01"])
def test_a_day_that_no_calendar_reaches_is_a_wrong_command_line(capsys, day):
    with pytest.raises(SystemExit, match="2"):
        _cli.main(["calendar", "MCX", "--from", day])
    assert "1970 to 2195" in capsys.readouterr().err


def test_what_goes_wrong_is_one_line_and_an_exit_code(capsys, tmp_path):
    code, out, err = run("calendar", "NSEE", capsys=capsys)
    assert (code, out) == (3, "")
    assert err.startswith("redis-memo calendar: unknown exchange 'NSEE'")
    assert err.count("\n") == 1
    assert run("calendar", "import", str(tmp_path / "none.csv"), capsys=capsys)[0] == 3
    for wrong in (
        (),
        ("calender",),
        ("calendar", "--days", "0"),
        ("calendar", "--from", "soon"),
        ("calendar", "import"),
        ("calendar", "--nonsense"),
    ):
        with pytest.raises(SystemExit) as ended:
            _cli.main(wrong)
        assert ended.value.code == 2
        capsys.readouterr()
    for fine in (("-h",), ("calendar", "-h"), ("calendar", "show", "-h"), ("calendar", "import", "-h")):
        with pytest.raises(SystemExit) as ended:
            _cli.main(fine)
        assert ended.value.code == 0
        assert "redis-memo" in capsys.readouterr().out


def annual_list(year=2027):
    rows = ["Sr. No.,Date,Day,Description"]
    for number, (month, day) in enumerate(
        [(1, 26), (3, 22), (3, 26), (4, 14), (5, 17), (8, 16), (10, 9), (10, 29), (11, 1)], 1
    ):
        at = date(year, month, day)
        rows.append(
            f'{number},"{at:%B %d, %Y}",{at:%A},{"Diwali Laxmi Pujan*" if month == 10 and day == 29 else "A holiday"}'
        )
    return "\n".join(rows)


def test_p7_a_circular_is_imported_and_then_in_force(capsys, tmp_path):
    circular, wanted = tmp_path / "nse-2027.csv", tmp_path / "calendar.toml"
    circular.write_text(annual_list())
    code, out, err = run(
        "calendar", "import", str(circular), "-o", str(wanted), "--source", "NSE/CMTR/80000", capsys=capsys
    )
    assert (code, out) == (0, "")
    assert "read 9 days for NSE, BSE: 8 closed, 1 uncertain" in err
    assert "complete list of 2027-01-01 to 2027-12-31" in err
    configure("redis://127.0.0.1:1", calendar=str(wanted))
    assert phase("NSE", ist("2027-03-22 12:00")) == "closed"
    assert phase("NSE", ist("2027-03-23 12:00")) == "open"
    assert phase("NSE", ist("2027-10-29 12:00")) == "uncertain"
    assert phase("NSE", ist("2027-03-27 12:00")) == "closed"
    assert life("NSE", "2027-03-25 17:00") > 3 * 86400, "over Good Friday and the weekend"
    with testing.at("2027-03-19 12:00 IST"):
        _, out, _ = run("calendar", "--days", "5", capsys=capsys)
    assert "yours [" in out
    assert "NSE/CMTR/80000" in out
    assert "Known until 2027-12-31" in out
    # It is not overwritten by accident, and a list that is not complete claims nothing.
    assert run("calendar", "import", str(circular), "-o", str(wanted), capsys=capsys)[0] == 3
    code, out, err = run(
        "calendar",
        "import",
        str(circular),
        "-o",
        str(wanted),
        "--force",
        "--partial",
        "--exchange",
        "MCX",
        "--json",
        capsys=capsys,
    )
    answer = json.loads(out)
    assert code == 0
    assert answer["exchanges"] == ["MCX"]
    assert answer["covers"] is None
    assert len(answer["days"]) == 9
    assert "covers" not in wanted.read_text()


def test_what_import_writes_is_read_as_the_same(capsys, tmp_path):
    source = tmp_path / "mine.toml"
    source.write_text(TOML)
    _, out, _ = run("calendar", "import", str(source), capsys=capsys)
    written = tmp_path / "written.toml"
    written.write_text(out)
    first, second = read_file(source, IST), read_file(written, IST)
    assert {(e.day, e.fact.kind, e.fact.day, e.fact.name) for e in first.entries} == {
        (e.day, e.fact.kind, e.fact.day, e.fact.name) for e in second.entries
    }
    assert first.covers == second.covers


def test_the_console_script_is_installed_and_loads_no_library_for_nse(tmp_path):
    script = Path(sys.executable).parent / "redis-memo"
    done = subprocess.run(
        [script, "calendar", "--days", "1", "--from", "2026-07-10"], capture_output=True, text=True, check=True
    )
    assert "09:15-15:30" in done.stdout
    assert done.stderr == ""
    closed_pipe = subprocess.run(
        f"{script} calendar --days 400 | head -1", shell=True, capture_output=True, text=True, check=True
    )
    assert closed_pipe.stderr == ""


def test_every_option_of_the_command_is_documented():
    pages = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))
    text = "".join(page.read_text() for page in pages)
    import argparse

    def walk(parser):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, sub in action.choices.items():
                    assert name in text, name
                    walk(sub)
            for option in action.option_strings:
                assert option in ("-h", "--help") or option in text, option

    walk(_cli.parser())
    assert market.__all__ == sorted(market.__all__, key=lambda name: (not name[0].isupper(), name))


def test_explain_keeps_to_its_lines_whatever_a_source_holds(tmp_path):
    """Sources and names may be written over several lines, ours too."""
    assert not [
        each for each in sessions("NSE", date(2020, 1, 1), date(2026, 12, 31)) if "\n" in each.source + each.name
    ]
    written = {
        "toml": '[[closed]]\ndate = 2026-07-10\nname = """a\n  closure"""\nsource = """one\ncircular"""\n',
        "csv": 'date,exchange,name,source\n2026-07-10,NSE,"a\nclosure","one\ncircular"\n',
    }
    for ending, text in written.items():
        path = tmp_path / f"mine.{ending}"
        path.write_text(text)
        use_calendar(path)
        lines = market_aware("NSE").explain(Call(now=ist("2026-07-10 11:00").astimezone(UTC))).splitlines()
        assert "  known by: yours (a closure; one circular)" in lines
        assert all(line.startswith("  ") for line in lines[1:])


def test_an_unknown_exchange_is_logged_of_no_function_where_there_is_none(caplog):
    _market_aware._complain_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        market_aware().explain(Call(arguments={"exchange": "NOWHERE"}))
        resolve(market_aware(), Call(function="service.quotes", arguments={"exchange": "NOWHERE"}))
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("an argument that names the exchange")
    assert second.startswith("service.quotes: an argument that names the exchange")
