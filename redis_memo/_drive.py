"""Drivers: they run a flow to its end, with threads or with tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._ops import Raised

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

__all__ = ["adrive", "drive"]


def drive(flow: Generator[Any, Any, Any], perform: Callable[[Any], Any]) -> Any:
    """Run a flow to its end with a function that performs operations.

    What ``perform`` raises is thrown into the flow, which may yield clean-up operations before it lets it pass.
    """
    try:
        op = flow.send(None)
        while True:
            try:
                result = perform(op)
            except BaseException as error:  # noqa: BLE001 - the flow decides, KeyboardInterrupt included
                op = flow.throw(error)
            else:
                op = flow.send(result)
    except StopIteration as stop:
        if type(stop.value) is not Raised:
            return stop.value
        raised = stop.value.error
    raise raised


async def adrive(flow: Generator[Any, Any, Any], perform: Callable[[Any], Awaitable[Any]]) -> Any:
    """As `drive`, with a coroutine function; a cancellation is thrown into the flow like any exception."""
    try:
        op = flow.send(None)
        while True:
            try:
                result = await perform(op)
            except GeneratorExit:
                raise  # this coroutine is closed: nothing can be awaited any more
            except BaseException as error:  # noqa: BLE001
                op = flow.throw(error)
            else:
                op = flow.send(result)
    except StopIteration as stop:
        if type(stop.value) is not Raised:
            return stop.value
        raised = stop.value.error
    raise raised
