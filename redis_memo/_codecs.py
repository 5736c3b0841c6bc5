"""Values as bytes: typed codecs for what is known by type, a pickle for each part that is not.

::

    _codecs            dumps, loads, register_type; pickled parts
    _codecs_builtin    scalars and containers
    _codecs_stdlib     the standard library's other value types
    _codecs_classes    dataclasses, named tuples, enums
    _codecs_items      sequences of like elements, as columns
    _codecs_records    dicts with the same keys, lists and tuples, as columns
    _codecs_shared     the same, if some are there twice
    _codecs_tables     what the columns of large ones have in common
    _codecs_phrases    columns of names, by the words that they share
    _codecs_forms      small values that are alike, read at once
    _codecs_<library>  loaded when the library's first object arrives
    _codecs_rules      which type is stored in which way
    _codecs_stream     the stream, and parts that a value has twice
    _codecs_buffers    large parts: here, still compressed, or not fetched yet

What is typed is data: reading it calls no code of the value's. Only a pickled part can, so a value that has one is
marked, and such a part is opened only for a caller who has verified where the entry comes from.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import pickle
import pickletools
import sys
import types
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis_memo import _codecs_builtin, _codecs_classes, _codecs_forms, _codecs_stdlib  # noqa: F401 - some register rules
from redis_memo._codecs_buffers import Buffer, Needs, Scattered, Source
from redis_memo._codecs_rules import (
    BY_NAME,
    FLAWS,
    LIBRARIES,
    PUT,
    READ,
    USER_TYPES,
    Cyclic,
    Rule,
    TooDeep,
    find_rule,
    load_rules,
    refuse,
    type_name,
)
from redis_memo._codecs_stream import MOULDS, OUT_OF_BAND, PUT_PICKLE, Decoder, Encoder
from redis_memo._registry import used_up
from redis_memo.errors import ConfigurationError, NoSuchColumn, UnreadableEntry, UnsupportedType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Payload", "dumps", "loads", "register_type", "registered_types"]

T = TypeVar("T")
_FRAME: Final = b"x\x0cpd.DataFrame"  # how the stream of a frame begins
_LONG: Final = b"~"  # in the place of a stream that is the first buffer
_LONGEST: Final = 1 << 20  # bytes of a stream: an envelope has that in one piece, and buffers in many


@dataclass(frozen=True, slots=True)
class Payload:
    """A value, ready to be put into an envelope.

    Attributes:
        meta: The stream that describes the value, with all small data in it; where it is long, a sign that it is the
            first buffer.
        buffers: Large data, in the order in which the stream refers to it; contiguous bytes, and where they could
            be had without a copy the value's own memory, or columns of it that are still to be gathered.
        pickled: A part of the value is a pickle, so that reading it back takes trust.
        kinds: For each buffer what numbers it holds, such as ``"f8"``, or ``"4f8"`` for four columns of one length, one
            after another; empty where none.
    """

    meta: bytes
    buffers: tuple[Buffer | Scattered, ...]
    pickled: bool
    kinds: tuple[str, ...] = ()


def dumps(value: object, *, allow_pickle: bool, as_it_lies: bool = True) -> Payload:
    """Turn a value into bytes.

    Args:
        value: Anything.
        allow_pickle: Whether parts without a typed codec may be pickled.
        as_it_lies: Whether much noise may be written as it lies in memory; equal values may lie otherwise.

    Raises:
        UnsupportedType: A part would have to be pickled and may not be, or cannot be; or memory does not suffice.
    """
    try:
        return _dumps(value, allow_pickle=allow_pickle, as_it_lies=as_it_lies)
    except MemoryError:
        pass  # and with the error goes what it holds on to: all that was written so far
    name = type_name(type(value))
    raise UnsupportedType(f"there is not enough memory to encode a value of type {name}", type_name=name)


def _dumps(value: object, **options: bool) -> Payload:
    try:
        try:
            enc = Encoder(**options)
            enc.put(value)
        except Cyclic:
            # Rows that refer to each other have no place in columns; without columns they may well be storable.
            enc = Encoder(**options, records=False)
            enc.put(value)
    except (Cyclic, TooDeep, RecursionError):
        # A cycle through something immutable, or very deep nesting: pickle, written in C, copes with the first
        # always and with the second often.
        enc = Encoder(**options)
        _guarded(_put_pickle, enc, value)
    except (UnsupportedType, MemoryError):
        raise
    except Exception as error:
        raise _unsupported(value, error) from error
    if len(enc.out) > _LONGEST:
        return Payload(_LONG, (bytes(enc.out), *enc.buffers), enc.pickled, ("", *enc.kinds))
    return Payload(bytes(enc.out), tuple(enc.buffers), enc.pickled, tuple(enc.kinds))


def loads(
    meta: Buffer, buffers: Sequence[Buffer | Source], *, trusted: bool, columns: Sequence[object] | None = None
) -> Any:
    """Turn bytes back into a value that shares no memory with them.

    Args:
        meta: As :func:`dumps` returned it.
        buffers: Likewise, or still compressed.
        trusted: Whether it is known who wrote them; pickled parts are opened only then.
        columns: Of a frame, only these, in this order.

    Raises:
        UnreadableEntry: For anything that is wrong with the bytes, or with the classes that they name.
        NoSuchColumn: The frame has no column of such a name, or it is no frame.
        Needs: A buffer has to be fetched first.
    """
    try:
        data, buffers = _stream(meta, buffers, columns)
        if buffers:
            make = MOULDS.get(data) if columns is None else None
            if make is not None:
                return make(buffers)
        else:
            value = _codecs_forms.read(data)
            if value is not None:
                return value
        dec = Decoder(data, buffers, trusted=trusted, columns=columns)
        value = dec.get()
        dec.finish()
        if not buffers:
            _codecs_forms.learn(data)
    except (UnreadableEntry, Needs, NoSuchColumn):
        raise
    except Exception as error:  # noqa: BLE001 - damaged bytes can make any library raise anything
        # The error's own text can quote the stored data: only its type is told.
        raise UnreadableEntry(f"the entry cannot be read ({type(error).__name__})") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what a Rust library raises instead of an Exception
            raise
        raise UnreadableEntry("the entry cannot be read (PanicException)") from None
    return value


def _stream(
    meta: Buffer, buffers: Sequence[Buffer | Source], columns: Sequence[object] | None
) -> tuple[bytes, Sequence[Buffer | Source]]:
    data = bytes(meta)
    if data == _LONG:
        first, *buffers = buffers
        data = bytes(first if isinstance(first, (bytes, bytearray, memoryview)) else first.read_stream())
    if columns is not None and not data.startswith(_FRAME):
        raise NoSuchColumn("what is stored is no frame of pandas' own class, and has no columns to be read alone")
    return data, buffers


def register_type(cls: type[T], *, name: str, encode: Callable[[T], object], decode: Callable[[Any], T]) -> None:
    """Teach the serializer a type.

    Args:
        cls: The class; its subclasses are not included.
        name: What is stored to find ``decode`` again; choose it once, it must mean the same in every process.
        encode: Returns what to store: any value that can be stored itself.
        decode: Rebuilds the object from that. It is given data that may come from anyone who can write to Redis,
            so it must not evaluate, import or open what the data names.

    Raises:
        ConfigurationError: The name is taken by another class, or the class has a fixed representation.
    """
    stored = name.encode("ascii", "replace")
    if not name.isascii() or not 0 < len(stored) < 0x100:
        raise ConfigurationError("the name of a type has 1 to 255 ASCII characters")
    if cls in PUT:
        raise ConfigurationError(f"{type_name(cls)} has a fixed representation")
    for other, rule in list(USER_TYPES.items()):
        if rule.name == name and type_name(other) != type_name(cls):
            raise ConfigurationError(f"the name is taken by {type_name(other)}")

    def put(enc: Encoder, value: Any) -> None:
        enc.put(encode(value))

    rule = Rule(name, put, lambda dec: decode(dec.get()))
    object.__setattr__(rule, "head", b"U" + rule.head[1:])
    USER_TYPES[cls] = _user_names[stored] = rule


_user_names: dict[bytes, Rule] = {}


def registered_types() -> frozenset[str]:
    """Names of all types and families of types that have a typed codec, of every library that is installed."""
    for prefix, _ in LIBRARIES.values():
        try:
            load_rules(prefix)
        except ImportError:
            continue
    return frozenset({cls.__name__ for cls in PUT} | {name.decode() for name in BY_NAME})


def _get_user_type(dec: Decoder) -> Any:
    dec.filled = None  # no mould: what is made here is made anew each time
    value = _user_names[dec.take(dec.byte())].get(dec)
    dec.memo.append(value)
    return value


# Pickled parts


def _unsupported(value: object, error: BaseException) -> UnsupportedType:
    name = type_name(type(value))
    return UnsupportedType(f"a value of type {name} cannot be stored ({type(error).__name__})", type_name=name)


def _guarded(put: Callable[[Encoder, Any], None], enc: Encoder, value: object) -> None:
    try:
        put(enc, value)
    except (UnsupportedType, MemoryError):
        raise
    except Exception as error:
        raise _unsupported(value, error) from error


def _flaw(cls: type) -> str | None:
    """What keeps the instances of a class from coming back as what they are, even where pickle takes them."""
    if issubclass(cls, memoryview):
        return "shows the memory of another object"
    if issubclass(cls, (io.BytesIO, io.StringIO)):
        return None
    if issubclass(cls, io.IOBase) or any(base.__module__ in ("io", "_io") for base in cls.__mro__):
        return "is an open file"  # cloudpickle would make a StringIO of it
    if any(base.__module__ in ("weakref", "_weakref", "_weakrefset") for base in cls.__mro__):
        return "holds objects only as long as others do"
    return used_up(cls)


_sound: Final[weakref.WeakSet[type]] = weakref.WeakSet()


def _check(value: object) -> None:
    cls = type(value)
    if cls not in _sound:
        flaw = _flaw(cls)
        if flaw is not None:
            refuse(value, flaw)
        with contextlib.suppress(ImportError):  # polars' rules need pyarrow, its pickles do not
            find_rule(cls)  # which loads what its library says about single objects
        _sound.add(cls)
    ask = FLAWS.find(cls)
    flaw = None if ask is None else ask(value)
    if flaw is not None:
        refuse(value, flaw)


class _Pickler(pickle.Pickler):
    """Plain pickle, which names classes and functions; of what it is given it refuses what would come back changed."""

    at: object = None  # where it is, which tells what it failed at

    def reducer_override(self, obj: Any) -> Any:
        self.at = obj
        _check(obj)
        return NotImplemented


def _is_named(obj: Any) -> bool:
    """Whether a class or function is found where pickle would look for it."""
    try:
        found: Any = sys.modules[obj.__module__]
        for part in obj.__qualname__.split("."):
            found = getattr(found, part)
    except (AttributeError, KeyError, TypeError):
        return False
    return found is obj


# Builtin classes that cloudpickle knows a way to: NoneType, FunctionType ...
_UNNAMED: Final = frozenset(found for found in vars(types).values() if isinstance(found, type))


@functools.cache
def _cloud_pickler() -> Any:
    """A pickler for what has no name: lambdas, functions in functions."""
    import cloudpickle  # noqa: PLC0415 - most values never need it

    class CloudPickler(cloudpickle.Pickler):  # type: ignore[misc]
        at: object = None

        def reducer_override(self, obj: Any) -> Any:
            self.at = obj
            _check(obj)
            if isinstance(obj, (type, types.FunctionType)) and _is_named(obj):
                # By name, in __main__ too. By value it would be another one in each process that reads it.
                return NotImplemented
            if isinstance(obj, type) and obj not in _UNNAMED:
                name = type_name(obj)
                raise UnsupportedType(
                    f"the class {name} cannot be found by its name, and would be another class in the next process; "
                    "define it at the top level of a module",
                    type_name=name,
                )
            return super().reducer_override(obj)

    return CloudPickler


_NUMBERS: Final = {"d": "f8", "f": "f4", "l": "i8", "q": "i8", "i": "i4", "h": "i2", "L": "u8", "Q": "u8", "I": "u4"}
_ENOUGH: Final = 1 << 16
_PLAIN_HOOKS: Final = (object.__reduce_ex__, object.__reduce__, object.__getstate__)


class _Beginning(io.BytesIO):
    """Takes the beginning of a pickle, which is enough to see whether it can be made."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > _ENOUGH:
            raise MemoryError
        return super().write(data)


