"""How a code base uses its cached functions: the cache's own methods, and whether callers rely on sharing one object.

Functions are found by their bare names, so one use counts for every function of that name: a doubt too many, never one
too few.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from ._adopt_source import MUTATORS, Function, Source, dotted

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Uses", "uses_of"]

_COUNTS = frozenset(
    [
        "assert_called_once", "assert_called_once_with", "assert_called", "assert_called_with", "assert_any_call",
        "assert_has_calls", "assert_not_called", "call_count", "call_args", "call_args_list", "mock_calls", "called",
        "calls", "cache_info", "misses", "hits", "raises", "assertRaises", "side_effect",
    ]
)  # fmt: skip
_API = frozenset(
    {
        "cache_info",
        "cache_clear",
        "cache_parameters",
        "cache",
        "cache_key",
        "cache_lock",
        "clear",
        "call",
        "check_call_in_cache",
    }
)


@dataclass(slots=True)
class Uses:
    """How a code base uses a function, by its name alone.

    Attributes:
        api: Attributes of the cache that are used on it, with a place.
        changed: Where a caller changes what it was handed, if one does.
        compared: Where a caller asks for the very object, if one does.
        counted: Where a test counts what it makes happen, if one does and nothing in the tests empties the cache.
    """

    api: dict[str, str] = field(default_factory=dict)
    changed: str | None = None
    compared: str | None = None
    counted: str | None = None


def uses_of(sources: Iterable[Source], names: set[str]) -> dict[str, Uses]:
    """How functions of these names are used, all over a code base; a name stands for every function that has it."""
    found = {name: Uses() for name in names}
    emptied: set[str] = set()
    for source in sources:
        if _is_test(source):
            emptied |= _emptied(source)
        for node in source.nodes:
            if isinstance(node, ast.Attribute) and node.attr in _API:
                uses = found.get((dotted(node.value) or "").rpartition(".")[2])
                if uses is not None:
                    uses.api.setdefault(node.attr, f"{source.shown}:{node.lineno}")
            elif isinstance(node, ast.Call):
                uses = found.get((dotted(node.func) or "").rpartition(".")[2])
                if uses is not None:
                    _look_at_call(source, node, uses)
    for name in emptied & found.keys():
        found[name].counted = None
    return found


def _is_test(source: Source) -> bool:
    name = source.path.name
    return name.startswith("test_") or name.endswith("_test.py") or name in ("conftest.py", "tests.py")


def _emptied(source: Source) -> set[str]:
    """Names in a file of tests that calls ``cache_clear``, as names and as strings: all may be emptied by it."""
    if not any(
        (isinstance(node, ast.Attribute) and node.attr in ("cache_clear", "clear_cache"))
        or (isinstance(node, ast.Constant) and node.value == "cache_clear")
        for node in source.nodes
    ):
        return set()
    names = {node.attr for node in source.nodes if isinstance(node, ast.Attribute)}
    names |= {node.id for node in source.nodes if isinstance(node, ast.Name)}
    return names | {n.value for n in source.nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def _look_at_call(source: Source, call: ast.Call, uses: Uses) -> None:
    above = source.parents[call]
    place = f"{source.shown}:{call.lineno}"
    if _is_test(source) and uses.counted is None and (test := source.function_of(call)) is not None:
        uses.counted = place if _counts(test) else None
    if _changes(source, call):
        uses.changed = uses.changed or place
    if isinstance(above, ast.Compare) and any(isinstance(op, (ast.Is, ast.IsNot)) for op in above.ops):
        others = [each for each in (above.left, *above.comparators) if each is not call]
        if not all(isinstance(each, ast.Constant) for each in others):
            uses.compared = uses.compared or place
    if isinstance(above, ast.Assign) and len(above.targets) == 1 and isinstance(above.targets[0], ast.Name):
        name = above.targets[0].id
        scope = source.function_of(call) or source.tree
        for node in _loads(scope).get(name, ()):
            if node.lineno >= call.lineno and _changes(source, node):
                uses.changed = uses.changed or f"{source.shown}:{node.lineno}"
            other = source.parents[node]
            if isinstance(other, ast.Compare) and isinstance(other.ops[0], (ast.Is, ast.IsNot)):
                others = [each for each in (other.left, *other.comparators) if each is not node]
                if not all(isinstance(each, ast.Constant) for each in others):
                    uses.compared = uses.compared or f"{source.shown}:{node.lineno}"


@lru_cache(maxsize=256)  # a scope is asked for once per call in it
def _loads(scope: ast.AST) -> dict[str, list[ast.Name]]:
    found: dict[str, list[ast.Name]] = {}
    for node in ast.walk(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.setdefault(node.id, []).append(node)
    return found


@lru_cache(maxsize=256)
def _counts(test: Function) -> bool:
    """Whether a test looks at how often something was called, or expects that it fails."""
    nodes = ast.walk(test)
    return any(
        (isinstance(each, ast.Attribute) and each.attr in _COUNTS)
        or (isinstance(each, ast.Name) and each.id in _COUNTS)
        for each in nodes
    )


def _changes(source: Source, node: ast.expr) -> bool:
    """Whether an expression's object is changed where it stands."""
    above = source.parents[node]
    while isinstance(above, ast.Subscript) and above.value is node and isinstance(above.ctx, ast.Load):
        node, above = above, source.parents[above]
    if isinstance(above, (ast.Subscript, ast.Attribute)) and above.value is node:
        if not isinstance(above.ctx, ast.Load):
            return True
        outer = source.parents[above]
        if isinstance(above, ast.Attribute) and isinstance(outer, ast.Call) and outer.func is above:
            inplace = any(k.arg == "inplace" and getattr(k.value, "value", None) is True for k in outer.keywords)
            return inplace or above.attr in MUTATORS
        if (
            isinstance(above, ast.Attribute)
            and above.attr in ("loc", "iloc", "at", "iat")
            and isinstance(outer, ast.Subscript)
        ):
            return not isinstance(outer.ctx, ast.Load)
    return isinstance(above, ast.AugAssign) and above.target is node
