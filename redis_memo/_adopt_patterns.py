"""Caches written by hand: dicts that are asked first and filled after, in their many spellings.

A dict is taken for a cache where one function asks it for a key and stores under that key, it outlives the call, and
what is stored is neither an argument (a registry), nor an empty list (a grouping), nor a count. A name such as
``_quote_cache`` lifts these conditions. Nothing here is rewritten: which part of the function is the computation, a
person has to say.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ._adopt_age import enclosed, lifetime_in
from ._adopt_body import is_method
from ._adopt_finding import Finding, Lifetime, Project, no_expiry, proposal
from ._adopt_judge import Confidence, Risk
from ._adopt_options import maker
from ._adopt_source import Function, Source, dotted, text_of
from ._adopt_words import LIKE_A_CACHE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["decorates", "decorator_around", "find_patterns", "from_outside", "is_dict"]

_SETTINGS = re.compile(r"(?i)config|settings|options|params|kwargs|environ|headers|context|metadata|state$")
_MISSES = frozenset({"KeyError", "LookupError", "Exception", "IndexError", "AttributeError", "BaseException"})
_DICTS = frozenset({"dict", "OrderedDict", "defaultdict", "WeakValueDictionary"})


@dataclass(slots=True)
class _Holder:
    """What a function does with one dict."""

    asked: dict[str, ast.AST] = field(default_factory=dict)  # key -> first question
    loaded: set[str] = field(default_factory=set)
    stored: dict[str, ast.AST] = field(default_factory=dict)
    values: list[ast.expr] = field(default_factory=list)
    counted: bool = False
    ordered: bool = False


def find_patterns(source: Source, project: Project) -> Iterator[Finding]:
    """Every dict, attribute or global of a file that is used as a cache."""
    reported: set[tuple[str, str]] = set()
    for node in source.nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for name, holder in _holders(source, node).items():
                found = _asked_and_filled(source, project, node, name, holder)
                if found is not None:
                    reported.add((source.owner(node) if name.startswith(("self.", "cls.")) else "", name))
                    yield found
            for found in _single_values(source, project, node, reported):
                name = (found.holder or "").partition(" ")[0]
                reported.add((source.owner(node) if name.startswith(("self.", "cls.")) else "", name))
                yield found


# ------------------------------------------------------------------------------------------------- asked, then filled


def _container(node: ast.expr) -> tuple[str, str] | None:
    """Name of a dict, and the keys by which one in it is reached: ``self.cache[a]`` is ``("self.cache", "a, ")``."""
    keys = ""
    while isinstance(node, ast.Subscript):
        keys = f"{text_of(node.slice)}, {keys}"
        node = node.value
    path = dotted(node)
    return None if path is None else (path, keys)


def _holders(source: Source, function: Function) -> dict[str, _Holder]:
    found: dict[str, _Holder] = defaultdict(_Holder)

    def at(node: ast.expr, key: ast.expr) -> tuple[_Holder, str] | None:
        where = _container(node)
        return None if where is None else (found[where[0]], where[1] + text_of(key))

    for node in enclosed(function):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], (ast.In, ast.NotIn)):
            held = node.comparators[0]
            if isinstance(held, ast.Call) and isinstance(held.func, ast.Attribute) and held.func.attr == "keys":
                held = held.func.value
            if place := at(held, node.left):
                place[0].asked.setdefault(place[1], node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            _method(node, node.func, at)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "popitem":
            if where := _container(node.func.value):
                found[where[0]].ordered = True
        elif isinstance(node, ast.Subscript) and (place := at(node.value, node.slice)):
            if isinstance(node.ctx, ast.Store):
                place[0].stored.setdefault(place[1], node)
                above = source.parents[node]
                if isinstance(above, (ast.Assign, ast.AnnAssign)) and above.value is not None:
                    place[0].values.append(above.value)
                elif isinstance(above, ast.AugAssign):
                    place[0].counted = True
            elif isinstance(node.ctx, ast.Load):
                place[0].loaded.add(place[1])
        elif isinstance(node, ast.Try) and any(_catches(each) for each in node.handlers):
            for each in node.body:
                for inner in ast.walk(each):
                    if (
                        isinstance(inner, ast.Subscript)
                        and isinstance(inner.ctx, ast.Load)
                        and (place := at(inner.value, inner.slice))
                    ):
                        place[0].asked.setdefault(place[1], inner)
    return found


def _method(
    node: ast.Call, method: ast.Attribute, at: Callable[[ast.expr, ast.expr], tuple[_Holder, str] | None]
) -> None:
    place = at(method.value, node.args[0])
    if place is None:
        return
    holder, key = place
    if method.attr == "get":
        holder.asked.setdefault(key, node)
    elif method.attr == "setdefault" and len(node.args) > 1:
        holder.asked.setdefault(key, node)
        holder.stored.setdefault(key, node)
        holder.loaded.add(key)
        holder.values.append(node.args[1])
    elif method.attr == "move_to_end":
        holder.ordered = True
    elif method.attr in ("set", "put", "add", "store", "insert") and len(node.args) > 1:
        holder.stored.setdefault(key, node)
        holder.values.append(node.args[1])


def _catches(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any((dotted(each) or "").rpartition(".")[2] in _MISSES for each in types)


def _outlives(function: Function, name: str, *, like: bool) -> bool:
    """Whether a dict is still there after the call."""
    head, _, rest = name.partition(".")
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args]
    defaults = dict(
        zip([a.arg for a in named][len(named) - len(arguments.defaults) :], arguments.defaults, strict=True)
    )
    defaults |= {a.arg: d for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None}
    if head in defaults and not rest:
        default = defaults[head]
        return isinstance(default, ast.Dict) or (
            isinstance(default, ast.Call) and (dotted(default.func) or "") in _DICTS
        )
    if rest and head in ("self", "cls"):
        return True
    parameters = {a.arg for a in (*named, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg) if a is not None}
    if head in parameters:
        return like
    outer = from_outside(function)
    made_here = any(
        isinstance(node, ast.Name) and node.id == head and not isinstance(node.ctx, ast.Load)
        for node in enclosed(function)
    )
    if made_here and head not in outer:
        return like and bool(rest)
    return True


def from_outside(function: Function) -> set[str]:
    """Names that a function sets in the scopes around it."""
    return {name for node in enclosed(function) if isinstance(node, (ast.Global, ast.Nonlocal)) for name in node.names}


def _asked_and_filled(
    source: Source,
    project: Project,
    function: Function,
    name: str,
    holder: _Holder,
) -> Finding | None:
    last = name.rpartition(".")[2]
    like = bool(LIKE_A_CACHE.search(last))
    if not like and (name.partition(".")[0] in source.imported or _SETTINGS.search(last)):
        return None
    same = [key for key in holder.asked if key in holder.stored]
    if not same and not (like and holder.asked and holder.stored):
        return None
    if not _outlives(function, name, like=like):
        return None
    if not like and (
        holder.counted or not holder.values or not all(_computed(function, each) for each in holder.values)
    ):
        return None
    key = same[0] if same else next(iter(holder.asked))
    handed_out = _hands_out(function, name)
    if not like and not handed_out:
        return None
    lifetime = lifetime_in(source, function)
    outer = decorator_around(source, function)
    made = maker(source, project, ast.parse(name, mode="eval").body)
    lifetime = lifetime or (made[2] if made else None)
    if outer is not None:
        kind = "memoizing decorator"
    elif made is not None:
        kind = f"{made[0]}, asked and filled"
    elif holder.ordered:
        kind = "OrderedDict LRU"
    elif lifetime is not None:
        kind = "timed dict cache"
    else:
        kind = "dict cache"
    base: Confidence = "likely" if handed_out and (like or same) else "look"
    first = min(getattr(node, "lineno", function.lineno) for node in [holder.asked[key], *holder.stored.values()])
    final = max(getattr(node, "end_lineno", function.lineno) for node in [holder.asked[key], *holder.stored.values()])
    return _finding(
        source,
        project,
        function,
        kind=kind,
        line=first,
        last=final,
        holder=_place(source, function, name),
        base=base,
        lifetime=lifetime,
        shown=outer.name if outer is not None else None,
    )


def _finding(
    source: Source,
    project: Project,
    function: Function,
    *,
    kind: str,
    line: int,
    last: int,
    holder: tuple[str, int | None],
    base: Confidence,
    lifetime: Lifetime | None,
    shown: str | None = None,
) -> Finding:
    risks: list[Risk] = []
    if lifetime is None:
        lifetime = project.lifetime
        risks.append(no_expiry(lifetime))
    if shown is not None:
        risks.append(Risk("shared-reference", decorates(project, shown), "likely"))
    else:
        risks += project.judge(source, function)
    if kind != "single value":
        risks.append(Risk("body", "the asking and the storing go, and the computation stays", "likely"))
    _, becomes = proposal(source, function, lifetime)
    risks = [risk for risk in risks if risk.code not in ("state", "cheap", "global", "singleton", "async")]
    if is_method(source, function) and shown is None:
        risks = [Risk(r.code, r.text, "likely") if r.code == "method-identity" else r for r in risks]
    held = holder[0] if holder[1] is None else f"{holder[0]} (line {holder[1]})"
    return Finding(
        source=source,
        line=line,
        last=last,
        kind=kind,
        name=shown or source.qualified(function),
        holder=held,
        becomes=becomes,
        risks=tuple(risks),
        base=base,
        decorator=shown,
        also=(function.lineno, *(each for each in holder[1:] if each)),
    )


def decorates(project: Project, name: str) -> str:
    """Say what stands below a decorator of the code base."""
    below = [
        f"{source.qualified(node)} ({source.shown}:{node.lineno})"
        for source in project.sources
        for node in source.functions
        for each in node.decorator_list
        if (dotted(each.func if isinstance(each, ast.Call) else each) or "").rpartition(".")[2] == name
    ]
    return f"replaces @{name} above each function that it decorates, one by one: {', '.join(below) or 'none here'}"


def _computed(function: Function, value: ast.expr) -> bool:
    """Whether a stored value is the outcome of work, and not an argument, a constant or an empty container."""
    if isinstance(value, ast.Constant):
        return False
    if isinstance(value, (ast.List, ast.Dict, ast.Set, ast.Tuple)):
        parts = value.values if isinstance(value, ast.Dict) else value.elts
        return any(_computed(function, each) for each in parts)
    if isinstance(value, ast.Call):
        made = (dotted(value.func) or "").rpartition(".")[2]
        if made in ("Lock", "RLock", "Event", "Queue", "deque", "Semaphore", "Condition"):
            return False
        return bool(value.args or value.keywords) or made not in (
            "list",
            "dict",
            "set",
            "defaultdict",
            "OrderedDict",
            "Counter",
        )
    if isinstance(value, ast.Name):
        arguments = function.args
        given = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        if value.id not in given:
            return True
        return any(
            isinstance(n, ast.Name) and n.id == value.id and not isinstance(n.ctx, ast.Load) for n in enclosed(function)
        )
    return True


def _hands_out(function: Function, name: str) -> bool:
    """Whether the function returns (or yields) what the dict had, or a name that got it."""
    from_it: set[str] = set()
    for node in enclosed(function):
        if not isinstance(node, (ast.Assign, ast.NamedExpr, ast.AnnAssign)) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(_is_from(each, name) for each in ast.walk(node.value)) or any(
            isinstance(t, ast.Subscript) and (_container(t.value) or ("",))[0] == name for t in targets
        ):
            for target in targets:
                from_it |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for node in enclosed(function):
        if isinstance(node, (ast.Return, ast.Yield)) and node.value is not None:
            for each in ast.walk(node.value):
                if _is_from(each, name) or (isinstance(each, ast.Name) and each.id in from_it):
                    return True
    return False


def _is_from(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        return (_container(node.value) or ("",))[0] == name
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("get", "setdefault", "pop")
    ):
        return (_container(node.func.value) or ("",))[0] == name
    return False


def decorator_around(source: Source, function: Function) -> Function | None:
    """The function whose argument this one calls, and that returns this one: a decorator."""
    for outer in source.ancestors(function):
        if isinstance(outer, ast.ClassDef):
            return None
        if not isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        given = {a.arg for a in (*outer.args.posonlyargs, *outer.args.args)}
        calls = any(
            isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in given for n in enclosed(function)
        )
        returned = any(
            isinstance(n, ast.Return)
            and n.value is not None
            and any(isinstance(e, ast.Name) and e.id == function.name for e in ast.walk(n.value))
            for n in enclosed(outer)
        )
        if calls and returned:
            makers = [
                each for each in source.ancestors(outer) if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))
            ]
            return makers[-1] if makers else outer
    return None


def _place(source: Source, function: Function, name: str) -> tuple[str, int | None]:
    """A dict's name, and the line on which it is made where that is found."""
    owner = next((each for each in source.ancestors(function) if isinstance(each, ast.ClassDef)), None)
    head, _, rest = name.partition(".")
    wanted = {name, *({f"self.{rest}", f"cls.{rest}", rest} if head in ("self", "cls") else ())}
    scope: ast.AST = owner if owner is not None and head in ("self", "cls") else source.tree
    for node in ast.walk(scope):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(dotted(target) in wanted for target in targets):
            return name, node.lineno  # type: ignore[attr-defined]
    return name, None


