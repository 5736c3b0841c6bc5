"""From arguments to bytes: the canonical encoding that a call's key is the digest of.

Two values have equal encodings exactly when they are equal arguments: ``1``, ``1.0``, ``True`` and ``"1"`` all differ,
the order of dicts and sets does not count, every NaN equals every NaN, memory layout and sharing do not show. The
encoding is the same in every process, under every hash seed and Python version. It never uses ``repr``, pickle bytes
or addresses; what cannot be told by value is refused.

Which rule applies, the first of:

1. the rules for exactly the builtin type (``_keys_stdlib``, ``_keys_code``);
2. a method ``__memo_key__`` on the class, inherited too;
3. a rule from ``register_key``;
4. a library's rules (numpy, pandas, pyarrow, polars, scipy, torch, Pillow), loaded when its first object arrives;
5. refusal of what is used up by reading (iterators) or stands for something live (locks, sockets, tasks);
6. enumerations, classes, annotations, time zones; subclasses of builtins as class, content and own state;
7. dataclasses, attrs classes and pydantic models by their fields;
8. everything else by what it reduces to for copying: class, arguments, state.
"""

from __future__ import annotations

import copyreg
import dataclasses
import datetime as dt
import enum
import functools
import operator
import types
from typing import TYPE_CHECKING, Any, TypeVar, cast

from redis_memo import _keys_stdlib
from redis_memo._keys_code import annotation, global_name, identity
from redis_memo._keys_walk import LEAVES, RULES, Rule, Walk, digest, joined, named, pairs, refuse, text, type_name
from redis_memo._registry import Registry, used_up
from redis_memo.errors import ConfigurationError, KeyingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "LIBRARIES",
    "digest",
    "encode",
    "encode_many",
    "register_key",
]

T = TypeVar("T")

#: Rules for the classes of optional libraries.
LIBRARIES: Registry[Rule] = Registry(
    {
        "numpy": "redis_memo._keys_numpy",
        "pandas": "redis_memo._keys_pandas",
        "pyarrow": "redis_memo._keys_arrow",
        "polars": "redis_memo._keys_polars",
        "scipy": "redis_memo._keys_scipy",
        "torch": "redis_memo._keys_torch",
        "PIL": "redis_memo._keys_pillow",
    }
)
_registered: Registry[Callable[[Any], object]] = Registry({})
_found: dict[type, Rule] = {}

# What these modules define works only where it is: in this process, this thread, this connection.
_LIVE = frozenset({
    "threading", "_thread", "asyncio", "_asyncio", "socket", "_socket", "ssl", "_ssl", "select", "selectors",
    "subprocess", "concurrent", "multiprocessing", "queue", "_queue", "contextvars", "_contextvars", "weakref",
    "_weakref", "_weakrefset", "sqlite3", "mmap", "tempfile", "anyio", "trio",
})  # fmt: skip
_OPAQUE = (types.FrameType, types.TracebackType, types.CodeType, types.CellType)


# ---------------------------------------------------------------------------------------------------------- interface


def encode(value: object) -> bytes:
    """Encode a value canonically.

    Equal values give equal bytes and different values different ones. No encoding is the beginning of another, so
    that encodings may be joined. What is long has been replaced by its digest.

    Raises:
        KeyingError: The value, or something in it, cannot be told by value.
    """
    return encode_many((value,), (None,))[0]


