"""Instances of the user's own classes that are plain data: dataclasses, named tuples, enum members.

A class is named by module and qualified name, and found only among the modules that are loaded (a trusted entry may
import its module). It has to be the kind of class that was stored, with the very fields that were stored, and it
is filled without calling anything of its own: no ``__init__``, ``__new__``, ``__setattr__``, property or hook.
What customizes pickling says by that that its fields are not all there is, and is left to pickle.
"""

# ruff: noqa: SLF001 - the parts of dataclasses, named tuples and enums have no other names

from __future__ import annotations

import collections
import copyreg
import dataclasses
import enum
import importlib
import sys
import weakref
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis_memo._codecs_items import get_items, put_items
from redis_memo._codecs_rules import CLASSIFIERS, NotTyped, Rule, register
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis_memo._codecs_stream import Decoder, Encoder

__all__ = ["by_name", "fillable", "is_plain", "load_class"]

T = TypeVar("T")
_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, not by a C extension's static type
_HOOKS: Final = (
    "__reduce__",
    "__reduce_ex__",
    "__getstate__",
    "__setstate__",
    "__getnewargs__",
    "__getnewargs_ex__",
    "__del__",
)
_SAMPLE_TUPLE: Final = collections.namedtuple("_SAMPLE_TUPLE", "field")  # noqa: PYI024 - made by the factory
_TUPLE_HOOK: Final = _SAMPLE_TUPLE.__dict__["__getnewargs__"].__code__
# Hooks that say no more than the fields do. All named tuples share one code object for theirs.
_HARMLESS_CODE: Final = {
    _TUPLE_HOOK,
    *(
        getattr(dataclasses, name).__code__
        for name in ("_dataclass_getstate", "_dataclass_setstate")
        if hasattr(dataclasses, name)
    ),
}
_FIELD: Final = dataclasses.fields(dataclasses.make_dataclass("_Sample", ["field"]))[0]._field_type  # type: ignore[attr-defined]


def by_name(module: str, qualname: str) -> object:
    """Find a class by name, reading namespaces only: no module's or class's ``__getattr__`` runs."""
    found: Any = sys.modules.get(module)
    try:
        for part in qualname.split("."):
            found = (type if isinstance(found, type) else object).__getattribute__(found, "__dict__")[part]
    except (AttributeError, KeyError, TypeError):
        return None
    return found


def is_plain(cls: type) -> bool:
    """Whether a class can be found again by its name and has no say in how its instances are pickled."""
    if by_name(cls.__module__, cls.__qualname__) is not cls or cls in copyreg.dispatch_table:
        return False
    for hook in _HOOKS:
        for base in cls.__mro__[:-1]:
            found = base.__dict__.get(hook)
            if found is not None and base is not tuple and getattr(found, "__code__", None) not in _HARMLESS_CODE:
                return False
    return True


def load_class(dec: Decoder, check: Callable[[Any, tuple[Any, ...]], T]) -> tuple[Any, T]:
    """Read which class comes next; return it, if it is loaded, and what ``check`` finds out about it.

    ``check`` is given the class and what was stored about it, and raises where an instance cannot be made. It is asked
    once for all of a value's instances: the next value's class may be another one of that name.
    """
    number, (module, qualname, parts) = dec.get_class()
    found = dec.loaded.get((number, check))
    if found is not None:
        return found
    if dec.trusted and module not in sys.modules:
        importlib.import_module(module)
    cls = by_name(module, qualname)
    if not isinstance(cls, type):
        raise UnreadableEntry("a class is not there any more")
    found = dec.loaded[number, check] = cls, check(cls, parts)
    return found


def fillable(cls: type) -> bool:
    """Whether ``object.__new__`` makes an instance, and its fields and ``__dict__`` are all its state."""
    return all(base.__flags__ & _HEAP_TYPE for base in cls.__mro__[:-1]) and not getattr(cls, "__abstractmethods__", ())


# Dataclasses

_fields_of: Final[weakref.WeakKeyDictionary[type, tuple[str, ...] | None]] = weakref.WeakKeyDictionary()


def _slots(cls: type) -> set[str]:
    slots: set[str] = set()
    for base in cls.__mro__:
        own = base.__dict__.get("__slots__", ())
        slots.update((own,) if isinstance(own, str) else own)
    return slots - {"__dict__", "__weakref__"}


def _lookup(cls: type, name: str) -> object:
    return next((base.__dict__[name] for base in cls.__mro__ if name in base.__dict__), None)


def _own(value: object) -> dict[str, Any]:
    """The instance's ``__dict__``, without asking the instance."""
    try:
        own: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:  # all slots
        return {}
    return own


def _find_fields(cls: type) -> tuple[str, ...] | None:
    declared = cls.__dict__.get("__dataclass_fields__")
    if not isinstance(declared, dict) or not fillable(cls) or not is_plain(cls):
        return None
    names = tuple(name for name, field in declared.items() if field._field_type is _FIELD)
    slots = _slots(cls)
    if not slots <= set(names) or not all(type(_lookup(cls, slot)) is MemberDescriptorType for slot in slots):
        return None
    return names


def _fields(cls: type) -> tuple[str, ...] | None:
    """The fields of a class that can be filled from outside, else None."""
    try:
        return _fields_of[cls]
    except KeyError:
        fields = _fields_of[cls] = _find_fields(cls)
        return fields


