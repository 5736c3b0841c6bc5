"""From what is known of an item to the call that it answers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._invocation import Invocation
from ._memo import handle_of
from ._migrate_fields import (
    Unfit,
    annotations_of,
    convert,
    filled,
    has_type,
    is_text_of_fields,
    other_than_text,
)
from .errors import ConfigurationError, KeyingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._migrate_rules import Rules

__all__ = ["Target", "arguments_of", "computed"]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Target:
    """The decorated function that is to hit.

    Args:
        function: It, or a method, bound or not.
        shown: Its name in reports, as ``package.module:function``.

    Raises:
        ConfigurationError: It is not decorated, or it is a method whose object counts and is not given.
    """

    def __init__(self, function: Any, shown: str) -> None:
        try:
            handle = handle_of(function)
        except TypeError:
            msg = f"{shown} is not decorated with redis_cached: only what is decorated has entries"
            raise ConfigurationError(msg) from None
        self.shown = shown
        self.memo = memo = handle._memo  # noqa: SLF001 - what stands for a function in this package
        self.hint = ""
        self._bound = handle._bound  # noqa: SLF001
        names = [name for name in memo.callkey.binder.names if name.isidentifier()]
        # An unbound method: its object takes no part in keys, so any will do; or it does, and must be known.
        if handle._placed and not handle._behind and not self._bound and handle._binds == "instance":  # noqa: SLF001
            if not names or names[0] not in memo.ignore:
                raise ConfigurationError(
                    f"{shown}: its object is part of its keys: name a method of an object, as in module:client.fetch"
                )
            self._bound = (None,)
            # What is said where the function is run and raises: it may have missed its object.
            self.hint = " (a method without its object; module:object.method has the same keys, and can be run)"
        signature = inspect.signature(memo.function)
        given = list(signature.parameters.values())[len(self._bound) :]
        self.parameters = {each.name: each for each in given if each.kind not in _VARIADIC}
        self.open_ended = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in given)
        self.annotations = annotations_of(memo.function)

    @property
    def name(self) -> str:
        """The function's own name."""
        return str(getattr(self.memo.function, "__name__", ""))

    def checked(self, rules: Rules) -> None:
        """See that a mapping fits the function.

        Raises:
            ConfigurationError: It names parameters that there are not.
        """
        unknown = [name for name in rules.arguments if name not in self.parameters]
        if unknown and not self.open_ended:
            known = ", ".join(self.parameters) or "none"
            raise ConfigurationError(f"[arguments] names {unknown[0]}, and {self.shown} has the parameters {known}")

    def invocation(self, fields: Mapping[str, object], rules: Rules) -> Invocation | None:
        """The call that an item answers; None if the mapping's ``call`` says that it is to be left.

        Raises:
            Unfit: It cannot be told.
        """
        args: tuple[Any, ...] = ()
        if rules.call is not None:
            found = _called(rules.call, fields)
            if found is None:
                return None
            args, kwargs = found
        else:
            kwargs = self._arguments(fields, rules)
        try:
            return Invocation(self.memo, (*self._bound, *args), kwargs)
        except KeyingError as error:
            raise Unfit(f"its call has no key: {error}") from error
        except TypeError as error:
            raise Unfit(f"its fields are not a call of {self.shown}: {error}") from error
        except Exception as error:  # the user's key= or __memo_key__
            raise Unfit(f"keying its call raised {type(error).__name__}") from error

    def bare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Invocation:
        """A call by its arguments.

        Raises:
            Unfit: They are no call of the function.
        """
        try:
            return Invocation(self.memo, (*self._bound, *args), dict(kwargs))
        except (KeyingError, TypeError) as error:
            raise Unfit(f"its key is not a call of {self.shown}: {error}") from error

    def _arguments(self, fields: Mapping[str, object], rules: Rules) -> dict[str, Any]:
        kwargs: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            if name in rules.arguments:
                template = rules.arguments[name]
                value = filled(str(template), fields) if is_text_of_fields(template) else template
            elif name in fields:
                value = fields[name]
            elif name in self.memo.ignore and parameter.default is parameter.empty:
                value = None  # what it is makes no difference
            elif parameter.default is parameter.empty:
                raise Unfit(f"nothing tells its parameter {name!r}")
            else:
                continue
            annotation, said = self.annotations.get(name, parameter.empty), rules.arguments.get(name)
            kind = other_than_text(value, annotation, parameter.default)
            if kind is not None and not has_type(said) and (said is None or is_text_of_fields(said)):
                raise Unfit(
                    f"its {name!r} may be a text or a {kind}, and keys tell them apart: annotate the parameter, or say "
                    f'which in the mapping: [arguments] {name} = "{{{name}:{kind}}}" or "{{{name}:str}}"'
                )
            if value is None and parameter.default is None:
                kwargs[name] = None
                continue
            try:
                kwargs[name] = convert(value, annotation, parameter.default)
            except Unfit as error:
                raise Unfit(f"its {name!r} {error}") from error
        for name, template in rules.arguments.items():
            if name not in self.parameters:
                kwargs[name] = filled(str(template), fields) if is_text_of_fields(template) else template
        positional_only = [
            name for name, each in self.parameters.items() if each.kind is inspect.Parameter.POSITIONAL_ONLY
        ]
        if positional_only:
            raise Unfit("its function takes arguments by position only: use call= of the mapping")
        return kwargs


def _called(call: Callable[..., Any], fields: Mapping[str, object]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """What the mapping's own function says: a dict, a tuple, or both of them."""
    try:
        answer = call(dict(fields))
    except Exception as error:
        raise Unfit(f"call of the mapping failed: {type(error).__name__}") from error
    return None if answer is None else arguments_of(answer)


def computed(call: Invocation) -> Any:
    """What the function itself returns for a call; nothing is stored. An ``async def`` runs to its end."""

    async def awaited(value: Any) -> Any:
        return await value

    value = call.compute()
    return asyncio.run(awaited(value)) if inspect.isawaitable(value) else value


def arguments_of(answer: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments from a dict (by name), a tuple (by position), a tuple and a dict, or one argument alone."""
    if isinstance(answer, Mapping):
        return (), dict(answer)
    if isinstance(answer, tuple):
        if len(answer) == 2 and isinstance(answer[0], tuple) and isinstance(answer[1], Mapping):
            return answer[0], dict(answer[1])
        return answer, {}
    return (answer,), {}
