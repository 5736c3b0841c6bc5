"""A near hit: a function with the signature of the one that is cached, generated, which looks the call up by itself.

CPython binds the arguments, fills in the defaults and refuses wrong calls, as it does for any function, so that nothing
of that costs time of ours. The body walks `Near.table`, one step for an argument that is a string and two for another
one (its type, then itself); where the chain ends, or what it finds is past its time, the call goes its usual way::

    def quote(symbol, exchange="NSE"):
        try:
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

__all__ = ["near_call", "path"]

MOST: Final = 12  # arguments; each is a step or two
_EXACT: Final = frozenset({str, int, bool, type(None), bytes, dt.date, dt.timedelta, float})
_TEMPLATE: Final = """
def factory({clock}, {table}, {type}, {str}, {wrong}, {slow}):
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
_OURS: Final = ("clock", "table", "type", "str", "wrong", "slow", "kept")


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


def near_call(callkey: CallKey, table: dict[Any, Any], slow: Callable[..., Any], *, waits: bool) -> FunctionType | None:
    """Generate the function; None where its calls cannot be told by exact arguments alone.

    Args:
        callkey: Of the function.
        table: See `_near.Near`.
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
    mark = "_"
    while any(f"{mark}{own}" in binder.names for own in _OURS):
        mark += "_"
    ours = {own: f"{mark}{own}" for own in _OURS}
    arguments = ", ".join(f"{p.name}={p.name}" if p.kind is inspect.Parameter.KEYWORD_ONLY else p.name for p in given)
    text = _TEMPLATE.format(
        **ours,
        define="async def" if waits else "def",
        wait="await " if waits else "",
        parameters=parameters,
        arguments=arguments,
        walk="\n".join(" " * 12 + line for line in _walk([binder.names[index] for index in indexes], ours)),
    )
    namespace: dict[str, Any] = {}
    exec(text, namespace)  # noqa: S102 - identifiers of a signature, and our own
    made: FunctionType = namespace["factory"](time.time, table, type, str, Exception, slow)
    made.__defaults__, made.__kwdefaults__ = defaults, keyword_defaults
    return made


def _walk(names: Sequence[str], ours: dict[str, str]) -> list[str]:
    at, kept, kind, string = ours["table"], ours["kept"], ours["type"], ours["str"]
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