def _pickle(value: object, place: Callable[[], io.BytesIO]) -> tuple[bytes, list[memoryview], list[str]]:
    """A pickle, the large buffers beside it, and what numbers they hold."""
    failure: UnsupportedType | None = None
    for pickler in (lambda: _Pickler, _cloud_pickler):
        buffers: list[memoryview] = []
        kinds: list[str] = []
        with place() as file:
            out_of_band = functools.partial(_out_of_band, buffers, kinds)
            pickling = pickler()(file, protocol=5, buffer_callback=out_of_band)
            try:
                pickling.dump(value)
            except (MemoryError, UnsupportedType):
                raise
            except Exception as error:  # noqa: BLE001 - pickle runs the value's own code, which may raise anything
                failure = _unpicklable(value, pickling.at, error)
                failure.__cause__ = error
            else:
                return file.getvalue(), buffers, kinds
    assert failure is not None
    raise failure


def _out_of_band(buffers: list[memoryview], kinds: list[str], buffer: pickle.PickleBuffer) -> bool:
    view = buffer.raw()
    if view.nbytes < OUT_OF_BAND:
        return True
    buffers.append(view)
    shown = memoryview(buffer)
    kind = _NUMBERS.get(shown.format, "")
    kinds.append(kind if sys.byteorder == "little" and kind[1:] == str(shown.itemsize) else "")
    return False


