"""Which types are stored in which way: the tables of rules, filled by the codecs' modules."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from redis_memo._registry import Registry
from redis_memo.errors import UnreadableEntry, UnsupportedType

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = [
    "BY_NAME",
    "CLASSIFIERS",
    "FLAWS",
    "LIBRARIES",
    "PUT",
    "READ",
    "REGISTRY",
    "USER_TYPES",
    "Cyclic",
    "NotTyped",
    "Rule",
    "TooDeep",
    "attributes_lost",
    "find_rule",
    "load_rules",
    "put_nothing",
    "refuse",
    "register",
    "type_name",
]

# The module with a library's rules, by the top-level module of the object's class when writing and by the part of
# the stored name before the first dot when reading. A fixed table: no stored byte ever names a module to import,
# and a module is imported for writing only when its library is loaded already.
LIBRARIES: Final[Mapping[str, tuple[str, str]]] = {
    "zoneinfo": ("zoneinfo", "redis_memo._codecs_zoneinfo"),
    "pytz": ("pytz", "redis_memo._codecs_pytz"),
    "dateutil": ("dateutil", "redis_memo._codecs_dateutil"),
    "numpy": ("np", "redis_memo._codecs_numpy"),
    "pandas": ("pd", "redis_memo._codecs_pandas"),
    "pyarrow": ("pa", "redis_memo._codecs_arrow"),
    "polars": ("pl", "redis_memo._codecs_polars"),
    "pydantic": ("pydantic", "redis_memo._codecs_pydantic"),
    "pydantic_core": ("pydantic", "redis_memo._codecs_pydantic"),
    "scipy": ("scipy", "redis_memo._codecs_scipy"),
    "torch": ("torch", "redis_memo._codecs_torch"),
    "PIL": ("PIL", "redis_memo._codecs_pillow"),
}
_BY_PREFIX: Final = dict(LIBRARIES.values())


class Cyclic(Exception):  # noqa: N818 - a signal between writer and dumps(), never seen outside
    """An object contains itself through something that must be complete before it can be referred to."""


class TooDeep(Exception):  # noqa: N818 - as above
    """Typed nesting is deeper than the reader's stack should be asked to go."""


class NotTyped(Exception):  # noqa: N818 - as above
    """A rule finds that it could not bring this object back exactly; pickle may."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How objects of a type are written and read.

    Attributes:
        name: What is stored to find ``get`` again.
        put: Writes the object's parts.
        get: Reads them in the same order. For an ``early`` rule it is given the object's index and calls
            :meth:`Decoder.remember` before it reads anything that could refer back to the object.
        early: The object exists before its parts, and can contain itself.
    """

    name: str
    put: Callable[[Any, Any], None]
    get: Callable[..., Any]
    early: bool = False
    head: bytes = field(init=False)

    def __post_init__(self) -> None:
        name = self.name.encode("ascii")
        object.__setattr__(self, "head", b"x" + bytes((len(name),)) + name)


PUT: Final[dict[type, Callable[[Any, Any], None]]] = {}
READ: Final[dict[int, Callable[[Any], Any]]] = {}
BY_NAME: Final[dict[bytes, Rule]] = {}
USER_TYPES: Final[dict[type, Rule]] = {}
REGISTRY: Final[Registry[Rule]] = Registry({library: module for library, (_, module) in LIBRARIES.items()})
CLASSIFIERS: Final[list[Callable[[type], Rule | None]]] = []
# What keeps one object of a class from coming back as what it is, where pickle would take it and lose that; or None.
FLAWS: Final[Registry[Callable[[Any], str | None]]] = Registry({})


def put_nothing(_enc: Any, _value: Any) -> None:
    """Write the parts of a singleton, which has none."""


def type_name(cls: type) -> str:
    """Module and qualified name, for messages."""
    return f"{cls.__module__}.{cls.__qualname__}"


def refuse(value: object, flaw: str) -> NoReturn:
    """Raise the error for an object that would come back as something else, whichever way it is stored."""
    name = type_name(type(value))
    raise UnsupportedType(f"an object of type {name} cannot be stored: it {flaw}", type_name=name)


_NOT_THERE: Final = object()


def attributes_lost(
    cls: type,
    own: Mapping[str, object],
    *,
    kept: Collection[str] = (),
    fresh: Mapping[str, object] = MappingProxyType({}),
) -> str | None:
    """What keeps an object with attributes of its own from coming back, where its class's way of storing drops them.

    Args:
        cls: Its class. What that computes (a cached property) is none of its attributes.
        own: Its attributes.
        kept: Names of those that are stored.
        fresh: What a new object of the class has, which comes back by itself.
    """
    lost = [
        str(name)
        for name, item in own.items()
        if name not in kept
        and not _same(item, fresh.get(name, _NOT_THERE))
        and not hasattr(inspect.getattr_static(cls, name, None), "__get__")
    ]
    if not lost:
        return None
    which = f"attribute {lost[0]!r}" if len(lost) == 1 else f"attributes {', '.join(map(repr, sorted(lost)))}"
    return f"would come back without its {which}; return that beside it, as in a tuple"


def _same(one: object, other: object) -> bool:
    if one is other or type(one) is not type(other):
        return one is other
    if isinstance(one, (bool, int, float, str)):
        return one == other
    return isinstance(one, (tuple, list, dict, set)) and not one and not other


def register(rule: Rule, *classes: type, subclasses: bool = False) -> None:
    """Use ``rule`` for these classes, and to read what is stored under its name."""
    BY_NAME[rule.name.encode()] = rule
    for cls in classes:
        REGISTRY.register(cls, rule, subclasses=subclasses)


def find_rule(cls: type) -> Rule | None:
    """Return the rule for a class, the user's own first, or None where only pickle is left."""
    rule = USER_TYPES.get(cls) or REGISTRY.find(cls)
    if rule is None:
        rule = next((found for classify in CLASSIFIERS if (found := classify(cls)) is not None), None)
    return rule


def load_rules(prefix: str) -> None:
    """Import the rules of one library, named by its prefix in stored names."""
    module = _BY_PREFIX.get(prefix)
    if module is None:
        raise UnreadableEntry("the entry uses a codec that this version does not have")
    importlib.import_module(module)
