"""Caches that a library makes: decorators, functions applied to functions, and objects that hold entries."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from ._adopt_finding import LEFT_ALONE, Finding, Lifetime, Project, Replace, no_expiry, proposal
from ._adopt_judge import Risk
from ._adopt_options import cachetools_options, lifetime_of, lru_options, maker
from ._adopt_source import Function, Source, dotted, text_of
from ._adopt_words import (
    ALONE,
    CACHETOOLS,
    DESTROYING,
    HOLDERS,
    LIFETIMES,
    LIKE_A_CACHE,
    LRU,
    MAY_STAND_ABOVE,
    METHODS,
    NO_CACHE,
    OTHERS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["candidates", "find_library", "holders"]

# These await what they keep.
_AWAITING = (
    "asyncache",
    "cachetools_async",
    "alru_cache",
    "aiocache",
    "fastapi_cache",
    "cachier",
    "cachebox",
    "theine",
)


def holders(project: Project) -> dict[str, tuple[str, str | None]]:
    """`HOLDERS`, with the code base's own classes that derive from one of them."""
    found = dict(HOLDERS)
    for _ in range(3):  # a class derived from one derived from one
        for source in project.sources:
            for node in source.nodes:
                if isinstance(node, ast.ClassDef):
                    for base in node.bases:
                        meant = project.meaning(source, base) or f"{source.module}.{dotted(base)}"
                        if meant in found:
                            kind, lifetime = found[meant]
                            found.setdefault(
                                f"{source.module}.{source.qualified(node)}", (f"{node.name} ({kind})", lifetime)
                            )
    return found


def candidates(project: Project) -> set[str]:
    """Names of functions whose uses are to be looked at: those below a decorator, and those applied by hand."""
    names = set()
    for source in project.sources:
        for node in source.nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.decorator_list:
                names.add(node.name)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                names |= {(dotted(target) or "").rpartition(".")[2] for target in node.targets}
    return names - {""}


def find_library(source: Source, project: Project) -> Iterator[Finding]:
    """Every cache in a file that a library makes."""
    aliases = _aliases(source, project)
    used: set[int] = set()
    for node in source.nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for decorator in node.decorator_list:
                found = _decorated(source, project, node, decorator, aliases)
                if found is not None:
                    used |= {id(each) for each in ast.walk(decorator)}
                    yield found
        elif isinstance(node, ast.Call) and id(node) not in used:
            found = _applied(source, project, node)
            if found is not None:
                used |= {id(each) for each in ast.walk(node.func)}
                yield found
    for node in source.nodes:
        if isinstance(node, ast.Call) and id(node) not in used:
            held = _held(source, project, node)
            if held is not None:
                yield held


def _aliases(source: Source, project: Project) -> dict[str, ast.expr]:
    """``memo = lru_cache(maxsize=None)`` and ``memo = lru_cache`` at the top of a file."""
    found = {}
    for node in source.tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            value = node.value
            call = isinstance(value, ast.Call)
            meant = project.meaning(source, value.func if isinstance(value, ast.Call) else value)
            applied = isinstance(value, ast.Call) and value.args and not isinstance(value.args[0], ast.Constant)
            if meant in {**LRU, **CACHETOOLS, **OTHERS} and not (call and applied and meant in LRU):
                found[node.targets[0].id] = value
    return found


