"""A near hit: a function with the signature of the one that is cached, generated, which looks the call up by itself.

CPython binds the arguments, fills in the defaults and refuses wrong calls, as it does for any function, so that nothing
of that costs time of ours. The body walks `Near.table`, one step for an argument that is a string and two for another
one (its type, then itself); where the chain ends, or what it finds is past its time, the call goes its usual way. Where
all that has a default was left out there is nothing to be walked for it, in `Near.brief`::

    def quote(symbol, exchange="NSE"):
        try:
            if exchange is default0:
                if type(symbol) is str:
                    kept = brief[symbol]
                else:
                    kept = brief[type(symbol)][symbol]
            else:
                if type(symbol) is str:
                    kept = table[symbol]
                else:
                    kept = table[type(symbol)][symbol]
                if type(exchange) is str:
                    kept = kept[exchange]
                else:
                    kept = kept[type(exchange)][exchange]
            if kept.until > clock():
                kept.hits += 1.0
                return kept.value
            if kept.lent > clock():
                kept.hits += 1.0
                return kept.make()
        except Exception:
            pass
        return slow(symbol, exchange)

Two calls that find one entry have equal digests (P1), because of what is let into the table (`path`): strings, numbers
and the like by exact type, of which equal ones are encoded alike. Zero (of two signs) and NaN are not let in. A type
that is not in the table ends the walk before anything is asked of the object, so that no hash or comparison of a
user's class is ever called.

Counting needs no lock: since Python 3.10 the interpreter switches threads at calls and backward jumps only, of which
there are none between reading and writing a counter. An entry that is dropped is summed up when nobody holds it any
more. The counter is a float because CPython makes those faster than ints (exact up to 2**53).
"""

from __future__ import annotations

import datetime as dt
import inspect
import time
from typing import TYPE_CHECKING, Any, Final

from ._call import spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FunctionType

    from ._call import CallKey
    from ._near import Near, Paths

__all__ = ["near_call", "path", "paths"]

MOST: Final = 12  # arguments; each is a step or two
_EXACT: Final = frozenset({str, int, bool, type(None), bytes, dt.date, dt.timedelta, float})
_TEMPLATE: Final = """
def factory({clock}, {table}, {brief}, {type}, {str}, {wrong}, {slow}, {defaults}):
    {define} call({parameters}):
        try:
{walk}
            if {kept}.until > {clock}():
                {kept}.hits += 1.0
                return {kept}.value
            if {kept}.lent > {clock}():
                {kept}.hits += 1.0
                return {kept}.make()
        except {wrong}:
            pass
        return {wait}{slow}({arguments})
    return call
"""
_OURS: Final = ("clock", "table", "brief", "type", "str", "wrong", "slow", "kept")


def path(callkey: CallKey, values: Sequence[object]) -> tuple[Any, ...] | None:
    """Where the generated function looks for a call with these arguments; None where it cannot."""
    indexes = callkey.direct
    if indexes is None or len(indexes) > MOST:
        return None
    steps: list[Any] = []
    for index in indexes:
        value = values[index]
        cls = type(value)
        if cls not in _EXACT or (cls is float and (value == 0.0 or value != value)):  # noqa: PLR0124 - NaN
            return None
        if cls is not str:
            steps.append(cls)
        steps.append(value)
    return tuple(steps) or (None,)


def paths(callkey: CallKey, values: Sequence[object]) -> Paths | None:
    """The same in `Near.table` and in `Near.brief`: None for the latter where an argument is not its default."""
    whole = path(callkey, values)
    if whole is None:
        return None
    assert callkey.direct is not None
    binder = callkey.binder
    steps: list[Any] = []
    for index in callkey.direct:
        value, name = values[index], binder.names[index]
        if name not in binder.defaults:
            steps += [value] if type(value) is str else [type(value), value]
        elif type(value) is not type(binder.defaults[name]) or value != binder.defaults[name]:
            return whole, None
    return whole, tuple(steps) or (None,)


def near_call(callkey: CallKey, near: Near, slow: Callable[..., Any], *, waits: bool) -> FunctionType | None:
    """Generate the function; None where its calls cannot be told by exact arguments alone.

    Args:
        callkey: Of the function.
        near: Where it looks.
        slow: Does what remains to be done; is called as the function was, with the defaults filled in.
        waits: Whether the function is an ``async def``, and ``slow`` to be awaited.
    """
    indexes, binder = callkey.direct, callkey.binder
    if indexes is None or len(indexes) > MOST:
        return None
    given = [
        inspect.Parameter(name, kind, default=binder.defaults.get(name, inspect.Parameter.empty))
        for name, kind in zip(binder.names, binder.kinds, strict=True)
    ]
    parameters, defaults, keyword_defaults = spelled(given, None)
    names = [binder.names[index] for index in indexes]
    defaulted = [name for name in names if name in binder.defaults]
    own = (*_OURS, *(f"default{nth}" for nth in range(len(defaulted))))
    mark = "_"
    while any(f"{mark}{each}" in binder.names for each in own):
        mark += "_"
    ours = {each: f"{mark}{each}" for each in own}
    marks = [ours[f"default{nth}"] for nth in range(len(defaulted))]
    arguments = ", ".join(f"{p.name}={p.name}" if p.kind is inspect.Parameter.KEYWORD_ONLY else p.name for p in given)
    walk = _walk(names, "table", ours)
    if defaulted:
        left_out = " and ".join(f"{name} is {default}" for name, default in zip(defaulted, marks, strict=True))
        short = _walk([name for name in names if name not in binder.defaults], "brief", ours)
        walk = [f"if {left_out}:", *(f"    {line}" for line in short), "else:", *(f"    {line}" for line in walk)]
    text = _TEMPLATE.format(
        **ours,
        defaults=", ".join(marks),
        define="async def" if waits else "def",
        wait="await " if waits else "",
        parameters=parameters,
        arguments=arguments,
        walk="\n".join(" " * 12 + line for line in walk),
    )
    namespace: dict[str, Any] = {}
    exec(text, namespace)  # noqa: S102 - identifiers of a signature, and our own
    made: FunctionType = namespace["factory"](
        time.time, near.table, near.brief, type, str, Exception, slow, *(binder.defaults[name] for name in defaulted)
    )
    made.__defaults__, made.__kwdefaults__ = defaults, keyword_defaults
    return made


def _walk(names: Sequence[str], start: str, ours: dict[str, str]) -> list[str]:
    at, kept, kind, string = ours[start], ours["kept"], ours["type"], ours["str"]
    if not names:
        return [f"{kept} = {at}[None]"]
    lines = []
    for name in names:
        lines += [
            f"if {kind}({name}) is {string}:",
            f"    {kept} = {at}[{name}]",
            "else:",
            f"    {kept} = {at}[{kind}({name})][{name}]",
        ]
        at = kept
    return lines
