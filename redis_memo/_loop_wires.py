"""The connections of one event loop."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ._wire import AsyncWire

__all__ = ["LoopWires"]

ASYNC_MOST = 32  # connections of one event loop: hundreds of tasks take turns
FOREVER = 10 * 365 * 86_400.0


class LoopWires:
    """Connections of one event loop, closed with it.

    The loop has them, and not only who uses them: where a cache is dropped they are still here to be closed; and in a
    child of a fork, whose copies share what the parent's loop listens with, nobody collects them, which would end that.
    """

    def __init__(self) -> None:
        self.idle: list[AsyncWire] = []
        self.turn = asyncio.Semaphore(ASYNC_MOST)
        self.connecting = asyncio.Lock()
        self.lost: tuple[float, Exception] | None = None
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._end: AsyncGenerator[None] | None = None
        self._ending: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """See to it that the connections are closed with the loop."""

        # asyncio.run and its kin finalise the loop's async generators before they close it. That is the one
        # hook by which a library hears of the end of a loop it does not own.
        async def until_the_loop_ends() -> AsyncGenerator[None]:
            try:
                yield
            finally:
                held.cancel()
                await self.close()

        loop = asyncio.get_running_loop()
        held = loop.call_later(FOREVER, self._close_now)
        self._loop = weakref.ref(loop)
        self._end = until_the_loop_ends()
        await anext(self._end)

    def end(self) -> None:
        """Close the connections soon, from any thread."""
        loop = None if self._loop is None else self._loop()
        try:
            if loop is not None:
                loop.call_soon_threadsafe(self._close_now)
        except RuntimeError:  # it was closed
            self.drop()

    def _close_now(self) -> None:
        if self._end is not None:
            self._ending = asyncio.ensure_future(self._end.aclose())

    def same(self, since: float) -> None:
        """Raise what another task met while this one waited for its turn: the next in line need not wait as long."""
        if self.lost is not None and self.lost[0] >= since:
            error = self.lost[1]
            raise type(error)(*error.args)

    def drop(self) -> None:
        """Close the sockets of a loop that ended without finalising anything, as loop.close() alone does."""
        idle, self.idle = self.idle, []
        for wire in idle:
            wire.drop()

    async def close(self) -> None:
        """Close the idle connections."""
        idle, self.idle = self.idle, []
        for wire in idle:
            await wire.close()
