"""What is only called a cache: the weakest of the signs, and reported where no other was found."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from ._adopt_finding import LEFT_ALONE, Finding, Project, no_expiry, proposal
from ._adopt_judge import Risk
from ._adopt_patterns import from_outside, is_dict
from ._adopt_source import Source, dotted
from ._adopt_words import LIKE_A_CACHE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["find_named"]


def find_named(source: Source, project: Project, others: Iterable[Finding]) -> Iterator[Finding]:
    """Dicts that are called a cache, and of which no one function both asks and fills them; classes of such names.

    Args:
        source: The file.
        project: The code base.
        others: What was found in the file otherwise: its dicts are not named again.
    """
    reported = {place for each in others for place in _places(each)}
    written, _ = proposal(source, None, project.lifetime)
    for node in source.nodes:
        if not isinstance(node, ast.ClassDef):
            continue
        ordered = _in_order(node)
        named = bool(LIKE_A_CACHE.search(node.name)) and _keeps(node)
        inside = source.qualified(node)
        if named or (ordered is not None and (inside, ordered) not in reported):
            if ordered is not None:
                reported.add((inside, ordered))
            yield Finding(
                source=source,
                line=node.lineno,
                last=node.lineno,
                kind="class named a cache" if ordered is None else "OrderedDict LRU",
                name=source.qualified(node),
                holder=None if ordered is None else f"self.{ordered}",
                base="look",
                becomes=f"@redis_cached({written}) on the functions that fill it",
                risks=(Risk("body", "a cache of its own making: see what it keeps, and for how long", "look"),),
            )
    for node in source.nodes:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None or not is_dict(node.value):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            path = dotted(target)
            if path is None:
                continue
            function = source.function_of(node)
            local = function is not None and "." not in path and path not in from_outside(function)
            last = path.rpartition(".")[2]
            inside = source.owner(node) if "." in path or function is None else ""
            if local and function is not None:  # a name of that function, and of those in it
                if any(last == name for _, name in reported):
                    continue
                inside = source.qualified(function)
                local = not any(
                    isinstance(each, ast.Name) and each.id == last and source.function_of(each) is not function
                    for each in ast.walk(function)
                )
            if not LIKE_A_CACHE.search(last) or (inside, last) in reported:
                continue
            reported.add((inside, last))
            if local:
                yield _of_one_call(source, node, f"{inside}.{last}")
                continue
            risks = (
                no_expiry(project.lifetime),
                Risk("body", "its readers and its writers are different functions: see which computes", "look"),
            )
            shown = f"{inside.rpartition('.')[2]}.{last}" if inside else path
            written, _ = proposal(source, None, project.lifetime)
            yield Finding(
                source=source,
                line=node.lineno,
                last=node.end_lineno or node.lineno,
                kind="dict named a cache",
                name=shown,
                base="look",
                becomes=f"@redis_cached({written}) on the function that fills it",
                risks=risks,
            )


def _of_one_call(source: Source, node: ast.Assign | ast.AnnAssign, name: str) -> Finding:
    return Finding(
        source=source,
        line=node.lineno,
        last=node.end_lineno or node.lineno,
        kind="dict named a cache",
        name=name,
        base="alone",
        becomes=LEFT_ALONE,
        risks=(Risk("left-alone", "a dict of one call, which goes when the call ends: nothing to share", "alone"),),
    )


def _places(finding: Finding) -> Iterator[tuple[str, str]]:
    """Class and name of the dict that a finding is about, as `find_named` counts them."""
    path = (finding.holder or "").partition(" ")[0]
    head, _, last = path.rpartition(".")
    if head in ("self", "cls"):
        parts = finding.name.split(".")
        yield from ((".".join(parts[:end]), last) for end in range(1, len(parts)))
    yield head, last


def _in_order(node: ast.ClassDef) -> str | None:
    """The attribute from which a class drops its oldest entries, and which it sorts by use: that of an LRU."""
    asked: dict[str, set[str]] = {}
    for each in ast.walk(node):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute):
            path = dotted(each.func.value) or ""
            if path.startswith("self.") and path.count(".") == 1:
                asked.setdefault(path.removeprefix("self."), set()).add(each.func.attr)
    return next((name for name, methods in asked.items() if {"move_to_end", "popitem"} <= methods), None)


def _keeps(node: ast.ClassDef) -> bool:
    """Whether a class has a method that reads and one that stores."""
    names = {each.name.strip("_") for each in node.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))}
    reads = any(re.match(r"get|look_?up|fetch|read|load|retrieve|find", name) for name in names)
    return reads and any(re.match(r"set|store|put|save|add|write|update|insert", name) for name in names)
