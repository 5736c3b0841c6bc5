"""Key rules for what a program consists of: classes, functions, methods, modules, type annotations.

A class is identified by its name where that name leads to it. Where it does not (``__main__``, classes made in
functions), the code of its methods belongs to its identity, as it does for functions.
"""

from __future__ import annotations

import enum
import functools
import operator
import sys
import types
import typing
from typing import Any

from redis_memo._keys_walk import RULES, Walk, blob, joined, named, refuse, text, whole
from redis_memo._source import code_digest, qualified_name

if typing.TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["annotation", "global_name", "identity"]

# What these call their classes is stable; in which private module they keep them is not.
_LIBRARIES = frozenset({"numpy", "pandas", "polars", "pyarrow"})
# Written by the class statement itself, or by decorators from fields that are seen anyway.
_MACHINERY = frozenset({
    "__module__", "__qualname__", "__dict__", "__weakref__", "__doc__", "__annotations__", "__annotate__",
    "__annotate_func__", "__annotations_cache__", "__conditional_annotations__", "__classcell__",
    "__classdictcell__", "__firstlineno__", "__static_attributes__", "__abstractmethods__", "__dataclass_fields__",
    "__dataclass_params__", "__match_args__", "__orig_bases__", "__parameters__", "__type_params__", "__hash__",
    "_abc_impl", "_member_names_", "_member_map_", "_value2member_map_", "_unhashable_values_", "_hashable_values_",
    "_unhashable_values_map_", "_member_type_", "_value_repr_", "_use_args_", "_new_member_", "_flag_mask_",
    "_singles_mask_", "_all_bits_", "_boundary_", "_inverted_",
})  # fmt: skip
_GENERATED = frozenset({
    "__init__", "__repr__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__setattr__",
    "__delattr__", "__replace__", "__getstate__", "__setstate__", "_dataclass_getstate", "_dataclass_setstate",
})  # fmt: skip
_SCALARS = (type(None), bool, int, float, complex, str, bytes)


# -------------------------------------------------------------------------------------------------------------- names


def global_name(obj: Any) -> str:
    """Name a class or function, the same under every version of Python and of the libraries."""
    module = getattr(obj, "__module__", None)
    if not isinstance(module, str):
        return qualified_name(obj)
    parts = module.split(".")
    qualname = str(getattr(obj, "__qualname__", None) or getattr(obj, "__name__", ""))
    if parts[0] in _LIBRARIES:
        if getattr(sys.modules.get(parts[0]), qualname, None) is obj:
            return f"{parts[0]}.{qualname}"
    elif _is_stdlib(module):
        parts[0] = parts[0].lstrip("_")  # _operator.itemgetter
    else:
        return qualified_name(obj)
    return ".".join([*(part for part in parts if not part.startswith("_")), qualname])  # pathlib._local.PosixPath


def _is_stdlib(module: str) -> bool:
    return module.partition(".")[0].lstrip("_") in sys.stdlib_module_names


def _is_found(obj: Any) -> bool:
    """Whether following the qualified name leads to the object."""
    module = sys.modules.get(obj.__module__) if isinstance(obj.__module__, str) else None
    found: object = module
    for name in obj.__qualname__.split("."):
        try:
            found = vars(found)[name] if isinstance(found, type | types.ModuleType) else None
        except KeyError:
            return False
    return found is obj


# ------------------------------------------------------------------------------------------------------------ classes

_identities: dict[type, bytes] = {}


def identity(cls: type, walk: Walk) -> bytes:
    """Encode which class this is."""
    known = _identities.get(cls)
    if known is not None:
        return known
    name = global_name(cls)
    module = str(cls.__module__)
    # A library's C type may have no name to be found by (NoneType), and is not made twice.
    library = _is_stdlib(module) or module.partition(".")[0] in _LIBRARIES
    if "<locals>" not in name and (library or _is_found(cls)):
        script = name.startswith("__main__.")
        parts = [text(name), _body(cls, walk, closures=False)] if script else [text(name)]
        data = whole(named("class", *parts))
        if len(_identities) >= 4096:
            _identities.clear()
        _identities[cls] = data
        return data
    return walk.cyclic(cls, _local_class)


def _local_class(cls: type, walk: Walk) -> bytes:
    return named("local class", text(global_name(cls)), _body(cls, walk, closures=True))


def _body(cls: type, walk: Walk, *, closures: bool) -> bytes:
    """Encode what makes a class whose name does not identify it: bases, code, constants.

    Without ``closures``, functions count by their code: a decorator's cache or counter in a cell must not make the
    class another one. In a class made by a function the cells are what tells it from its sisters.
    """
    bases = [identity(base, walk) for base in cls.__bases__]
    own: list[bytes] = []
    for name, attribute in list(vars(cls).items()):
        if name in _MACHINERY:
            continue
        for function in _functions(attribute):
            if function.__module__ != cls.__module__:
                module = function.__module__ or ""
                if not _is_stdlib(module) and not module.startswith("namedtuple_"):
                    own.append(text(name) + text(global_name(function)))
            elif not (name in _GENERATED and _is_generated(function, cls)):
                own.append(text(name) + (walk.encode(function) if closures else blob(code_digest(function))))
        if isinstance(attribute, enum.Enum) and isinstance(attribute, cls):
            attribute = attribute._value_  # noqa: PLW2901 - the same, unwrapped
        if _is_scalar(attribute):
            own.append(text(name) + walk.encode(attribute))
    return joined(b"t", len(bases), bases) + joined(b"e", len(own), sorted(own))


