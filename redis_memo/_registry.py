"""Rules by type, where a library's rules are loaded when the first of its objects arrives.

A rule may be registered for one exact class or for a class and all its subclasses. Modules with rules for
optional libraries are named by the library's top-level module and imported on first sight of one of its
classes: the library is then imported already, so nothing here ever imports pandas by itself. (The idea is
dask's ``Dispatch.register_lazy``.)
"""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Registry", "used_up"]

Rule = TypeVar("Rule")


def used_up(cls: type) -> str | None:
    """What keeps instances of a class from being a value of either kind, key or result: looking at them ends them."""
    if any("__next__" in base.__dict__ for base in cls.__mro__):
        return "is used up by reading it"
    if any(name in base.__dict__ for base in cls.__mro__ for name in ("__anext__", "__await__")):
        return "is used up by awaiting it"
    return None


class Registry(Generic[Rule]):
    """A mapping from classes to rules that honours inheritance and loads rule modules lazily.

    Args:
        lazy: Top-level module name of a library to the module that registers rules for it when imported.
    """

    def __init__(self, lazy: Mapping[str, str]) -> None:
        self._lazy = dict(lazy)
        self._exact: dict[type, Rule] = {}
        self._families: dict[type, Rule] = {}
        self._found: dict[type, Rule | None] = {}
        self._lock = threading.RLock()

    def register(self, cls: type, rule: Rule, *, subclasses: bool = False) -> None:
        """Use ``rule`` for ``cls``, and with ``subclasses`` for every class below it that has no nearer rule."""
        with self._lock:
            (self._families if subclasses else self._exact)[cls] = rule
            self._found = {}

    def find(self, cls: type) -> Rule | None:
        """Return the rule for ``cls``: its own, else that of its nearest base, else None."""
        try:
            return self._found[cls]
        except KeyError:
            return self._search(cls)

    def _search(self, cls: type) -> Rule | None:
        # Outside the lock: a thread that imports the same rules for another reason holds that module's import lock and
        # waits for ours to register them.
        for base in cls.__mro__:
            top = str(base.__module__).partition(".")[0]
            module = self._lazy.get(top)
            if module is not None:
                importlib.import_module(module)
                self._lazy.pop(top, None)  # only now: a failed import is tried again, and fails loudly again
        with self._lock:
            rule = self._exact.get(cls)
            if rule is None:
                rule = next((self._families[base] for base in cls.__mro__ if base in self._families), None)
            self._found[cls] = rule
            return rule