def _unpicklable(value: object, at: object, error: Exception) -> UnsupportedType:
    name, part = type_name(type(value)), type_name(type(at))
    where = "it" if at is None or at is value else f"what it holds of type {part}"
    return UnsupportedType(
        f"a value of type {name} cannot be stored: {where} cannot be pickled ({type(error).__name__}); "
        f"return plain data, or teach the type with register_type({name.rpartition('.')[2]}, ...)",
        type_name=name,
    )


def _refuse_in_any_case(value: object) -> None:
    """Raise where no secret would help, as far as the beginning of a pickle shows.

    A class that has its own way of being pickled may do much work for it, and is believed.
    """
    cls = type(value)
    if (cls.__reduce_ex__, cls.__reduce__, getattr(cls, "__getstate__", None)) != _PLAIN_HOOKS:
        return
    with contextlib.suppress(MemoryError):
        _pickle(value, _Beginning)


def _put_pickle(enc: Encoder, value: Any) -> None:
    """Write one object as a pickle, its large buffers beside it."""
    _check(value)
    if not enc.allow_pickle:
        _refuse_in_any_case(value)
        name = type_name(type(value))
        raise UnsupportedType(
            f"a value of type {name} can only be pickled, and pickle needs a secret to be signed with; "
            f"set one, or teach the type with register_type({name.rpartition('.')[2]}, ...)",
            type_name=name,
            secret_helps=True,
        )
    enc.enter()
    data, buffers, kinds = _pickle(value, io.BytesIO)
    enc.pickled = True
    for library in _BOUND_TO_VERSION:
        if library.encode() in data and library in sys.modules:
            enc.out += b"V"
            enc.text(library)
            enc.text(sys.modules[library].__version__)
    enc.out += b"p"
    enc.blob(data)
    enc.size(len(buffers))
    enc.buffers += buffers
    enc.kinds += kinds
    enc.close(value)


