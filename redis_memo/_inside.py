"""Which computations a thread or a task is inside of: waiting for one of them would be for ever."""

from __future__ import annotations

import contextlib
import contextvars
import time
from typing import TYPE_CHECKING, Any

from . import _ops as ops

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["Queue", "atimed", "early", "held", "outside", "queueing", "timed"]


class Queue(set[bytes]):
    """Tokens of computations that are queued for the same workers; a set that changes.

    Attributes:
        early: What was computed ahead of its turn, by token.
    """

    def __init__(self) -> None:
        super().__init__()
        self.early: dict[bytes, ops.Ahead] = {}


_held: contextvars.ContextVar[frozenset[bytes]] = contextvars.ContextVar("redis_memo_held", default=frozenset())
# What is queued behind them for the same workers.
_queues: contextvars.ContextVar[tuple[Queue, ...]] = contextvars.ContextVar("redis_memo_queues", default=())


def held() -> frozenset[bytes]:
    """Their tokens, and those of what waits for them to end."""
    return _held.get().union(*_queues.get())


def early(op: ops.Early) -> ops.Ahead | None:
    """As of `_ops.Early`."""
    for queue in _queues.get():
        if op.token in queue:
            if op.ahead is not None:
                queue.early.setdefault(op.token, op.ahead)
            return queue.early.get(op.token) or ops.Ahead()
    return None


def outside() -> None:
    """From now on this context is inside of none."""
    _held.set(frozenset())
    _queues.set(())


@contextlib.contextmanager
def queueing(queue: Queue) -> Iterator[None]:
    """What runs in the block is waited for by the computations with these tokens, as they change."""
    outer = _queues.get()
    _queues.set((*outer, queue))
    try:
        yield
    finally:
        _queues.set(outer)


def timed(compute: Callable[[], Any], tokens: set[bytes]) -> ops.Computed | ops.Raised:
    """Run the function; meanwhile this thread is inside of the computations with these tokens."""
    outer = _held.get()
    _held.set(outer.union(tokens))
    began = time.perf_counter()
    try:
        return ops.Computed(compute(), time.perf_counter() - began)
    except BaseException as error:  # noqa: BLE001 - the flow's to handle, the caller's to get
        return ops.Raised(error)
    finally:
        _held.set(outer)


async def atimed(
    compute: Callable[[], Awaitable[Any]], tokens: set[bytes], closed: Callable[[bytes], object]
) -> ops.Computed | ops.Raised:
    """As `timed`, in this task; ``closed`` is told the tokens of a computation that will never end."""
    outer = _held.get()
    _held.set(outer.union(tokens))
    began = time.perf_counter()
    result: ops.Computed | ops.Raised
    try:
        result = ops.Computed(await compute(), time.perf_counter() - began)
    except GeneratorExit:
        # This coroutine is closed, perhaps by the garbage collector within another's context: nothing can be
        # awaited any more, and that context is none of ours. Whoever joined need not wait for its end.
        for token in tokens:
            closed(token)
        raise
    except BaseException as error:  # noqa: BLE001
        result = ops.Raised(error)
    _held.set(outer)
    return result
