"""What stands in a key for the function: its identity, its version, and how both are spelt.

A function is identified by module and qualified name where these lead to it and to nothing else. Where they do not
(scripts and notebooks, functions made in functions, lambdas, several definitions of one name), a digest follows the
name, over everything that makes it this function:

- its own code, and what its closure and its defaults hold;
- the same of the functions that it uses in turn, as far as a name does not identify them;
- in a script or notebook also the globals that it uses, transitively: modules by name; functions and classes as
  above; other values by value, and where a value cannot be keyed (a client, a lock), by its type and by the
  statements of the script that assign it.

Such an identity is taken once, when the function is first used. What a closure or a global holds later is taken to
be the same for the function, as a module's globals always are: state that changes while it runs belongs into
an argument. Taking it at every call instead would give a function that counts its calls a new identity at each one.
Processes that run the same code with the same state agree on it; where the state differs they only fail to share.
"""

from __future__ import annotations

import builtins
import dis
import functools
import inspect
import re
import sys
import types
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from blake3 import blake3

from ._keys import encode
from ._source import assignments_digest, code_digest, in_its_module, leads_to, name_identifies, qualified_name
from .errors import ConfigurationError, KeyingError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

__all__ = [
    "function_identity", "key_prefix", "namespace_prefix", "registry", "shard_of", "shard_prefixes", "version_part",
]  # fmt: skip

MOST_SHARDS = 1024

_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, tuple, frozenset)
# Different under the versions of Python, or no part of what the class does.
_WRITTEN_BY_CLASS_STATEMENT = frozenset({"__module__", "__doc__", "__firstlineno__", "__static_attributes__"})
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
_LONGEST_PREFIX = 512  # bytes; every key, lease and index of the function repeats it


# --------------------------------------------------------------------------------------------------------- identity


def function_identity(function: Callable[..., object], name: str | None = None, *, ignore: Collection[str] = ()) -> str:
    """Return what identifies a function in keys: ``name``, else its qualified name, with a digest where it needs one.

    The defaults of parameters in ``ignore`` are no part of it.

    Raises:
        KeyingError: Its closure, or the object it is bound to, holds what cannot be keyed.
        ConfigurationError: ``name`` is empty or no string.
    """
    if name is not None:
        return _text("name", name)
    own = qualified_name(_named_part(function))
    if _identified(function):
        return own
    return f"{own}~{blake3(_Description(own, ignore).of(function, strict='')).hexdigest(8)}"


def _identified(function: object) -> bool:
    if isinstance(function, types.BuiltinFunctionType):
        return function.__self__ is None or isinstance(function.__self__, types.ModuleType)
    if isinstance(function, type):
        return _class_identified(function)
    return isinstance(function, types.FunctionType) and name_identifies(function)


