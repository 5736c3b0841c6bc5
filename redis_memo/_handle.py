"""What stands for a decorated function, as far as it needs no server: binding, pickling, keys, what is invalidated."""

from __future__ import annotations

import functools
import inspect
import sys
from enum import Enum
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from . import _entries as entries
from . import _ops as ops
from ._as_of import call_token, moment_digest, moment_token
from ._clock import moment
from ._near_invocation import call_of, quick
from ._tags import some_tags
from .errors import ConfigurationError, KeyingError

if TYPE_CHECKING:
    from typing import Never, Self

    from ._function import Memo
    from ._invocation import Invocation

__all__ = ["METHODS", "MISSING", "Handle", "Missing", "drop_call", "moment_only"]

METHODS = (
    "cache_info", "cache_clear", "cache_key", "cache_parameters", "explain", "invalidate", "invalidate_tags", "map",
    "peek", "peek_columns", "refresh", "store",
)  # fmt: skip

# Until 3.12, classmethod asked what it wraps to bind itself; since then it makes a bound method of it.
_CLASSMETHOD_BINDS_BY_DESCRIPTOR = sys.version_info < (3, 13)


class Missing(Enum):
    """The type of `MISSING`: an enum, because type checkers then understand ``is MISSING``."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing.MISSING
"""What ``peek`` returns where nothing is stored; false in a condition, and unlike None never a result."""


class Handle:
    """What `Memoized` and `AsyncMemoized` have in common: all that needs no server.

    Args:
        of: A decorated function; or the handle of one, to be bound.
        *bound: What it is bound to, the object or class. As for ``types.MethodType``, whose order of arguments
            ``weakref.WeakMethod`` relies on.
    """

    _memo: Memo
    _bound: tuple[Any, ...]
    _binds: str
    _placed: bool
    _behind: bool
    _quick: Any  # serves a near hit, see `quick`
    _waits = False  # whether it stands for an ``async def``

    def __init__(self, of: Memo | Handle, /, *bound: object) -> None:
        if isinstance(of, Handle):
            self._bind(of, *bound)
            return
        functools.update_wrapper(self, of.function)  # type: ignore[arg-type]
        for name in METHODS:
            # What other decorators have hung on the function (lru_cache's cache_clear, dogpile's invalidate) is theirs.
            self.__dict__.pop(name, None)
        self._memo = of
        self._binds = "instance"
        self._placed = False  # whether a class has taken it, or a function stands before it
        self._behind = False
        self._bound = ()
        self._quick = quick(of, waits=self._waits)

    def _bind(self, of: Handle, instance: object) -> None:
        # Each access of a method comes through here; a dict that is copied as a whole is filled fastest.
        own = of.__dict__.copy()
        own["__wrapped__"] = MethodType(own["_memo"].function, instance)
        own["__func__"] = of
        own["__self__"] = instance
        own["_bound"] = (instance,)
        self.__dict__ = own

    if not TYPE_CHECKING:  # a checker would let every misspelt name pass

        def __getattr__(self, name: str) -> Any:
            # __code__, __defaults__ and the like: with them inspect takes this for a function, iscoroutinefunction
            # of Python 3.11 included.
            if name.startswith("_") and "__wrapped__" in self.__dict__:
                return getattr(self.__dict__["__wrapped__"], name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _apparent_class(self) -> type:
        # While a class is being made, what looks at its body must see a function. pydantic takes other objects for
        # fields that lack an annotation.
        return type(self) if self._placed or self._bound else FunctionType

    __class__ = property(_apparent_class)

    def __set_name__(self, owner: type, name: str) -> None:
        self._placed = True

    @property
    def quick(self) -> Any:
        """The function that serves a near hit by itself, and does all else that a call does; None without ``near=``."""
        return self._quick

    def stand_behind(self) -> None:
        """Be what a true function calls, and no descriptor."""
        self._placed = self._behind = True
        self._binds = "nothing"

    def __repr__(self) -> str:
        return f"<memoized {self._memo.shown}>"

    def __eq__(self, other: object) -> bool:
        # As methods: each access makes a new one, equal to the last.
        if self is other or not self._bound or not isinstance(other, Handle):
            return self is other
        return self._memo is other._memo and bool(other._bound) and self._bound[0] is other._bound[0]

    def __hash__(self) -> int:
        return hash((id(self._memo), *map(id, self._bound)))

    def __reduce__(self) -> Any:
        # Found again by name where it is unpickled, as functions are; a bound one through its object.
        if self._bound:
            return getattr, (self._bound[0], self._memo.function.__name__)
        if self._behind and self._memo.function.__module__ == "__main__":
            return _behind, (type(self), self._memo)
        return self._memo.function.__qualname__

    def __memo_key__(self) -> object:
        # As an argument of another decorated function: what was decorated, and its object, tell it from others.
        return self.__dict__["__wrapped__"]

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        binds = self._binds
        if binds == "owner":
            instance = owner if owner is not None else type(instance)
        if instance is None or binds == "nothing" or self._bound:
            return self
        bound = object.__new__(type(self))
        bound._bind(self, instance)
        return bound

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation:
        return call_of(self._memo, (*self._bound, *args) if self._bound else args, kwargs)

    def _invocation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation:
        """As `_call`, for the methods: a call gets its class from whoever bound it, these would miss it."""
        self._check_class()
        return self._call(args, kwargs)

    def _check_class(self) -> None:
        if not self._bound and not self._placed and self._is_under_classmethod():
            raise TypeError(
                f"{self._memo.shown}: Python 3.13 and later do not tell what stands below @classmethod to which class "
                "it belongs; put @redis_cached above @classmethod"
            )

    def _is_under_classmethod(self) -> bool:
        if _CLASSMETHOD_BINDS_BY_DESCRIPTOR or self._binds != "instance":
            return False
        found: Any = sys.modules.get(self._memo.function.__module__)
        *scopes, name = self._memo.function.__qualname__.split(".")
        for scope in scopes:
            found = getattr(found, scope, None)
        return isinstance(inspect.getattr_static(found, name, None), classmethod)

    def _refuse_by_position(self, first: str | None) -> Never:
        memo, binder = self._memo, self._memo.callkey.binder
        of_no_use = {binder.var_keyword, *memo.ignore, first if first != binder.var_positional else None}
        name = next((each for each in binder.names if each not in of_no_use), binder.var_keyword and "name")
        if name is None:
            raise TypeError(f"{memo.shown}: invalidate() takes no argument here, as no parameter tells entries apart")
        raise TypeError(f"{memo.shown}: invalidate() takes arguments by name, as in invalidate({name}=...)")

    def _invalidation(self, args: dict[str, Any], by_position: tuple[object, ...] = ()) -> ops.Flow:
        memo = self._memo
        binder = memo.callkey.binder
        first = binder.names[0] if self._bound else None
        if by_position:
            self._refuse_by_position(first)
        # An object that is ignored, or that arrives in *args, tells no entries apart: all that match are meant.
        if first is None or first in memo.ignore or first == binder.var_positional:
            match = memo.callkey.match(args)
        elif first in args:
            raise TypeError(f"{self._memo.shown} got multiple values for argument {first!r}")
        else:
            try:
                match = memo.callkey.match({first: self._bound[0], **args})
            except KeyingError as error:
                # Where key= takes its place it needs no key of its own, and then its entries do not tell of it.
                if memo.key is None or error.parameter != first:
                    raise
                match = memo.callkey.match(args)
        if match.digest is not None:
            return drop_call(memo.prefix_of(match.digest), match.digest)
        tokens = b"".join(match.tokens) + moment_only()
        return entries.drop_matching(memo.prefixes, tokens)

    def _untagging(self, tags: tuple[str, ...]) -> ops.Flow:
        tokens = [tag + moment_only() for tag in some_tags(tags)]
        return entries.drop_tagged(self._memo.prefixes, tokens)

    def _clearing(self) -> ops.Flow:
        return entries.start_anew(self._memo.prefixes, moment_only())

    def _usage(self, everywhere: bool) -> ops.Flow:
        memo = self._memo
        memo.follow()
        return entries.usage(memo.prefixes, memo.engine.touches.telling if everywhere else None)

    def cache_key(self, /, *args: Any, **kwargs: Any) -> str:
        """The Redis key of a call's entry.

        Args:
            *args: As for the function.
            **kwargs: As for the function.

        Raises:
            KeyingError: An argument cannot become part of a key.
        """
        return self._invocation(args, kwargs).entry

    def cache_parameters(self) -> dict[str, Any]:
        """How the function was decorated, with what was left out filled in."""
        memo = self._memo
        try:
            ttl = memo.lifetime()
        except ConfigurationError:  # none is stated, here or anywhere: the first call will say so
            ttl = None
        return {
            "namespace": memo.namespace,
            "ttl": ttl,
            "name": memo.name,
            "version": memo.version,
            "key": memo.key,
            "ignore": memo.ignore,
            "cache_if": memo.cache_if,
            "tags": memo.given_tags,
            "stale": memo.stale or None,
            "stale_if_error": memo.stale_if_error or None,
            "early": memo.early,
            "soft_timeout": memo.patience,
            "hard_timeout": memo.limit,
            "near": None if memo.near is None else memo.near.limit,
            "compress": memo.compress,
            "on_error": memo.on_error,
            "shards": memo.shards,
            "cache": memo.cache,
            "maxsize": memo.bounds.maxsize or None,
            "maxbytes": memo.bounds.maxbytes or None,
            "evict": memo.bounds.evict,
        }


def _behind(kind: type[Handle], memo: Memo) -> Handle:
    handle = kind(memo)
    handle.stand_behind()
    return handle


def drop_call(prefix: str, digest: str) -> ops.Flow:
    """Delete one call's entry: the moment's within `as_of`, outside of it all that there are."""
    t = moment()
    if t is not None:
        return (yield ops.Drop(ops.Place(prefix, moment_digest(digest, t), b"")))
    gone: int = yield ops.Drop(ops.Place(prefix, digest, b""))
    return gone + (yield from entries.drop_matching((prefix,), call_token(digest)))


def moment_only() -> bytes:
    """Within `as_of`, the token that keeps an invalidation from going further than the moment's own entries."""
    t = moment()
    return b"" if t is None else moment_token(t)
