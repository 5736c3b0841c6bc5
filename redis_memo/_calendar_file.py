"""A user's calendar as a file: TOML, CSV, iCalendar, or a circular as an exchange publishes it.

Every reader gives the same: entries, each one fact about one day, with the exchanges that it is about where the file
says so. What cannot be read is an error that names the file and the line or entry; nothing is skipped in silence,
because a holiday that was skipped is a day of old prices.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._clock import zone
from ._facts import CLOSED, Day, Fact, minutes, one_line, session_day
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import tzinfo

__all__ = ["Entry", "File", "read_circular", "read_file", "span_of", "windows_of"]

LARGEST = 4 * 1024 * 1024
_KINDS = ("session", "regular", CLOSED, "uncertain")
_TOP = {"exchanges", "covers", "source", "timezone", *_KINDS}
_ENTRY = {"date", "name", "source", "exchanges", "windows", "may_open"}
_LONGEST_HOLIDAY = 40
_PRE_OPEN = 15  # minutes before a window whose pre-open is not stated
_MORNING, _EVENING = ("08:45", "09:00", "17:00"), ("16:45", "17:00", "23:55")
_MONTHS = {name: n for n, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}  # noqa: SIM905
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SHORT_WEEKDAYS = {name[:3] for name in _WEEKDAYS}
_DATE = re.compile(
    r"(?P<iso>\d{4}-\d\d-\d\d)"
    r"|(?P<day>\d{1,2})(?:st|nd|rd|th)?[-/ .](?P<month>[A-Za-z]{3,9}|\d{1,2})[-/ .,]{1,2}(?P<year>\d{4})"
    r"|(?P<month2>[A-Za-z]{3,9})\.?[ -](?P<day2>\d{1,2})(?:st|nd|rd|th)?,?[ -]*(?P<year2>\d{4})",
    re.ASCII,
)
_NUMERIC = re.compile(r"\d[\d./ -]{3,12}", re.ASCII)  # meant for a date
_BESIDES = {"exchange", "open", "close", "pre", "morning", "evening", "kind"}
# What an exchange writes of a holiday on which it holds a session all the same, at an hour to be notified.
_MUHURAT = re.compile(r"\*|muh?urat|la(?:x|ksh)mi", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One fact about one day; ``exchanges`` is empty where the file does not say."""

    day: date
    fact: Fact
    exchanges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """What a file says.

    Attributes:
        entries: Its facts.
        covers: The span of which it says everything, if it claims that.
        source: Where it has it from.
        exchanges: That the whole of it is about; empty where it does not say.
    """

    entries: tuple[Entry, ...]
    covers: tuple[date, date] | None = None
    source: str = ""
    exchanges: tuple[str, ...] = ()


def read_file(path: str | Path, where: tzinfo) -> File:
    """Read a user's calendar by the end of its name: ``.toml``, ``.ics``, or any other as a table.

    Args:
        path: The file.
        where: The zone of times that state none.

    Raises:
        ConfigurationError: It cannot be read.
    """
    name = Path(path).name
    text = _text(Path(path))
    ending = Path(path).suffix.lower()
    if ending == ".toml":
        return _toml(text, name)
    if ending == ".ics" or text.lstrip().startswith("BEGIN:VCALENDAR"):
        return _ics(text, name, where)
    return read_circular(text, name)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigurationError(f"the calendar {path.name} is larger than {LARGEST >> 20} MB: it is none")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise ConfigurationError(f"the calendar {path.name} cannot be read: {why}") from error


# ------------------------------------------------------------------------------------------------------------- TOML


def _toml(text: str, name: str) -> File:
    import tomllib  # noqa: PLC0415

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"the calendar {name} is not TOML: {error}") from error
    _known(data, _TOP, name)
    source = one_line(str(data.get("source", name)))
    entries = []
    for kind in _KINDS:
        listed = data.get(kind, [])
        if not isinstance(listed, list):
            raise ConfigurationError(f"{name}: {kind} is written as a table, [[{kind}]]")
        for number, raw in enumerate(listed, 1):
            which = f"{name}, {kind} {number}"
            _known(raw, _ENTRY, which)
            entries.append(_toml_entry(raw, kind, which, source))
    covers = data.get("covers")
    exchanges = _names(data.get("exchanges", ()), name)
    return File(tuple(entries), None if covers is None else span_of(covers, name), source, exchanges)