def _named_part(function: Any) -> Any:
    """Find what lends its name to a callable that has none."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif hasattr(function, "__qualname__"):
            return function
        else:
            return type(function)


def _class_identified(cls: type) -> bool:
    if not cls.__flags__ & _HEAP_TYPE or cls.__module__.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return "<" not in cls.__qualname__
    return not qualified_name(cls).startswith(("__main__.", "<unknown>.")) and leads_to(cls)


def _frame(tag: bytes, *parts: bytes | str) -> bytes:
    data = [part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in parts]
    return b"%b%d:" % (tag, len(data)) + b"".join(b"%d:%b" % (len(part), part) for part in data)


class _Description:
    """Describes one function; remembers what it is inside of, for recursion.

    Args:
        subject: Name of that function, for messages.
        ignore: Names of its parameters that do not count.
    """

    def __init__(self, subject: str, ignore: Collection[str]) -> None:
        self._subject = subject
        self._ignore = ignore
        self._met: dict[int, int] = {}
        self._kept: list[object] = []  # an identity must not be reused by another object meanwhile

    def of(self, value: Any, *, strict: str | None) -> bytes:
        """Describe a value.

        Args:
            value: Any object.
            strict: Where the value stands, if it must be keyed; None if its type will do.
        """
        if isinstance(value, types.ModuleType):
            return _frame(b"module", value.__name__)
        if not isinstance(value, types.FunctionType | type | types.MethodType | functools.partial):
            seen_through = _cached_function(value)
            if seen_through is None:
                return self._plain(value, strict)
            return self.of(seen_through, strict=strict)
        if id(value) in self._met:
            return _frame(b"again", str(self._met[id(value)]))
        self._met[id(value)] = len(self._met)
        self._kept.append(value)
        if isinstance(value, types.MethodType):
            return _frame(b"method", self.of(value.__func__, strict=strict), self.of(value.__self__, strict=strict))
        if isinstance(value, functools.partial):
            frozen = [self.of(part, strict=strict) for part in (*value.args, *value.keywords.values())]
            keywords = _frame(b"keywords", *value.keywords)
            return _frame(b"partial", self.of(value.func, strict=strict), keywords, *frozen)
        if isinstance(value, type):
            return self._class(value)
        seen_through = _cached_function(value)
        if seen_through is not None:
            return self.of(seen_through, strict=strict)
        return self._function(value)

    def _plain(self, value: object, strict: str | None) -> bytes:
        kind = type(value)
        behaviour = b"" if _class_identified(kind) else self.of(kind, strict=None)
        try:
            return _frame(b"value", behaviour, encode(value))
        except KeyingError as error:
            if strict is not None:
                where = f"{strict}, which is part of what the function is," if strict else "what it is bound to"
                raise KeyingError(
                    f"{where} cannot be keyed: {error.reason}. Ways out: give the function a name= that tells it from "
                    f"others of its kind, or pass the value as an argument",
                    type_name=error.type_name,
                    function=self._subject,
                ) from error
            return _frame(b"type", qualified_name(kind), behaviour)

    def _function(self, function: types.FunctionType) -> bytes:
        name = qualified_name(function)
        is_root = len(self._met) == 1
        if not is_root and name_identifies(function):
            return _frame(b"named", name)
        # What a script calls by this name is one function: its cells and defaults are a decorator's, or globals.
        # Of functions made elsewhere there may be many, told apart by nothing else: there, all has to be keyed.
        lenient = name.startswith("__main__.") and leads_to(function)
        parts = [_frame(b"code", name, code_digest(function))]
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # not assigned yet
                parts.append(_frame(b"empty", variable))
            else:
                where = None if lenient else f"free variable {variable!r}"
                parts.append(_frame(b"cell", variable, self.of(content, strict=where)))
        for parameter, default in _defaults(function):
            if not (is_root and parameter in self._ignore):
                # A bare object() means "not given" and nothing else.
                where = None if lenient or type(default) is object else f"the default of {parameter!r}"
                parts.append(_frame(b"default", parameter, self.of(default, strict=where)))
        if not _globals_identified(function):
            parts += self._globals(function)
        return _frame(b"function", *parts)

    def _globals(self, function: types.FunctionType) -> Iterator[bytes]:
        for name in sorted(set(_global_names(function.__code__))):
            if name in function.__globals__:
                described = self.of(function.__globals__[name], strict=None)
                if described.startswith(b"type"):
                    described += assignments_digest(function, name)
                yield _frame(b"global", name, described)
            elif not hasattr(builtins, name):
                yield _frame(b"missing", name)

    def _class(self, cls: type) -> bytes:
        name = qualified_name(cls)
        if _class_identified(cls):
            return _frame(b"named", name)
        parts = [self.of(base, strict=None) for base in cls.__bases__]
        for attribute, value in sorted(vars(cls).items()):
            functions = list(_functions_of(value))
            if functions:
                parts.append(_frame(b"method", attribute, *(self.of(function, strict=None) for function in functions)))
            elif attribute not in _WRITTEN_BY_CLASS_STATEMENT and isinstance(value, _CONSTANTS):
                parts.append(_frame(b"constant", attribute, self.of(value, strict=None)))
        return _frame(b"class", name, *parts)


def _functions_of(attribute: Any) -> Iterator[types.FunctionType]:
    if isinstance(attribute, property):
        candidates: tuple[Any, ...] = (attribute.fget, attribute.fset, attribute.fdel)
    elif isinstance(attribute, functools.cached_property):
        candidates = (attribute.func,)
    else:
        candidates = (_cached_function(attribute) or getattr(attribute, "__func__", attribute),)
    yield from (function for function in candidates if isinstance(function, types.FunctionType))


def _cached_function(value: object) -> Any:
    """See through ``functools.lru_cache`` and our own decorator: what they keep is no part of what a function is."""
    if isinstance(value, type) or inspect.getattr_static(value, "cache_parameters", None) is None:
        return None
    return getattr(value, "__wrapped__", None)


def _defaults(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    defaults = function.__defaults__ or ()
    end = function.__code__.co_argcount
    yield from zip(function.__code__.co_varnames[end - len(defaults) : end], defaults, strict=True)
    yield from sorted((function.__kwdefaults__ or {}).items())


def _globals_identified(function: types.FunctionType) -> bool:
    """Tell whether the function's globals are those of an importable module, which are never looked into."""
    return not qualified_name(function).startswith(("__main__.", "<unknown>.")) and in_its_module(function)


