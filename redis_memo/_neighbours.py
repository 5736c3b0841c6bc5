"""Namespaces that nobody uses any more, tidied up by processes that use others of the same store.

An index has no expiry, nor has a namespace's list of functions, as under the ``volatile-*`` policies they would be
evicted before the entries that an invalidation finds by them. So what nobody writes to has to be removed by somebody:
within a namespace by its other functions (`_namespaces`), and here where all of a namespace is left alone. Nothing goes
by the list of namespaces but that, and so nothing is lost with it but what it would have tidied up.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING

from . import _ops as ops
from ._identity import registry
from .errors import StoreError

if TYPE_CHECKING:
    from ._ops import Flow

__all__ = ["NAMESPACES", "noting"]

NAMESPACES = "memo:namespaces"

_LIST = re.compile(r"(memo:\{[\w.~%-]+)\}:functions", re.ASCII)


def noting(namespace: str, until: float) -> Flow:
    """Note that a namespace is used, and tidy up some that nobody noted for long.

    Args:
        namespace: As given to the decorator.
        until: By the monotonic clock; what is left then is another turn's.
    """
    moment, left = yield ops.Enroll(NAMESPACES, registry(namespace))
    for listed in left:
        with contextlib.suppress(StoreError):  # of a node that is away, or of what is no list: so for those that follow
            yield from _tidied(listed, moment, until)


def _tidied(listed: str, moment: int, until: float) -> Flow:
    """Unlist what expired of a namespace, its functions when they have no call, and it when it has no function."""
    found = _LIST.fullmatch(listed)
    if found is None:  # whatever somebody put there, it is not ours to touch
        return
    looked: set[str] = set()
    while time.monotonic() < until:
        at, old = yield ops.Enroll(listed, "")
        if looked.issuperset(old):
            # Struck in this order, a namespace that is used again meanwhile is noted again, or still.
            if not (yield ops.Enrolled(listed)):
                yield ops.Strike(NAMESPACES, listed, moment)
            return
        for prefix in old:
            looked.add(prefix)
            if prefix.startswith(f"{found[1]}:") and (yield from _emptied(prefix, until)):
                yield ops.Strike(listed, prefix, at)


def _emptied(prefix: str, until: float) -> Flow:
    """Whether no call of a function is listed any more; live entries are, and what is being computed."""
    try:
        left = yield ops.Tidy(prefix)
        while left and time.monotonic() < until:
            before, left = left, (yield ops.Tidy(prefix))
            if left >= before:
                break
    except StoreError:
        return False
    return not left
