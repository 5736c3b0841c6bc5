"""How sure it is that a function may be cached in Redis: from its parameters, its result, its body and its callers.

A proposal starts as sure, and each doubt lowers it. What is left as sure is rewritten, so the rule is strict, and
written down in docs/adopt.md: everything has to be known, what is unknown counts against it.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from ._adopt_body import examine, is_method, own_nodes
from ._adopt_types import result_of, unkeyable
from ._adopt_words import ACCOUNT_NAME, MARKET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ._adopt_source import Function, Source
    from ._adopt_uses import Uses

__all__ = ["Confidence", "Risk", "is_market_data", "judge", "lowest"]

Confidence: TypeAlias = Literal["sure", "likely", "look", "alone"]
_ORDER: Final[tuple[Confidence, ...]] = ("sure", "likely", "look", "alone")


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
        *_result(source, function, project),
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
        doubt = unkeyable(source, function, each, defaults.get(each.arg), starred=each in loose)
        if doubt is not None:
            risks.append(Risk("unkeyable-argument", f"{each.arg}: {doubt}", "likely"))
        if _means_now(each.arg, defaults.get(each.arg)):
            text = f"{each.arg}=None may mean now: calls of two days are one call, until the entry expires"
            risks.append(Risk("time-dependent", text, "likely"))
    return risks


def _means_now(name: str, default: ast.expr | None) -> bool:
    """``from_date=None``: a date that is made up inside where it is missing."""
    if not isinstance(default, ast.Constant) or default.value is not None:
        return False
    return bool(
        re.search(r"(?:^|_)(?:date|from|to|start|end|until|since|at|as_of|when|day|now|time|timestamp)(?:_|$)", name)
    )


# ------------------------------------------------------------------------------------------------------------- result


def _result(source: Source, function: Function, project: Mapping[str, Source]) -> list[Risk]:
    unknown, mutable = result_of(source, function, project)
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
                "cheap",
                "nothing in it takes time: a hit in Redis costs more than to run it; leave it as it is",
                "alone",
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
    if uses.counted:
        text = (
            f"a test counts calls ({uses.counted}) and nothing empties the cache before: entries outlive the tests' "
            "process, so their second run counts other numbers. Call cache_clear() in a fixture"
        )
        risks.append(Risk("tests", text, "likely"))
    for name, place in sorted(uses.api.items()):
        if name in ("cache_info", "cache_clear"):
            risks.append(
                Risk(name.replace("_", "-"), f"{name}() is called ({place}): it is there, over all processes' entries")
            )
        else:
            risks.append(Risk("cache-api", f".{name} is used ({place}): what it gives there is not the same", "likely"))
    return risks
