"""A near hit: a function with the signature of the one that is cached, generated, which looks the call up by itself.

CPython binds the arguments, fills in the defaults and refuses wrong calls, as it does for any function, so that nothing
of that costs time of ours. The body walks `Tables`, from one argument's dict to the next one's. Where the walk ends, or
its time is past, the call goes its usual way. Where all that has a default was left out there is nothing to be walked
for it::

    def quote(symbol, exchange="NSE"):
        try:
            if until > clock():
                if exchange is default0:
                    if type(symbol) is kind0:
                        return next(brief[symbol])
                    return next(brief[type(symbol)][symbol])
                if type(symbol) is kind0 and type(exchange) is kind1:
                    return next(table[symbol][exchange])
                return next(table[type(symbol)][symbol][type(exchange)][exchange])
        except Exception:
            pass
        return slow(symbol, exchange)

Two calls that find one entry have equal digests (P1), because of what is let into the tables (`path`): strings, numbers
and the like by exact type, of which equal ones are encoded alike. Zero (of two signs) and NaN are not let in. The kinds
are the types of the first arguments that were let in; later ones seldom differ, and such calls take half as many steps.
A type that is not in the table ends the walk before anything is asked of the object, so that no hash or
comparison of a user's class is ever called.

Counting needs no lock: CPython switches threads after calls, at the begin of functions and at backward jumps only, of
which there are none between finding an iterator and its counting.
"""

from __future__ import annotations

import datetime as dt
import inspect
import time
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ._call import spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ._call import CallKey

__all__ = ["Paths", "Tables", "near_call", "path", "paths"]

MOST: Final = 12  # arguments; each is a step or two
_EXACT: Final = frozenset({str, int, bool, type(None), bytes, dt.date, dt.timedelta, float})
_TEMPLATE: Final = """
def factory({cells}):
    {define} call({parameters}):
        try:
            if {until} > {clock}():
{walk}
        except {wrong}:
            pass
        return {wait}{slow}({arguments})
    return call
"""

Paths: TypeAlias = tuple[tuple[Any, ...], tuple[int, ...] | None]
"""The arguments by which a call is found; and which of them it is found by where all that has a default is left out, if
that means the same call."""


class Tables:
    """Where generated functions look: chains of dicts from a call's arguments to an iterator over its value.

    An argument is one step if all of them are of the usual kinds, else two: its type, then itself.
    """

    def __init__(self) -> None:
        self.table: dict[Any, Any] = {}
        self.brief: dict[Any, Any] = {}  # where all that has a default is left out
        # These are the functions' own, too. The kinds change once, before anything is in the tables: whoever is on the
        # way there with a string, which is the kind until then, finds nothing.
        self.moment = CellType(0.0)
        self.kinds: list[CellType] = []
        self._learnt = False

    @property
    def until(self) -> float:
        """Seconds since 1970 until when what is in them may be served."""
        return self.moment.cell_contents  # type: ignore[no-any-return]

    @until.setter
    def until(self, moment: float) -> None:
        self.moment.cell_contents = moment

    def kinds_of(self, number: int) -> list[CellType]:
        """The cells of the kinds of so many arguments."""
        self.kinds += [CellType(str) for _ in range(len(self.kinds), number)]
        return self.kinds

    def put(self, paths: Paths, values: Iterator[Any]) -> None:
        """Let a call be found."""
        if not self._learnt:
            self._learnt = True
            for cell, argument in zip(self.kinds_of(len(paths[0])), paths[0], strict=True):
                cell.cell_contents = str if argument is None else type(argument)
        for inner, steps in self._ways(paths):
            for step in steps[:-1]:
                inner = inner.setdefault(step, {})  # noqa: PLW2901
            inner[steps[-1]] = values

    def take(self, paths: Paths) -> None:
        """Let a call be found no more."""
        for table, steps in self._ways(paths):
            above = [table]
            for step in steps[:-1]:
                above.append(above[-1][step])
            for inner, step in zip(reversed(above), reversed(steps), strict=True):
                del inner[step]
                if inner:
                    break

    def clear(self) -> None:
        """Let nothing be found."""
        self.until = 0.0
        self.table.clear()  # generated functions hold these very dicts
        self.brief.clear()

    def _ways(self, paths: Paths) -> list[tuple[dict[Any, Any], tuple[Any, ...]]]:
        arguments, short = paths
        ways = [(self.table, self._steps(arguments, range(len(arguments))))]
        return ways if short is None else [*ways, (self.brief, self._steps(arguments, short))]

    def _steps(self, arguments: Sequence[Any], positions: Sequence[int]) -> tuple[Any, ...]:
        given = [arguments[at] for at in positions]
        if [type(each) for each in given] == [self.kinds[at].cell_contents for at in positions]:
            return tuple(given) or (None,)
        return tuple(step for each in given for step in (type(each), each))


