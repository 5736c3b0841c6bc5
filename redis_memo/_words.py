"""Arguments of a function from the words of a command line.

``name=text`` is an argument by name, whatever else is one by position. What a text means is decided by the first of
these that speaks:

1. ``name:=literal`` (HTTPie's notation) is a Python literal;
2. the parameter's annotation: ``str`` takes the text as it is, ``int``, ``float``, ``bool``, dates, ``Decimal``, enums,
   ``Literal`` and unions of them convert it;
3. the type of the parameter's default, where that is one of these;
4. a text that reads as a Python literal is that literal, any other is text.

That has to be exact: ``1`` and ``"1"`` are different calls.
"""

from __future__ import annotations

import ast
import contextlib
import decimal
import difflib
import enum
import inspect
import pathlib
import types
import typing
import uuid
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["arguments", "signature_of"]

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def _truth(text: str) -> bool:
    if text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    raise ValueError("write true or false")


_CONVERTERS: dict[type, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: _truth,
    bytes: str.encode,
    date: date.fromisoformat,
    datetime: datetime.fromisoformat,
    time: time.fromisoformat,
    decimal.Decimal: decimal.Decimal,
    pathlib.Path: pathlib.Path,
    uuid.UUID: uuid.UUID,
}


def signature_of(function: Callable[..., Any], *, bound: bool) -> inspect.Signature:
    """The parameters that a caller fills in, their annotations as objects where they can be found.

    Args:
        function: What was decorated.
        bound: Whether its first argument is filled in already.
    """
    signature = inspect.signature(function)
    parameters = [p.replace(annotation=_annotation(function, p)) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters[1:] if bound and parameters else parameters)


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Its annotation as an object, or as text where that names what is imported for type checkers only."""
    if not isinstance(parameter.annotation, str):
        return parameter.annotation

    def alone() -> None: ...

    alone.__annotations__ = {"it": parameter.annotation}
    try:
        scope = getattr(inspect.unwrap(function), "__globals__", {})
        return inspect.get_annotations(alone, globals=scope, eval_str=True)["it"]
    except Exception:  # noqa: BLE001 - an annotation is code
        return parameter.annotation


def arguments(
    function: str, signature: inspect.Signature, words: Sequence[str], *, by_name: bool = False
) -> tuple[list[Any], dict[str, Any]]:
    """Turn words into positional and named arguments.

    Args:
        function: Its name, for messages.
        signature: As of `signature_of`.
        words: From the command line.
        by_name: Only arguments by name make sense here.

    Raises:
        ConfigurationError: A word names no parameter, or its text is not what the parameter takes.
    """
    parameters = signature.parameters
    positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = {p.kind: p for p in parameters.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        literal = name.endswith(":")
        name = name.removesuffix(":")
        if equals and name.isidentifier():
            parameter = parameters.get(name)
            if parameter is None or parameter.kind in (parameter.POSITIONAL_ONLY, *rest):
                parameter = rest.get(inspect.Parameter.VAR_KEYWORD)
            if parameter is None:
                raise ConfigurationError(_unknown(function, name, parameters))
            if name in kwargs:
                raise ConfigurationError(f"{function}: {name} is given twice")
            kwargs[name] = _literal(function, name, text) if literal else _converted(function, name, text, parameter)
            continue
        if by_name:
            names = ", ".join(p.name for p in positional)
            raise ConfigurationError(f"{function}: arguments are given by name here, as in {names or 'x'}=...")
        if len(args) < len(positional):
            parameter = positional[len(args)]
        elif inspect.Parameter.VAR_POSITIONAL in rest:
            parameter = rest[inspect.Parameter.VAR_POSITIONAL]
        else:
            raise ConfigurationError(f"{function} takes {len(positional)} arguments by position, and more are given")
        args.append(_converted(function, parameter.name, word, parameter))
    return args, kwargs


def _unknown(function: str, name: str, parameters: typing.Mapping[str, inspect.Parameter]) -> str:
    near = difflib.get_close_matches(name, list(parameters), 3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(parameters) or 'none'}"
    return f"{function} has no parameter {name!r}; {hint}"


def _literal(function: str, name: str, text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise ConfigurationError(
            f"{function}: {name}:= takes a Python literal, such as 'text', 1.5 or [1, 2]"
        ) from None


def _converted(function: str, name: str, text: str, parameter: inspect.Parameter) -> Any:
    wanted = parameter.annotation
    if wanted in (parameter.empty, Any, object) or isinstance(wanted, str):
        wanted = type(parameter.default)
        if wanted not in _CONVERTERS and not issubclass(wanted, enum.Enum):
            return _as_it_reads(text)
    try:
        return _as(wanted, text)
    except (ValueError, ArithmeticError):
        said = getattr(wanted, "__name__", None) or str(wanted)
        raise ConfigurationError(
            f"{function}: the text for {name} is no {said}; {name}:= takes a Python literal instead"
        ) from None


def _as(wanted: Any, text: str) -> Any:
    """Convert by annotation. Raises ValueError."""
    wanted = getattr(wanted, "__supertype__", wanted)  # NewType
    wanted = getattr(wanted, "__value__", wanted)  # type X = ...
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Annotated:
        return _as(inner[0], text)
    if origin is typing.Literal:
        for choice in inner:
            if text == str(choice):
                return choice
        raise ValueError(text)
    if origin in (typing.Union, types.UnionType):
        # Text is what anything can be read as, so it comes last.
        for member in sorted(inner, key=lambda each: each is str):
            with contextlib.suppress(ValueError, ArithmeticError):
                return _as(member, text)
        raise ValueError(text)
    if wanted in (None, type(None)):
        if text == "None":
            return None
        raise ValueError(text)
    if wanted in _CONVERTERS:
        return _CONVERTERS[wanted](text)
    if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
        if text in wanted.__members__:
            return wanted[text]
        for choice in wanted:
            if text == str(choice.value):
                return choice
        raise ValueError(text)
    return _as_it_reads(text)


def _as_it_reads(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