def _toml_entry(raw: dict[str, Any], kind: str, which: str, source: str) -> Entry:
    day = _as_date(raw.get("date"))
    if day is None:
        raise ConfigurationError(f"{which}: it needs a date, as in date = 2027-10-29")
    may_open = _pair(raw["may_open"], which) if "may_open" in raw else None
    hours = None
    if kind == "session":
        if "windows" not in raw:
            raise ConfigurationError(f'{which}: a session needs its hours, as in windows = [["18:15", "19:15"]]')
        hours = session_day(windows_of(raw["windows"], which), may_open)
    elif kind == "uncertain" and may_open is not None:
        hours = Day((), 0, 0, may_open)
    fact = Fact(kind, hours, one_line(str(raw.get("name", ""))), one_line(str(raw.get("source", source))))
    return Entry(day, fact, _names(raw.get("exchanges", ()), which))


def _known(found: Any, allowed: set[str], which: str) -> None:
    if not isinstance(found, dict):
        raise ConfigurationError(f"{which}: it is written as a table, [[...]]")
    for key in found:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(allowed))}"
            raise ConfigurationError(f"{which}: {key[:40]!r} means nothing here; {hint}")


def _names(given: Any, which: str) -> tuple[str, ...]:
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, (list, tuple)) else [None]
    if not all(isinstance(name, str) and name for name in names):
        raise ConfigurationError(f'{which}: exchanges are named by strings, as in ["NSE", "BSE"]')
    return tuple(names)


def span_of(given: Any, which: str) -> tuple[date, date]:
    """The span of which a calendar says everything.

    Raises:
        ConfigurationError: It is no pair of dates in order.
    """
    days = [_as_date(each) for each in given] if isinstance(given, (list, tuple)) else []
    if len(days) != 2 or days[0] is None or days[1] is None or days[0] > days[1]:
        raise ConfigurationError(f"{which}: covers is a first and a last date, as in [2027-01-01, 2027-12-31]")
    return days[0], days[1]


def windows_of(given: Any, which: str) -> tuple[tuple[int, int, int], ...]:
    """Hours of trading: ``[("18:15", "19:15"), ...]``, each with its pre-open before it if that is known.

    Raises:
        ConfigurationError: They are none, or not in order.
    """
    found = []
    for window in given if isinstance(given, (list, tuple)) else [given]:
        times = re.split(r"\s*-\s*", window) if isinstance(window, str) else window
        if not isinstance(times, (list, tuple)) or len(times) not in (2, 3):
            raise ConfigurationError(f'{which}: a window is ("open", "close") or ("pre-open", "open", "close")')
        *pre, opens, closes = (_minutes(each, which) for each in times)
        found.append((pre[0] if pre else max(opens - _PRE_OPEN, 0), opens, closes))
    flat = [value for window in found for value in window]
    if not found or flat != sorted(flat) or any(opens == closes for _, opens, closes in found):
        raise ConfigurationError(f"{which}: windows follow each other in time: pre-open, open, close")
    return tuple(found)


def _pair(given: Any, which: str) -> tuple[int, int]:
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        raise ConfigurationError(f'{which}: may_open is a span such as ["09:00", "20:00"]')
    return _minutes(given[0], which), _minutes(given[1], which)


def _minutes(given: object, which: str) -> int:
    try:
        return minutes(given)
    except ConfigurationError as error:
        raise ConfigurationError(f"{which}: {error}") from None


def _as_date(given: object) -> date | None:
    if isinstance(given, date) and not isinstance(given, datetime):
        return given
    return _read_date(given) if isinstance(given, str) else None


