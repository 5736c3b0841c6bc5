"""Differences between two texts, shown without the secrets in either.

Shown too little is a nuisance, shown too much is a leak: of a ``.env`` only our own settings are shown, and elsewhere
whatever is named like a secret, stands in a URL's user part, or looks like a random token is masked.
"""

from __future__ import annotations

import ast
import difflib
import re
from typing import TYPE_CHECKING

from ._dotenv import assignments

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MASK", "difference"]

MASK = "****"
LONG = 1000  # characters of a line that nobody reads
_NAMED = re.compile(r"secret|passw|pwd|token|key|credential|auth|private|salt|cookie|signature|dsn", re.IGNORECASE)
_SHOWN = {"REDIS_MEMO_URL", "REDIS_MEMO_EMBEDDED", "REDIS_MEMO_CALENDAR"}
_ASSIGNED = re.compile(r"\ufeff?\s*(export\s+)?[A-Za-z_][\w.-]*\s*=")
_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^\s/@'\"]*@")
_QUERY = re.compile(r"(?P<name>[?&][\w-]*(?:secret|passw|token|key)[\w-]*=)[^&\s'\"]+", re.IGNORECASE)
_TOKEN = re.compile(r"(?<![\w/+.-])(?=[\w+/=-]*\d)(?=[\w+/=-]*[A-Za-z])[\w+/=-]{20,}(?![\w/+.-])")
_AFTER_NAME = re.compile(
    r"(?P<name>[\w.-]*(?:secret|passw|pwd|token|key|credential|auth|private|salt|cookie|signature|dsn)[\w.-]*['\"]?\s*"
    r"(?:\]\s*)?(?::[^=\n]*?=|[=:,])\s*)(?P<value>[^\s].*)",
    re.IGNORECASE,
)


def difference(name: str, before: str, after: str, kind: str) -> Iterator[str]:
    """The lines of a unified diff.

    Args:
        name: Of the file.
        before: Its text.
        after: Its new text.
        kind: ``"env"``, ``"python"`` or another.
    """
    old, new = _lines(before), _lines(after)
    old_shown, new_shown = _masked(before, kind), _masked(after, kind)
    yield f"--- {name}"
    yield f"+++ {name}"
    context = 0 if kind == "env" else 2
    for group in difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(context):
        first, last = group[0], group[-1]
        yield f"@@ -{first[1] + 1},{last[2] - first[1]} +{first[3] + 1},{last[4] - first[3]} @@"
        for tag, i, j, k, m in group:
            if tag == "equal":
                yield from _said(" ", old, old_shown, i, j)
            else:
                yield from _said("-", old, old_shown, i, j)
                yield from _said("+", new, new_shown, k, m)


def _said(sign: str, lines: list[str], shown: list[str], start: int, stop: int) -> Iterator[str]:
    for number in range(start, stop):
        yield sign + shown[number]
        if not lines[number].endswith("\n"):
            yield "\\ No newline at end of file"


def _lines(text: str) -> list[str]:
    lines = re.split(r"(?<=\n)", text)
    return lines if lines[-1] else lines[:-1]


def _masked(text: str, kind: str) -> list[str]:
    if kind == "env":
        text = _masked_env(text)
    elif kind == "python":
        text = _masked_python(text)
    lines = [line.rstrip("\r\n") for line in _lines(text)]
    return [_masked_line(line, named=kind != "env") if len(line) < LONG else MASK for line in lines]


def _blank(piece: str) -> str:
    """A mask that has as many lines."""
    return "\n".join(MASK + ("\r" if part.endswith("\r") else "") for part in piece.split("\n"))


def _masked_env(text: str) -> str:
    pieces, at = [], 0
    for each in assignments(text):
        end = text.find("\n", each.end)
        end = len(text) if end < 0 else end
        pieces.append(text[at : each.start])
        shown = each.name in _SHOWN
        pieces.append(
            text[each.start : end] if shown else _blank(text[each.start : end]) if each.end > each.start else ""
        )
        at = end
    # What is no assignment may be one that was commented out.
    lines = "".join((*pieces, text[at:])).split("\n")
    return "\n".join(line if _ASSIGNED.match(line) or not line.strip() else MASK for line in lines)


def _masked_python(text: str) -> str:
    """Every string that stands under a name like a secret's, wherever its parts lie."""
    try:
        tree = ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "\n".join(MASK for _ in text.split("\n"))
    hidden: set[int] = set()
    for node in ast.walk(tree):
        for name, value in _named(node):
            if _NAMED.search(name):
                strings = (
                    n for n in ast.walk(value) if isinstance(n, ast.Constant) and isinstance(n.value, (str, bytes))
                )
                for each in strings:
                    # A line of its own, or a part of a value over several lines: neither is shown.
                    if value.lineno != (value.end_lineno or 0) or each.lineno != node_line(node):
                        hidden |= {*range(each.lineno, (each.end_lineno or each.lineno) + 1)}
    lines = text.split("\n")
    return "\n".join(
        f"{line[: len(line) - len(line.lstrip())]}{MASK}" if number in hidden else line
        for number, line in enumerate(lines, 1)
    )


def node_line(node: ast.AST) -> int:
    """The line on which a node begins; 0 where it has none."""
    return int(getattr(node, "lineno", 0))


def _named(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, value
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            yield ast.unparse(target), node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield ast.unparse(node.target), node.value
    elif isinstance(node, ast.keyword) and node.arg:
        yield node.arg, node.value


def _masked_line(line: str, *, named: bool) -> str:
    line = _USER.sub(rf"\g<scheme>{MASK}@", line)
    line = _QUERY.sub(rf"\g<name>{MASK}", line)
    if named:
        line = _AFTER_NAME.sub(rf"\g<name>{MASK}", line)
    return _TOKEN.sub(MASK, line)
