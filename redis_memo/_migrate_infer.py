"""A proposal of a mapping: from the function's signature and source, metadata, file names and a look at the first file.

It says how sure each part is, and why. What is sure follows from equal names; what is likely from names that mean the
same; the rest is a guess, and is to be looked at before it is used.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ._migrate_csv import LEVELS, Guess, guess_frame
from ._migrate_fields import Pattern, Unfit, format_of, other_than_text
from ._migrate_frames import date_like
from ._migrate_items import stem_of
from ._migrate_sources import created_in, find

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ._migrate_calls import Target
    from ._migrate_frames import FrameRules
    from ._migrate_items import Item
    from ._migrate_rules import Rules
    from ._migrate_sources import Source

__all__ = ["Guess", "Proposal", "infer"]

_SAME: Final = (
    {"symbol", "tradingsymbol", "trading_symbol", "ticker", "instrument", "scrip", "stock", "name"},
    {"exchange", "exch", "market", "segment"},
    {"interval", "timeframe", "time_frame", "tf", "resolution", "granularity", "candle"},
    {"from_date", "start_date", "start", "from", "date_from", "begin", "from_", "since", "fromdate"},
    {"to_date", "end_date", "end", "to", "date_to", "until", "to_", "todate"},
    {"days", "period", "lookback", "lookback_days", "n_days", "duration"},
    {"date", "day", "on", "as_of", "trade_date"},
    {"instrument_token", "token", "instrument_id"},
    {"model", "model_name", "model_type", "algorithm"},
)
_INTERVAL: Final = re.compile(
    r"\d*(minute|minutes|min|hour|hours|h|m|day|d|w|week|month|mo|second|s)|daily|hourly|weekly|monthly", re.IGNORECASE
)
_EXCHANGES: Final = frozenset("NSE BSE NFO BFO MCX CDS BCD NYSE NASDAQ".split())  # noqa: SIM905 - as they are read
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d|(19|20)\d{6}")
_HASH: Final = re.compile(r"[0-9a-f]{16,64}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A mapping, and how sure it is.

    Attributes:
        rules: The mapping itself.
        text: As a TOML file.
        guesses: Its parts.
        fitting: How many items get a call by it.
        total: How many there are.
        distinct: How many different calls these are.
        obstacle: Why the first one that gets none does not.
    """

    rules: Rules
    text: str
    guesses: Sequence[Guess]
    fitting: int
    total: int
    distinct: int
    obstacle: str

    @property
    def level(self) -> str:
        """How sure the whole is: as its least sure part."""
        levels = [guess.level for guess in self.guesses]
        if self.fitting < self.total or self.distinct < self.fitting:
            levels.append("guess")
        return max(levels, key=LEVELS.index, default="unknown")


def infer(
    source: str, target: Target, rules: Rules, *, kind: str | None, trust: bool, check: int = 0
) -> tuple[Proposal, Source]:
    """Propose a mapping for what the given rules leave open.

    Args:
        source: As for `find`.
        target: The function.
        rules: What is known already.
        kind: As for `find`.
        trust: As for `find`.
        check: For so many CSV files the function is run, to see what frames they have to become.

    Returns:
        The proposal, and what the source holds by it.
    """
    found = find(source, rules, kind=kind, trust=trust, parameters=target.parameters)
    guesses: list[Guess] = []
    if rules.pattern is None and found.kind == "folder" and not any(item.fields for item in found.items):
        text = _pattern([item.name for item in found.items], target)
        if text is not None:
            rules = replace(rules, pattern=Pattern(text))
            found = find(source, rules, kind=kind, trust=trust, parameters=target.parameters)
            guesses.append(Guess("pattern", text, "likely", "made of what the files' names have in common"))
    known = Counter(name for item in found.items for name in item.fields)
    arguments = dict(rules.arguments)
    for name, parameter in target.parameters.items():
        if name in arguments or name in target.memo.ignore:
            continue
        guess = _parameter(name, known, len(found.items), required=parameter.default is parameter.empty)
        guess = _with_type(guess, found.items, target)
        guesses.append(guess)
        if guess.how.startswith("{") and guess.how != f"{{{name}}}":
            arguments[name] = guess.how
    rules = replace(rules, function=target.shown, arguments=arguments)
    if rules.created is None:
        guesses.append(_created(found.items, rules, known))
    rules, of_frames = guess_frame(found.items, target, rules, check)
    guesses += of_frames
    fitting, distinct, obstacle = _tried(found.items, target, rules)
    return Proposal(rules, _toml(rules, guesses), guesses, fitting, len(found.items), distinct, obstacle), found