def _is_generated(function: types.FunctionType, cls: type) -> bool:
    return function.__code__.co_filename == "<string>" and "__dataclass_fields__" in vars(cls)


def _functions(attribute: Any) -> Iterator[types.FunctionType]:
    """Yield the functions that an attribute of a class is made of."""
    if isinstance(attribute, property):
        for function in (attribute.fget, attribute.fset, attribute.fdel):
            yield from _functions(function)
    elif isinstance(attribute, functools.cached_property):
        yield from _functions(attribute.func)
    else:
        for _ in range(32):
            if isinstance(attribute, types.FunctionType):
                yield attribute
            if isinstance(attribute, type) or not callable(getattr(attribute, "__wrapped__", None)):
                attribute = getattr(attribute, "__func__", None)
                if not isinstance(attribute, types.FunctionType):
                    return
            else:
                attribute = attribute.__wrapped__


def _is_scalar(value: object, depth: int = 3) -> bool:
    if type(value) in (tuple, frozenset):
        return depth > 0 and all(_is_scalar(item, depth - 1) for item in typing.cast("tuple[object, ...]", value))
    return type(value) in _SCALARS


def _class(value: type, walk: Walk) -> bytes:
    return named("type", identity(value, walk))


# ---------------------------------------------------------------------------------------------------------- functions


def _function(value: types.FunctionType, walk: Walk) -> bytes:
    return walk.cyclic(value, _function_body)


def _function_body(value: types.FunctionType, walk: Walk) -> bytes:
    cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
    closure = [text(name) + _cell(cell, walk) for name, cell in sorted(cells, key=operator.itemgetter(0))]
    return named(
        "function",
        text(global_name(value)),
        blob(code_digest(value)),
        joined(b"t", len(closure), closure),
        walk.encode(value.__defaults__),
        walk.encode(value.__kwdefaults__),
    )


def _cell(cell: types.CellType, walk: Walk) -> bytes:
    try:
        content = cell.cell_contents
    except ValueError:
        return named("empty cell")
    return walk.encode(content)


def _builtin(value: types.BuiltinFunctionType, walk: Walk) -> bytes:
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        return named("builtin", text(global_name(value)))
    return named("builtin method", walk.encode(owner), text(value.__name__))


def _method(value: types.MethodType, walk: Walk) -> bytes:
    return named("method", walk.encode(value.__func__), walk.encode(value.__self__))


def _method_wrapper(value: types.MethodWrapperType, walk: Walk) -> bytes:
    return named("builtin method", walk.encode(value.__self__), text(value.__name__))


def _descriptor(value: Any, walk: Walk) -> bytes:
    return named("descriptor", identity(value.__objclass__, walk), text(value.__name__))


def _wrapping(value: Any, walk: Walk) -> bytes:
    return named(type(value).__name__, walk.encode(value.__func__))


def _property(value: property, walk: Walk) -> bytes:
    return named("property", walk.encode(value.fget), walk.encode(value.fset), walk.encode(value.fdel))


def _partial(value: functools.partial[Any], walk: Walk) -> bytes:
    return named("partial", walk.encode(value.func), walk.encode(value.args), walk.encode(value.keywords))


def _lru_cached(value: Any, walk: Walk) -> bytes:
    return named("lru_cache", walk.encode(value.__wrapped__))


def _module(value: types.ModuleType, _walk: Walk) -> bytes:
    return named("module", text(value.__name__))


# -------------------------------------------------------------------------------------------------------- annotations


def annotation(value: Any, walk: Walk) -> bytes | None:
    """Encode a parametrized type, as far as it is one: ``list[int]``, ``int | None``, ``Literal["NSE"]``."""
    origin = typing.get_origin(value)
    if origin is None:
        return None
    arguments = [walk.encode(argument) for argument in typing.get_args(value)]
    if origin is typing.Union or origin is types.UnionType:
        return named("union", joined(b"e", len(arguments), sorted(arguments)))
    if origin is typing.Literal:
        return named("literal", joined(b"e", len(arguments), sorted(arguments)))
    if origin is typing.Annotated:
        return named("annotated", joined(b"t", len(arguments), arguments))
    kind = "" if isinstance(value, types.GenericAlias) else str(getattr(value, "_name", None) or "")
    return named("alias", text(kind), walk.encode(origin), joined(b"t", len(arguments), arguments))


def _alias(value: Any, walk: Walk) -> bytes:
    data = annotation(value, walk)
    return data if data is not None else refuse(type(value), "cannot be taken apart")


def _special_form(value: Any, _walk: Walk) -> bytes:
    return named("special form", text(value._name))  # noqa: SLF001 - there is no public name for it


RULES.update(
    {
        type: _class,
        types.FunctionType: _function,
        types.BuiltinFunctionType: _builtin,
        types.MethodType: _method,
        types.MethodWrapperType: _method_wrapper,
        types.MethodDescriptorType: _descriptor,
        types.WrapperDescriptorType: _descriptor,
        types.ClassMethodDescriptorType: _descriptor,
        types.GetSetDescriptorType: _descriptor,
        types.MemberDescriptorType: _descriptor,
        classmethod: _wrapping,
        staticmethod: _wrapping,
        property: _property,
        functools.partial: _partial,
        type(functools.lru_cache(int)): _lru_cached,
        types.ModuleType: _module,
        types.GenericAlias: _alias,
        types.UnionType: _alias,
        type(typing.ClassVar): _special_form,
    }
)
