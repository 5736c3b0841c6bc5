"""What annotations and bodies tell of types: whether an argument can be part of a key, and what a function returns.

Types are told by their names, as they are written. A result that nothing is annotated of is looked for in what is
returned, through local names, through functions of the same code base, and through the libraries that fetch prices.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from ._adopt_body import binding, made_by, own_nodes
from ._adopt_source import Function, Source, dotted
from ._adopt_words import (
    CACHETOOLS,
    CONTAINERS,
    FRAME_METHODS,
    FRAMES,
    LOOSE,
    LRU,
    MADE,
    MARKET_CLIENTS,
    NETWORK,
    PLAIN_NAME,
    SIMPLE,
    TEXT_USE,
    TYPED_CALLS,
    TYPED_METHODS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["result_of", "unkeyable"]

_UNTOLD: Final = frozenset({"Any", "object", "Optional", "Callable", "Iterator", "Generator"})


def unkeyable(
    source: Source, function: Function, argument: ast.arg, default: ast.expr | None, *, starred: bool
) -> str | None:
    """Why it is not known that an argument can become part of a key; None where it is known."""
    if argument.annotation is not None:
        unknown = {name for name in _type_names(argument.annotation) if name not in SIMPLE} - _enums(source)
        if not unknown:
            return None
        return f"arguments of type {', '.join(sorted(unknown))} are keyed by value here, by hash and equality before"
    if starred:
        return "what is passed is not known"
    if isinstance(default, ast.Constant) and default.value is not None:
        return None
    plain = bool(PLAIN_NAME.fullmatch(argument.arg))
    for node in own_nodes(function):
        if not isinstance(node, ast.Name) or node.id != argument.arg:
            continue
        above = source.parents[node]
        if isinstance(above, ast.Attribute):
            if above.attr not in TEXT_USE:
                return f"no annotation, and used as an object (.{above.attr})"
            plain = True
        elif isinstance(above, ast.Call) and above.func is node:
            return "no annotation, and called"
        elif isinstance(above, (ast.FormattedValue, ast.BinOp)):
            plain = True
    return None if plain else "no annotation says what it is"


def _type_names(annotation: ast.expr) -> set[str]:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            return _type_names(ast.parse(annotation.value.strip(), mode="eval").body)
        except SyntaxError:
            return {annotation.value}
    names: set[str] = set()
    if isinstance(annotation, ast.Subscript):
        names |= _type_names(annotation.value)
        if names & {"Literal"}:
            return names
        return names | _type_names(annotation.slice)
    if isinstance(annotation, (ast.Tuple, ast.List)):
        return {name for each in annotation.elts for name in _type_names(each)}
    if isinstance(annotation, ast.BinOp):
        return _type_names(annotation.left) | _type_names(annotation.right)
    if isinstance(annotation, ast.Constant):
        return set() if annotation.value is None or annotation.value is ... else {str(annotation.value)}
    path = dotted(annotation)
    return {path.rpartition(".")[2]} if path else {"?"}


def _enums(source: Source) -> set[str]:
    """Names of enumerations at the top of the file: keyed by name."""
    bases = {"Enum", "StrEnum", "IntEnum"}
    classes = [node for node in source.tree.body if isinstance(node, ast.ClassDef)]
    return {c.name for c in classes if {(dotted(base) or "").rpartition(".")[2] for base in c.bases} & bases}


def result_of(source: Source, function: Function, project: Mapping[str, Source]) -> tuple[set[str], bool]:
    """Types that a function may return without it being known that they need no pickle; and whether one can change.

    Args:
        source: The file it stands in.
        function: Its definition.
        project: All files of the code base, by module name.

    Returns:
        The names of the types, ``"?"`` for one that has none; and whether callers could change what they are handed.
    """
    return _Results(project).of(source, function)


def _made_here(source: Source, function: Function) -> set[str]:
    """Classes whose instances are made in the body and may be part of what is returned."""
    made = {
        (dotted(node.func) or "").rpartition(".")[2]
        for node in own_nodes(function)
        if isinstance(node, ast.Call) and not _is_asked(source, function, node)
    }
    lambdas = any(
        isinstance(node, ast.Lambda) and isinstance(source.parents[node], (ast.Return, ast.Dict, ast.List))
        for node in own_nodes(function)
    )
    raised = {
        (dotted(node.exc.func) or "").rpartition(".")[2]
        for node in own_nodes(function)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    }
    classes = {name for name in made if name[:1].isupper() and not name.isupper()} - MADE - raised
    return {name for name in classes if not name.endswith(("Error", "Exception", "Session", "Client"))} | (
        {"lambda"} if lambdas else set()
    )


def _is_asked(source: Source, function: Function, made: ast.Call) -> bool:
    """Whether an object of a library that fetches is only asked for something: ``yf.Ticker(symbol).info``."""
    if (source.resolve(made.func) or "").partition(".")[0] not in NETWORK:
        return False
    above = source.parents[made]
    if isinstance(above, ast.Assign) and isinstance(above.targets[0], ast.Name):
        name = above.targets[0].id
        loads = [
            n for n in own_nodes(function) if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)
        ]
        return all(isinstance(source.parents[each], ast.Attribute) for each in loads)
    return isinstance(above, ast.Attribute)


class _Results:
    """One search for what a function returns, over those that it leads to."""

    def __init__(self, project: Mapping[str, Source]) -> None:
        self.project = project
        self.seen: set[tuple[int, str]] = set()

    def of(self, source: Source, function: Function) -> tuple[set[str], bool]:
        if function.returns is None:
            return self._inferred(source, function)
        names = _type_names(function.returns)
        unknown = names - SIMPLE - CONTAINERS - FRAMES - LOOSE - _enums(source)
        if names <= _UNTOLD or names == {"None"}:
            inferred, mutable = self._inferred(source, function)
            return (names if inferred else set()), mutable
        if not unknown and names & (LOOSE | CONTAINERS):
            unknown = _made_here(source, function)
        return unknown, bool(names & (CONTAINERS | FRAMES | LOOSE))

    def _inferred(self, source: Source, function: Function) -> tuple[set[str], bool]:
        """Types of what is returned that are not known, and whether it can be changed."""
        returned = [
            node.value
            for node in own_nodes(function)
            if isinstance(node, ast.Return) and source.function_of(node) is function and node.value is not None
        ]
        if not any(not isinstance(value, ast.Constant) or value.value is not None for value in returned):
            return {"nothing"}, False
        kind = self._worst(source, function, returned)
        return ({"?"} if kind == "unknown" else set()), kind == "mutable"

    def _worst(self, source: Source, function: Function, values: Iterable[ast.expr]) -> str:
        kinds = {self._kind(source, function, each) for each in values}
        return "unknown" if "unknown" in kinds else "mutable" if "mutable" in kinds else "simple"

    def _kind(self, source: Source, function: Function, value: ast.expr) -> str:
        """``simple``, ``mutable`` or ``unknown``."""

        def worst(*values: ast.expr | None) -> str:
            return self._worst(source, function, [each for each in values if each is not None])

        def filled(*values: ast.expr | None) -> str:
            return "unknown" if worst(*values) == "unknown" else "mutable"

        match value:
            case ast.Constant() | ast.JoinedStr() | ast.Compare():
                return "simple"
            case ast.UnaryOp():
                return "simple" if isinstance(value.op, ast.Not) else worst(value.operand)
            case ast.Tuple():
                return worst(*value.elts)
            case ast.List() | ast.Set():
                return filled(*value.elts)
            case ast.Dict():
                return filled(*value.keys, *value.values)
            case ast.ListComp() | ast.SetComp():
                return filled(value.elt)
            case ast.DictComp():
                return filled(value.key, value.value)
            case ast.BinOp():
                return worst(value.left, value.right)
            case ast.BoolOp():
                return worst(*value.values)
            case ast.IfExp():
                return worst(value.body, value.orelse)
            case ast.Await() | ast.Subscript():
                return worst(value.value)
            case ast.Name():
                return self._named(source, function, value.id)
            case ast.Call():
                return self._called(source, function, value)
            case ast.Attribute():
                return (
                    "simple"
                    if value.attr in ("text", "content") and self._fetched(source, function, value.value)
                    else "unknown"
                )
        return "unknown"

    def _named(self, source: Source, function: Function, name: str) -> str:
        """Of a local name: that of all that is assigned to it; of a parameter that is plain: simple."""
        if (id(function), name) in self.seen:
            return "simple"
        self.seen.add((id(function), name))
        given: list[str] = []
        for node in own_nodes(function):
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
                given.append(self._kind(source, function, node.value))
            elif (
                isinstance(node, (ast.AnnAssign, ast.AugAssign))
                and isinstance(node.target, ast.Name)
                and node.target.id == name
            ):
                given.append(self._kind(source, function, node.value) if node.value is not None else "simple")
            elif isinstance(node, (ast.For, ast.comprehension)) and dotted(node.target) == name:
                given.append(self._kind(source, function, node.iter))
            elif isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load):
                known = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.For, ast.comprehension)
                given.append("simple" if isinstance(source.parents[node], known) else "unknown")
        arguments = function.args
        given += [
            "unknown" if unkeyable(source, function, each, None, starred=False) else "simple"
            for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
            if each.arg == name
        ]
        # What is put into a list or dict that was made empty is part of it.
        for node in own_nodes(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and dotted(node.func.value) == name:
                if node.func.attr in ("append", "add", "extend", "update", "insert", "appendleft"):
                    given += [self._kind(source, function, each) for each in node.args]
            elif (
                isinstance(node, ast.Assign)
                and any(isinstance(t, ast.Subscript) and dotted(t.value) == name for t in node.targets)
                and not given.count("unknown")
                and not self._is_frame(source, function, name)
            ):
                given.append(self._kind(source, function, node.value))
        if not given:
            statement = binding(source, name)
            constant = isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
            return "simple" if constant else "unknown"
        return "unknown" if "unknown" in given else "mutable" if "mutable" in given else "simple"

    def _is_frame(self, source: Source, function: Function, name: str) -> bool:
        """Whether a name stands for a frame, whose columns are arrays whatever is assigned to them."""
        values = [
            node.value
            for node in own_nodes(function)
            if isinstance(node, ast.Assign) and dotted(node.targets[0]) == name
        ]
        return bool(values) and all(
            isinstance(value, ast.Call)
            and (
                (source.resolve(value.func) or "").startswith(("pandas.", "yfinance.", "numpy."))
                or (isinstance(value.func, ast.Attribute) and value.func.attr in FRAME_METHODS - {"get"})
            )
            for value in values
        )

    def _fetched(self, source: Source, function: Function, value: ast.expr) -> bool:
        """Whether an expression is what a library of the network answered: ``requests.get(url)``, or a name for it."""
        if isinstance(value, ast.Name):
            given = [
                n.value for n in own_nodes(function) if isinstance(n, ast.Assign) and dotted(n.targets[0]) == value.id
            ]
            return bool(given) and all(isinstance(v, ast.Call) and self._fetched(source, function, v) for v in given)
        if not isinstance(value, ast.Call):
            return False
        root = (source.resolve(value.func) or "").partition(".")[0]
        return root in NETWORK or made_by(source, (dotted(value.func) or "").partition(".")[0]) in NETWORK

    def _called(self, source: Source, function: Function, call: ast.Call) -> str:
        path = dotted(call.func) or ""
        meant = source.resolve(call.func) or path
        last = call.func.attr if isinstance(call.func, ast.Attribute) else meant.rpartition(".")[2]
        if meant.startswith(
            ("pandas.read_", "pandas.DataFrame", "pandas.concat", "pandas.merge", "numpy.")
        ) or meant in (
            "json.loads",
            "yfinance.download",
        ):
            return "mutable"
        if meant.startswith("math."):
            return "simple"
        if last in MADE and last in ("DataFrame", "Series", "OrderedDict", "Counter"):
            return "mutable"
        if (isinstance(call.func, ast.Name) and meant in TYPED_CALLS) or last in MADE:
            return "mutable" if meant in ("list", "dict", "set", "sorted", "sum", "min", "max") else "simple"
        if isinstance(call.func, ast.Attribute):
            if last in TYPED_METHODS:
                return "mutable" if last in ("json", "split", "rsplit", "to_dict", "tolist", "to_numpy") else "simple"
            if made_by(source, path.partition(".")[0]) in MARKET_CLIENTS:
                return "mutable"  # dicts and lists, as they came over the wire
            if last == "history" and "yfinance" in {each for targets in source.imported.values() for each in targets}:
                return "mutable"
            if last in FRAME_METHODS and self._kind(source, function, call.func.value) != "unknown":
                return "mutable"
        return self._of_project(source, call)

    def _of_project(self, source: Source, call: ast.Call) -> str:
        """Of a call of a function that the code base defines, and whose decorators leave its result as it is."""
        path = dotted(call.func) or ""
        meant = source.resolve(call.func)
        where, name = source, path
        if meant is not None:
            module, _, name = meant.rpartition(".")
            if module not in self.project:
                return "unknown"
            where = self.project[module]
        found = binding(where, name)
        if not isinstance(found, ast.FunctionDef) or (id(found), "") in self.seen:
            return "unknown"
        decorators = [each.func if isinstance(each, ast.Call) else each for each in found.decorator_list]
        if any((where.resolve(each) or "") not in {**LRU, **CACHETOOLS} for each in decorators) or any(
            isinstance(node, (ast.Yield, ast.YieldFrom)) for node in own_nodes(found)
        ):
            return "unknown"
        self.seen.add((id(found), ""))
        unknown, mutable = self.of(where, found)
        self.seen.discard((id(found), ""))
        return "unknown" if unknown else "mutable" if mutable else "simple"
