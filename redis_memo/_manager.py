"""`CacheManager`: results by kind of data and parameters, for code that is not a function of its own.

Each kind of data is, to the cache, a function of its parameters: its entries are read, stored and invalidated by the
flows of decorated functions, and a kind that is bound to one names the very same entries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Never, TypeVar, cast

from . import _entries as entries
from . import _ops as ops
from . import ttl as usual
from ._default import default_cache
from ._handle import MISSING
from ._invocation import Invocation
from ._map import side_by_side
from ._mapping import CacheDict
from ._memo import check_options, handle_of, redis_cached
from ._policy import Policy, as_policy
from ._summary import summary
from .errors import ConfigurationError, KeyingError, StoreError
from .ttl import arg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from ._backend import Backend
    from ._cache import Cache
    from ._config import OnError
    from ._engine import Engine
    from ._handle import Handle
    from ._policy import TTL
    from ._summary import ManagerStats
    from .ttl import Call, TTLPolicy

__all__ = ["CacheManager", "get_cache_manager"]

R = TypeVar("R")

_OWN_OPTIONS = ("namespace", "ttl", "lifetimes", "exchange", "on_error", "cache")


@dataclass(frozen=True, slots=True, repr=False)
class _OfParameters(Policy):
    """A policy that sees a kind's parameters as a function's arguments."""

    policy: TTLPolicy

    def __call__(self, call: Call, /) -> Any:
        return self.policy(replace(call, arguments=cast("Mapping[str, object]", call.arguments["parameters"])))

    def __repr__(self) -> str:
        return repr(self.policy)


def _usual(exchange: str) -> dict[str, TTLPolicy]:
    of = arg("exchange", exchange)
    return {
        "access_token": usual.access_token(),
        "candles": usual.historical(of),
        "historical": usual.historical(of),
        "images": usual.market_aware(of, open="5m"),
        "indicators": usual.indicators(of),
        "instruments": usual.instruments(),
        "live_quotes": usual.live_quotes(of),
        "patterns": usual.patterns(of),
        "predictions": usual.predictions(of),
        "quotes": usual.live_quotes(of),
        "sector_data": usual.sector_data(of),
        "stock_data": usual.stock_data(of),
    }


class CacheManager:
    """Results by kind of data and parameters: ``manager.get("indicators", symbol="INFY", window=20)``.

    Parameters are told apart as arguments of functions are: by name and value, in any order. While Redis cannot be
    reached, everything is missing and nothing is stored, which is counted and logged; `delete` and `clear` raise
    `StoreError`. Managers of one namespace share their entries, over all processes.

    Args:
        cache: A cache made by `connect`; default: the one of `configure`, at each use.
        namespace: Groups the entries.
        ttl: Expiry of kinds that ``lifetimes`` does not name; default: ``market_aware()`` of the exchange.
        lifetimes: Expiry by kind, each as for `redis_cached`; comes before the usual ones, which are those of
            `redis_memo.ttl` under the same names, ``"candles"`` as ``historical()``, ``"quotes"`` as
            ``live_quotes()``, and five minutes while prices move for ``"images"``.
        exchange: What the usual lifetimes go by where a parameter ``exchange`` does not say, and whose status
            `get_stats` tells.
        on_error: ``"compute"``: a store that fails is a miss. ``"raise"``: the caller gets the `StoreError`.
        **options: Further options of `redis_cached` for all kinds: ``version``, ``compress``, ``cache_if`` ...

    Raises:
        ConfigurationError: An argument is wrong.
    """

    def __init__(
        self,
        cache: Cache | None = None,
        *,
        namespace: str = "manager",
        ttl: TTL = None,
        lifetimes: Mapping[str, TTL] | None = None,
        exchange: str = "NSE",
        on_error: OnError = "compute",
        **options: Any,
    ) -> None:
        check_options(CacheManager, options, *_OWN_OPTIONS, without=("name",))
        self._cache = cache
        self._namespace = namespace
        self._exchange = exchange
        own = {kind: as_policy(given) for kind, given in (lifetimes or {}).items()}
        self._lifetimes = {**_usual(exchange), **own}
        self._lifetime = as_policy(usual.market_aware(arg("exchange", exchange)) if ttl is None else ttl)
        self._options = {"namespace": namespace, "on_error": on_error, "cache": cache, **options}
        self._kinds: dict[str, Handle] = {}
        self._bound: set[str] = set()
        self._make("x", self._lifetime)  # says now what is wrong with the options

    def __repr__(self) -> str:
        return f"<CacheManager {self._namespace!r} in Redis>"

    @property
    def cache(self) -> Cache:
        """The cache given, else the process-wide one of this moment."""
        return self._cache or default_cache()

    # Kinds of data.

    def _make(self, data_type: str, policy: TTLPolicy) -> Handle:
        def kind(**parameters: object) -> None: ...

        kind.__module__, kind.__qualname__ = "redis_memo", f"CacheManager({data_type!r})"
        kind.__name__ = data_type
        decorate: Any = redis_cached(name=data_type, ttl=_OfParameters(policy), **self._options)
        return cast("Handle", handle_of(decorate(kind)))

    def _kind(self, data_type: str) -> Handle:
        found = self._kinds.get(data_type)
        if found is None:
            given: object = data_type
            if not isinstance(given, str) or not given:
                raise ConfigurationError("a kind of data is named by a string, such as 'historical'")
            found = self._kinds.setdefault(data_type, self._make(data_type, self.lifetime(data_type)))
        return found

    def lifetime(self, data_type: str) -> TTLPolicy:
        """The expiry of a kind of data, as a policy."""
        if data_type in self._bound:
            return self._kinds[data_type]._memo.lifetime()  # noqa: SLF001
        return self._lifetimes.get(data_type, self._lifetime)

    def bind(self, data_type: str, target: Callable[..., Any] | CacheDict[Any, Any]) -> None:
        """Let a kind of data name the entries of a decorated function, or of a `CacheDict`.

        From then on ``set(data_type, value, symbol="INFY")`` is what a call with these arguments returns, and ``get``
        sees what calls have stored. Expiry, tags and the rest are the function's.

        Args:
            data_type: The kind.
            target: A function decorated with `redis_cached`, whose parameters are the kind's; or a `CacheDict`, whose
                one parameter is ``key``.

        Raises:
            TypeError: It is neither.
        """
        self._kinds[data_type] = target._handle if isinstance(target, CacheDict) else handle_of(target)  # noqa: SLF001
        self._bound.add(data_type)

    def _call(self, data_type: str, params: dict[str, Any], ttl: TTL = None) -> Invocation:
        handle = self._kind(data_type)
        policy = None if ttl is None else as_policy(ttl)
        if data_type in self._bound:
            return Invocation(handle._memo, handle._bound, params, policy)  # noqa: SLF001
        try:
            return Invocation(handle._memo, (), params, None if policy is None else _OfParameters(policy))  # noqa: SLF001
        except KeyingError as error:
            raise KeyingError(
                f"CacheManager: a parameter of {data_type!r} cannot be told by value: {error.reason}",
                type_name=error.type_name,
            ) from None

    # One entry.

    def get(self, data_type: str, /, *by_position: Any, default: Any = None, **params: Any) -> Any:
        """The value of these parameters, or ``default`` where there is none.

        Args:
            data_type: The kind.
            *by_position: The default may stand here, before parameters by name.
            default: What a miss returns; ``MISSING`` tells it from a stored None.
            **params: What identifies the value.

        Raises:
            KeyingError: A parameter cannot be told by value.
            TypeError: The kind is bound to a function that has other parameters, or one was given without its name.
        """
        engine, flow = self._looking_up(data_type, by_position, default, params)
        return engine.run(flow)

    def _looking_up(
        self, data_type: str, by_position: tuple[Any, ...], default: Any, params: dict[str, Any]
    ) -> tuple[Engine, ops.Flow]:
        # Alone, it is hardly a default, but the value of a parameter: it would be returned as if it had been found.
        if by_position and (len(by_position) > 1 or not params):
            raise TypeError(
                f"{data_type}: get() takes parameters by name, as in get({data_type!r}, symbol=...), and default=..."
            )
        call = self._call(data_type, params)
        return call.memo.engine, call.looking_up(by_position[0] if by_position else default)

    def set(self, data_type: str, value: Any, /, ttl: TTL = None, **params: Any) -> bool:
        """Store a value for these parameters.

        Args:
            data_type: The kind.
            value: Whatever a decorated function may return; None too.
            ttl: This entry's own expiry, in the place of the kind's: as for `redis_cached`.
            **params: What identifies the value.

        Returns:
            False if Redis did not take it, its type cannot be stored, or the expiry is zero.
        """
        call = self._call(data_type, params, ttl)
        return bool(call.memo.engine.run(call.storing(value), namespace=call.memo.namespace))

    def get_or_compute(self, data_type: str, function: Callable[[], R], /, ttl: TTL = None, **params: Any) -> R:
        """The value of these parameters, or what ``function()`` returns, which is stored.

        However many processes miss it together, the function runs once.

        Args:
            data_type: The kind.
            function: What computes the value; those who miss it meanwhile wait for it.
            ttl: As for `set`.
            **params: What identifies the value.
        """
        call = self._call(data_type, params, ttl)
        return cast("R", call.memo.engine.run(call.flow(), function, call.memo.namespace))

    def delete(self, data_type: str, /, *by_position: Never, **params: Any) -> int:
        """Delete every entry of the kind that has these parameters, and revoke what is being computed for one.

        Args:
            data_type: The kind.
            *by_position: Refused, as parameters are told by their names.
            **params: As of `redis_memo.invalidate`: all that an entry was stored by, or some of it; none: all entries.

        Returns:
            How many entries went.

        Raises:
            StoreError: Redis could not be asked, and so the entries still stand.
            TypeError: The kind is bound to a function that has no such parameter, or one was given without its name.
        """
        engine, flow = self._deletion(data_type, by_position, params)
        return int(engine.run(flow))

    def clear(self, data_type: str | None = None) -> int:
        """Delete all entries of a kind, or of all kinds: what was bound, and all of the manager's namespace.

        Returns:
            How many entries went.

        Raises:
            StoreError: Redis could not be asked, and so entries still stand.
        """
        return sum(engine.run(flow) for engine, flow in self._clearing(data_type))

    def _deletion(
        self, data_type: str, by_position: tuple[object, ...], params: dict[str, Any]
    ) -> tuple[Engine, ops.Flow]:
        if by_position:
            raise TypeError(f"{data_type}: delete() takes parameters by name, as in delete({data_type!r}, symbol=...)")
        handle = self._kind(data_type)
        return handle._memo.engine, handle._invalidation(params)  # noqa: SLF001

    def _clearing(self, data_type: str | None) -> list[tuple[Engine, ops.Flow]]:
        flows = [self._deletion(kind, (), {}) for kind in (self._bound if data_type is None else (data_type,))]
        if data_type is None:
            engine = self.cache.engine
            flows.append((engine, engine.clearing(self._namespace)))
        return flows

    # From a task.

    async def aget(self, data_type: str, /, *by_position: Any, default: Any = None, **params: Any) -> Any:
        """As `get`, from a task."""
        engine, flow = self._looking_up(data_type, by_position, default, params)
        return await engine.arun(flow)

    async def aset(self, data_type: str, value: Any, /, ttl: TTL = None, **params: Any) -> bool:
        """As `set`, from a task."""
        call = self._call(data_type, params, ttl)
        return bool(await call.memo.engine.arun(call.storing(value), namespace=call.memo.namespace))

    async def aget_or_compute(
        self, data_type: str, function: Callable[[], Awaitable[R]], /, ttl: TTL = None, **params: Any
    ) -> R:
        """As `get_or_compute`, with an ``async def``."""
        call = self._call(data_type, params, ttl)
        return cast("R", await call.memo.engine.arun(call.flow(), function, call.memo.namespace))

    async def adelete(self, data_type: str, /, *by_position: Never, **params: Any) -> int:
        """As `delete`, from a task."""
        engine, flow = self._deletion(data_type, by_position, params)
        return int(await engine.arun(flow))

    async def aclear(self, data_type: str | None = None) -> int:
        """As `clear`, from a task."""
        return sum([await engine.arun(flow) for engine, flow in self._clearing(data_type)])

    # What happened.

    def get_stats(self) -> ManagerStats:
        """Hits, misses and savings of this process, entries in Redis, the server's facts, and the market's status."""
        answers = []
        for engine, flow in self._questions():
            try:
                answers.append(engine.run(flow))
            except StoreError:
                answers.append(None)
        return self._stats(answers)

    async def aget_stats(self) -> ManagerStats:
        """As `get_stats`, from a task."""
        answers = []
        for engine, flow in self._questions():
            try:
                answers.append(await engine.arun(flow))
            except StoreError:
                answers.append(None)
        return self._stats(answers)

    def _questions(self) -> list[tuple[Engine, ops.Flow]]:
        memos = [handle._memo for handle in self._kinds.values()]  # noqa: SLF001
        usages = [(memo.engine, entries.usage(memo.prefixes, None)) for memo in memos]
        return [*usages, (self.cache.engine, _facts(self.cache.engine.backend))]

    def _stats(self, answers: list[Any]) -> ManagerStats:
        infos = {
            kind: handle._memo.info(*(found or ()))  # noqa: SLF001
            for (kind, handle), found in zip(self._kinds.items(), answers[:-1], strict=True)
        }
        return summary(infos, self.cache.engine.backend.where, answers[-1], self._exchange)

    # The common shapes.

    def get_historical_data(
        self,
        symbol: str,
        *,
        exchange: str = "NSE",
        interval: str = "day",
        from_date: object = None,
        to_date: object = None,
        default: Any = None,
    ) -> Any:
        """Candles of a symbol, of the kind ``"historical"``.

        Args:
            symbol: As the broker writes it.
            exchange: Its exchange.
            interval: A candle's length, such as ``"day"`` or ``"5minute"``.
            from_date: Where the range begins: a date, a datetime or a string, told apart by type.
            to_date: Where it ends; None is now.
            default: What a miss returns.
        """
        return self.get(
            "historical",
            default,
            symbol=symbol,
            exchange=exchange,
            interval=interval,
            from_date=from_date,
            to_date=to_date,
        )

    def set_historical_data(
        self,
        symbol: str,
        data: Any,
        *,
        exchange: str = "NSE",
        interval: str = "day",
        from_date: object = None,
        to_date: object = None,
        ttl: TTL = None,
    ) -> bool:
        """Store candles, a frame or the broker's rows; see `get_historical_data`.

        Without a ``ttl`` they live until the next candle is published, and a range that ended before today's session
        for a week.
        """
        return self.set(
            "historical",
            data,
            ttl,
            symbol=symbol,
            exchange=exchange,
            interval=interval,
            from_date=from_date,
            to_date=to_date,
        )

    def get_instruments(self, exchange: str | None = None, *, default: Any = None) -> Any:
        """The list of instruments, of one exchange or of all; of the kind ``"instruments"``."""
        return self.get("instruments", default, exchange=exchange)

    def set_instruments(self, instruments: Any, exchange: str | None = None, *, ttl: TTL = None) -> bool:
        """Store a list of instruments; without a ``ttl`` until Kite makes the next one, at 08:30 Indian time."""
        return self.set("instruments", instruments, ttl, exchange=exchange)

    def get_live_quotes(self, symbols: Iterable[str], *, exchange: str = "NSE") -> dict[str, Any]:
        """The quotes of these symbols, as far as they are here; of the kind ``"live_quotes"``, an entry for each.

        Args:
            symbols: Such as ``"INFY"``, or with their exchange as Kite writes them: ``"NSE:INFY"``.
            exchange: Of those that name none.
        """
        wanted = (symbols,) if isinstance(symbols, str) else symbols
        calls = {symbol: self._call("live_quotes", _quoted(symbol, exchange)) for symbol in dict.fromkeys(wanted)}
        found = _at_once([(call, call.looking_up(MISSING)) for call in calls.values()])
        return {symbol: quote for symbol, quote in zip(calls, found, strict=True) if quote is not MISSING}

    def set_live_quotes(self, quotes: Mapping[str, Any], *, exchange: str = "NSE", ttl: TTL = None) -> int:
        """Store quotes by symbol, as Kite's ``quote()`` returns them.

        Without a ``ttl`` they live for 2 seconds while prices move, then until the next session.

        Returns:
            How many were stored.
        """
        named = ((self._call("live_quotes", _quoted(symbol, exchange), ttl), quote) for symbol, quote in quotes.items())
        return sum(map(bool, _at_once([(call, call.storing(quote)) for call, quote in named])))

    def get_image(self, name: str, /, **params: Any) -> bytes | None:
        """An image or a chart as bytes, or None; of the kind ``"images"``.

        Args:
            name: What it shows.
            **params: What else identifies it: symbol, interval, size.
        """
        return cast("bytes | None", self.get("images", None, name=name, **params))

    def set_image(self, name: str, image: bytes, /, ttl: TTL = None, **params: Any) -> bool:
        """Store an image or a chart, as the bytes of its file; see `get_image`."""
        return self.set("images", image, ttl, name=name, **params)


def _at_once(flows: list[tuple[Invocation, ops.Flow]]) -> list[Any]:
    """What the flows of calls of one kind return, in few round trips."""
    memo = flows[0][0].memo if flows else None
    return [] if memo is None else side_by_side(memo.engine, memo.namespace, [flow for _, flow in flows])


def _quoted(symbol: str, exchange: str) -> dict[str, str]:
    named, _, bare = symbol.rpartition(":")
    return {"symbol": bare, "exchange": named or exchange}


def _facts(backend: Backend) -> ops.Flow:
    """What each server that is written to says of itself."""
    facts = yield ops.Info()
    keys = backend.a_key_of_each()  # a cluster's nodes are known by now
    return [facts] if len(keys) < 2 else (yield from entries.together([ops.Info(key) for key in keys]))


_shared: dict[str, CacheManager] = {}


def get_cache_manager() -> CacheManager:
    """The manager that all parts of a process share, on the default cache; made at first use."""
    found = _shared.get("manager")
    return _shared.setdefault("manager", CacheManager()) if found is None else found