def _decorated(
    source: Source,
    project: Project,
    function: Function,
    decorator: ast.expr,
    aliases: dict[str, ast.expr],
) -> Finding | None:
    called = decorator if isinstance(decorator, ast.Call) else None
    name = called.func if called is not None else decorator
    meant = project.meaning(source, name) or ""
    last = _last(function, decorator)
    qualified = source.qualified(function)
    if meant in ALONE:
        kind, reason = ALONE[meant]
        return Finding(
            source=source,
            line=decorator.lineno,
            last=last,
            kind=kind,
            name=qualified,
            base="alone",
            becomes=LEFT_ALONE,
            risks=(Risk("left-alone", reason, "alone"),),
        )
    extra = _neighbours(function, decorator)
    alias = aliases.get(dotted(name) or "") if not meant else None
    if alias is not None:
        inner = alias.func if isinstance(alias, ast.Call) else alias
        meant = project.meaning(source, inner) or ""
        called = alias if isinstance(alias, ast.Call) else called
        extra.append(
            Risk("alias", f"{text_of(name)} stands for {text_of(alias)}, which others may use as well", "likely")
        )
    elif meant in {**LRU, **CACHETOOLS} and not _at_top(source, name):
        extra.append(
            Risk("import", f"{text_of(name)} is not bound by one plain import at the top of the file", "likely")
        )
    if meant in LRU or meant in CACHETOOLS:
        return _moved(
            source,
            project,
            function,
            decorator,
            called=called,
            name=name,
            meant=meant,
            extra=extra,
            replaceable=alias is None,
        )
    named, lifetime = _other(source, project, name, called, meant)
    if named is None:
        return _called_a_cache(source, project, function, decorator, name=name, lifetime=lifetime)
    kind = named
    risks = [*extra, *project.judge(source, function, function.name)]
    if kind.startswith(_AWAITING):
        risks = [risk for risk in risks if risk.code != "async"]
    options = {}
    if called is not None:
        ignored = next((k.value for k in called.keywords if k.arg == "ignore"), None)
        if ignored is not None:
            options["ignore"] = text_of(ignored)
        if kind == "joblib.Memory.cache":
            risks.append(
                Risk("files", "its store on disk stays behind: `redis-memo migrate` can bring the entries along")
            )
    if lifetime is None:
        lifetime = project.lifetime
        risks.append(no_expiry(project.lifetime))
    _, becomes = proposal(source, function, lifetime, options)
    return Finding(
        source=source,
        line=decorator.lineno,
        last=last,
        kind=kind,
        name=qualified,
        becomes=becomes,
        risks=tuple(risks),
        base="likely",
    )


def _called_a_cache(
    source: Source,
    project: Project,
    function: Function,
    decorator: ast.expr,
    *,
    name: ast.expr,
    lifetime: Lifetime | None,
) -> Finding | None:
    """A decorator of which nothing but its name is known, as ``@cached_for(minutes=5)``."""
    path = dotted(name) or ""
    last = path.rpartition(".")[2]
    meant = project.meaning(source, name) or ""
    if not LIKE_A_CACHE.search(last) or NO_CACHE.search(last) or meant.startswith("redis_memo."):
        return None
    lifetime = lifetime or project.lifetime
    _, becomes = proposal(source, function, lifetime)
    return Finding(
        source=source,
        line=decorator.lineno,
        last=_last(function, decorator),
        kind="decorator named a cache",
        name=source.qualified(function),
        holder=f"@{path}",
        base="look",
        becomes=becomes,
        risks=(
            Risk("options", f"what @{path} keeps, where and for how long, is to be seen where it is defined", "look"),
        ),
    )


def _last(function: Function, decorator: ast.expr) -> int:
    return max(decorator.end_lineno or decorator.lineno, function.lineno)


def _at_top(source: Source, name: ast.expr) -> bool:
    head = (dotted(name) or "").partition(".")[0]
    for node in source.tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                if (alias.asname or alias.name.partition(".")[0]) == head:
                    return source.certain(name)
    return False


def _neighbours(function: Function, decorator: ast.expr) -> list[Risk]:
    """Doubts because of the decorators above and below."""
    others = [each for each in function.decorator_list if each is not decorator]
    names = [(dotted(each.func if isinstance(each, ast.Call) else each) or "?") for each in others]
    risks = []
    for each, name in zip(others, names, strict=True):
        above = function.decorator_list.index(each) < function.decorator_list.index(decorator)
        last = name.rpartition(".")[2]
        if last in DESTROYING and not above:
            risks.append(
                Risk("decorators", f"stands above @{name}, which makes no function that can be cached", "alone")
            )
        elif not (above and last in MAY_STAND_ABOVE):
            where = "above" if above else "below"
            risks.append(
                Risk(
                    "decorators",
                    f"@{name} stands {where} it: whether it takes a function that asks Redis is to be seen",
                    "likely",
                )
            )
    return risks