def _parameter(name: str, known: Counter[str], total: int, *, required: bool) -> Guess:
    if known[name]:
        if known[name] == total:
            return Guess(name, f"{{{name}}}", "sure", "every item has a field of this name")
        return Guess(name, f"{{{name}}}", "likely", f"{known[name]} of {total} items have a field of this name")
    plain = re.sub("[^a-z]", "", name.lower())
    alike = [each for each in known if re.sub("[^a-z]", "", each.lower()) == plain]
    if not alike:
        family: Collection[str] = next((same for same in _SAME if name.lower() in same), ())
        alike = [each for each in known if each.lower() in family]
    if len(alike) == 1:
        return Guess(name, f"{{{alike[0]}}}", "likely", f"the field {alike[0]} seems to be the same")
    if alike:
        return Guess(name, f"{{{alike[0]}}}", "guess", f"one of the fields {', '.join(sorted(alike))}")
    if required:
        return Guess(name, "?", "unknown", "nothing in names and metadata tells it, and it has no default")
    return Guess(name, "its default", "likely", "no item says anything of it")


def _with_type(guess: Guess, items: Sequence[Item], target: Target) -> Guess:
    """A guess with the type that the texts look like, where the function says none."""
    parameter, field = target.parameters[guess.what], guess.how.strip("{}")
    annotation = target.annotations.get(guess.what, parameter.empty)
    texts = [item.fields[field] for item in items if item.fields.get(field)]
    others = [value for item in items for value in item.fields.values()]
    form = None if annotation is str else format_of(texts, others)
    if form is not None:
        level = "likely" if annotation is not parameter.empty else "guess"
        why = f"the texts are dates written so; {{{field}:str}} if the calls pass texts"
        return Guess(guess.what, f"{{{field}:{form}}}", level, why)
    kinds = {other_than_text(item.fields.get(field), annotation, parameter.default) for item in items} - {None}
    if not kinds:
        return guess
    kind = max(map(str, kinds), key=("int", "date", "datetime").index)
    why = f"the function says no type, and the texts look like this; {{{field}:str}} if its calls pass texts"
    return Guess(guess.what, f"{{{field}:{kind}}}", "guess", why)


def _created(items: Sequence[Item], rules: Rules, known: Counter[str]) -> Guess:
    stated = sum(created_in(item.fields, rules) is not None for item in items)
    if items and stated == len(items):
        zoned = all(_zoned(item) for item in items)
        why = "metadata states it" + ("" if zoned else "; without a zone, so this machine's is assumed (created_zone=)")
        return Guess("created", "metadata", "sure" if zoned else "likely", why)
    if known and stated:
        return Guess("created", "metadata, else the file's time", "likely", f"{stated} of {len(items)} items state it")
    return Guess(
        "created", "the file's last change", "likely", "right unless the files were copied without their times"
    )


def _zoned(item: Item) -> bool:
    texts = [
        value for value in item.fields.values() if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d[T ]\d", value)
    ]
    return all(re.search(r"(Z|[+-]\d\d:?\d\d)$", text) for text in texts)


def _tried(items: Sequence[Item], target: Target, rules: Rules) -> tuple[int, int, str]:
    fitting, keys, obstacle = 0, set(), ""
    for item in items:
        if item.of is not None and item.of != rules.where.get("function", target.name):
            continue
        try:
            call = target.invocation(item.fields, rules)
        except Unfit as error:
            obstacle = obstacle or f"{item.name}: {error}"
            continue
        if call is not None:
            fitting += 1
            keys.add(call.entry)
    return fitting, len(keys), obstacle


# -------------------------------------------------------------------------------------------------------- file names


def _class_of(token: str) -> str:
    if _DATE.fullmatch(token):
        return "date"
    if token.upper() in _EXCHANGES and token.isupper():
        return "exchange"
    if _INTERVAL.fullmatch(token) and not (token.isupper() and len(token) == 1):
        return "interval"
    return "int" if token.isdigit() else "rest"


