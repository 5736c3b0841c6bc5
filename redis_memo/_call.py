"""From a call to its key: the arguments by the function's own signature, and a digest of them.

``make_binder`` generates a function with the signature of the one that is cached; Python's own call machinery then
applies keywords and defaults, and complains about wrong calls in the function's own words. ``CallKey`` digests what
was bound. Equal bindings have equal digests however they were written; a readable argument appears nowhere.

A decorator that takes ``*args, **kwargs`` and shows the signature of the function below it (``functools.wraps``) is a
special case: what it really accepts is anything. Its calls are bound by the signature it shows, so that positional
and keyword forms coincide, but an argument that was left out counts as left out and not as the default below, which
the decorator may replace. A call that does not fit the signature shown (the decorator adds an argument, say) is keyed
as it was written.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import operator
import types
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from blake3 import blake3

from ._keys import encode, encode_many
from ._source import framed, qualified_name
from .errors import ConfigurationError, KeyingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["ABSENT", "Binder", "CallKey", "Match", "kind", "make_binder", "spelled"]

_Kind = inspect._ParameterKind  # noqa: SLF001  (its members are public, its name is not)
_POSITIONAL_ONLY, _POSITIONAL_OR_KEYWORD, _VAR_POSITIONAL, _KEYWORD_ONLY, _VAR_KEYWORD = _Kind

# Names of the two values that follow a loose binder's own: what did not fit the signature shown. No identifiers.
_EXTRA_POSITIONAL, _EXTRA_KEYWORD = "*", "**"


class _Absent:
    """Stands for an argument that a call left out, where the default is not ours to apply."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
_NO_VALUE: Final = object()
_NOTHING: Final[Mapping[str, Any]] = types.MappingProxyType({})


# ---------------------------------------------------------------------------------------------------------- binding


@dataclass(frozen=True, slots=True, kw_only=True)
class Binder:
    """How a function takes its arguments.

    Attributes:
        bind: Takes what the function takes and returns one value per name, in order: ``*args`` as a tuple,
            ``**kwargs`` as a dict. Raises the ``TypeError`` that the function would.
        names: Parameter names.
        kinds: Their kinds, as in ``inspect.Parameter.kind``.
        defaults: The function's own default objects by name.
        var_positional: Name of ``*args``, if there is one.
        var_keyword: Name of ``**kwargs``, if there is one.
        loose: The function takes anything and shows another signature, by which it is bound without defaults:
            values may be ``ABSENT``, and are no replacement for the arguments when the function is called.
    """

    bind: Callable[..., tuple[Any, ...]]
    names: tuple[str, ...]
    kinds: tuple[inspect._ParameterKind, ...]
    defaults: Mapping[str, object]
    var_positional: str | None
    var_keyword: str | None
    loose: bool

    def arguments(self, values: Sequence[object]) -> dict[str, object]:
        """Map parameter names to values, with defaults in the place of what a loose binding left out."""
        if not self.loose:
            return dict(zip(self.names, values, strict=True))
        named = zip(self.names, values, strict=True)
        whole = {name: self.defaults.get(name) if value is ABSENT else value for name, value in named}
        return {
            name: value for name, value in whole.items() if name not in (_EXTRA_POSITIONAL, _EXTRA_KEYWORD) or value
        }


def make_binder(function: Callable[..., object]) -> Binder:
    """Generate the binder of a function or other callable.

    Raises:
        ConfigurationError: It has no signature, as some functions written in C.
    """
    try:
        signature, loose = _signature(function)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{qualified_name(function)} has no signature to bind arguments by; wrap it in a function that has one"
        ) from error
    parameters = list(signature.parameters.values())
    bind = _generate(parameters, ABSENT if loose else None)
    shown = getattr(function, "__name__", type(function).__name__)
    bind.__name__, bind.__qualname__ = shown, getattr(function, "__qualname__", shown)
    names, kinds = [p.name for p in parameters], [p.kind for p in parameters]
    if loose:
        bind = _forgiving(bind, parameters)
        names += [_EXTRA_POSITIONAL, _EXTRA_KEYWORD]
        kinds += [_VAR_POSITIONAL, _VAR_KEYWORD]
    return Binder(
        bind=bind,
        names=tuple(names),
        kinds=tuple(kinds),
        defaults=types.MappingProxyType({p.name: p.default for p in parameters if p.default is not p.empty}),
        var_positional=next((p.name for p in parameters if p.kind is _VAR_POSITIONAL), None),
        var_keyword=next((p.name for p in parameters if p.kind is _VAR_KEYWORD), None),
        loose=loose,
    )


