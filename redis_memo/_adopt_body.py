"""What a function's body tells of whether its results may be shared between processes, and whether that pays.

``lru_cache`` keeps results for one process, so a function below it may look at anything that is the same for that
process: its environment, its files, a client that is logged in. A result in Redis is handed to other processes, and
to later ones. So a body is searched for whatever may differ there, and what it calls in the same code base as well,
as far as a name leads to it.

Whether it pays: a hit of ``lru_cache`` costs 0.1 µs, one over a socket some 50 µs and more. What only shapes text or
adds numbers is better left where it is.
"""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ._adopt_source import MUTATORS, Function, Source, dotted
from ._adopt_words import (
    ACCOUNT,
    AMBIENT,
    CHANCE,
    CLOCK_CALLS,
    CLOCKS,
    FILE_METHODS,
    FILES,
    HEAVY,
    LOGGERS,
    MARKET_CALLS,
    MARKET_CLIENTS,
    NETWORK,
    PLAIN_MAKERS,
    PUBLIC,
    SLOW_WORD,
    TEXT_METHODS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Body", "binding", "examine", "is_method", "made_by", "own_nodes"]

_DEPTH: Final = 5  # calls within the code base that are followed

_BUILTINS = frozenset(dir(builtins))


@dataclass(slots=True)
class Body:
    """What was found in a function, and in what it calls in the same code base.

    Attributes:
        doubts: By code, what may make its results differ between processes: code, then what to say.
        slow: What in it takes time, or None.
        cheap: Nothing in it can take time: there are no calls but to builtins and methods of text.
        recursive: It calls itself.
    """

    doubts: dict[str, str] = field(default_factory=dict)
    slow: str | None = None
    cheap: bool = True
    recursive: bool = False

    def doubt(self, code: str, text: str) -> None:
        """Note a doubt; the first of its kind is kept."""
        self.doubts.setdefault(code, text)


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """What stands in a function's body, its decorators, annotations and defaults left out."""
    for statement in function.body:
        yield from ast.walk(statement)


def is_method(source: Source, function: Function) -> bool:
    """Whether it stands directly in a class body and is bound to its object or class."""
    if not isinstance(_definer(source, function), ast.ClassDef):
        return False
    return not any(dotted(each) == "staticmethod" for each in function.decorator_list)


def _definer(source: Source, node: ast.AST) -> ast.AST:
    scopes = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.Module)
    return next(each for each in source.ancestors(node) if isinstance(each, scopes))


def examine(source: Source, function: Function, project: Mapping[str, Source]) -> Body:
    """Search a function's body, and those of the functions it leads to.

    Args:
        source: The file it stands in.
        function: Its definition.
        project: All files of the code base, by module name.
    """
    found = Body()
    _Search(found, project, function).visit(source, function, _DEPTH)
    return found


def binding(source: Source, name: str) -> ast.stmt | None:
    """The statement that alone gives a name at the top of a module its value; None if several do, or none."""
    if source.global_names.get(name, 0) != 1:
        return None
    if name in source.tops:
        return source.tops[name]
    return next((each for each in source.bound.get(name, []) if isinstance(source.parents.get(each), ast.Module)), None)