def _global_names(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname.startswith("LOAD_") and ("GLOBAL" in instruction.opname or "NAME" in instruction.opname):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


# ------------------------------------------------------------------------------------------------- version and names


def version_part(version: str | None, function: Callable[..., object]) -> str:
    """Return what stands for the version: nothing, the string given, or for ``"source"`` a digest of the code.

    Under decorators that keep ``__wrapped__`` that is the code of each of them and of the function.

    Raises:
        ConfigurationError: The version is empty or no string, or ``"source"`` is asked of what is not Python code.
    """
    if version is None:
        return ""
    if _text("version", version) != "source":
        return version
    layers = [layer for layer in _layers(function) if isinstance(layer, types.FunctionType)]
    if not layers:
        raise ConfigurationError(f'version="source": {qualified_name(_named_part(function))} is not a Python function')
    digests = list(map(code_digest, layers))
    return (digests[0] if len(digests) == 1 else blake3(b"".join(digests)).digest()).hex()[:16]


def _layers(function: Any) -> Iterator[object]:
    for _ in range(64):
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType | classmethod | staticmethod):
            function = function.__func__
        elif (
            not inspect.isroutine(function) and not isinstance(function, type) and not hasattr(function, "__wrapped__")
        ):
            function = type(function).__call__
        else:
            yield function
            function = getattr(function, "__wrapped__", None)
            if function is None:
                return


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{what}= takes a string, not {type(value).__name__}")
    if not value:
        raise ConfigurationError(f"{what}= must not be empty")
    return value


def _escaped(value: str) -> str:
    """Percent-encode all but ASCII letters, digits and ``_ . - ~``: injective, and nothing is left to interpret."""
    return quote(value, safe="", errors="surrogatepass")


def namespace_prefix(namespace: str) -> str:
    """Return what all keys of a namespace begin with.

    Raises:
        ConfigurationError: The namespace is empty, no string or too long.
    """
    return _bounded(f"memo:{{{_escaped(_text('namespace', namespace))}:")


def registry(namespace: str) -> str:
    """Return the key of a namespace's list of functions."""
    return f"{namespace_prefix(namespace)[:-1]}}}:functions"


def shard_of(digest: str, shards: int) -> int:
    """Return which of a function's shards a call is in, by its digest."""
    return int(digest[:8], 16) % shards


def shard_prefixes(prefix: str, shards: int) -> tuple[str, ...]:
    """Return what the keys of each shard of a function begin with: its own, or ``#0.16`` and so on in place of ``#0``.

    How many there are is part of it, so that with another number of shards nothing is found where it does not belong.

    Raises:
        ConfigurationError: There are too many, or it is no whole number.
    """
    if type(shards) is not int or not 1 <= shards <= MOST_SHARDS:
        raise ConfigurationError(f"shards= takes a whole number from 1 to {MOST_SHARDS}")
    if shards == 1:
        return (prefix,)
    stem = prefix.removesuffix("0}:")
    return tuple(f"{stem}{shard:d}.{shards:d}}}:" for shard in range(shards))


def key_prefix(namespace: str, identity: str, version: str = "", shard: int = 0) -> str:
    """Return what all keys of a function begin with: ``memo:{namespace:identity:version#shard}:``.

    The braces put them into one cluster slot. Different arguments give different prefixes.

    Raises:
        ConfigurationError: A part is empty or no string, or the whole is longer than 512 bytes.
    """
    function = re.sub("%3C(locals|lambda|unknown)%3E", r"<\1>", _escaped(_text("name", identity)))
    return _bounded(f"{namespace_prefix(namespace)}{function}:{_escaped(version)}#{shard:d}}}:")


def _bounded(prefix: str) -> str:
    if len(prefix) > _LONGEST_PREFIX:
        raise ConfigurationError(
            f"namespace, name and version make keys begin with {len(prefix)} bytes, more than {_LONGEST_PREFIX}; "
            "choose shorter ones (every character outside of A-Z a-z 0-9 _ . - ~ takes three bytes or more)"
        )
    return prefix