def _signature(function: Callable[..., object]) -> tuple[inspect.Signature, bool]:
    """Return the signature to bind by, and whether it is only what is shown (see the module's docstring)."""
    if isinstance(function, types.FunctionType):
        # A copy has no __wrapped__ and no __signature__: this is what the code takes.
        code, closure = function.__code__, function.__closure__
        bare = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
        bare.__kwdefaults__ = function.__kwdefaults__
        own = inspect.signature(bare)
    else:
        try:
            own = inspect.signature(function, follow_wrapped=False)
        except ValueError:
            # C code around a function (functools.lru_cache) shows what stands below, and passes on what it is given.
            return inspect.signature(function), False
    accepted = list(own.parameters.values())
    if [parameter.kind for parameter in accepted[-2:]] != [_VAR_POSITIONAL, _VAR_KEYWORD]:
        return own, False
    try:
        shown = inspect.signature(function)
    except (ValueError, TypeError):
        return own, False
    passed_on = [parameter.name for parameter in accepted[:-2]]
    if shown == own or list(shown.parameters)[: len(passed_on)] != passed_on:
        return own, False
    return shown, True


def spelled(
    parameters: Sequence[inspect.Parameter], default: object
) -> tuple[str, tuple[object, ...], dict[str, object]]:
    """The text of parameters, nothing but their names; and what to set as defaults: ``default``, if None their own."""
    text: list[str] = []
    defaults: list[object] = []
    keyword_defaults: dict[str, object] = {}
    before = None
    for parameter in parameters:
        name, own, given = parameter.name, parameter.kind, parameter.default
        optional = given is not inspect.Parameter.empty
        if before is _POSITIONAL_ONLY and own is not _POSITIONAL_ONLY:
            text.append("/")
        if own is _KEYWORD_ONLY and before not in (_KEYWORD_ONLY, _VAR_POSITIONAL):
            text.append("*")
        text.append({_VAR_POSITIONAL: "*", _VAR_KEYWORD: "**"}.get(own, "") + name + ("=None" if optional else ""))
        if optional and own is _KEYWORD_ONLY:
            keyword_defaults[name] = given if default is None else default
        elif optional:
            defaults.append(given if default is None else default)
        before = own
    if before is _POSITIONAL_ONLY:
        text.append("/")
    return ", ".join(text), tuple(defaults), keyword_defaults


def _generate(parameters: Sequence[inspect.Parameter], default: object) -> types.FunctionType:
    """Make a function of these parameters that returns their values."""
    text, defaults, keyword_defaults = spelled(parameters, default)
    values, namespace = "".join(f"{parameter.name}, " for parameter in parameters), dict[str, Any]()
    exec(f"def bind({text}): return ({values})", namespace)  # noqa: S102  (identifiers of a signature only)
    bind: types.FunctionType = namespace["bind"]
    bind.__defaults__, bind.__kwdefaults__ = defaults, keyword_defaults
    return bind


def _forgiving(bind: Callable[..., tuple[Any, ...]], parameters: Sequence[inspect.Parameter]) -> Any:
    nothing: tuple[object, ...] = tuple({_VAR_POSITIONAL: (), _VAR_KEYWORD: {}}.get(p.kind, ABSENT) for p in parameters)

    def bind_or_keep(*args: object, **kwargs: object) -> tuple[Any, ...]:
        try:
            return (*bind(*args, **kwargs), (), {})
        except TypeError:
            return (*nothing, args, kwargs)

    return bind_or_keep


