"""What a library's cache was told: its size, its expiry, its key; and where the object is made that a name holds."""

from __future__ import annotations

import ast

from ._adopt_body import binding
from ._adopt_finding import Lifetime, Project
from ._adopt_judge import Risk
from ._adopt_source import Source, dotted, text_of
from ._adopt_words import HOLDERS

__all__ = ["cachetools_options", "lifetime_of", "lru_options", "maker"]

_LARGE, _BITS = 10**9, 64  # of numbers that are worked out here


def lru_options(source: Source, called: ast.Call | None, risks: list[Risk]) -> dict[str, str]:
    """Options of ``redis_cached`` in the place of ``lru_cache``'s own; what cannot be kept goes to ``risks``."""
    if called is None:
        return {}
    given = {
        **dict(zip(("maxsize", "typed"), called.args, strict=False)),
        **{k.arg or "**": k.value for k in called.keywords},
    }
    if "**" in given:
        risks.append(Risk("options", "its options are not written out", "likely"))
    if "typed" in given:
        risks.append(Risk("typed", "1, 1.0 and True are three calls here, as with typed=True"))
    return _size(source, given.get("maxsize"), risks)


def _size(source: Source, size: ast.expr | None, risks: list[Risk]) -> dict[str, str]:
    """``maxsize`` as `redis_cached` takes it: a number of at least 2, or an expression that stands for one."""
    if size is None or (isinstance(size, ast.Constant) and size.value is None):
        return {}
    text = source.text[slice(*source.span(size))]
    text = text if text.isprintable() else text_of(size)
    value = _number(source, size)
    if value is None:
        risks.append(Risk("maxsize", f"maxsize={text}: here it has to be a whole number above 0, or None", "likely"))
    elif value == float("inf"):
        return {}
    elif value <= 0 or value != int(value):
        risks.append(Risk("maxsize", f"maxsize={text} caches nothing, or is not a number of entries", "alone"))
        return {}
    elif value == 1:
        risks.append(Risk("maxsize", "maxsize=1 keeps the latest call only, which may be meant", "likely"))
    elif isinstance(value, float):
        return {"maxsize": str(int(value))}
    return {"maxsize": text}


def _number(source: Source, node: ast.expr) -> int | float | None:
    """What an expression of numbers, and of the module's names for numbers, comes to; None where it is not told."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, (int, float)) and not isinstance(node.value, bool) else None
    if isinstance(node, ast.Name):
        made = binding(source, node.id)
        value = made.value if isinstance(made, (ast.Assign, ast.AnnAssign)) else None
        return _number(source, value) if value is not None and not isinstance(value, ast.Name) else None
    if source.resolve(node) == "math.inf":
        return float("inf")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _number(source, node.operand)
        return None if inner is None else -inner
    if isinstance(node, ast.BinOp):
        left, right = _number(source, node.left), _number(source, node.right)
        if isinstance(left, int) and isinstance(right, int) and 0 <= left <= _LARGE and 0 <= right <= _LARGE:
            if isinstance(node.op, ast.Mult):
                return left * right
            if isinstance(node.op, ast.Pow) and right <= _BITS:
                return int(left**right)
    return None


def cachetools_options(
    source: Source,
    project: Project,
    called: ast.Call | None,
    risks: list[Risk],
) -> tuple[Lifetime | None, str, dict[str, str]]:
    """Expiry, kind and options of the cache of ``cachetools.cached``; what cannot be kept goes to ``risks``."""
    if called is None:
        risks.append(Risk("options", "it is given no cache", "likely"))
        return None, "", {}
    given = {
        **dict(zip(("cache", "key", "lock"), called.args, strict=False)),
        **{k.arg or "**": k.value for k in called.keywords},
    }
    usual = {"cachetools.keys.hashkey", "cachetools.keys.typedkey"}
    risks += [
        Risk("key", f"{option}={text_of(given[option])} decides what equal calls are: say it with key=", "likely")
        for option in sorted(given.keys() - {"cache", "lock", "info"})
        if option != "key" or project.meaning(source, given[option]) not in usual
    ]
    lock = given.get("lock")
    if lock is not None and not isinstance(lock, ast.Call) and not isinstance(lock, ast.Constant):
        risks.append(Risk("lock", f"{text_of(lock)} may guard other things as well", "likely"))
    cache = given.get("cache")
    if isinstance(cache, ast.Dict) and not cache.keys:
        return None, "dict", {}
    if not isinstance(cache, ast.Call):
        risks.append(
            Risk(
                "shared-reference",
                f"its cache is {text_of(cache) if cache else 'unknown'}, which others may use",
                "likely",
            )
        )
        where = maker(source, project, cache) if cache is not None else None
        return (where[2], where[0], {}) if where else (None, "", {})
    meant = project.meaning(source, cache.func) or ""
    if meant not in project.holders:
        kind = "dict" if dotted(cache.func) in ("dict", "OrderedDict") else ""
        if not kind:
            risks.append(Risk("options", f"its cache is {text_of(cache)}, which is not known", "likely"))
        return None, kind, {}
    kind, argument = project.holders[meant]
    if any(k.arg in ("timer", "getsizeof", None) for k in cache.keywords) or (meant not in HOLDERS):
        risks.append(Risk("options", f"{text_of(cache)} counts time or size in a way of its own", "likely"))
    size = next((k.value for k in cache.keywords if k.arg == "maxsize"), cache.args[0] if cache.args else None)
    return lifetime_of(source, cache, argument), kind, _size(source, size, risks)


def lifetime_of(source: Source, call: ast.Call, argument: str | None) -> Lifetime | None:
    """The expiry that a call states, as it is written."""
    if argument is None:
        return None
    value = next((k.value for k in call.keywords if k.arg == argument), None)
    if value is None and len(call.args) > 1:
        value = call.args[1]
    if value is None or (isinstance(value, ast.Constant) and not isinstance(value.value, (int, float))):
        return None
    start, end = source.span(value)
    text = source.text[start:end]
    return Lifetime(text if text.isprintable() else text_of(value), chosen=True)


def maker(source: Source, project: Project, node: ast.expr) -> tuple[str, str, Lifetime | None] | None:
    """Kind, place and lifetime of the cache object that a name or attribute holds, wherever it is made."""
    path = dotted(node)
    if path is None:
        return None
    where, wanted = source, path
    meant = project.meaning(source, node)
    if meant is not None:
        module, _, wanted = meant.rpartition(".")
        if module not in project.modules:
            return None
        where = project.modules[module]
    for each in where.bound.get(wanted, []):
        value = each.value
        if isinstance(value, ast.Call):
            made = project.meaning(where, value.func) or f"{where.module}.{dotted(value.func)}"
            if made in project.holders:
                kind, argument = project.holders[made]
                return kind, f"{where.shown}:{each.lineno}", lifetime_of(where, value, argument)
    return None
