"""``redis-memo calendar``: the next sessions of an exchange, how each is known, and what is not known.

``redis-memo calendar import`` turns an exchange's circular into a calendar file.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._calendar_file import Entry, File, read_file
from ._clock import now, zone
from ._console import Exit, note, save, say, say_json, table
from ._exchanges import TABLES, calendar_of, canonical
from ._facts import CLOSED, clock_time

if TYPE_CHECKING:
    from ._sessions import Agenda, Calendar

__all__ = ["NAME", "SUMMARY", "add_arguments", "run"]

NAME = "calendar"
SUMMARY = "the next sessions of an exchange, how each is known, and what is not"
_DAY = timedelta(days=1)
_LAST_YEAR = 2195  # a thousand days on are still answered
_WHOLE_YEAR = 8  # holidays from which on a list of one year is taken for a complete one

_EXAMPLES = """examples:
  redis-memo calendar                       NSE, the next two weeks
  redis-memo calendar MCX --days 30
  redis-memo calendar NSE --from 2026-11-01 --days 30 --json
  redis-memo calendar NSE --check 45        exit code 1 if the list of holidays ends within 45 days
  redis-memo calendar import holidays-2027.csv --exchange NSE --exchange BSE -o calendar.toml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what it takes: `show`, which may be left out, and `import`."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    show = actions.add_parser("show", help="show days (what is done where no action is named)", description=SUMMARY)
    show.add_argument("exchange", nargs="?", default="NSE", help="NSE, BSE, MCX, CDS, XNYS, ... (default: NSE)")
    show.add_argument("--from", dest="first", metavar="DATE", type=_date, help="first day (default: today there)")
    show.add_argument("--days", metavar="N", type=_count, default=14, help="how many days (default: 14)")
    show.add_argument(
        "--check", metavar="N", type=_count, help="exit with 1 if nothing is known of the days after the next N"
    )
    show.add_argument("--json", action="store_true", help="for machines")
    read = actions.add_parser(
        "import",
        help="turn an exchange's circular, a CSV or an ICS file into a calendar file",
        description="Reads a list of holidays as an exchange publishes it (CSV, HTML, text of a circular, ICS) and "
        "writes the TOML file that configure(calendar=...) and REDIS_MEMO_CALENDAR take.",
    )
    read.add_argument("file", metavar="FILE", help="what was fetched")
    read.add_argument(
        "--exchange", action="append", metavar="NAME", help="what it is about; may be repeated (default: NSE and BSE)"
    )
    read.add_argument("-o", "--output", metavar="FILE", help="where to write (default: to the terminal)")
    read.add_argument("--force", action="store_true", help="replace an OUTPUT that is there")
    read.add_argument("--source", metavar="TEXT", help="where it comes from, as the circular's number")
    read.add_argument(
        "--partial", action="store_true", help="the list is not complete: say nothing of the other days of its year"
    )
    read.add_argument("--json", action="store_true", help="say what was read for machines")


def run(args: argparse.Namespace) -> Exit:
    """Show days, or import a list."""
    return _import(args) if args.action == "import" else _show(args)