def _demand_trust(dec: Decoder) -> None:
    if not dec.trusted:
        raise UnreadableEntry("the entry has a pickled part, and nothing shows who wrote it")


def _get_pickle(dec: Decoder) -> Any:
    _demand_trust(dec)
    dec.filled = None  # no mould: it would make this for those who do not trust it, and one object for all
    data = bytes(dec.blob())
    # Whatever the entry was read into, the object gets memory of its own to write to.
    buffers = [dec.owned() for _ in range(dec.size())]
    try:
        value = pickle.loads(data, buffers=buffers)
    except Exception as error:  # noqa: BLE001 - unpickling runs the code of the value's class
        # Such a value is stored and misses at every call, so say which it is.
        raise UnreadableEntry(f"unpickling {_first_global(data)} raised {type(error).__name__}") from None
    dec.memo.append(value)
    return value


# What one version of these pickled another one reads with a warning and no promise that it predicts the same.
_BOUND_TO_VERSION: Final = ("sklearn",)


def _get_versioned(dec: Decoder) -> Any:
    _demand_trust(dec)
    library, version = dec.text(), dec.text()
    if library not in _BOUND_TO_VERSION:
        raise UnreadableEntry("the entry uses a library that this version does not know")
    here = importlib.import_module(library).__version__
    if version != here:
        raise UnreadableEntry(f"it was pickled with {library} {version}, and {here} is installed here")
    return dec.get()


def _first_global(data: bytes) -> str:
    """The first class or function that a pickle names: mostly the class of what was pickled."""
    pushed: list[object] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STACK_GLOBAL":
                module, name = pushed[-2:]
                # A name that stands earlier in the pickle is referred to; what stands here then is something else.
                return f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "an object"
            if opcode.name != "MEMOIZE":
                pushed.append(argument)
    except ValueError:  # it is no pickle
        pass
    return "an object"


PUT_PICKLE.append(_put_pickle)
READ[ord("p")] = _get_pickle
READ[ord("U")] = _get_user_type
READ[ord("V")] = _get_versioned
