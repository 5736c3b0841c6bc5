"""A cache as its users have it: a server with its settings, which `connect` and `configure` make (see `_default`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._engine import Engine
from ._tags import some_tags

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._config import Settings

__all__ = ["Cache"]


class Cache:
    """One server with its settings.

    Args:
        settings: Where it is, and how it behaves.
        backend: What performs operations on the store, if not a server.
        clock: Seconds since 1970.

    Attributes:
        engine: What runs the calls of its functions.
    """

    def __init__(self, settings: Settings, *, backend: Any = None, clock: Callable[[], float] | None = None) -> None:
        self.engine = Engine(settings, backend=backend, clock=clock)

    def __repr__(self) -> str:
        return f"<redis_memo.Cache in {self.engine.backend.where}>"

    def __reduce__(self) -> Any:
        raise TypeError("a cache belongs to its process and is not pickled, as its secret must not be: connect() there")

    def clear(self, namespace: str) -> int:
        """Delete every entry of every function in a namespace, and revoke what they are computing.

        Args:
            namespace: As given to the decorator.

        Returns:
            How many entries went.

        Raises:
            StoreError: Redis could not be asked; nothing is known about the entries then.
        """
        return int(self.engine.run(self.engine.clearing(namespace)))

    async def aclear(self, namespace: str) -> int:
        """As `clear`, from a task."""
        return int(await self.engine.arun(self.engine.clearing(namespace)))

    def invalidate_tags(self, namespace: str, *tags: str) -> int:
        """Delete every entry in a namespace that has any of the tags, and revoke what may turn out to have one.

        Args:
            namespace: As given to the decorator.
            *tags: As given to ``tags=``, or returned by it.

        Returns:
            How many entries went.

        Raises:
            ConfigurationError: A tag is no string, or empty.
            TypeError: There is no tag.
            StoreError: Redis could not be asked, and so entries still stand.
        """
        return int(self.engine.run(self.engine.untagging(namespace, some_tags(tags))))

    async def ainvalidate_tags(self, namespace: str, *tags: str) -> int:
        """As `invalidate_tags`, from a task."""
        return int(await self.engine.arun(self.engine.untagging(namespace, some_tags(tags))))

    def close(self) -> None:
        """Tell the store what was used and counted, and close the connections; a later call opens new ones."""
        self.engine.close()
