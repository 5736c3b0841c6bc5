"""Pydantic models: their four parts of state, set as ``BaseModel.__setstate__`` does, without validation."""

from __future__ import annotations

from datetime import timedelta
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, RootModel
from pydantic_core import TzInfo

from redis_memo._codecs_classes import by_name, fillable, load_class
from redis_memo._codecs_rules import NotTyped, Rule, register
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from redis_memo._codecs_stream import Decoder, Encoder

__all__: list[str] = []

_HOOKS: Final = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__")
_STATE: Final = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


def _fields(cls: type) -> tuple[str, ...] | None:
    """The fields of a model that has no say in how it is pickled, else None."""
    if not issubclass(cls, BaseModel) or not fillable(cls) or hasattr(cls, "__del__"):
        return None
    known = _root(cls)
    if any(getattr(cls, hook, None) is not getattr(known, hook, None) for hook in _HOOKS):
        return None
    return tuple(cls.model_fields)


def _root(cls: type) -> Any:
    """The class of pydantic's that says what the state of a model is."""
    return RootModel if issubclass(cls, RootModel) else BaseModel


def _parts(cls: type) -> tuple[str, ...]:
    """Names of the parts of state; a root model has neither extra nor private attributes, nor places for them."""
    return _STATE[:2] if _root(cls) is RootModel else _STATE


def _put_model(enc: Encoder, value: Any) -> None:
    cls = type(value)
    fields = _fields(cls)
    if fields is None or by_name(cls.__module__, cls.__qualname__) is not cls:
        raise NotTyped
    enc.put_class(cls, *fields)
    state = _root(cls).__getstate__(value)
    for name in _parts(cls):
        enc.put(state[name])


def _check_model(cls: Any, stored: tuple[Any, ...]) -> tuple[str, ...]:
    if _fields(cls) != stored:
        raise UnreadableEntry("a model has changed")
    return _parts(cls)


def _get_model(dec: Decoder, slot: int) -> Any:
    cls, parts = load_class(dec, _check_model)
    value = object.__new__(cls)
    dec.remember(slot, value)
    for name, kind in zip(parts, (dict, set, dict, dict), strict=False):
        state = dec.get()
        optional = name in _STATE[2:]
        if not isinstance(state, (kind, NoneType) if optional else kind):
            raise UnreadableEntry("a model is damaged")
        object.__setattr__(value, name, state)
    return value


def _zone(offset: Any) -> Any:
    return TzInfo(offset.total_seconds())


def _put_zone(enc: Encoder, value: Any) -> None:
    enc.put(value.utcoffset(None))


register(Rule("pydantic.BaseModel", _put_model, _get_model, early=True), BaseModel, subclasses=True)
# The zone of a datetime that pydantic parsed from text.
register(Rule("pydantic.TzInfo", _put_zone, lambda dec: _zone(dec.some(timedelta))), TzInfo)
