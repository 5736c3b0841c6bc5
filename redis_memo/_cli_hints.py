"""What a command says where nothing was found: what may have been meant instead."""

from __future__ import annotations

import difflib
import re
import shlex
from typing import TYPE_CHECKING

from ._console import counted, shown
from ._identity import registry
from ._listing import functions, namespaces

if TYPE_CHECKING:
    from ._function import Memo
    from ._listing import Look

__all__ = ["of_scripts", "without_functions"]


def without_functions(look: Look, namespace: str) -> str:
    """That a namespace has no functions, and the nearest that have some."""
    near = difflib.get_close_matches(namespace, namespaces(look)[0], 3)
    hint = f"; did you mean {' or '.join(map(shown, near))}?" if near else ""
    return f"the namespace {shown(namespace)} has no functions{hint}"


def of_scripts(look: Look, memo: Memo) -> list[str]:
    """That scripts, run directly, stored entries of such a function, which are ``__main__``'s and no module's."""
    listed = registry(memo.namespace)
    if not look.at(listed).exists(listed):  # nor is it worth a look through all keys
        return []
    own = re.compile(rf"__main__\.{re.escape(getattr(memo.function, '__qualname__', ''))}~[0-9a-f]{{16}}")
    return [
        f"there {'is' if row.entries == 1 else 'are'} {counted(row.entries, 'entry', 'entries')} of {row.name}, which "
        "a script stored that was run directly: give the function name=, or look with: "
        f"redis-memo ls {shlex.quote(memo.namespace)} {row.name}"
        for row in functions(look, memo.namespace)
        if row.entries and own.fullmatch(row.name)
    ]
