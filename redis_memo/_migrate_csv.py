"""What frames the CSV files of an old cache were: by the function's source, or by what it returns.

A CSV file does not say whether ``date`` was the index, nor in which zone ``+05:30`` was. The source often does
(``set_index("date")``, ``tz_convert("Asia/Kolkata")``), and what the function returns always does.
"""

from __future__ import annotations

import csv
import inspect
import re
import sys
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from ._migrate_calls import computed
from ._migrate_fields import Unfit
from ._migrate_frames import date_like
from ._migrate_items import open_item
from ._migrate_plan import frames_differ

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._invocation import Invocation
    from ._migrate_calls import Target
    from ._migrate_frames import FrameRules
    from ._migrate_items import Item
    from ._migrate_rules import Rules

__all__ = ["LEVELS", "Guess", "guess_frame"]

LEVELS: Final = ("sure", "likely", "guess", "unknown")
_OFFSET: Final = re.compile(r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?([+-]\d\d:?\d\d)", re.ASCII)
_TO_ZONE: Final = re.compile(r"tz_(?:convert|localize)\(\s*(?:tz\s*=\s*)?([\"'])([\w/+-]+)\1")
_SOME_INDEX: Final = re.compile(r"set_index\(|index_col\b|\.index\s*=|[(,]\s*index\s*=")


@dataclass(frozen=True, slots=True)
class Guess:
    """One part of a proposal.

    Attributes:
        what: A parameter, or a setting.
        how: What it is taken from.
        level: One of `LEVELS`.
        why: In words.
    """

    what: str
    how: str
    level: str
    why: str


def guess_frame(items: Sequence[Item], target: Target, rules: Rules, check: int) -> tuple[Rules, list[Guess]]:
    """Propose how CSV files are read, as far as the rules leave it open.

    Args:
        items: Of the source.
        target: The function.
        rules: What is known already, the arguments included.
        check: For so many items the function is run, and what it returns is what the files have to become.

    Returns:
        The rules, and why they are so.
    """
    looked = ((item, _head(item)) for item in items if item.kind == "csv" and item.where is not None)
    read = [(item, *head) for item, head in looked if head is not None] if rules.reader is None else []
    if not read:
        return rules, []
    with_rows = [each for each in read if each[2]]
    _, header, row = with_rows[0] if with_rows else read[0]
    frame, guesses = _by_source(header, row, _source(target), rules.frame)
    rules = replace(rules, frame=frame)
    if check:
        return _by_result([item for item, _, _ in with_rows], target, rules, guesses, check)
    return rules, guesses


def _head(item: Item) -> tuple[list[str], list[str]] | None:
    """The first two lines of a file; None if it has none, or cannot be read."""
    assert item.where is not None
    try:
        with item.where.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            return (header, next(lines, [])) if header else None
    except (OSError, UnicodeDecodeError, csv.Error):
        return None


# ------------------------------------------------------------------------------------------------------------- source


def _source(target: Target) -> tuple[str, str]:
    """The text of the function and of its module, each empty where it is not at hand."""
    plain: Any = inspect.unwrap(target.memo.function)
    return _text(plain), _text(sys.modules.get(getattr(plain, "__module__", None) or ""))


def _text(of: Any) -> str:
    try:
        return inspect.getsource(of)
    except (OSError, TypeError):
        return ""


def _by_source(
    header: list[str], row: list[str], texts: tuple[str, str], frame: FrameRules
) -> tuple[FrameRules, list[Guess]]:
    guesses: list[Guess] = []
    if frame.index is None:
        index, guess = _index(header[0], *texts)
        frame = replace(frame, index=index)
        guesses.append(guess)
    if frame.tz is None:
        offsets = {
            found[1] for name, text in zip(header, row, strict=False)
            if date_like(name) and (found := _OFFSET.search(text)) is not None
        }  # fmt: skip
        if offsets:
            zone, guess = _zone(min(offsets), texts[1])
            frame = replace(frame, tz=zone)
            guesses.append(guess)
    return frame, guesses


def _index(first: str, own: str, module: str) -> tuple[str | bool | None, Guess]:
    what = "csv.index"
    if not first.strip():
        return None, Guess(what, "the first column", "sure", "it has no name, as to_csv writes an index")
    if not date_like(first):
        return None, Guess(what, "none", "likely", f"the first column is {first!r}")
    made = re.compile(rf"(set_index\(|index_col\s*=)\s*\[?\s*([\"']){re.escape(first)}\2")
    if made.search(own):
        return first, Guess(what, first, "likely", f"the function makes {first!r} an index")
    if made.search(module):
        return first, Guess(what, first, "guess", f"something in its module makes {first!r} an index; --check 1 tells")
    if "DataFrame" in own and not _SOME_INDEX.search(module):
        why = f"it makes a frame, and its module sets no index; if another does, index = {first!r}; --check 1 tells"
        return False, Guess(what, "none", "guess", why)
    why = f"{first!r} may have been the index, or a column (then csv.index = false); --check 1 tells"
    return first, Guess(what, first, "guess", why)


def _zone(offset: str, source: str) -> tuple[str | None, Guess]:
    named = {found[2] for found in _TO_ZONE.finditer(source)}
    if len(named) == 1:
        name = named.pop()
        return name, Guess("csv.tz", name, "likely", "the function's module converts to it; --check 1 tells")
    if offset.replace(":", "") == "+0530" and "kiteconnect" in sys.modules and not named:
        return "dateutil:+05:30", Guess("csv.tz", "dateutil:+05:30", "likely", "so kiteconnect gives its candles")
    why = f"the dates state {offset}, and the function may return them in a named zone; --check 1 tells"
    return None, Guess("csv.tz", f"the offset {offset}", "guess", why)


# ------------------------------------------------------------------------------------------------------------- result


def _by_result(
    items: Sequence[Item], target: Target, rules: Rules, guesses: list[Guess], check: int
) -> tuple[Rules, list[Guess]]:
    """The rules by which files become frames like those that the function returns."""
    done, failure = 0, ""
    for item in sorted(items, key=lambda item: (-(item.created or 0.0), item.name)):
        if done == check:
            break
        try:
            call = target.invocation(item.fields, rules)
            if call is None:
                continue
            done += 1
            result = _run(call, target)
            if not hasattr(result, "columns") or not len(result):
                failure = failure or "the function returned no frame with rows"
                continue
            found = _rules_of(result, item, rules)
            differs = frames_differ(open_item(item, found, trust=False).value, result, values=False)
        except Unfit as error:
            failure = failure or str(error)
            continue
        if differs:
            failure = failure or differs
            continue
        if failure:
            break
        rules = found
    if not done or failure:
        why = f"{failure or 'no item has a call by this mapping'}; so this is as without --check"
        return rules, [*guesses, Guess("csv", "the function's source", "guess", why)]
    why = f"as the frames that the function returned for {done} of the items"
    return rules, [Guess("csv", "what the function returns", "sure", why)]


def _run(call: Invocation, target: Target) -> Any:
    try:
        return computed(call)
    except Exception as error:
        raise Unfit(f"the function raised {type(error).__name__}{target.hint}") from error


def _rules_of(result: Any, item: Item, rules: Rules) -> Rules:
    """The rules that a frame which the function returned leads to."""
    import pandas as pd  # noqa: PLC0415

    head = _head(item)
    header = head[0] if head is not None else []
    names = [name for name in result.index.names if name is not None]
    index: Any = None if header and not header[0].strip() else False
    if names and all(name in header and name not in result.columns for name in names):
        index = names[0] if len(names) == 1 else names
    times = {str(name): column for name, column in result.items() if pd.api.types.is_datetime64_any_dtype(column)}
    zones = [getattr(result.index, "tz", None), *(column.dt.tz for column in times.values())]
    zone = next((text for text in map(_zone_text, zones) if text is not None), None)
    others = [name for name in times if not date_like(name) and name in header]
    dates = [name for name in header if name in times] if others else rules.frame.dates
    frame = replace(rules.frame, index=index, tz=zone, dates=dates)
    read = open_item(item, replace(rules, frame=frame), trust=False).value
    types = dict(rules.frame.dtypes)
    types |= {
        name: str(result[name].dtype) for name in read.columns
        if name in result.columns and read[name].dtype != result[name].dtype
        and getattr(result[name].dtype, "tz", None) is None
    }  # fmt: skip
    return replace(rules, frame=replace(frame, dtypes=types))


def _zone_text(zone: Any) -> str | None:
    """How the mapping names a zone object."""
    if zone is None:
        return None
    name = getattr(zone, "key", None)  # zoneinfo
    if name is not None:
        return str(name)
    library = type(zone).__module__.partition(".")[0]
    if library == "pytz" and getattr(zone, "zone", None):
        return f"pytz:{zone.zone}"
    if zone is timezone.utc:  # noqa: UP017 - a zone, compared with what pandas has
        return "offset:+00:00"
    if library in ("dateutil", "datetime") or type(zone) is timezone:
        seconds = int((zone.utcoffset(datetime(2026, 1, 1)) or timezone.utc.utcoffset(None)).total_seconds())  # noqa: DTZ001, UP017 - a wall time
        text = f"{'-' if seconds < 0 else '+'}{abs(seconds) // 3600:02}:{abs(seconds) // 60 % 60:02}"
        return f"{'dateutil' if library == 'dateutil' else 'offset'}:{text}"
    return None