class _Search:
    """One search, over as many functions as the first one leads to."""

    def __init__(self, found: Body, project: Mapping[str, Source], first: Function) -> None:
        self.found = found
        self.project = project
        self.first = first
        self.visiting = first
        self.seen: set[int] = set()

    def visit(self, source: Source, function: Function, depth: int) -> None:
        self.seen.add(id(function))
        before, self.visiting = self.visiting, function
        local = _locals(function)
        for node in own_nodes(function):
            if isinstance(node, ast.Call):
                self._call(source, node, local)
            elif isinstance(node, (ast.Global, ast.Nonlocal)):
                self.found.doubt("state", f"sets {', '.join(node.names)} of the scope around it, which a hit does not")
            elif isinstance(node, (ast.For, ast.While, ast.AsyncFor)):
                self.found.cheap = False
            elif isinstance(node, ast.Await):
                self.found.slow = self.found.slow or "await"
            elif isinstance(node, ast.Attribute):
                self._ambient(source, node)
                self._outer_store(node, local)
            elif isinstance(node, ast.Subscript):
                self._outer_store(node, local)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in local:
                self._outer(source, node.id, depth)
        self.visiting = before

    def _call(self, source: Source, node: ast.Call, local: set[str]) -> None:
        found = self.found
        path = dotted(node.func) or ""
        meant = source.resolve(node.func) or path
        last = node.func.attr if isinstance(node.func, ast.Attribute) else path
        root = meant.partition(".")[0]
        if root in LOGGERS or path.partition(".")[0] in LOGGERS:
            return
        is_builtin = path in _BUILTINS and path not in source.global_names and path not in source.imported
        if meant in CLOCK_CALLS or last in CLOCKS:
            found.doubt("time", f"asks the time ({path or last}): what it returns is of that moment")
        if meant.startswith(CHANCE):
            found.doubt("chance", f"draws lots ({meant})")
        if (is_builtin and path == "input") or meant.startswith(AMBIENT):
            found.doubt("process", f"asks {meant}, which is this process's own")
        if _asks_an_address(meant, node):
            found.slow = found.slow or meant
        elif (is_builtin and path == "open") or (
            (meant.startswith(FILES) and not meant.endswith("loads")) or last in FILE_METHODS
        ):
            found.doubt(
                "file", f"reads files or runs programs ({meant or last}): other processes may have others there"
            )
            found.slow = found.slow or meant or last
        if is_builtin and path in {"globals", "setattr", "exec", "eval", "vars", "__import__"}:
            found.doubt("state", f"uses {path}()")
        if last in MUTATORS and isinstance(node.func, ast.Attribute):
            self._outer_store(node.func, local, called=True)
        if not is_builtin:
            found.cheap = found.cheap and isinstance(node.func, ast.Attribute) and last in TEXT_METHODS
            if _network(source, node.func):
                found.slow = found.slow or meant
            elif root in HEAVY or SLOW_WORD.search(last):
                found.slow = found.slow or path or last
        if ACCOUNT.search(last) and not PUBLIC.search(last) and not is_builtin and meant not in PLAIN_MAKERS:
            found.doubt("account", f"calls {last}(): is the answer the same for whoever is logged in?")

    def _ambient(self, source: Source, node: ast.Attribute) -> None:
        meant = source.resolve(node) or ""
        if meant.startswith(AMBIENT) and not isinstance(source.parents.get(node), (ast.Attribute, ast.Call)):
            self.found.doubt("process", f"asks {meant}, which is this process's own")

    def _outer_store(self, node: ast.Attribute | ast.Subscript, local: set[str], *, called: bool = False) -> None:
        if not called and isinstance(node.ctx, ast.Load):
            return
        inner: ast.AST = node
        while isinstance(inner, (ast.Attribute, ast.Subscript)):
            inner = inner.value
        if isinstance(inner, ast.Name) and (inner.id not in local or inner.id in ("self", "cls")):
            self.found.doubt("state", f"changes {inner.id}, which outlives the call; a hit does not")

    def _outer(self, source: Source, name: str, depth: int) -> None:
        """Something of the module: a function is followed, a constant is fine."""
        if name in source.imported:
            if source.global_names.get(name):
                self.found.doubt("unclear", f"{name} is bound in several ways")
                return
            target = min(source.imported[name])
            module, _, attribute = target.rpartition(".")
            if module in self.project and self.project[module] is not source:
                self._known(self.project[module], attribute, depth)
            return
        if name in source.global_names:
            self._known(source, name, depth)
        elif name not in _BUILTINS and name not in ("__name__", "__file__", "__doc__"):
            self.found.doubt("unclear", f"uses {name}, which this file does not define")

    def _of_market(self, source: Source, name: str) -> bool:
        """Whether a broker's client is asked, in the function at hand, for what is one for all accounts only."""
        for node in own_nodes(self.visiting):
            if isinstance(node, ast.Name) and node.id == name:
                above = source.parents[node]
                if not isinstance(above, ast.Attribute) or above.attr not in MARKET_CALLS:
                    return False
                outer = source.parents[above]
                if not isinstance(outer, ast.Call) or outer.func is not above:
                    return False
        return True

    def _known(self, source: Source, name: str, depth: int) -> None:
        if name in source.imported or (name not in source.global_names and f"{source.module}.{name}" in self.project):
            return
        statement = binding(source, name)
        if statement is self.first:
            self.found.recursive = True
            self.found.cheap = False
        elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if SLOW_WORD.search(name):
                self.found.slow = self.found.slow or name
            if id(statement) not in self.seen and depth:
                self.visit(source, statement, depth - 1)
        elif isinstance(statement, ast.ClassDef):
            self.found.cheap = False
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            if made_by(source, name) in MARKET_CLIENTS and self._of_market(source, name):
                return
            if not _plain(source, statement.value):
                text = f"uses {name}, which the module makes when it is imported: the same in every process?"
                self.found.doubt("global", text)
            elif name in source.changed:
                self.found.doubt("global", f"uses {name}, which is changed while the program runs")
        else:
            self.found.doubt("global", f"uses {name}, which has not one value for good")