def encode_many(values: Iterable[object], names: Sequence[str | None]) -> list[bytes]:
    """Encode a call's arguments, one encoding for each parameter.

    Raises:
        KeyingError: Its ``parameter`` is the name that belongs to the value that cannot be told by value.
    """
    encodings: list[bytes] = []
    append = encodings.append
    walk: Walk | None = None
    value: object = None
    try:
        for value in values:
            leaf = LEAVES.get(type(value))
            if leaf is not None:
                append(leaf(value))
            else:
                if walk is None:
                    walk = Walk(_find)
                encoding = walk.encode(value)
                value = None  # noqa: PLW2901 - it is read: what is raised from now on does not come from it
                append(encoding)
    except KeyingError as error:
        if error.parameter is None:
            error.parameter = (*names, None)[len(encodings)]
        raise
    except MemoryError:
        raise
    except RecursionError:
        # There may be no frame left for a call into Python: this is all done in C.
        deep = KeyingError.__new__(KeyingError)
        deep.reason = "it is nested deeper than the stack has room for, or contains itself"
        deep.type_name = ""
        deep.parameter = (*names, None)[len(encodings)]
        raise deep from None
    except Exception as error:
        if type(value) in LEAVES:
            raise  # reading it raises nothing: this comes from elsewhere, as a time limit that a signal handler keeps
        name = type_name(type(value))
        reason = f"{name} could not be read ({type(error).__name__}): does another thread change it?"
        raise KeyingError(reason, type_name=name, parameter=names[len(encodings)]) from None
    return encodings


def register_key(cls: type[T], rule: Callable[[T], object], *, subclasses: bool = False) -> None:
    """Teach what identifies the objects of a class.

    Args:
        cls: The class. A method ``__memo_key__`` on it would come first.
        rule: Returns, for an object, anything that can itself be part of a key. Objects of different classes differ
            even where it returns the same for them.
        subclasses: Also for classes below ``cls`` that have no nearer rule.

    Raises:
        ConfigurationError: For a type whose rule is fixed (``int``, ``dict``, ``datetime`` ...).
    """
    if not (isinstance(cast("object", cls), type) and callable(rule)):
        raise ConfigurationError("register_key takes a class and a function of its objects")
    if cls is object or cls in LEAVES or cls in RULES:
        raise ConfigurationError(f"the rule for {type_name(cls)} is fixed: register a subclass, or use key=")
    _registered.register(cls, rule, subclasses=subclasses)
    _found.clear()


# ------------------------------------------------------------------------------------------------------ which rule


def _find(cls: type) -> Rule:
    for base in cls.__mro__:
        if "__memo_key__" in base.__dict__:
            if base.__dict__["__memo_key__"] is None:  # switched off, as __hash__ is
                break
            return _by_method
    rule = _found.get(cls)
    if rule is None:
        rule = _search(cls)
        if len(_found) >= 4096:  # classes that are made and dropped
            _found.clear()
        _found[cls] = rule
    return rule


def _search(cls: type) -> Rule:
    registered = _registered.find(cls)
    if registered is not None:
        return _by_registered(registered)
    for plain in (type, types.ModuleType):
        if issubclass(cls, plain):
            return RULES[plain]
    library = LIBRARIES.find(cls)
    if library is not None:
        return library
    reason = _refusal(cls)
    if reason is not None:
        return lambda _value, _walk: refuse(cls, reason)
    if issubclass(cls, enum.Enum):
        return _keys_stdlib.enum_member
    if issubclass(cls, types.GenericAlias) or cls.__module__ == "typing":
        return _typing
    for base in cls.__mro__:
        if base in RULES or base in LEAVES:
            return _derived(cls, base)
    return _composed(cls)


def _composed(cls: type) -> Rule:
    if issubclass(cls, dt.tzinfo):
        return functools.partial(_zone, drop=_dropped(cls))
    if "__dataclass_fields__" in cls.__dict__:
        return _by_fields(cls, *_dataclass_fields(cls))
    if "__attrs_attrs__" in cls.__dict__:
        fields = [(field.name, bool(field.eq)) for field in cast("Any", cls).__attrs_attrs__]
        return _by_fields(cls, *[[name for name, eq in fields if eq is wanted] for wanted in (True, False)])
    if any(base.__module__ == "pydantic.main" and base.__name__ == "BaseModel" for base in cls.__mro__):
        return functools.partial(_pydantic, drop=_dropped(cls))
    return functools.partial(_object, drop=_dropped(cls))


