"""What a command says where nothing was found: what may have been meant instead."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from ._console import shown
from ._listing import namespaces

if TYPE_CHECKING:
    from ._listing import Look

__all__ = ["without_functions"]


def without_functions(look: Look, namespace: str) -> str:
    """That a namespace has no functions, and the nearest that have some."""
    near = difflib.get_close_matches(namespace, namespaces(look)[0], 3)
    hint = f"; did you mean {' or '.join(map(shown, near))}?" if near else ""
    return f"the namespace {shown(namespace)} has no functions{hint}"