# ------------------------------------------------------------------------------------------------------ single values


def _single_values(
    source: Source, project: Project, function: Function, reported: set[tuple[str, str]]
) -> Iterator[Finding]:
    """``if _table is None: _table = load()`` on a global or attribute, and the same with ``hasattr``."""
    nodes = list(enclosed(function))
    outer = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
    returned = {dotted(node.value) for node in nodes if isinstance(node, ast.Return) and node.value is not None} - {
        None
    }
    stored: dict[str, list[ast.expr]] = defaultdict(list)
    for node in nodes:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                path = dotted(target)
                if path and (path in outer or path.startswith(("self.", "cls.", f"{function.name}."))):
                    stored[path].append(node.value)
    seen: set[str] = set()
    for node in nodes:
        for path in _asked_whether_set(node):
            inside = source.owner(function) if path.startswith(("self.", "cls.")) else ""
            if path not in stored or path in seen or (inside, path) in reported:
                continue
            like = bool(LIKE_A_CACHE.search(path.rpartition(".")[2]))
            lifetime = lifetime_in(source, function)
            if not like and path not in returned:
                continue
            of_object = not (like or path in outer or lifetime or isinstance(node, ast.Call))
            if all(_is_object(value) or is_dict(value) for value in stored[path]):
                continue  # a client, a lock; or a dict that others fill
            seen.add(path)
            yield _finding(
                source,
                project,
                function,
                kind="single value",
                line=getattr(node, "lineno", function.lineno),
                last=getattr(node, "end_lineno", function.lineno),
                holder=_place(source, function, path),
                base="alone" if of_object else "look",  # as with cached_property: it goes when the object goes
                lifetime=lifetime,
            )