def _pattern(names: Sequence[str], target: Target) -> str | None:
    """A pattern that all names fit, made of the parameters that their parts can be."""
    files = [name.rpartition("/")[2] for name in names]
    endings = {file[len(stem_of(file)) :] for file in files}
    stems = [stem_of(file) for file in files]
    if not stems or all(_HASH.fullmatch(stem) for stem in stems):
        return None
    rows = [stem.split("_") for stem in stems]
    shapes = Counter(tuple(map(_class_of, row)) for row in rows)
    shape = min(shapes, key=lambda each: (len(each), -shapes[each]))
    free = [name for name, each in target.parameters.items() if name not in target.memo.ignore]
    parts: list[str] = []
    for number, what in enumerate(shape):
        texts = {row[number] for row in rows if len(row) == len(shape)}
        if what == "rest" and len(texts) == 1 and len(rows) > 1:
            parts.append(next(iter(texts)))
            continue
        name = _taker(what, free, target)
        if name is None:
            return None
        free.remove(name)
        if what in ("interval", "exchange"):
            parts.append(f"{{{name}:{'|'.join(sorted(_tokens(rows, what)))}}}")
        else:
            parts.append(f"{{{name}{'' if what == 'rest' else ':' + what}}}")
    ending = next(iter(endings)) if len(endings) == 1 else f"{{ending:{'|'.join(sorted(endings))}}}"
    return "_".join(parts) + ending


def _tokens(rows: Sequence[Sequence[str]], what: str) -> set[str]:
    return {token for row in rows for token in row if _class_of(token) == what}


def _taker(what: str, free: Sequence[str], target: Target) -> str | None:
    """The first parameter that such a part of a name can be."""
    family = {"exchange": _SAME[1], "interval": _SAME[2], "int": _SAME[5]}.get(what)
    if what == "date":
        dates = [name for name in free if name.lower() in _SAME[3] | _SAME[4] | _SAME[6] or date_like(name)]
        return dates[0] if dates else None
    if family is not None:
        return next((name for name in free if name.lower() in family), None)
    meant = [name for name in free if name.lower() in _SAME[0] | _SAME[8]]
    required = [name for name in free if target.parameters[name].default is target.parameters[name].empty]
    return next(iter([*meant, *required]), None)


# --------------------------------------------------------------------------------------------------------------- TOML


def _toml(rules: Rules, guesses: Sequence[Guess]) -> str:
    """The mapping as a file; JSON's strings are TOML's as well."""
    notes = {guess.what: f"  # {guess.level}: {guess.why}" for guess in guesses}

    def line(name: str, value: object, note: str = "") -> str:
        shown = "true" if value is True else "false" if value is False else json.dumps(value, ensure_ascii=False)
        return f"{name} = {shown}{note}"

    lines = [line("function", rules.function)]
    texts = {
        "files": rules.files, "pattern": rules.pattern.text if rules.pattern else None, "metadata": rules.metadata,
        "created": rules.created, "created_zone": rules.created_zone, "value": rules.value, "table": rules.table,
        "column": rules.column,
    }  # fmt: skip
    lines += [line(name, value, notes.get(name, "")) for name, value in texts.items() if value is not None]
    if "created" in notes and rules.created is None:
        lines.append(
            f"# created is taken from: {next(g.how for g in guesses if g.what == 'created')}{notes['created']}"
        )
    lines += ["", "[arguments]"]
    for guess in guesses:
        if guess.what in ("pattern", "created") or guess.what.startswith("csv"):
            continue
        shown = rules.arguments.get(guess.what, guess.how)
        commented = "" if str(shown).startswith("{") else "# "
        lines.append(commented + line(guess.what, shown, notes[guess.what]))
    lines += [line(name, value) for name, value in rules.arguments.items() if name not in notes]
    return "\n".join([*lines, *_toml_of_frame(rules.frame, notes, line)]) + "\n"


def _toml_of_frame(frame: FrameRules, notes: Mapping[str, str], line: Callable[..., str]) -> list[str]:
    stated = (("index", frame.index), ("dates", frame.dates), ("tz", frame.tz))
    lines = [line(name, value, notes.get(f"csv.{name}", "")) for name, value in stated if value is not None]
    if frame.index is None and "csv.index" in notes:
        lines.insert(0, f"# index is found out{notes['csv.index']}")
    if frame.tz is None and "csv.tz" in notes:
        lines.append(f"# tz is as the file states it{notes['csv.tz']}")
    if frame.dtypes:
        lines.append(f"dtypes = {{ {', '.join(line(json.dumps(n), dtype) for n, dtype in frame.dtypes.items())} }}")
    if "csv" in notes:
        lines.insert(0, notes["csv"].strip())
    return ["", "[csv]", *lines] if lines else []
