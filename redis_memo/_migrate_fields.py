"""What is known of an old cache's item, and how it becomes the arguments of a call.

Names and metadata hold text and JSON; a call's key tells ``"5"`` from ``5`` and a date from a datetime. So each
argument is converted to what the function's annotation says, else to the type of its default, and what cannot be
converted is said.
"""

from __future__ import annotations

import contextlib
import enum
import inspect
import math
import re
import string
import types
import typing
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

from ._clock import zone

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = [
    "Pattern",
    "Unfit",
    "annotations_of",
    "checked_template",
    "convert",
    "filled",
    "format_of",
    "has_type",
    "is_text_of_fields",
    "moment_of",
    "other_than_text",
    "within",
]

_EMPTY: Final = inspect.Parameter.empty
_NONE_TEXTS: Final = frozenset({"", "none", "null"})
_BOOLS: Final = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
_DIGITS_ONLY: Final = re.compile(r"\d{8}", re.ASCII)
_FORMATS: Final = tuple(
    day + time
    for day in ("%d-%m-%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%b-%Y", "%d %b %Y")
    for time in ("", " %H:%M", " %H:%M:%S")
)
_MILLISECONDS: Final = 1e11  # seconds of the year 5138: a larger number counts milliseconds
_BY_NAME: Final[Mapping[str, type]] = {
    "str": str, "int": int, "float": float, "bool": bool, "date": date, "datetime": datetime,
}  # fmt: skip


class Unfit(Exception):  # noqa: N818 - a signal: it becomes a line of the report
    """An item cannot be migrated; the text says why, and goes on after the item's name."""


# ---------------------------------------------------------------------------------------------------------- patterns


class Pattern:
    """A name's pattern such as ``{symbol}_{interval}.csv``.

    ``{days:int}``, ``{from_date:date}`` and ``{interval:minute|day}`` narrow what a field can be. A name that fits in
    two ways (``BAJAJ_AUTO_day``) tells nothing, rather than perhaps the wrong call.

    Args:
        text: The pattern; with a slash in it, it is for paths within the folder, else for the file's own name.

    Raises:
        ValueError: It is no pattern.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.of_paths = "/" in text
        self.names: tuple[str, ...] = ()
        eager, lazy = self._compiled("+"), self._compiled("+?")
        self._ways = eager, lazy

    def _compiled(self, repeat: str) -> re.Pattern[str]:
        parts: list[str] = []
        names: list[str] = []
        for literal, name, spec, _ in string.Formatter().parse(self.text):
            parts.append(re.escape(literal))
            if name is None:
                continue
            if name in names:
                parts.append(f"(?P={name})")
                continue
            if not name.isidentifier():
                raise ValueError(f"{{{name}}} is not the name of a field")
            names.append(name)
            if not spec:
                form = rf"[^/]{repeat}"
            elif spec == "int":
                form = r"[+-]?\d+"
            elif spec == "date":
                form = r"\d{4}-\d\d-\d\d|\d{8}"
            else:
                form = "|".join(re.escape(way) for way in spec.split("|"))
            parts.append(f"(?P<{name}>{form})")
        self.names = tuple(names)
        return re.compile("".join(parts))

    def match(self, name: str) -> dict[str, str] | None:
        """The fields in a name, or None where it does not fit.

        Raises:
            Unfit: It fits in two ways.
        """
        text = name if self.of_paths else name.rpartition("/")[2]
        found = [way.fullmatch(text) for way in self._ways]
        if found[0] is None or found[1] is None:
            return None
        first, second = found[0].groupdict(), found[1].groupdict()
        if first != second:
            raise Unfit(
                f"its name fits {self.text} in two ways: narrow the fields, as in {{interval:minute|day}} or "
                "{days:int}"
            )
        return first


# --------------------------------------------------------------------------------------------------------- templates


def checked_template(template: str) -> None:
    """See that a template is one.

    Raises:
        ValueError: It is not, and why.
    """
    for _, name, spec, _ in string.Formatter().parse(template):
        if name is None or (name and spec and spec.startswith("%")):
            continue
        if not name or spec not in ("", "upper", "lower", "strip", *_BY_NAME):
            known = ", ".join(("upper", "lower", "strip", *_BY_NAME))
            raise ValueError(f"{{{name}:{spec}}} is unknown: there are {known}, and formats of dates such as %d-%m-%Y")


def is_text_of_fields(template: object) -> bool:
    """Whether a setting names fields, as in ``"{symbol}"``; anything else is a constant."""
    return isinstance(template, str) and "{" in template


def filled(template: str, fields: Mapping[str, object]) -> object:
    """``"{symbol}"`` is the field as it is; with more around it, text.

    ``{symbol:upper}``, ``:lower`` and ``:strip`` change a text; ``{day:date}``, ``:datetime``, ``:int``, ``:float``,
    ``:bool`` and ``:str`` say a type where the function's annotations do not. ``{day:%d-%m-%Y}`` is a date that is
    written so, as by ``strftime``; a datetime, if the format has a time of day.

    Raises:
        Unfit: A field is not known, or is no such thing.
    """
    parts: list[object] = []
    for literal, name, spec, _ in string.Formatter().parse(template):
        if literal:
            parts.append(literal)
        if name is None:
            continue
        if name not in fields:
            raise Unfit(f"nothing tells its {name!r}")
        value = fields[name]
        if spec in ("upper", "lower", "strip"):
            value = getattr(str(value), spec)()
        elif spec and spec.startswith("%"):
            value = _by_format(value, spec)
        elif spec:
            value = convert(value, _BY_NAME[spec])
        parts.append(value)
    return parts[0] if len(parts) == 1 else "".join(map(str, parts))


# -------------------------------------------------------------------------------------------------------- conversion


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The types that a function's parameters are annotated with; those that cannot be resolved are left out."""
    plain: Any = inspect.unwrap(function)
    plain = getattr(plain, "__func__", plain)
    try:
        return typing.get_type_hints(plain)
    except Exception:  # noqa: BLE001 - evaluating a user's annotations can raise anything
        return {
            name: _BY_NAME.get(given.rpartition(".")[2], Any) if isinstance(given, str) else given
            for name, given in getattr(plain, "__annotations__", {}).items()
        }