def _refusal(cls: type) -> str | None:
    if (reason := used_up(cls)) is not None:
        return reason
    if issubclass(cls, _OPAQUE):
        return "is a part of the running program, not a value"
    if not issubclass(cls, enum.Enum | BaseException):
        for base in cls.__mro__:
            if str(base.__module__).partition(".")[0] in _LIVE:
                return "stands for something live in this process, not for a value"
    return None


# ------------------------------------------------------------------------------------------------------- by the class


def _by_method(value: Any, walk: Walk) -> bytes:
    cls = type(value)
    key = _call_hook(cls, cls.__memo_key__, value, "the method __memo_key__")
    return named("keyed", identity(cls, walk), walk.encode(key))


def _by_registered(rule: Callable[[Any], object]) -> Rule:
    def registered(value: Any, walk: Walk) -> bytes:
        cls = type(value)
        key = _call_hook(cls, rule, value, "the rule from register_key")
        return named("keyed", identity(cls, walk), walk.encode(key))

    return registered


def _call_hook(cls: type, hook: Callable[[Any], object], value: object, what: str) -> object:
    try:
        return hook(value)
    except (KeyingError, RecursionError, MemoryError):
        raise
    except Exception as error:
        name = type_name(cls)
        raise KeyingError(f"{what} raised {type(error).__name__}, for {name}", type_name=name) from error


# Content of a subclass of a builtin as the builtin itself, past whatever the subclass overrides.
_AS_BUILTIN: dict[type, Callable[[Any], Any]] = {
    int: int.__index__,
    float: float.__float__,
    complex: complex.__complex__,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    bytearray: lambda value: bytearray.__getitem__(value, slice(None)),
    list: lambda value: list.__getitem__(value, slice(None)),
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
    dict: lambda value: dict(dict.items(value)),
    set: set.copy,
    frozenset: frozenset.copy,
}


def _derived(cls: type, base: type) -> Rule:
    """The rule for a subclass of a builtin: class, content, and the state it adds."""
    as_builtin = _AS_BUILTIN.get(base, lambda value: value)
    if base in (set, frozenset):
        as_builtin = base
    leaf, rule = LEAVES.get(base), RULES.get(base)
    slots = _slots(cls, below=base)
    drop = _dropped(cls)

    def derived(value: Any, walk: Walk) -> bytes:
        content = as_builtin(value)
        data = leaf(content) if leaf is not None else cast("Rule", rule)(content, walk)
        state = pairs(_own_state(value, slots, drop), walk)
        return named("derived", identity(cls, walk), data, joined(b"d", len(state), state))

    return derived


def _slots(cls: type, *, below: type = object) -> list[str]:
    names: list[str] = []
    for base in cls.__mro__:
        if base not in below.__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__"):
                    private = name.startswith("__") and not name.endswith("__")
                    names.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return names


def _own_state(value: Any, slots: Iterable[str], drop: frozenset[str]) -> list[tuple[str, object]]:
    state = dict(getattr(value, "__dict__", ()))
    for name in slots:
        try:
            state[name] = getattr(value, name)
        except AttributeError:
            continue
    return [(name, item) for name, item in state.items() if name not in drop]


def _dropped(cls: type) -> frozenset[str]:
    """Names of attributes that are no state: cached properties, and what a dataclass says not to compare."""
    drop: set[str] = set()
    for base in cls.__mro__:
        drop.update(name for name, item in base.__dict__.items() if type(item).__name__ == "cached_property")
        if "__dataclass_fields__" in base.__dict__:
            drop.update(_dataclass_fields(base)[1])
    return frozenset(drop)


# ------------------------------------------------------------------------------------------------- classes with fields


def _dataclass_fields(cls: Any) -> tuple[list[str], list[str]]:
    """Names of the fields that make two objects of a dataclass equal, and of the others."""
    method = cls.__dict__.get("__eq__")
    code = getattr(method, "__code__", None)
    # An __eq__ of the user's own decides by itself; then every field may count.
    generated = code is not None and code.co_filename == "<string>" and cls.__dataclass_params__.eq
    fields = dataclasses.fields(cls)
    compared = [field.name for field in fields if field.compare or not generated]
    return compared, [field.name for field in fields if field.name not in compared]