def kind(function: object) -> Literal["sync", "async", "generator", "async generator"]:
    """Tell what calling it gives, seeing through partials, bound methods, classmethods and staticmethods."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, classmethod | staticmethod | types.MethodType):
            function = function.__func__
        elif not isinstance(function, type) and not inspect.isroutine(function) and callable(function):
            function = type(function).__call__
        else:
            break
    if inspect.isasyncgenfunction(function):
        return "async generator"
    if inspect.isgeneratorfunction(function):
        return "generator"
    return "async" if inspect.iscoroutinefunction(function) else "sync"


# --------------------------------------------------------------------------------------------------------- digests


def _named(tag: bytes, name: str) -> bytes:
    return framed(tag, name.encode("utf-8", "surrogatepass"))


class Match(NamedTuple):
    """What an invalidation by arguments looks for.

    Attributes:
        tokens: An entry is meant when all of these are among its tokens.
        digest: The one call that is meant, where the arguments given tell it.
    """

    tokens: tuple[bytes, ...]
    digest: str | None


class CallKey:
    """Turns the bound arguments of one function into digests.

    Args:
        function: What is called.
        key: Returns what identifies a call, in the place of its arguments. If all parameters it requires are
            parameters of the function, it gets those that it names by keyword, defaults included, and a ``**kwargs``
            of its own the rest. If none is, or it has ``*args`` or positional-only ones, it is called as the function
            was; if some are, so only where the function takes any name.
        ignore: Names of parameters that do not change the result.

    Raises:
        ConfigurationError: ``ignore`` or ``key`` names no parameter, or ``key`` is not a plain callable.
    """

    __slots__ = (
        "_by_name", "_drop", "_fast", "_function", "_hook", "_kept", "_names",
        "_pick", "_standins", "_unmasked", "binder",
    )  # fmt: skip

    def __init__(
        self,
        function: Callable[..., object],
        *,
        key: Callable[..., object] | None = None,
        ignore: Collection[str] = (),
    ) -> None:
        self.binder = binder = make_binder(function)
        self._function = qualified_name(function)
        names: object = ignore  # no iterator either, which could be read once
        if not isinstance(names, Collection) or isinstance(names, str) or not all(isinstance(n, str) for n in names):
            raise ConfigurationError("ignore= takes a collection of parameter names, as in ignore=('self',)")
        for name in ignore:
            if name not in binder.names and binder.var_keyword is None:
                raise ConfigurationError(f"ignore={tuple(ignore)!r}: {self._unknown(name)}")
        self._kept = tuple(index for index, name in enumerate(binder.names) if name not in ignore)
        self._names = tuple(binder.names[index] for index in self._kept)
        # Ignored keywords that arrive within a dict: **kwargs, or what did not fit a loose signature.
        within = {binder.var_keyword: frozenset(ignore).difference(binder.names), _EXTRA_KEYWORD: frozenset(ignore)}
        self._drop = tuple((i, within[n]) for i, n in enumerate(self._names) if within.get(n))
        # What counts as "left out", by parameter: ABSENT, or a default that cannot be keyed (found at its first use).
        self._standins: tuple[object, ...] | None = (ABSENT,) * len(self._names) if binder.loose else None
        self._unmasked = self._header((False,) * len(self._names))
        self._hook = key
        self._by_name = None if key is None else self._hook_parameters(key)
        self._fast = key is None and not binder.loose and not self._drop
        self._pick = None if len(self._names) == len(binder.names) else _picker(self._kept)

    @property
    def direct(self) -> tuple[int, ...] | None:
        """Where the arguments stand that make the key; None where anything else has a say in it."""
        return self._kept if self._fast and {self.binder.var_positional, self.binder.var_keyword} == {None} else None

    def _unknown(self, name: str) -> str:
        """Say that the function has no parameter of this name, and which it has."""
        usable = [known for known in self.binder.names if known.isidentifier()]
        close = difflib.get_close_matches(name, usable, n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {', '.join(usable) or 'none'}"
        return f"{self._function} has no parameter {name!r}; {hint}"

    # -------------------------------------------------------------------------------------------------- one call

    def digest(
        self, values: Sequence[object], args: Sequence[object] = (), kwargs: Mapping[str, Any] = _NOTHING
    ) -> str:
        """Digest one call: 40 hexadecimal characters.

        Args:
            values: What ``binder.bind`` returned.
            args: The positional arguments as they were given; only a ``key`` that takes calls as they are needs them.
            kwargs: The keyword arguments as they were given.

        Raises:
            KeyingError: An argument cannot become part of a key.
        """
        if self._fast:
            try:
                picked = values if self._pick is None else self._pick(values)
                encoded = b"".join(encode_many(picked, self._names))
            except KeyingError as error:
                if self._find_standins():
                    self._fast = False
                    return self.digest(values)
                error.function = self._function
                raise
            digest: str = blake3(self._unmasked + encoded).hexdigest(20)
            return digest
        if self._hook is not None:
            return self._hook_digest(values, args, kwargs)
        header, given, standins = self._unmasked, self._reduce(values), self._standins
        if standins is not None:
            mask = tuple(value is standin for value, standin in zip(given, standins, strict=True))
            header = self._header(mask)
        else:
            mask = (False,) * len(given)
        pairs = [(value, name) for value, name, out in zip(given, self._names, mask, strict=True) if not out]
        try:
            encoded = b"".join(encode_many([value for value, _ in pairs], [name for _, name in pairs]))
        except KeyingError as error:
            if standins is None and self._find_standins():
                return self.digest(values)
            error.function = self._function
            raise
        return str(blake3(header + encoded).hexdigest(20))

    def _reduce(self, values: Sequence[object]) -> list[Any]:
        """Leave out what is ignored."""
        given: list[Any] = [values[index] for index in self._kept]
        for index, names in self._drop:
            given[index] = {name: value for name, value in given[index].items() if name not in names}
        return given

    def _header(self, mask: tuple[bool, ...]) -> bytes:
        """Frame the parameters' names, and which of them were left out and have no encoding in what follows."""
        variadic = {self.binder.var_positional: b"*", self.binder.var_keyword: b"+"}
        parts = (
            _named(b"-" if out else variadic.get(name, b"="), name) for name, out in zip(self._names, mask, strict=True)
        )
        return framed(b"redis_memo call 1 ", b"".join(parts))

    def _find_standins(self) -> bool:
        """Look for defaults that cannot be keyed, such as ``_MISSING = object()``, and remember them."""
        if self._standins is None:
            defaults = [self.binder.defaults.get(name, _NO_VALUE) for name in self._names]
            self._standins = tuple(
                _NO_VALUE if default is _NO_VALUE or _keyable(default) else default for default in defaults
            )
        return any(standin is not _NO_VALUE for standin in self._standins)

    # -------------------------------------------------------------------------------------------------- key= hook

    def _hook_parameters(self, hook: Callable[..., object]) -> tuple[str, ...] | None:
        """Return what the hook gets by keyword (``**`` for the rest), or None if it takes the call as it is."""
        if not callable(hook):
            raise ConfigurationError(f"key= takes a function of the call, not {type(hook).__name__}")
        if kind(hook) != "sync":
            raise ConfigurationError("key= takes a plain function, not a coroutine function or a generator")
        try:
            wanted = inspect.signature(hook).parameters.values()
        except (ValueError, TypeError):
            return None
        own = {name for name in self.binder.names if name.isidentifier()}
        if any(p.kind in (_POSITIONAL_ONLY, _VAR_POSITIONAL) for p in wanted):
            return None
        named = [p for p in wanted if p.kind is not _VAR_KEYWORD]
        unknown = [p.name for p in named if p.default is p.empty and p.name not in own]
        if unknown:
            misspelt = [] if self.binder.loose or self.binder.var_keyword else [n for n in unknown if n[0] != "_"]
            if misspelt and not own.isdisjoint(p.name for p in named):
                raise ConfigurationError(f"key=: {self._unknown(misspelt[0])}")
            return None
        rest = [_EXTRA_KEYWORD] if len(named) < len(wanted) else []
        return (*(p.name for p in named if p.name in own), *rest)

    def _hook_digest(self, values: Sequence[object], args: Sequence[object], kwargs: Mapping[str, Any]) -> str:
        bound = self.binder.arguments(values)
        if self._by_name is None or _EXTRA_POSITIONAL in bound or _EXTRA_KEYWORD in bound:
            return self._result_digest(*args, **kwargs)
        chosen = {name: bound.pop(name) for name in self._by_name if name != _EXTRA_KEYWORD}
        if _EXTRA_KEYWORD in self._by_name:
            items: Any = bound.pop(self.binder.var_keyword, {}) if self.binder.var_keyword is not None else {}
            if set(items) & (set(bound) | set(chosen)):  # f(a, /, **kw) called with a= in kw: keep the two apart
                items = {str(self.binder.var_keyword): items}
            chosen.update(bound, **items)
        return self._result_digest(**chosen)

    def _result_digest(self, /, *args: object, **kwargs: object) -> str:
        assert self._hook is not None
        try:
            result = self._hook(*args, **kwargs)
        except Exception as error:
            error.add_note(f"raised by key= of {self._function}")
            raise
        if inspect.isawaitable(result):
            raise ConfigurationError(f"{self._function}: key= returned an awaitable; it takes a plain function")
        try:
            encoded = encode(result)
        except KeyingError as error:
            reason = f"what key= returned cannot be part of a cache key: {error.reason}"
            raise KeyingError(reason, type_name=error.type_name, function=self._function) from error
        return str(blake3(b"redis_memo hook 1 " + encoded).hexdigest(20))

    # ------------------------------------------------------------------------------------- invalidation by argument

    def tokens(self, values: Sequence[object]) -> tuple[bytes, ...]:
        """Return eight bytes for each argument that counts, and for each item of ``**kwargs``.

        An argument that cannot be keyed has none where ``key=`` made it unnecessary.
        """
        bound = self.binder.arguments(values)
        found: list[bytes] = []
        for name in self._names:
            if name not in bound or name == _EXTRA_POSITIONAL:
                continue
            value = bound[name]
            if name in (self.binder.var_keyword, _EXTRA_KEYWORD) and isinstance(value, dict):
                dropped = next((names for index, names in self._drop if self._names[index] == name), frozenset())
                pairs = [(item, item_value) for item, item_value in value.items() if item not in dropped]
                loose = name == _EXTRA_KEYWORD
                found += [self._token(item, v, item=not (loose and item in self.binder.names)) for item, v in pairs]
                continue
            try:
                found.append(self._token(name, value))
            except KeyingError:
                if self._hook is None:
                    raise
        return tuple(found)

    def _token(self, name: str, value: object, *, item: bool = False) -> bytes:
        default = self.binder.defaults.get(name, _NO_VALUE)
        try:
            encoded = b"=" + encode(value)
        except KeyingError as error:
            if item or value is not default:
                error.parameter, error.function = name, self._function
                raise
            encoded = b"-"
        return bytes(blake3(_named(b"item" if item else b"parameter", name) + encoded).digest(8))

    def match(self, given: Mapping[str, object]) -> Match:
        """Work out what ``invalidate(fn, **given)`` is after.

        With all arguments given, or all that the ``key`` function takes, that is one key; otherwise every call that
        has these among its arguments. Where ``key`` gives one key to several calls, their entry has the tokens of
        the call that was computed.

        Raises:
            TypeError: A name is no parameter, or one that is ignored.
            KeyingError: An argument cannot become part of a key.
        """
        binder = self.binder
        named: dict[str, bool] = {}
        by_name = self._by_name or ()
        hooked = self._by_name is not None and not binder.loose and set(by_name) <= set(given)
        for name in given:
            is_parameter = name in binder.names and name != binder.var_keyword
            ignored = (is_parameter and name not in self._names) or any(name in names for _, names in self._drop)
            if ignored and not (hooked and name in by_name):
                raise TypeError(f"{self._function}: {name!r} is ignored in keys, so no entry can be told by it")
            if not is_parameter and binder.var_keyword is None:
                raise TypeError(self._unknown(name))
            named[name] = is_parameter
        if self._hook is not None and hooked:
            return Match((), self._result_digest(**{name: given[name] for name in by_name}))
        tokens = tuple(self._token(name, given[name], item=not is_parameter) for name, is_parameter in named.items())
        # With **kwargs, calls with further keywords are meant too.
        open_ended = binder.loose or binder.var_keyword in self._names
        if self._hook is not None or open_ended or not set(self._names) <= set(given):
            return Match(tokens, None)
        return Match(tokens, self.digest([given.get(name) for name in binder.names]))


def _picker(indexes: Sequence[int]) -> Callable[[Sequence[object]], Sequence[object]]:
    return operator.itemgetter(*indexes) if len(indexes) > 1 else lambda values: [values[index] for index in indexes]


def _keyable(value: object) -> bool:
    try:
        encode(value)
    except KeyingError:
        return False
    return True
