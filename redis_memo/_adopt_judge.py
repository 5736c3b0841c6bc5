"""How sure it is that a function may be cached in Redis: from its parameters, its result, its body and its callers.

A proposal starts as sure, and each doubt lowers it. What is left as sure is rewritten, so the rule is strict, and
written down in docs/adopt.md: everything has to be known, what is unknown counts against it.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from ._adopt_body import binding, examine, is_method, own_nodes
from ._adopt_source import Function, Source, dotted
from ._adopt_words import (
    ACCOUNT_NAME,
    CONTAINERS,
    FRAMES,
    LOOSE,
    MADE,
    MARKET,
    PLAIN_NAME,
    SIMPLE,
    TEXT_USE,
    TYPED_CALLS,
    TYPED_METHODS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ._adopt_uses import Uses

__all__ = ["Confidence", "Risk", "is_market_data", "judge", "lowest"]

Confidence: TypeAlias = Literal["sure", "likely", "look", "alone"]
_ORDER: Final[tuple[Confidence, ...]] = ("sure", "likely", "look", "alone")


# Immutable, keyed by value and stored typed: an argument or a result of these is the same thing in any process.
class Risk(NamedTuple):
    """Something to know before a cache moves, and how sure one can be with it.

    Attributes:
        code: A word for machines.
        text: What it is, for people.
        limit: The finding is no surer than this.
    """

    code: str
    text: str
    limit: Confidence = "sure"


def lowest(risks: Iterable[Risk], start: Confidence = "sure") -> Confidence:
    """The confidence that risks leave."""
    return max([start, *(risk.limit for risk in risks)], key=_ORDER.index)


def is_market_data(function: Function) -> bool:
    """Whether names speak of symbols, exchanges, candles or quotes."""
    arguments = function.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return any(MARKET.search(name) for name in [function.name, *names])


def judge(source: Source, function: Function, project: Mapping[str, Source], uses: Uses) -> list[Risk]:
    """Everything that speaks against moving a function's cache to Redis, or that is to be known of it.

    Args:
        source: The file it stands in.
        function: Its definition.
        project: All files of the code base, by module name.
        uses: How the code base uses it.
    """
    return [
        *_where(source, function),
        *_parameters(source, function),
        *_result(source, function),
        *_body(source, function, project),
        *_callers(uses),
    ]


# ------------------------------------------------------------------------------------------------ where it is defined


def _where(source: Source, function: Function) -> list[Risk]:
    risks = []
    nodes = list(own_nodes(function))
    if any(isinstance(n, (ast.Yield, ast.YieldFrom)) and source.function_of(n) is function for n in nodes):
        return [
            Risk(
                "generator", "a generator function: what it returns can be read once, and is not to be cached", "alone"
            )
        ]
    if is_method(source, function):
        risks.append(
            Risk(
                "method-identity",
                "a method: the object takes part in the key, here by identity, in Redis by value. Give its class a "
                '__memo_key__, or say ignore=("self",) if the object does not change the result: two accounts must not '
                "share",
                "look",
            )
        )
    elif source.function_of(function) is not None:
        risks.append(
            Risk(
                "closure", "a function inside of a function: each call makes a new one, with a cache of its own", "look"
            )
        )
    elif _bound_often(source, function):
        risks.append(Risk("redefined", f"{function.name} is bound more than once in this file", "likely"))
    if isinstance(function, ast.AsyncFunctionDef):
        risks.append(
            Risk(
                "async",
                "async def below a cache for plain functions keeps a coroutine, which can be awaited once",
                "look",
            )
        )
    return risks


def _bound_often(source: Source, function: Function) -> bool:
    """Whether the module, or the class, gives the function's name to something else as well."""
    above = source.parents[function]
    if not isinstance(above, ast.ClassDef):
        return source.global_names.get(function.name, 0) != 1 or function.name in source.imported
    names = [
        n.name if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) else n.id
        for each in above.body
        for n in _own_scope(each)
    ]
    return names.count(function.name) != 1


def _own_scope(statement: ast.stmt) -> Iterable[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Name]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement]
    return [
        n
        for n in ast.walk(statement)
        if (isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load))
        or isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    ]


# --------------------------------------------------------------------------------------------------------- parameters