def convert(value: object, annotation: Any = _EMPTY, default: object = _EMPTY) -> object:
    """The argument that a field stands for.

    Args:
        value: From a name (text) or metadata (what JSON has).
        annotation: Of the parameter.
        default: Of the parameter: its type counts where there is no annotation.

    Raises:
        Unfit: It is no such thing.
    """
    if annotation in (_EMPTY, Any, object) or isinstance(annotation, typing.TypeVar):
        kind = type(default)
        return _to(value, kind) if isinstance(value, str) and kind in (int, float, bool, date, datetime) else value
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return convert(value, typing.get_args(annotation)[0], default)
    if origin in (typing.Union, types.UnionType):
        return _to_one_of(value, typing.get_args(annotation))
    if origin is typing.Literal:
        for choice in typing.get_args(annotation):
            if value == choice or (isinstance(value, str) and str(choice) == value):
                return choice
        raise Unfit("is none of the values that the function takes")
    if origin in (list, tuple, set, frozenset):
        return _to_collection(value, origin, typing.get_args(annotation))
    return _to(value, origin or annotation)


def other_than_text(value: object, annotation: Any, default: object) -> str | None:
    """What a text may stand for where the function does not say: ``"date"``, ``"datetime"`` or ``"int"``; else None.

    A call that passes a date finds nothing under the key of its text.
    """
    untyped = annotation in (_EMPTY, Any, object) and (default is _EMPTY or default is None)
    if not untyped or not isinstance(value, str):
        return None
    if _DIGITS_ONLY.fullmatch(value) and value[:2] in ("19", "20"):
        return "date"
    if value.lstrip("+-").isdecimal():
        return "int"
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return "datetime" if len(value) > len("2026-01-02") or found.time() != datetime.min.time() else "date"


def has_type(template: object) -> bool:
    """Whether a template says a type, as ``"{day:date}"`` and ``"{day:%d-%m-%Y}"`` do."""
    return isinstance(template, str) and re.search(rf"\{{\w+:({'|'.join(_BY_NAME)}|%.*)\}}", template) is not None


def format_of(texts: Collection[object], others: Collection[object] = ()) -> str | None:
    """The format in which all of some texts are dates, day before month, where they are not as in ISO 8601; else None.

    Americans write the month first. So such a format counts only where a day says that it is no month: in these texts,
    or in others of the same origin.
    """
    if not texts:
        return None
    for form in _FORMATS:
        days = [_day(text, form) for text in texts]
        if None in days:
            continue
        if "%m" not in form or any((_day(text, form) or 0) > 12 for text in (*texts, *others)):
            return form
    return None


def _day(text: object, form: str) -> int | None:
    try:
        return datetime.strptime(text.strip(), form).day if isinstance(text, str) else None  # noqa: DTZ007 - as naive as the text
    except ValueError:
        return None


def _by_format(value: object, form: str) -> object:
    try:
        found = datetime.strptime(str(value).strip(), form)  # noqa: DTZ007 - naive unless the format has a zone
    except ValueError as error:
        raise Unfit(f"is not a date as in {form}") from error
    return found if re.search("%[HIMSfpXcT]", form) else found.date()