def _moved(
    source: Source,
    project: Project,
    function: Function,
    decorator: ast.expr,
    *,
    called: ast.Call | None,
    name: ast.expr,
    meant: str,
    extra: list[Risk],
    replaceable: bool,
) -> Finding:
    """A decorator that `adopt` replaces where everything is known: ``lru_cache``, ``cache``, ``cachetools.cached``."""
    risks = [*extra]
    if meant in LRU:
        kind, lifetime, options = LRU[meant], None, lru_options(source, called, risks)
    else:
        kind = CACHETOOLS[meant]
        lifetime, holder, options = cachetools_options(source, project, called, risks)
        kind = f"{kind}({holder})" if holder else kind
    if lifetime is None:
        lifetime = project.lifetime
        risks.append(no_expiry(lifetime))
    risks += project.judge(source, function, function.name)
    written, becomes = proposal(source, function, lifetime, options)
    return Finding(
        source=source,
        line=decorator.lineno,
        last=_last(function, decorator),
        kind=kind,
        name=source.qualified(function),
        becomes=becomes,
        risks=tuple(risks),
        replace=Replace(decorator, name, written, lifetime) if replaceable else None,
    )


def _other(
    source: Source,
    project: Project,
    name: ast.expr,
    called: ast.Call | None,
    meant: str,
) -> tuple[str | None, Lifetime | None]:
    """Kind and lifetime of a decorator that is reported only."""
    lifetime = None
    if called is not None:
        value = next((k.value for k in called.keywords if k.arg in LIFETIMES), None)
        if value is not None and not (isinstance(value, ast.Constant) and value.value is None):
            lifetime = Lifetime(text_of(value), chosen=True)
    if meant in OTHERS:
        return OTHERS[meant], lifetime
    if isinstance(name, ast.Attribute):
        made = maker(source, project, name.value)
        if made is not None and name.attr in METHODS.get(made[0], {}):
            return f"{made[0]}.{name.attr}", lifetime
        if isinstance(name.value, ast.Call):  # Memory("cache").cache
            direct = project.holders.get(project.meaning(source, name.value.func) or "", ("", None))[0]
            if name.attr in METHODS.get(direct, {}):
                return f"{direct}.{name.attr}", lifetime
        if name.attr == "cache" and (dotted(name.value) or "").rpartition(".")[2].lower() in (
            "memory",
            "mem",
            "_memory",
        ):
            return "joblib.Memory.cache", lifetime
        if name.attr in ("cache_on_arguments", "cache_multi_on_arguments"):
            return "dogpile.cache", lifetime
    return None, None