def _asked_whether_set(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Is, ast.IsNot)):
        return [path] if (path := dotted(node.left)) and getattr(node.comparators[0], "value", 0) is None else []
    if isinstance(node, ast.If):
        test = (
            node.test.operand if isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not) else node.test
        )
        parts = test.values if isinstance(test, ast.BoolOp) else [test]
        return [path for part in parts if (path := dotted(part))]
    if isinstance(node, ast.Call) and dotted(node.func) in ("hasattr", "getattr") and len(node.args) > 1:
        owner, name = dotted(node.args[0]), node.args[1]
        return (
            [f"{owner}.{name.value}"]
            if owner and isinstance(name, ast.Constant) and isinstance(name.value, str)
            else []
        )
    return []


def _is_object(value: ast.expr) -> bool:
    """Whether a value is made by a class of somebody's: a client, a connection, a manager."""
    if isinstance(value, ast.Constant):
        return True
    made = (dotted(value.func) or "").rpartition(".")[2] if isinstance(value, ast.Call) else ""
    return made[:1].isupper() and made not in ("DataFrame", "Series", "OrderedDict")


def is_dict(value: ast.expr) -> bool:
    """Whether a value is an empty dict, of whatever kind."""
    if isinstance(value, ast.Dict):
        return not value.keys
    return isinstance(value, ast.Call) and (dotted(value.func) or "").rpartition(".")[2] in _DICTS