def _parameters(source: Source, function: Function) -> list[Risk]:
    risks = []
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args]
    defaults: dict[str, ast.expr] = dict(
        zip([each.arg for each in named][len(named) - len(arguments.defaults) :], arguments.defaults, strict=True)
    )
    defaults |= {a.arg: d for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None}
    parameters = [*named, *arguments.kwonlyargs]
    if parameters and is_method(source, function):
        parameters = parameters[1:]
    loose = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    if not parameters and not loose:
        risks.append(
            Risk(
                "singleton",
                "it takes no argument: what it makes is likely meant for this process (settings, a client)",
                "look",
            )
        )
    for each in [*parameters, *loose]:
        doubt = _unkeyable(source, function, each, defaults.get(each.arg), starred=each in loose)
        if doubt is not None:
            risks.append(Risk("unkeyable-argument", f"{each.arg}: {doubt}", "likely"))
        if _means_now(each.arg, defaults.get(each.arg)):
            text = f"{each.arg}=None may mean now: calls of two days are one call, until the entry expires"
            risks.append(Risk("time-dependent", text, "likely"))
    return risks


def _unkeyable(
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


def _means_now(name: str, default: ast.expr | None) -> bool:
    """``from_date=None``: a date that is made up inside where it is missing."""
    if not isinstance(default, ast.Constant) or default.value is not None:
        return False
    return bool(
        re.search(r"(?:^|_)(?:date|from|to|start|end|until|since|at|as_of|when|day|now|time|timestamp)(?:_|$)", name)
    )


# ------------------------------------------------------------------------------------------------------------- result


def _result(source: Source, function: Function) -> list[Risk]:
    if function.returns is not None:
        names = _type_names(function.returns)
        unknown = names - SIMPLE - CONTAINERS - FRAMES - LOOSE - _enums(source)
        mutable = bool(names & (CONTAINERS | FRAMES | LOOSE))
        if names <= {"Any", "object", "None", "Optional", "Callable", "Iterator", "Generator"} - {"None"} or names == {
            "None"
        }:
            unknown = unknown or names
    else:
        unknown, mutable = _inferred(source, function)
    vague = function.returns is not None and bool(_type_names(function.returns) & (LOOSE | CONTAINERS))
    if not unknown and vague:
        unknown = _made_here(source, function)
    if unknown:
        text = (
            f"what it returns ({', '.join(sorted(unknown))}) may need pickle, and is then stored only with a secret"
            if "?" not in unknown
            else "it is not known what it returns: a type that needs pickle is stored only where a secret is configured"
        )
        return [Risk("result-type", text, "likely")]
    if mutable:
        return [
            Risk("mutable-result", "each caller gets a copy of its own; before, all of a process shared one object")
        ]
    return []


def _made_here(source: Source, function: Function) -> set[str]:
    """Classes whose instances are made in the body and may be part of what is returned."""
    made = {(dotted(node.func) or "").rpartition(".")[2] for node in own_nodes(function) if isinstance(node, ast.Call)}
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


def _inferred(source: Source, function: Function) -> tuple[set[str], bool]:
    """Types of what is returned that are not known, and whether it can be changed."""
    returned = [
        node.value
        for node in own_nodes(function)
        if isinstance(node, ast.Return) and source.function_of(node) is function and node.value is not None
    ]
    if not any(not isinstance(value, ast.Constant) or value.value is not None for value in returned):
        return {"nothing"}, False
    seen: set[str] = set()
    kinds = {_kind(source, function, value, seen) for value in returned}
    return ({"?"} if "unknown" in kinds else set()), "mutable" in kinds


def _kind(source: Source, function: Function, value: ast.expr, seen: set[str]) -> str:
    def worst(values: Iterable[ast.expr]) -> str:
        kinds = {_kind(source, function, each, seen) for each in values}
        return "unknown" if "unknown" in kinds else "mutable" if "mutable" in kinds else "simple"

    match value:
        case ast.Constant() | ast.JoinedStr() | ast.Compare():
            return "simple"
        case ast.UnaryOp():
            return "simple" if isinstance(value.op, ast.Not) else _kind(source, function, value.operand, seen)
        case ast.Tuple():
            return worst(value.elts)
        case ast.List() | ast.Set():
            return "unknown" if worst(value.elts) == "unknown" else "mutable"
        case ast.Dict():
            return "unknown" if worst([*(k for k in value.keys if k), *value.values]) == "unknown" else "mutable"
        case ast.ListComp() | ast.SetComp():
            return "unknown" if _kind(source, function, value.elt, seen) == "unknown" else "mutable"
        case ast.DictComp():
            return "unknown" if worst([value.key, value.value]) == "unknown" else "mutable"
        case ast.BinOp():
            return worst([value.left, value.right])
        case ast.BoolOp():
            return worst(value.values)
        case ast.IfExp():
            return worst([value.body, value.orelse])
        case ast.Await():
            return _kind(source, function, value.value, seen)
        case ast.Name():
            return _named_kind(source, function, value.id, seen)
        case ast.Call():
            return _called_kind(source, value)
    return "unknown"


def _named_kind(source: Source, function: Function, name: str, seen: set[str]) -> str:
    """Of a local name: that of all that is assigned to it; of a parameter that is plain: simple."""
    if name in seen:
        return "simple"
    seen.add(name)
    given: list[str] = []
    for node in own_nodes(function):
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            given.append(_kind(source, function, node.value, seen))
        elif (
            isinstance(node, (ast.AnnAssign, ast.AugAssign))
            and isinstance(node.target, ast.Name)
            and node.target.id == name
        ):
            given.append(_kind(source, function, node.value, seen) if node.value is not None else "simple")
        elif isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load):
            given.append(
                "simple" if isinstance(source.parents[node], (ast.Assign, ast.AnnAssign, ast.AugAssign)) else "unknown"
            )
    arguments = function.args
    given += [
        "unknown" if _unkeyable(source, function, each, None, starred=False) else "simple"
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        if each.arg == name
    ]
    if not given:
        statement = binding(source, name)
        return (
            "simple" if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant) else "unknown"
        )
    return "unknown" if "unknown" in given else "mutable" if "mutable" in given else "simple"