def _applied(source: Source, project: Project, node: ast.Call) -> Finding | None:
    """``lru_cache(maxsize=None)(f)``, ``cache(f)``, ``memory.cache(f)``."""
    inner = node.func if isinstance(node.func, ast.Call) else None
    name = inner.func if inner is not None else node.func
    meant = project.meaning(source, name) or ""
    kind, lifetime = ({**LRU, **CACHETOOLS}.get(meant), None)
    if kind is None:
        kind, lifetime = _other(source, project, name, inner or node, meant)
    if kind is None or len(node.args) < 1:
        return None
    target = node.args[0]
    if inner is None and not _is_function(source, target):
        return None  # lru_cache(128): a decorator that is kept in a name, or stands above a function
    risks: list[Risk] = []
    above = source.parents.get(node)
    assigned = above.targets[0] if isinstance(above, ast.Assign) and len(above.targets) == 1 else None
    options: dict[str, str] = {}
    if meant in LRU:
        options = lru_options(source, inner, risks)
    elif meant in CACHETOOLS:
        lifetime, _, options = cachetools_options(source, project, inner, risks)
    if lifetime is None:
        lifetime = project.lifetime
        risks.append(no_expiry(lifetime))
    function = _function_named(source, target)
    if function is None:
        risks.append(
            Risk(
                "applied",
                f"what it is applied to ({text_of(target)[:60]}) is not a function at the top of this file",
                "look",
            )
        )
    else:
        label = (dotted(assigned) or "").rpartition(".")[2] if assigned is not None else ""
        risks += project.judge(source, function, label)
        if function.decorator_list:
            risks.append(Risk("decorators", f"{function.name} has decorators of its own", "likely"))
    if assigned is None or not isinstance(assigned, ast.Name) or source.function_of(node) is not None:
        risks.append(Risk("applied", "the cached function is not kept in a name at the top of the file", "look"))
    elif source.global_names.get(assigned.id, 0) != 1:
        risks.append(Risk("redefined", f"{assigned.id} is bound more than once in this file", "likely"))
    if meant in {**LRU, **CACHETOOLS} and not _at_top(source, name):
        risks.append(
            Risk("import", f"{text_of(name)} is not bound by one plain import at the top of the file", "likely")
        )
    written, becomes = proposal(source, function, lifetime, options)
    shown = text_of(assigned) if assigned is not None else text_of(target)[:60]
    code, _, remark = becomes.removeprefix("@").partition("  #")
    becomes = f"{f'{shown} = ' if assigned is not None else ''}{code}({text_of(target)[:60]})" + (
        f"  #{remark}" if remark else ""
    )
    replace = (
        Replace(node.func, name, written, lifetime)
        if meant in LRU or (meant in CACHETOOLS and inner is not None)
        else None
    )
    return Finding(
        source=source,
        line=node.lineno,
        last=node.end_lineno or node.lineno,
        kind=kind,
        name=shown,
        becomes=becomes,
        risks=tuple(risks),
        replace=replace,
        base="sure" if replace else "likely",
    )


def _is_function(source: Source, node: ast.expr) -> bool:
    """Whether an argument can be a function: a lambda, or a name that is no number."""
    if isinstance(node, ast.Lambda):
        return True
    return _function_named(source, node) is not None or (isinstance(node, ast.Attribute) and dotted(node) is not None)


def _function_named(source: Source, node: ast.expr) -> Function | None:
    if not isinstance(node, ast.Name) or source.global_names.get(node.id, 0) != 1:
        return None
    found = [
        each
        for each in source.tree.body
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) and each.name == node.id
    ]
    return found[0] if found else None


def _held(source: Source, project: Project, node: ast.Call) -> Finding | None:
    """An object that holds entries, where it is made."""
    meant = project.meaning(source, node.func) or f"{source.module}.{dotted(node.func)}"
    if meant not in project.holders:
        return None
    kind, argument = project.holders[meant]
    above = source.parents.get(node)
    targets = (
        above.targets if isinstance(above, ast.Assign) else [above.target] if isinstance(above, ast.AnnAssign) else []
    )
    name = text_of(targets[0]) if targets else f"{kind}(...)"
    owner = next((each.name for each in source.ancestors(node) if isinstance(each, ast.ClassDef)), None)
    if owner and name.startswith("self."):
        name = f"{owner}.{name.removeprefix('self.')}"
    lifetime = lifetime_of(source, node, argument) or Lifetime(project.lifetime.text, chosen=False)
    risks = [] if argument and lifetime.chosen else [no_expiry(lifetime)]
    risks.append(
        Risk(
            "shared-reference",
            "entries are objects that all who look share; from Redis each caller gets a copy",
            "likely",
        )
    )
    space = proposal(source, None, lifetime)[0]
    return Finding(
        source=source,
        line=node.lineno,
        last=node.end_lineno or node.lineno,
        kind=kind,
        name=name,
        risks=tuple(risks),
        base="likely",
        becomes=f"@redis_cached({space}) on the function that fills it",
    )
