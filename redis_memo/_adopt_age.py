"""How old a cache written by hand lets its values become: the comparison or the sum in which the code says it."""

from __future__ import annotations

import ast
import re
from functools import lru_cache

from ._adopt_finding import Lifetime
from ._adopt_source import Function, Source, dotted, text_of

__all__ = ["enclosed", "lifetime_in"]

_CLOCK = frozenset({"time", "now", "utcnow", "monotonic", "perf_counter", "today", "time_ns"})
_MOMENT = re.compile(r"(?i)^(?:now|now_ts|current_time|ts|timestamp|current|cur_time)$")


@lru_cache(maxsize=4096)  # each search of a file asks for each of its functions
def enclosed(function: Function) -> tuple[ast.AST, ...]:
    """What stands in a function's body, functions in it left out."""
    found: list[ast.AST] = []
    waiting: list[ast.AST] = list(reversed(function.body))
    while waiting:
        node = waiting.pop()
        found.append(node)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))
    return tuple(found)


def lifetime_in(source: Source, function: Function) -> Lifetime | None:
    """The age that a function compares to, or adds to the time: ``time.time() - at < 300``."""
    for node in enclosed(function):
        if (
            isinstance(node, ast.Compare)
            and len(node.ops) == 1
            and isinstance(node.ops[0], (ast.Lt, ast.LtE, ast.Gt, ast.GtE))
        ):
            sides = [node.left, node.comparators[0]]
            for side, other in (sides, reversed(sides)):
                if _is_age(side) and (found := _seconds(source, other)):
                    return found
            for each in ast.walk(node):
                if isinstance(each, ast.BinOp) and isinstance(each.op, (ast.Sub, ast.Add)) and _is_delta(each.right):
                    return Lifetime(text_of(each.right), chosen=True)
    for node in enclosed(function):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and _tells_time(node.left):
            found = _seconds(source, node.right)
            if found:
                return found
    return None


def _tells_time(node: ast.AST) -> bool:
    for each in ast.walk(node):
        if isinstance(each, ast.Call) and (dotted(each.func) or "").rpartition(".")[2] in _CLOCK:
            return True
        if isinstance(each, ast.Name) and _MOMENT.search(each.id):
            return True
    return False


def _is_age(node: ast.expr) -> bool:
    return any(
        isinstance(each, ast.BinOp) and isinstance(each.op, ast.Sub) and _tells_time(each) for each in ast.walk(node)
    ) or bool(re.search(r"(?i)(?:^|_)(?:age|elapsed)(?:_|$)", (dotted(node) or "").rpartition(".")[2]))


def _is_delta(node: ast.expr) -> bool:
    """Whether it is a ``timedelta`` of numbers: one of names may mean nothing where the decorator stands."""
    if any(
        isinstance(each, (ast.Name, ast.Attribute)) for part in getattr(node, "keywords", []) for each in ast.walk(part)
    ):
        return False
    if any(
        isinstance(each, (ast.Name, ast.Attribute)) for part in getattr(node, "args", []) for each in ast.walk(part)
    ):
        return False
    return isinstance(node, ast.Call) and (dotted(node.func) or "").rpartition(".")[2] in ("timedelta", "Timedelta")


def _seconds(source: Source, node: ast.expr) -> Lifetime | None:
    """A duration as it can be written: a number, a ``timedelta``, a constant of the module, an attribute's value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return Lifetime(repr(node.value), chosen=True) if node.value > 0 else None
    if _is_delta(node):
        return Lifetime(text_of(node), chosen=True)
    if isinstance(node, ast.BinOp) and all(
        isinstance(n, (ast.BinOp, ast.Constant, ast.operator)) for n in ast.walk(node)
    ):
        return Lifetime(text_of(node), chosen=True)
    path = dotted(node)
    if path is None:
        return None
    head, _, rest = path.partition(".")
    if not rest and source.assigned.get(path) == 1 and path in source.bound:
        return Lifetime(path, chosen=True)
    if rest and head in ("self", "cls"):
        for each in [*source.bound.get(path, []), *source.bound.get(rest, [])]:
            if each.value is not None and not isinstance(each.value, ast.Name):
                return _seconds(source, each.value)
    return None
