"""``.env`` files: what they say, and how one value is changed while every other byte stays.

The grammar is python-dotenv's: ``export`` before a name, blanks around ``=``, single and double quotes, values over
several lines within quotes, comments behind a blank and ``#``. Of two assignments to a name the last counts.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import ConfigurationError

__all__ = ["Assignment", "assignments", "with_value"]

_LINE = re.compile(
    r"""^[^\S\r\n]*(?:export[^\S\r\n]+)?
    (?P<name>[A-Za-z_][A-Za-z0-9_.-]*)
    [^\S\r\n]*=[^\S\r\n]*
    (?P<text>'(?:\\'|[^'])*' | "(?:\\.|[^"\\])*" | [^\r\n]*)""",
    re.MULTILINE | re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "'": "'"}
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=?&~-]*")


class Assignment(NamedTuple):
    """One assignment in a file.

    Attributes:
        name: The variable.
        value: Its value.
        start: Where the value's text begins, its quotes included.
        end: Where that ends.
    """

    name: str
    value: str
    start: int
    end: int


def assignments(text: str) -> list[Assignment]:
    """All assignments of a file, in order."""
    found = []
    at = 1 if text.startswith("\ufeff") else 0
    while at < len(text):
        match = _LINE.match(text, at)
        if match is not None:
            raw, start = match["text"], match.start("text")
            if raw[:1] not in "'\"" or len(raw) < 2 or raw[-1] != raw[0]:
                raw = re.split(r"(?:^|\s+)#", raw, maxsplit=1)[0].rstrip()
            found.append(Assignment(match["name"], _value(raw), start, start + len(raw)))
            at = match.end()
        newline = text.find("\n", at)
        at = len(text) if newline < 0 else newline + 1
    return found


def _value(raw: str) -> str:
    if raw[:1] == '"' and len(raw) > 1 and raw[-1] == '"':
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), raw[1:-1], flags=re.DOTALL)
    if raw[:1] == "'" and len(raw) > 1 and raw[-1] == "'":
        return re.sub(r"\\(['\\])", r"\1", raw[1:-1])
    return raw


def with_value(text: str, name: str, value: str) -> str:
    """The file with a variable set: in its place, in the quotes that it has; or on a line of its own at the end.

    Raises:
        ConfigurationError: The value has a line break, or the file cannot be changed without changing more.
    """
    if not value.isprintable():
        raise ConfigurationError(f"the value of {name} has control characters, which not every reader of .env takes")
    before = assignments(text)
    standing = [each for each in before if each.name == name]
    if standing:
        if standing[-1].value == value:
            return text
        start, end = standing[-1].start, standing[-1].end
        changed = text[:start] + _quoted(value, text[start : start + 1]) + text[end:]
    else:
        newline = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
        ended = text.endswith("\n") or not text.removeprefix("\ufeff")
        line = f"{name}={_quoted(value, '')}"
        changed = f"{text}{line}{newline}" if ended else f"{text}{newline}{line}"
    expected = {each.name: each.value for each in before} | {name: value}
    if {each.name: each.value for each in assignments(changed)} != expected:
        raise ConfigurationError(f"{name} cannot be set without changing other values: set it by hand")
    return changed


def _quoted(value: str, style: str) -> str:
    if style == '"' or (style != "'" and not _PLAIN.fullmatch(value) and "'" in value):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if style == "'" or not _PLAIN.fullmatch(value):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return value