def _called_kind(source: Source, call: ast.Call) -> str:
    meant = source.resolve(call.func) or dotted(call.func) or ""
    last = call.func.attr if isinstance(call.func, ast.Attribute) else meant.rpartition(".")[2]
    if (
        meant.startswith(("pandas.read_", "pandas.DataFrame", "pandas.concat", "pandas.merge", "numpy."))
        or meant == "json.loads"
    ):
        return "mutable"
    if meant.startswith("math."):
        return "simple"
    if last in MADE and last in ("DataFrame", "Series", "OrderedDict", "Counter"):
        return "mutable"
    if (isinstance(call.func, ast.Name) and meant in TYPED_CALLS) or last in MADE:
        return "mutable" if meant in ("list", "dict", "set", "sorted", "sum", "min", "max") else "simple"
    if isinstance(call.func, ast.Attribute) and last in TYPED_METHODS:
        return "mutable" if last in ("json", "split", "rsplit", "to_dict", "tolist", "to_numpy") else "simple"
    return "unknown"


# --------------------------------------------------------------------------------------------------- body and callers

_LOOKS: Final[dict[str, Confidence]] = {"account": "look", "process": "look", "chance": "look", "state": "look"}


def _body(source: Source, function: Function, project: Mapping[str, Source]) -> list[Risk]:
    body = examine(source, function, project)
    risks = [Risk(code, text, _LOOKS.get(code, "likely")) for code, text in sorted(body.doubts.items())]
    if ACCOUNT_NAME.search(function.name) and "account" not in body.doubts:
        text = f"{function.name}: is its answer the same for every account, user and process?"
        risks.append(Risk("account", text, "look"))
    if body.recursive:
        risks.append(
            Risk(
                "recursion",
                "it calls itself: each level becomes a call over the network, and takes more of the stack",
                "likely",
            )
        )
    if body.slow is None and body.cheap:
        risks.append(
            Risk(
                "cheap", "nothing in it takes time: a hit in Redis costs more than to run it; leave it as it is", "look"
            )
        )
    elif body.slow is None:
        risks.append(
            Risk("cost", "whether it is slower than a round trip to Redis cannot be told from its text", "likely")
        )
    return risks


def _callers(uses: Uses) -> list[Risk]:
    risks = []
    if uses.changed:
        risks.append(
            Risk("shared-reference", f"a caller changes what it is handed ({uses.changed}): others saw that", "likely")
        )
    if uses.compared:
        risks.append(Risk("shared-reference", f"a caller asks for the very object with `is` ({uses.compared})", "look"))
    for name, place in sorted(uses.api.items()):
        if name in ("cache_info", "cache_clear"):
            risks.append(
                Risk(name.replace("_", "-"), f"{name}() is called ({place}): it is there, over all processes' entries")
            )
        else:
            risks.append(Risk("cache-api", f".{name} is used ({place}): what it gives there is not the same", "likely"))
    return risks