def _to_one_of(value: object, choices: tuple[Any, ...]) -> object:
    kinds = [typing.get_origin(choice) or choice for choice in choices]
    if type(value) in kinds and not isinstance(value, str):
        return value
    if type(None) in kinds and (value is None or (isinstance(value, str) and value.lower() in _NONE_TEXTS)):
        return None
    if isinstance(value, str) and str in kinds:
        return value
    for choice, kind in zip(choices, kinds, strict=True):
        if kind is not type(None):
            try:
                return convert(value, choice)
            except Unfit:
                continue
    raise Unfit("is of none of the types that the function takes")


def _to_collection(value: object, kind: Any, of: tuple[Any, ...]) -> object:
    if not isinstance(value, (list, tuple)):
        raise Unfit(f"is a {type(value).__name__}, not a {kind.__name__}")
    inner = [each for each in of if each is not Ellipsis]
    if kind is tuple and Ellipsis not in of and len(inner) == len(value):
        return tuple(convert(each, annotation) for each, annotation in zip(value, inner, strict=True))
    return kind(convert(each, inner[0] if inner else _EMPTY) for each in value)


def _to(value: object, kind: Any) -> object:
    """``value`` as a ``kind``: never a guess, so ``1.5`` is no int and 09:15 no date."""
    if type(value) is kind:
        return value
    try:
        if kind is str and isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        if kind is bool and str(value).lower() in _BOOLS:
            return _BOOLS[str(value).lower()]
        if kind is int and (isinstance(value, str) or (isinstance(value, float) and value.is_integer())):
            return int(value)
        if kind is float and isinstance(value, (str, int)) and not isinstance(value, bool):
            return float(value)
        if kind in (date, datetime):
            return _to_date(value, kind)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return kind[value] if isinstance(value, str) and value in kind.__members__ else kind(value)
        if isinstance(kind, type) and isinstance(value, kind):
            return value
        if getattr(kind, "__name__", "") == "Timestamp" and isinstance(value, (str, datetime)):
            return kind(value)
    except (ValueError, TypeError, KeyError):
        pass
    raise Unfit(f"is not a valid {getattr(kind, '__name__', kind)}")


def _to_date(value: object, kind: type) -> object:
    if isinstance(value, str):
        text = value.strip()
        if _DIGITS_ONLY.fullmatch(text):
            text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
        found = datetime.fromisoformat(text)
    elif isinstance(value, datetime):
        found = value
    elif isinstance(value, date):
        found = datetime(value.year, value.month, value.day)  # noqa: DTZ001 - as naive as the date
    else:
        raise TypeError
    if kind is datetime:
        return found
    if found.time() != datetime.min.time():
        raise Unfit("is a time of day, and the function takes a date")
    return found.date()


def moment_of(value: object, where: str | None) -> float | None:
    """Seconds since 1970 of a moment in metadata: ISO 8601, seconds or milliseconds; None if it is none.

    Args:
        value: As it stands there.
        where: Zone of one without; default: this machine's.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        readings: tuple[Callable[[str], object], ...] = (datetime.fromisoformat, float)
        for reading in readings:
            with contextlib.suppress(ValueError):
                return moment_of(reading(value.strip()), where)
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None and where is not None:
            value = value.replace(tzinfo=zone(where))
        try:
            return value.timestamp()
        except (OverflowError, ValueError, OSError):  # years that this machine's zone does not know
            return None
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=zone(where) if where else UTC).timestamp()
    if isinstance(value, (int, float)) and math.isfinite(value) and value > 0:
        return value / 1000 if value > _MILLISECONDS else float(value)
    return None


# --------------------------------------------------------------------------------------------------------- documents


def within(document: Any, path: str) -> tuple[Any, dict[str, object]]:
    """What stands at a path (``"data"``, ``"0"``, ``"result.frame"``) in a document, and what stands beside it.

    Raises:
        Unfit: There is nothing of that name.
    """
    beside: dict[str, object] = {}
    found = document
    for step in path.split("."):
        if isinstance(found, dict) and step in found:
            rest: list[object] = [{name: value for name, value in found.items() if name != step}]
            found = found[step]
        elif isinstance(found, (list, tuple)) and step.isdigit() and int(step) < len(found):
            rest = [each for number, each in enumerate(found) if number != int(step)]
            found = found[int(step)]
        elif not isinstance(found, (dict, list, tuple, str, bytes)) and step.isidentifier() and hasattr(found, step):
            rest, found = [], getattr(found, step)
        else:
            raise Unfit(f"holds nothing at {path!r}")
        for each in rest:
            beside.update(_flat(each))
    return found, beside


def _flat(each: object) -> dict[str, object]:
    if not isinstance(each, dict):
        return {}
    fields: dict[str, object] = {}
    for name, value in each.items():
        if isinstance(value, dict) and name in (
            "metadata",
            "meta",
            "params",
            "parameters",
            "args",
            "kwargs",
            "request",
        ):
            fields.update(_flat(value))
        elif isinstance(name, str):
            fields[name] = value
    return fields
