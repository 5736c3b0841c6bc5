"""The mapping of a migration: how items of an old cache become calls. From a TOML file, or from options.

::

    function = "service:get_historical_data"
    files = "*.csv"                          # which of the source's items are meant
    pattern = "{symbol}_{interval}.csv"      # fields in their names
    metadata = "cache_metadata.json"         # fields beside them: hash or file name -> {symbol, exchange, ...}
    calls = "legacy:known_calls"             # or: all calls that there may be (dicts of fields) ...
    name = "legacy:cache_name"               # ... and the old cache's own function from those to an item's name
    call = "legacy:call_of"                  # or: a function from the fields to the arguments (a dict; None: leave it)
    created = "timestamp"                    # field with the moment of creation
    created_zone = "Asia/Kolkata"            # zone of moments that state none
    value = "data"                           # where in a JSON document or pickle the value stands
    reader = "legacy:load_csv"               # or: a function from the file's path (or bytes) to the value

    [where]                                  # only items whose fields say so
    type = "historical"

    [arguments]
    symbol = "{symbol}"                      # a field; "{symbol:upper}", "{exchange}:{symbol}"
    from_date = "{from_date:date}"           # of a type, where the function's annotations say none
    continuous = false                       # a constant

    [csv]
    index = "date"
    dates = ["date"]
    tz = "Asia/Kolkata"
    dtypes = { volume = "int64" }
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final

from ._migrate_fields import Pattern, checked_template, is_text_of_fields
from ._migrate_frames import FrameRules
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["Rules", "named_object", "read_rules", "with_options"]

_TEXTS: Final = ("function", "files", "metadata", "created", "created_zone", "value", "table", "column")
_FUNCTIONS: Final = ("reader", "calls", "name", "call")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """A mapping; see the module.

    Attributes:
        table: Of a SQLite file.
        column: Where in the table's rows the value stands.
        where: What fields have to be; ``function``: of which function, where the old cache knows it under another name.
    """

    function: str | None = None
    files: str | None = None
    pattern: Pattern | None = None
    metadata: str | None = None
    calls: Callable[..., Any] | None = None
    name: Callable[..., Any] | None = None
    call: Callable[..., Any] | None = None
    created: str | None = None
    created_zone: str | None = None
    value: str | None = None
    reader: Callable[..., Any] | None = None
    table: str | None = None
    column: str | None = None
    arguments: Mapping[str, object] = field(default_factory=dict)
    frame: FrameRules = field(default_factory=FrameRules)
    where: Mapping[str, object] = field(default_factory=dict)


def named_object(text: str, what: str) -> Any:
    """What ``package.module:name`` names; dots after the colon go into classes and objects.

    Modules are looked for in the working directory too, as by ``python -m``.

    Raises:
        ConfigurationError: There is none, or importing its module failed.
    """
    module_name, colon, path = text.partition(":")
    if not colon or not path or not module_name:
        raise ConfigurationError(f"{what} is named as package.module:function, not {text!r}")
    here = os.getcwd()  # noqa: PTH109 - sys.path holds strings
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        said = f"{type(error).__name__}: {error}" if isinstance(error, ImportError) else type(error).__name__
        raise ConfigurationError(f"{what} {text}: importing {module_name} failed with {said}") from error
    for step in path.split("."):
        if not hasattr(found, step):
            raise ConfigurationError(f"{what} {text}: {module_name} has no {path}")
        found = getattr(found, step)
    return found


def read_rules(path: Path) -> Rules:
    """Read a mapping file.

    Raises:
        ConfigurationError: It cannot be read, or something in it is wrong.
    """
    import tomllib  # noqa: PLC0415

    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"the mapping {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the mapping {path} is not TOML: {error}") from error
    csv = given.pop("csv", {})
    arguments, only = given.pop("arguments", {}), given.pop("where", {})
    if not all(isinstance(each, dict) for each in (csv, arguments, only)):
        raise ConfigurationError(f"the mapping {path}: [arguments], [csv] and [where] are tables")
    known = {each.name for each in fields(FrameRules)}
    wrong = [f"csv.{name}" for name in csv if name not in known]
    if wrong:
        raise ConfigurationError(f"the mapping {path}: {wrong[0]} is not known; [csv] takes {', '.join(sorted(known))}")
    rules = with_options(Rules(arguments=arguments, frame=FrameRules(**csv), where=only), given, f"the mapping {path}")
    _checked_frame(rules.frame, f"the mapping {path}")
    for name, template in arguments.items():
        if is_text_of_fields(template):
            try:
                checked_template(template)
            except ValueError as error:
                raise ConfigurationError(f"the mapping {path}: arguments.{name}: {error}") from error
    return rules


def with_options(rules: Rules, given: Mapping[str, Any], where: str) -> Rules:
    """Rules with settings put in; those that are None change nothing.

    Raises:
        ConfigurationError: A setting is unknown or wrong.
    """
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if name not in (*_TEXTS, *_FUNCTIONS, "pattern"):
            known = ", ".join(sorted((*_TEXTS, *_FUNCTIONS, "pattern", "arguments", "csv", "where")))
            raise ConfigurationError(f"{where}: {name} is not known; there are {known}")
        if value is None:
            continue
        if not isinstance(value, str):
            raise ConfigurationError(f"{where}: {name} takes a text")
        if name in _FUNCTIONS:
            changes[name] = named_object(value, f"{where}: {name}")
        elif name == "pattern":
            try:
                changes[name] = Pattern(value)
            except ValueError as error:
                raise ConfigurationError(f"{where}: pattern {value!r}: {error}") from error
        else:
            changes[name] = value
    return replace(rules, **changes)


def _checked_frame(frame: FrameRules, where: str) -> None:
    for name, template in (("dates", frame.dates), ("index", frame.index)):
        if isinstance(template, (list, tuple)) and not all(isinstance(each, (str, int)) for each in template):
            raise ConfigurationError(f"{where}: csv.{name} is a list of columns")
    if frame.index is True or isinstance(frame.dates, str) or is_text_of_fields(frame.tz):
        raise ConfigurationError(f"{where}: csv.index is a column or false, csv.dates a list of columns, csv.tz a zone")
    if not isinstance(frame.dtypes, dict):
        raise ConfigurationError(f"{where}: csv.dtypes is a table of column = type")