# ------------------------------------------------------------------------------------- tables, and exchanges' circulars


def read_circular(text: str, name: str) -> File:
    """Read a table of days: CSV, tab-separated, HTML, with bars, or as text that was copied from a circular.

    Columns are known by their heads: a date is needed; exchange, open and close (or morning and evening session),
    description, kind and source are read where they are. A day without hours is closed; one whose description speaks
    of Muhurat (or has an asterisk, as exchanges write it) is uncertain: a session at an hour to be notified. Where
    there is a column of weekdays, it has to fit the dates.

    Raises:
        ConfigurationError: There is no date in it, or a line cannot be told.
    """
    rows = list(_rows(text))
    head = next((i for i, row in enumerate(rows) if any(_head(cell) == "date" for cell in row)), None)
    entries = _by_columns(rows, head, name) if head is not None else None
    if entries is None:
        entries = list(_by_lines(text, name))
        if "<t" in text.lower() or "|" in text:
            raise ConfigurationError(f"the calendar {name} has a row whose date cannot be read in the column of dates")
    if not entries:
        raise ConfigurationError(f"the calendar {name} has no line with a date in it")
    return File(tuple(entries), None, name)


def _rows(text: str) -> Iterator[list[str]]:
    if re.search(r"<t[dhr][\s>]", text, re.IGNORECASE):
        yield from _html_rows(text)
        return
    lines = [line for line in text.splitlines() if line.strip()]
    if sum("|" in line for line in lines) * 2 > len(lines):
        yield from ([cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines)
    else:
        delimiter = "\t" if "\t" in text else ";" if text.count(";") > text.count(",") else ","
        try:
            yield from csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        except csv.Error as error:
            raise ConfigurationError(f"the calendar is not a table: {error}") from error


def _html_rows(text: str) -> list[list[str]]:
    """The cells of all tables, row by row."""
    from html.parser import HTMLParser  # noqa: PLC0415

    rows: list[list[str]] = []
    inside = False

    class Cells(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            nonlocal inside
            del attrs
            if tag == "tr":
                rows.append([])
            elif tag in ("td", "th") and rows:
                rows[-1].append("")
                inside = True

        def handle_endtag(self, tag: str) -> None:
            nonlocal inside
            if tag in ("td", "th", "tr"):
                inside = False

        def handle_data(self, data: str) -> None:
            if inside:
                rows[-1][-1] = f"{rows[-1][-1]} {data.strip()}".strip()

    Cells().feed(text)
    return rows


_HEADS = {
    "exchange": "exchange", "exchanges": "exchange", "segment": "exchange", "open": "open", "opens": "open",
    "from": "open", "starttime": "open", "close": "close", "closes": "close", "to": "close", "endtime": "close",
    "preopen": "pre",
    "morningsession": "morning", "eveningsession": "evening", "day": "weekday", "weekday": "weekday", "kind": "kind",
    "type": "kind", "status": "kind", "description": "name", "name": "name", "holiday": "name", "holidays": "name",
    "occasion": "name", "particulars": "name", "source": "source", "date": "date", "tradingdate": "date",
}  # fmt: skip


def _head(cell: str) -> str:
    return _HEADS.get(re.sub(r"[^a-z]", "", re.sub(r"\(.*?\)", "", cell.lower())), "")


def _by_columns(rows: list[list[str]], head: int, name: str) -> list[Entry] | None:
    """The entries of a table with heads; None where a row's date is not in its column."""
    heads = [_head(cell) for cell in rows[head]]
    at = heads.index("date")
    entries = []
    for number, row in enumerate(rows[head + 1 :], head + 2):
        if len(row) > at + 1 and _read_date(f"{row[at].strip()}, {row[at + 1].strip()}") is not None:
            row[at : at + 2] = [f"{row[at].strip()}, {row[at + 1].strip()}"]  # "January 26, 2027" without quotes
        cells = {what: cell.strip() for what, cell in zip(heads, row, strict=False) if what}
        day = _read_date(cells.get("date", ""))
        if day is None:
            given = cells.get("date", "")
            dated = _has_date(row)
            # Read as lines, what such a table says beside the date would be lost.
            if _NUMERIC.fullmatch(given) or (dated and _BESIDES.intersection(heads)) or (
                not dated and cells.get("weekday", "").lower()[:3] in _SHORT_WEEKDAYS
            ):  # fmt: skip
                raise ConfigurationError(f"{name}, line {number}: {given[:30]!r} is not a date; write 2027-01-26")
            if any(_head(cell) == "date" for cell in row) or not dated:
                continue  # the heads of a second table, or a note
            return None
        entries.append(_row(day, cells, f"{name}, line {number}", name))
    return entries


def _has_date(row: Iterable[str]) -> bool:
    return _DATE.search(",".join(row)) is not None


def _row(day: date, cells: Mapping[str, str], which: str, source: str) -> Entry:
    _check_weekday(day, cells.get("weekday", ""), which)
    said, kind = cells.get("name", ""), cells.get("kind", "").lower()
    hours = None
    morning, evening = cells.get("morning", "").lower(), cells.get("evening", "").lower()
    if cells.get("open") and cells.get("close"):
        times = [cells["pre"]] if cells.get("pre") else []
        kind, hours = "session", session_day(windows_of([(*times, cells["open"], cells["close"])], which))
    elif cells.get("open") or cells.get("close"):
        raise ConfigurationError(f"{which}: a session has an open and a close, and this one lacks one of them")
    elif morning or evening:
        parts = [part for part, state in ((_MORNING, morning), (_EVENING, evening)) if state.startswith("open")]
        unclear = [state for state in (morning, evening) if not state.startswith(("open", "close"))]
        kind = "uncertain" if unclear else "session" if parts else CLOSED
        if kind == "session":
            hours = session_day(windows_of(parts, which))
    elif not kind:
        kind = "uncertain" if _MUHURAT.search(said) else CLOSED
    elif kind not in _KINDS or kind == "session":
        kind = {"holiday": CLOSED, "trading holiday": CLOSED, "open": "regular"}.get(kind, kind)
        if kind not in _KINDS or kind == "session":
            raise ConfigurationError(f"{which}: a day is closed, regular, uncertain, or has an open and a close")
    exchanges = tuple(part.strip() for part in re.split(r"[,/&+ ]+", cells.get("exchange", "")) if part.strip())
    fact = Fact(kind, hours, one_line(said.rstrip("* ")), one_line(cells.get("source") or source))
    return Entry(day, fact, exchanges)


def _by_lines(text: str, name: str) -> Iterator[Entry]:
    """Lines such as ``4 January 26, 2027 Tuesday Republic Day``."""
    for number, line in enumerate(text.splitlines(), 1):
        found = _DATE.search(line)
        day = _read_date(found[0]) if found is not None else None
        if found is None:
            continue
        after = line[found.end() :].strip(" ,|\t")
        weekday = next((each for each in _WEEKDAYS if after.lower().startswith(each)), "")
        if not weekday:
            continue  # a sentence that mentions a date
        if day is None:
            raise ConfigurationError(f"{name}, line {number}: {found[0]!r} is not a date")
        said = after[len(weekday) :].strip(" ,|\t")
        yield _row(day, {"weekday": weekday, "name": said}, f"{name}, line {number}", name)


def _check_weekday(day: date, said: str, which: str) -> None:
    named = said.strip().lower()[:3]
    if named in _SHORT_WEEKDAYS and _WEEKDAYS[day.weekday()][:3] != named:
        really = _WEEKDAYS[day.weekday()].title()
        raise ConfigurationError(f"{which}: {day} is a {really}, and the line says {said[:10]}")


def _read_date(text: str) -> date | None:
    """A date as exchanges write it; 03/02/2027 is the third of February, as in India."""
    found = _DATE.fullmatch(text.strip())
    if found is None:
        return None
    try:
        if found["iso"]:
            return date.fromisoformat(found["iso"])
        day, month = found["day"] or found["day2"], found["month"] or found["month2"]
        year = found["year"] or found["year2"]
        number = int(month) if month.isdigit() else _MONTHS[month[:3].lower()]
        return date(int(year), number, int(day))
    except (ValueError, KeyError):
        return None


# -------------------------------------------------------------------------------------------------------- iCalendar


def _ics(text: str, name: str, where: tzinfo) -> File:
    """Events of RFC 5545: one of whole days is a holiday, one with times is a session of these hours."""
    lines = re.sub(r"\r?\n[ \t]", "", text).splitlines()  # long lines are folded
    entries: list[Entry] = []
    event: dict[str, tuple[str, str]] | None = None
    inner = ""  # an alarm in an event has a summary of its own
    for line in lines:
        head, _, value = line.partition(":")
        key, _, parameters = head.partition(";")
        if line == "BEGIN:VEVENT":
            if event is not None:
                break
            event, inner = {}, ""
        elif line == "END:VEVENT" and event is not None:
            entries += _event(event, name, where)
            event = None
        elif event is not None and key in ("BEGIN", "END"):
            inner = value if key == "BEGIN" else ""
        elif event is not None and not inner:
            event[key.upper()] = (parameters, value)
    if event is not None:
        raise ConfigurationError(f"the calendar {name} has an event that does not end: a part of it is missing")
    if not entries:
        raise ConfigurationError(f"the calendar {name} has no event in it")
    return File(tuple(entries), None, name)


def _event(event: Mapping[str, tuple[str, str]], name: str, where: tzinfo) -> Iterator[Entry]:
    said = re.sub(r"\\(.)", r"\1", event.get("SUMMARY", ("", ""))[1])
    which = f"{name}, event {said[:40]!r}"
    if "RRULE" in event:
        raise ConfigurationError(f"{which}: it repeats, and holidays do not; write its dates one by one")
    if event.get("STATUS", ("", ""))[1].upper() == "CANCELLED":
        return
    begins = _ics_time(event.get("DTSTART"), which, where)
    ends = _ics_time(event.get("DTEND"), which, where) if "DTEND" in event else None
    if isinstance(begins, datetime):
        if not isinstance(ends, datetime) or not timedelta(0) < ends - begins < timedelta(days=1):
            raise ConfigurationError(f"{which}: a session needs an end, within a day of its start")
        local, until = begins.astimezone(where), ends.astimezone(where)
        opens = local.hour * 60 + local.minute
        closes = opens + round((until - local).total_seconds() / 60)
        windows = ((max(opens - _PRE_OPEN, 0), opens, closes),)
        yield Entry(local.date(), Fact("session", session_day(windows), said, name))
        return
    days = 1 if ends is None or isinstance(ends, datetime) else max((ends - begins).days, 1)
    if days > _LONGEST_HOLIDAY or begins.year > 9000:
        raise ConfigurationError(f"{which}: a holiday has at most {_LONGEST_HOLIDAY} days")
    kind = "uncertain" if _MUHURAT.search(said) else CLOSED
    for offset in range(days):
        yield Entry(begins + timedelta(days=offset), Fact(kind, None, said, name))


def _ics_time(given: tuple[str, str] | None, which: str, where: tzinfo) -> date | datetime:
    parameters, value = given or ("", "")
    try:
        if len(value) == 8:
            return datetime.strptime(value, "%Y%m%d").replace(tzinfo=UTC).date()
        at = datetime.strptime(value.rstrip("Z"), "%Y%m%dT%H%M%S")  # noqa: DTZ007 - the zone follows
    except ValueError:
        raise ConfigurationError(f"{which}: it has no start that can be read") from None
    named = re.search(r"TZID=\"?([^;\"]+)", parameters)
    if value.endswith("Z"):
        return at.replace(tzinfo=UTC)
    try:
        return at.replace(tzinfo=zone(named[1]) if named else where)
    except ConfigurationError as error:
        raise ConfigurationError(f"{which}: {error}") from None
