"""A call of a function that has ``near=``: looked for in this process, and kept there when it was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _clock as clock
from . import _ops as ops
from ._codecs import loads
from ._invocation import Invocation
from ._near import ELSEWHERE
from ._near_call import near_call, paths
from ._near_values import NearFilling

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType

    from ._function import Memo
    from ._large import Bytes
    from ._near import Near
    from ._policy import TTLPolicy

__all__ = ["NearInvocation", "call_of", "quick"]


class NearInvocation(Invocation):
    """A call that looks in this process's memory first, and keeps there what it reads."""

    __slots__ = ()

    def _near(self) -> Near | None:
        memo = self.memo
        near, tracker = memo.near, getattr(memo.engine.backend, "tracker", None)
        # By a test's clock nothing is kept: whether it is fresh is looked at with every call.
        if near is None or tracker is None or clock.is_set():
            return None
        tracker.track(near, memo.prefixes)
        return near

    def near_value(self) -> Any:
        """The caller's own value from this process's memory, counted; or `ELSEWHERE`."""
        near = self._near()
        return ELSEWHERE if near is None else near.find(self.digest)

    def flow(self) -> ops.Flow:
        """The flow of a plain call, which asks nothing where this process has the answer."""
        value = self.near_value()
        return super().flow() if value is ELSEWHERE else _known(value)

    def looking_up(self, missing: object) -> ops.Flow:
        """The same of a call that has no function to run."""
        value = self.near_value()
        return super().looking_up(missing) if value is ELSEWHERE else _known(value)

    def filling(self) -> NearFilling | None:
        """See `Spec`."""
        memo = self.memo
        near = self._near()
        ticket = None if near is None else near.ticket(self.digest)
        if near is None or ticket is None:
            return None
        # A generated function does not ask whether it is called within `as_of`.
        where = None if clock.moments_used() else paths(memo.callkey, self.values)
        return NearFilling(near, self.entry, ticket, where, self._decoder(), ages=bool(self.ages), early=memo.early)

    def _decoder(self) -> Callable[[Bytes], Any]:
        memo, entry = self.memo, self.entry

        def decode(envelope: Bytes) -> Any:
            opened = memo.engine.sealer.open(entry, envelope)
            return loads(opened.meta, opened.buffers, trusted=opened.trusted)

        return decode


def call_of(
    memo: Memo,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    policy: TTLPolicy | None = None,
    plain: str | None = None,
) -> Invocation:
    """One call of a function; ``policy`` takes the place of its own."""
    return (Invocation if memo.near is None else NearInvocation)(memo, args, kwargs, policy, plain)


def _known(value: Any) -> ops.Flow:
    yield from ()  # a flow, if one that asks for nothing
    return value


# By name: cloudpickle takes what is made in `quick` by value, and finds these where it unpickles.


def _slow(memo: Memo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = NearInvocation(memo, args, kwargs)
    value = call.near_value()
    if value is not ELSEWHERE:
        return value
    return memo.engine.run(Invocation.flow(call), call.compute, memo.namespace)


async def _aslow(memo: Memo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = NearInvocation(memo, args, kwargs)
    value = call.near_value()
    if value is not ELSEWHERE:
        return value
    return await memo.engine.arun(Invocation.flow(call), call.compute, memo.namespace)


def quick(memo: Memo, *, waits: bool) -> FunctionType | None:
    """The function that serves a near hit, as far as one can be generated; None where ``near=`` is off, too."""
    near = memo.near
    if near is None:
        return None

    def slow(*args: Any, **kwargs: Any) -> Any:
        return _slow(memo, args, kwargs)

    async def aslow(*args: Any, **kwargs: Any) -> Any:
        return await _aslow(memo, args, kwargs)

    # Its globals may be exchanged for the function's own: these two use none.
    def plain(*args: Any, **kwargs: Any) -> Any:
        return slow(*args, **kwargs)

    async def aplain(*args: Any, **kwargs: Any) -> Any:
        return await aslow(*args, **kwargs)

    made: Any = near_call(memo.callkey, near.tables, aslow if waits else slow, waits=waits)
    if made is None:
        made = aplain if waits else plain
    shown = memo.callkey.binder.bind
    made.__name__, made.__qualname__ = shown.__name__, shown.__qualname__
    return made  # type: ignore[no-any-return]