def path(callkey: CallKey, values: Sequence[object]) -> tuple[Any, ...] | None:
    """The arguments by which the generated function finds a call; None where it cannot."""
    indexes = callkey.direct
    if indexes is None or len(indexes) > MOST:
        return None
    found = tuple(values[index] for index in indexes)
    for value in found:
        cls = type(value)
        if cls not in _EXACT or (cls is float and (value == 0.0 or value != value)):  # noqa: PLR0124 - NaN
            return None
    return found


def paths(callkey: CallKey, values: Sequence[object]) -> Paths | None:
    """The same as `Paths`."""
    whole = path(callkey, values)
    if whole is None:
        return None
    assert callkey.direct is not None
    defaults, positions = callkey.binder.defaults, []
    for position, (index, value) in enumerate(zip(callkey.direct, whole, strict=True)):
        name = callkey.binder.names[index]
        if name not in defaults:
            positions.append(position)
        elif type(value) is not type(defaults[name]) or value != defaults[name]:
            return whole, None
    return whole, tuple(positions)


def near_call(callkey: CallKey, tables: Tables, slow: Callable[..., Any], *, waits: bool) -> FunctionType | None:
    """Generate the function; None where its calls cannot be told by exact arguments alone.

    Args:
        callkey: Of the function.
        tables: Where it looks.
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
    arguments = ", ".join(f"{p.name}={p.name}" if p.kind is inspect.Parameter.KEYWORD_ONLY else p.name for p in given)
    mark = "_"
    while any(name.startswith(mark) for name in binder.names):
        mark += "_"
    # What takes part in a call is a constant of its code where it can be: a cell takes its time at each call.
    constants: dict[str, object] = {"clock": time.time, "type": type, "next": next, "wrong": Exception}
    cells = {
        f"{mark}table": CellType(tables.table), f"{mark}brief": CellType(tables.brief), f"{mark}until": tables.moment,
        f"{mark}slow": CellType(slow),
    }  # fmt: skip
    kinds, left_out = {}, {}
    for nth, (index, kind) in enumerate(zip(indexes, tables.kinds_of(len(indexes)), strict=True)):
        name = binder.names[index]
        kinds[name] = f"{mark}kind{nth}"
        cells[kinds[name]] = kind
        if name not in binder.defaults:
            continue
        default, left_out[name] = binder.defaults[name], f"{mark}default{nth}"
        if default is None:
            left_out[name] = "None"
        elif type(default) in _EXACT:
            constants[f"default{nth}"] = default
            left_out[name] = _constant(f"default{nth}")
        else:
            cells[left_out[name]] = CellType(default)
    ours = {each: _constant(each) for each in constants} | {each.removeprefix(mark): each for each in cells}
    walk = _walk(kinds, "table", ours)
    if left_out:
        short = _walk({name: kind for name, kind in kinds.items() if name not in left_out}, "brief", ours)
        condition = " and ".join(f"{name} is {default}" for name, default in left_out.items())
        walk = [f"if {condition}:", *(f"    {line}" for line in short), *walk]
    text = _TEMPLATE.format(
        **ours,
        cells=", ".join(cells),
        define="async def" if waits else "def",
        wait="await " if waits else "",
        parameters=parameters,
        arguments=arguments,
        walk="\n".join(" " * 16 + line for line in walk),
    )
    namespace: dict[str, Any] = {}
    exec(text, namespace)  # noqa: S102 - identifiers of a signature, and our own
    code = namespace["factory"](*cells).__code__
    code = code.replace(co_consts=tuple(constants.get(each, each) for each in code.co_consts))
    made = FunctionType(code, namespace, closure=tuple(cells[name] for name in code.co_freevars))
    made.__defaults__, made.__kwdefaults__ = defaults, keyword_defaults
    return made


def _constant(name: str) -> str:
    """Code for a string that stands for a constant of any kind, until that is put in its place.

    The condition, of which nothing is left, keeps the compiler from warning of a string that is called.
    """
    return f"({name!r} if 1 else 0)"


def _walk(kinds: dict[str, str], start: str, ours: dict[str, str]) -> list[str]:
    """The code that looks for the arguments of these names, of these kinds."""
    table, kind, value = ours[start], ours["type"], ours["next"]
    if not kinds:
        return [f"return {value}({table}[None])"]
    usual = " and ".join(f"{kind}({name}) is {known}" for name, known in kinds.items())
    return [
        f"if {usual}:",
        f"    return {value}({table}{''.join(f'[{name}]' for name in kinds)})",
        f"return {value}({table}{''.join(f'[{kind}({name})][{name}]' for name in kinds)})",
    ]