def _put_dataclass(enc: Encoder, value: Any) -> None:
    cls = type(value)
    fields = _fields(cls)
    if fields is None:
        raise NotTyped
    enc.put_class(cls, *fields)
    own, state = _own(value), {}
    slots = _slots(cls)
    for name in fields:
        if name in slots:
            try:
                state[name] = object.__getattribute__(value, name)
            except AttributeError:  # a field may be unset (init=False)
                continue
        elif name in own:
            state[name] = own[name]
    extra = {name: item for name, item in own.items() if name not in state}
    if not set(map(type, extra)) <= {str}:
        raise NotTyped
    if [name for name in (*state, *extra) if name in own] != list(own):
        # Not in the order of the fields: all that has a place of its own, then the rest as it lies.
        state = {name: item for name, item in state.items() if name not in own} | own
        extra = {}
    names = tuple(state)
    enc.put(None if names == fields else names)
    put_items(enc, list(state.values()))
    enc.put(tuple(extra) if extra else None)
    put_items(enc, list(extra.values()))


def _check_dataclass(cls: Any, stored: tuple[Any, ...]) -> tuple[tuple[str, ...], set[str]]:
    """Its fields, and which of them are slots."""
    fields = _fields(cls)
    if fields is None or fields != stored:
        raise UnreadableEntry("a dataclass has changed")
    return fields, _slots(cls)


def _get_dataclass(dec: Decoder, slot: int) -> Any:
    cls, (fields, slots) = load_class(dec, _check_dataclass)
    value = object.__new__(cls)
    dec.remember(slot, value)
    own = _own(value)
    for otherwise in (fields, ()):
        for name, item in zip(_names(dec, otherwise), get_items(dec), strict=True):
            if name in slots:
                object.__setattr__(value, name, item)  # a slot: nothing but a place in memory
            else:
                own[name] = item
    if own and own is not _own(value):
        raise UnreadableEntry("a dataclass has changed")
    return value


def _names(dec: Decoder, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    names = dec.get()
    if names is None:
        return otherwise
    if type(names) is not tuple or not set(map(type, names)) <= {str}:
        raise UnreadableEntry("a dataclass is damaged")
    return names


# Named tuples


def _is_named_tuple(cls: type) -> bool:
    return (
        issubclass(cls, tuple)
        and isinstance(getattr(cls, "_fields", None), tuple)
        and getattr(_lookup(cls, "__getnewargs__"), "__code__", None) is _TUPLE_HOOK
        and is_plain(cls)
    )


def _put_named_tuple(enc: Encoder, value: Any) -> None:
    cls = type(value)
    extra = getattr(value, "__dict__", None) or None
    if extra is not None and not set(map(type, extra)) <= {str}:
        raise NotTyped
    enc.put_class(cls, *cls._fields)
    put_items(enc, tuple(value))
    enc.put(extra)


def _check_named_tuple(cls: Any, stored: tuple[Any, ...]) -> int:
    """How many fields it has."""
    if not _is_named_tuple(cls) or cls._fields != stored:
        raise UnreadableEntry("a named tuple has changed")
    return len(stored)


def _get_named_tuple(dec: Decoder) -> Any:
    cls, length = load_class(dec, _check_named_tuple)
    items = get_items(dec)
    if len(items) != length:
        raise UnreadableEntry("a named tuple has changed")
    value = tuple.__new__(cls, items)
    extra = dec.exact(dict, type(None))
    if extra is not None:
        if not set(map(type, extra)) <= {str}:
            raise UnreadableEntry("a named tuple is damaged")
        value.__dict__.update(extra)
    return value


# Enum members: singletons, known by name. A combination of flags has no name of its own and goes by value.


def _flag(cls: Any, number: object) -> Any:
    known = cls._value2member_map_.get(number)
    if known is not None:
        return known
    # Making a new combination runs the standard library's code only.
    if cls._missing_.__func__ is not enum.Flag._missing_.__func__ or not isinstance(number, int):  # type: ignore[attr-defined]
        raise NotTyped
    return enum.Flag._missing_.__func__(cls, number)  # type: ignore[attr-defined]


def _put_enum(enc: Encoder, value: Any) -> None:
    cls = type(value)
    if by_name(cls.__module__, cls.__qualname__) is not cls:
        raise NotTyped
    enc.put_class(cls)
    if cls._member_map_.get(value._name_) is value:
        enc.put(value._name_)
        enc.put(None)
        return
    if not issubclass(cls, enum.Flag) or _flag(cls, value._value_) is not value:
        raise NotTyped
    enc.put(None)
    enc.put(value._value_)


def _check_enum(cls: Any, _stored: tuple[Any, ...]) -> None:
    if not issubclass(cls, enum.Enum):
        raise UnreadableEntry("an enum is not there any more")


def _get_enum(dec: Decoder) -> Any:
    cls, _ = load_class(dec, _check_enum)
    name, number = dec.exact(str, type(None)), dec.get()
    if name is not None:
        return cls._member_map_[name]
    if not issubclass(cls, enum.Flag) or type(number) is not int:
        raise UnreadableEntry("an enum is not there any more")
    return _flag(cls, number)


_DATACLASS: Final = Rule("dataclass", _put_dataclass, _get_dataclass, early=True)
_NAMED_TUPLE: Final = Rule("namedtuple", _put_named_tuple, _get_named_tuple)


def _classify(cls: type) -> Rule | None:
    if "__dataclass_fields__" in cls.__dict__:
        # Asked each time: in a notebook the name may mean another class by now.
        return _DATACLASS if by_name(cls.__module__, cls.__qualname__) is cls and _fields(cls) is not None else None
    return _NAMED_TUPLE if _is_named_tuple(cls) else None


register(_DATACLASS)
register(_NAMED_TUPLE)
CLASSIFIERS.append(_classify)
register(Rule("enum", _put_enum, _get_enum), enum.Enum, subclasses=True)