def _by_fields(cls: type, compared: Sequence[str], others: Sequence[str]) -> Rule:
    """The rule for classes that say themselves which of their fields make them equal.

    Attributes that are no fields count too: a base class that is no dataclass, or ``__post_init__``, may keep there
    whose account it is.
    """
    # A field may stand in the class alone (a default that no __init__ sets), hence not only what the object has.
    names = dict.fromkeys([*compared, *_slots(cls)])
    left_out = frozenset({*others, *_dropped(cls)})

    def by_fields(value: Any, walk: Walk) -> bytes:
        items = _own_state(value, names, left_out)
        state = pairs(items, walk)
        return named("fields", identity(cls, walk), joined(b"d", len(state), state))

    return by_fields


def _pydantic(value: Any, walk: Walk, *, drop: frozenset[str]) -> bytes:
    state = [(name, item) for name, item in vars(value).items() if name not in drop]
    fields = pairs(state, walk)
    extra = getattr(value, "__pydantic_extra__", None) or None
    private = getattr(value, "__pydantic_private__", None) or None
    return named(
        "pydantic",
        identity(type(value), walk),
        joined(b"d", len(fields), fields),
        walk.encode(extra),
        walk.encode(private),
    )


def _zone(value: dt.tzinfo, walk: Walk, *, drop: frozenset[str]) -> bytes:
    return _keys_stdlib.foreign_zone(value, walk) or _object(value, walk, drop=drop)


def _typing(value: Any, walk: Walk) -> bytes:
    return annotation(value, walk) or _object(value, walk, drop=frozenset())


# ------------------------------------------------------------------------------------------------------ other objects


def _object(value: Any, walk: Walk, *, drop: frozenset[str]) -> bytes:
    """Encode an object by what it reduces to for copying."""
    cls = type(value)
    try:
        reduced = value.__reduce_ex__(4)
    except (RecursionError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is
        refuse(cls, f"cannot be taken apart into a state that identifies it ({type(error).__name__})")
    if isinstance(reduced, str):
        module = getattr(value, "__module__", None) or cls.__module__
        return named("global", text(global_name(types.SimpleNamespace(__module__=module, __qualname__=reduced))))
    make, arguments, state, items, entries = (*reduced, None, None, None)[:5]
    if make is copyreg.__newobj__ or make is copyreg.__newobj_ex__:  # type: ignore[attr-defined]
        made, *arguments = arguments
        if made is object:
            refuse(cls, "has nothing that identifies it")
        head = identity(made, walk)
    elif make is copyreg._reconstructor:  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public name for it
        made, *arguments = arguments
        head = identity(made, walk)
    elif isinstance(make, type):
        head = identity(make, walk)
    elif make is operator.getitem or "<" in global_name(make):
        head = walk.encode(make)
    else:
        head = named("maker", text(global_name(make)))
    state = _merged(cls, state)
    if type(state) is dict:
        attributes = pairs([item for item in list(state.items()) if item[0] not in drop], walk)
        state_data = joined(b"d", len(attributes), attributes)
    else:
        state_data = walk.encode(state)
    return named(
        "object",
        identity(cls, walk),
        head,
        walk.encode(tuple(arguments)),
        state_data,
        b"N" if items is None else walk.encode(list(items)),
        b"N" if entries is None else walk.encode(dict(entries)),
    )


def _merged(cls: Any, state: Any) -> Any:
    """Put attributes and slots into one dict, where ``object`` itself has told them apart."""
    pair = type(state) is tuple and len(state) == 2 and type(state[1]) is dict and type(state[0]) in (dict, type(None))
    if pair and cls.__getstate__ is object.__getstate__:
        return {**(state[0] or {}), **state[1]}
    return state