def _network(source: Source, function: ast.expr) -> bool:
    """Whether what is called belongs to a library of the network, or to an object that one made."""
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    roots = {(source.resolve(each) or "").partition(".")[0] for each in names} | {
        made_by(source, each.id) for each in names
    }
    return bool(roots & NETWORK)


_ADDRESS = re.compile(r"(?i)^(?:https?|s3|gs|ftp)://")
_ADDRESS_NAME = re.compile(r"(?i)(?:^|_)ur[il](?:_|$)")


def _asks_an_address(meant: str, call: ast.Call) -> bool:
    """Whether ``pd.read_csv`` and the like are given an address, and no file."""
    if not meant.startswith(("pandas.read_", "polars.read_")) or not call.args:
        return False
    first: ast.expr = call.args[0]
    while isinstance(first, (ast.BinOp, ast.JoinedStr, ast.FormattedValue)):
        if isinstance(first, ast.JoinedStr) and not first.values:
            return False
        first = (
            first.left
            if isinstance(first, ast.BinOp)
            else first.values[0]
            if isinstance(first, ast.JoinedStr)
            else first.value
        )
    if isinstance(first, ast.Constant):
        return isinstance(first.value, str) and bool(_ADDRESS.match(first.value))
    return bool(_ADDRESS_NAME.search((dotted(first) or "").rpartition(".")[2]))


def made_by(source: Source, name: str) -> str:
    """The library of what made an object at the top of the file: ``requests`` for ``session = requests.Session()``."""
    statement = binding(source, name)
    value = statement.value if isinstance(statement, (ast.Assign, ast.AnnAssign)) else None
    meant = source.resolve(value.func) if isinstance(value, ast.Call) else None
    return (meant or "").partition(".")[0]


def _locals(function: Function) -> set[str]:
    arguments = function.args
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    names = {each.arg for each in given if each is not None}
    outer: set[str] = set()
    for node in own_nodes(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler)):
            names |= {node.name} if node.name else set()
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            # Imported inside: what it stands for is known all the same, see `Source.resolve`.
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            outer |= {*node.names}
    return names - outer


def _plain(source: Source, value: ast.expr) -> bool:
    """Whether a module's constant is the same in every process that runs the code."""
    if isinstance(value, ast.Constant):
        return True
    if isinstance(value, (ast.Tuple, ast.List, ast.Set)):
        return all(_plain(source, each) for each in value.elts)
    if isinstance(value, ast.Dict):
        return all(_plain(source, each) for each in [*value.keys, *value.values] if each is not None)
    if isinstance(value, ast.UnaryOp):
        return _plain(source, value.operand)
    if isinstance(value, ast.BinOp):
        return _plain(source, value.left) and _plain(source, value.right)
    if isinstance(value, ast.JoinedStr):
        return all(_plain(source, each) for each in value.values)
    if isinstance(value, ast.FormattedValue):
        return _plain(source, value.value)
    if isinstance(value, ast.Name):
        statement = binding(source, value.id)
        return isinstance(statement, (ast.FunctionDef, ast.ClassDef)) or (
            isinstance(statement, ast.Assign)
            and not isinstance(statement.value, ast.Name)
            and _plain(source, statement.value)
        )
    if isinstance(value, ast.Call):
        meant = source.resolve(value.func) or dotted(value.func) or ""
        arguments = [*value.args, *(keyword.value for keyword in value.keywords)]
        named = meant in PLAIN_MAKERS
        return named and all(_plain(source, each) or dotted(each) == "__name__" for each in arguments)
    return False