def _date(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date; write 2026-11-08") from None
    if not 1970 <= day.year <= _LAST_YEAR:
        raise argparse.ArgumentTypeError(f"days are shown for the years 1970 to {_LAST_YEAR}")
    return day


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError("a number of days from 1 to 1000")
    return int(text)


# ------------------------------------------------------------------------------------------------------------- show


def _show(args: argparse.Namespace) -> Exit:
    calendar = calendar_of(args.exchange)
    t = now()
    today = calendar.local_day(t)
    first = args.first or today
    days = [calendar.agenda(first + _DAY * offset) for offset in range(args.days)]
    known_until = calendar.local_day(calendar.known_until()) - _DAY
    attention = args.check is not None and known_until < today + _DAY * args.check
    if args.json:
        say_json(_as_json(calendar, t, days, known_until))
    else:
        _say_show(calendar, t, days, known_until)
    return Exit.ATTENTION if attention else Exit.OK


def _as_json(calendar: Calendar, t: float, days: list[Agenda], known_until: date) -> dict[str, Any]:
    def at(seconds: float) -> datetime:
        return datetime.fromtimestamp(seconds, calendar.zone)

    return {
        "exchange": calendar.name,
        "zone": str(calendar.zone),
        "now": at(t),
        "phase": calendar.slot(t).phase,
        "next_open": at(calendar.next_open(t)),
        "next_close": at(calendar.next_close(t)),
        "known_until": known_until,
        "days": [
            {
                "date": agenda.day,
                "state": _state(agenda),
                "windows": [[at(span.start), at(span.end)] for span in agenda.spans if span.phase == "open"],
                "may_open": [[at(s.start), at(s.end)] for s in agenda.spans if s.phase == "uncertain"],
                "name": agenda.name,
                "known": agenda.tier,
                "source": agenda.source,
            }
            for agenda in days
        ],
    }


def _state(agenda: Agenda) -> str:
    if not agenda.spans:
        return CLOSED
    certain = agenda.tier != "unknown" and all(span.phase != "uncertain" for span in agenda.spans)
    return "session" if certain else "uncertain"


def _say_show(calendar: Calendar, t: float, days: list[Agenda], known_until: date) -> None:
    slot = calendar.slot(t)
    opens = datetime.fromtimestamp(calendar.next_open(t), calendar.zone)
    left = timedelta(seconds=round(opens.timestamp() - t))
    say(f"{calendar.name} ({calendar.zone}) is {slot.phase} now; opens next {opens:%a %Y-%m-%d %H:%M}, in {left}\n")
    sources: dict[str, int] = {}
    rows = []
    for agenda in days:
        number = sources.setdefault(agenda.source, len(sources) + 1)
        rows.append((f"{agenda.day:%a %Y-%m-%d}", _hours(calendar, agenda), agenda.name, f"{agenda.tier} [{number}]"))
    table(("day", "trading", "", "known by"), rows)
    say()
    for source, number in sources.items():
        say(f"  [{number}] {' '.join(source.split())}")
    say(f"\nKnown until {known_until}. After that every weekday may be open, and what is stored lives short.")
    if known_until < calendar.local_day(t) + _DAY * 60:
        say("For the next list: upgrade redis-memo, or fetch the exchange's circular and run")
        say("  redis-memo calendar import FILE -o calendar.toml")
        say("then name the file in REDIS_MEMO_CALENDAR or configure(calendar=...).")


def _hours(calendar: Calendar, agenda: Agenda) -> str:
    def clock(t: float) -> str:
        local = datetime.fromtimestamp(t, calendar.zone)
        later = (local.date() - agenda.day).days
        return f"{local:%H:%M}" + (f"{later:+d}d" if later else "")

    hours = ", ".join(f"{clock(s.start)}-{clock(s.end)}" for s in agenda.spans if s.phase == "open")
    doubt = ", ".join(f"{clock(s.start)}-{clock(s.end)}" for s in agenda.spans if s.phase == "uncertain")
    if doubt:
        return f"{hours}; may be {doubt}" if hours else f"may be {doubt}"
    return hours or CLOSED


# ----------------------------------------------------------------------------------------------------------- import


def _import(args: argparse.Namespace) -> Exit:
    read = read_file(Path(args.file).expanduser(), zone("Asia/Kolkata"))
    named = args.exchange or read.exchanges or sorted({e for entry in read.entries for e in entry.exchanges})
    exchanges = [canonical(name) for name in named or ("NSE", "BSE")]
    years = {entry.day.year for entry in read.entries}
    covers = read.covers
    if covers is None and not args.partial and len(years) == 1 and len(read.entries) >= _WHOLE_YEAR:
        covers = date(min(years), 1, 1), date(min(years), 12, 31)
    source = args.source or f"{Path(args.file).name}, imported {datetime.fromtimestamp(now(), UTC):%Y-%m-%d}"
    text = _as_toml(read, exchanges, covers, source)
    counts = {kind: sum(entry.fact.kind == kind for entry in read.entries) for kind in (CLOSED, "session", "uncertain")}
    if args.output is not None:
        save(Path(args.output).expanduser(), text, force=args.force)
    if args.json:
        days = [_row(entry) for entry in read.entries]
        say_json({"exchanges": exchanges, "covers": covers, "output": args.output, **counts, "days": days})
    elif args.output is None:
        say(text.rstrip())
    note(f"read {len(read.entries)} days for {', '.join(exchanges)}: {_said(counts)}")
    note(
        f"taken for the complete list of {covers[0]} to {covers[1]}"
        if covers
        else "taken for single days: other days stay as they are known"
    )
    if counts["uncertain"]:
        note("uncertain days hold a session at an hour that the list does not say: edit them when it is announced")
    if args.output is not None:
        note(f"in force with REDIS_MEMO_CALENDAR={args.output} or configure(calendar={args.output!r})")
    if not any(name in TABLES for name in exchanges) and covers:
        note("of this exchange the calendar library's hours are kept, and only these days change")
    return Exit.OK


def _said(counts: dict[str, int]) -> str:
    words = {CLOSED: "closed", "session": "with hours of their own", "uncertain": "uncertain"}
    return ", ".join(f"{count} {words[kind]}" for kind, count in counts.items() if count)


def _row(entry: Entry) -> dict[str, Any]:
    return {"date": entry.day, "kind": entry.fact.kind, "name": entry.fact.name}


def _as_toml(read: File, exchanges: list[str], covers: tuple[date, date] | None, source: str) -> str:
    """The file; JSON's strings and lists of strings are TOML's as well."""
    lines = [f"exchanges = {json.dumps(exchanges)}", f"source = {json.dumps(source, ensure_ascii=False)}"]
    if covers is not None:
        lines.append(f"covers = [{covers[0]}, {covers[1]}]  # a weekday in here that is not named below is a session")
    for entry in sorted(read.entries, key=lambda each: each.day):
        fact = entry.fact
        lines += ["", f"[[{fact.kind}]]", f"date = {entry.day}  # {entry.day:%A}"]
        if fact.name:
            lines.append(f"name = {json.dumps(fact.name, ensure_ascii=False)}")
        if fact.day is not None and fact.day.windows:
            windows = [[clock_time(value) for value in window] for window in fact.day.windows]
            lines.append(f"windows = {json.dumps(windows)}  # pre-open, open, close")
        if fact.day is not None and fact.day.may_open is not None:
            lines.append(f"may_open = {json.dumps([clock_time(value) for value in fact.day.may_open])}")
    return "\n".join(lines) + "\n"
