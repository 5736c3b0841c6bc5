"""What a batch function answers, brought into the order of the calls that it was given."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ._keys import encode
from .errors import BatchError, KeyingError

__all__ = ["in_order"]

CONFUSED = "a mapping cannot tell this call from another, such as 1 from True: let the batch function return a list"


def in_order(given: list[Any], answer: object) -> list[Any]:
    """The results in the order of the calls; an exception where there is none.

    Args:
        given: The calls, as the batch function was given them.
        answer: What it returned.

    Raises:
        BatchError: That is neither a list of as many results nor a mapping.
    """
    if isinstance(answer, Mapping):
        values = []
        confused = _confused(given)
        for call in given:
            try:
                values.append(BatchError(CONFUSED) if call in confused else answer[call])
            except KeyError:
                values.append(BatchError("the batch function's answer has no result for this call"))
            except TypeError:
                values.append(BatchError("this call cannot be a mapping's key: let the batch function return a list"))
        return values
    if inspect.iscoroutine(answer):
        answer.close()  # else Python warns that nobody awaited it
        raise BatchError(
            "the batch function returned a coroutine: of a plain function it must be no async def, and of an async def "
            "it awaits what it returns"
        )
    if not isinstance(answer, (list, tuple)):
        raise BatchError(
            "the batch function has to return a list with one result for each call, in their order, or a mapping from "
            f"calls to results; it returned a {type(answer).__name__}"
        )
    if len(answer) != len(given):
        raise BatchError(f"the batch function was given {len(given)} calls and returned {len(answer)} results")
    return list(answer)


def _confused(given: list[Any]) -> set[Any]:
    """Calls that a mapping cannot tell from others: ``1`` and ``True`` are one key of a dict, and two calls."""
    first: dict[Any, Any] = {}
    confused: set[Any] = set()
    for call in given:
        try:
            other = first.setdefault(call, call)
        except TypeError:  # it is no key, and is told so by itself
            continue
        if other is not call and not _is_same(other, call):
            confused.add(call)
    return confused


def _is_same(call: object, other: object) -> bool:
    try:
        return encode(call) == encode(other)
    except KeyingError:  # of what is ignored
        return True
