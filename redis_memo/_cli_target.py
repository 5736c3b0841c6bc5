"""What commands on stored entries have in common: which server is meant, and which function is named."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import os
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _entries as entries
from ._cache import Cache
from ._config import Settings
from ._console import usage
from ._default import connect
from ._dotenv import assignments
from ._memo import handle_of
from ._words import arguments, signature_of
from .errors import ConfigurationError

if TYPE_CHECKING:
    import argparse
    import inspect
    from collections.abc import Sequence

    from ._engine import Engine
    from ._function import Memo
    from ._handle import Handle
    from ._invocation import Invocation

__all__ = ["Target", "add_server", "engine_of", "find_function", "read_environment"]

OURS = ("REDIS_MEMO_URL", "REDIS_URL", "REDIS_MEMO_SECRET", "REDIS_MEMO_EMBEDDED", "REDIS_MEMO_CALENDAR")


def add_server(parser: argparse.ArgumentParser) -> None:
    """The options that say which server is meant."""
    parser.add_argument(
        "--url", metavar="URL", help="the server (default: REDIS_MEMO_URL, REDIS_URL, the embedded one)"
    )
    parser.add_argument(
        "--env-file",
        metavar="FILE",
        help="where the REDIS_MEMO_* settings stand that the environment lacks (default: .env, if it is here)",
    )


def read_environment(args: argparse.Namespace) -> dict[str, str]:
    """Take our own settings from the ``.env`` file, where the environment does not have them.

    Returns:
        Where each setting comes from: its name, and ``"environment"`` or the file.

    Raises:
        ConfigurationError: The file that was named cannot be read.
    """
    found = {name: "environment" for name in OURS if os.environ.get(name)}
    path = Path(args.env_file or ".env").expanduser()
    if args.env_file is None and not path.is_file():  # a pipe in its place would be waited for
        return found
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    for each in assignments(text):
        if each.name in OURS and each.value and found.get(each.name) != "environment":
            os.environ[each.name] = each.value  # the service's own modules are to find it, too
            found[each.name] = str(path)
    return found


def engine_of(args: argparse.Namespace) -> Engine:
    """Of the cache that is meant where no function is named."""
    read_environment(args)
    return connect(args.url).engine


class Target(NamedTuple):
    """A decorated function that was named.

    Attributes:
        shown: As it was named.
        handle: Its handle, bound to a class or object where its name led through one.
    """

    shown: str
    handle: Handle

    @property
    def engine(self) -> Engine:
        """Of the cache that it uses, or of the one that ``--url`` named instead."""
        return self.memo.engine

    @property
    def memo(self) -> Memo:
        """What is known of it."""
        memo: Memo = self.handle._memo  # noqa: SLF001
        return memo

    def call(self, words: Sequence[str]) -> Invocation:
        """The call that words describe; a command line whose words do not fit the function is wrong, and ends so.

        Raises:
            KeyingError: An argument cannot become part of a key.
        """
        handle = self.handle
        bound = bool(handle._bound)  # noqa: SLF001
        signature = signature_of(self.memo.function, bound=bound)
        first = next(iter(signature.parameters), None)
        ahead: list[Any] = []
        if self._is_unbound_method() and first in self.memo.ignore:
            ahead = [None]  # an object that does not count
            signature = signature.replace(parameters=list(signature.parameters.values())[1:])
        args, kwargs = self._arguments(signature, words)
        try:
            signature.bind(*args, **kwargs)
            call: Invocation = handle._invocation((*ahead, *args), kwargs)  # noqa: SLF001
        except TypeError as error:
            misfits = ("missing", "too many", "multiple values", "got ")
            if isinstance(error, ConfigurationError) or not str(error).startswith(misfits):
                raise
            hint = "; an entry's key can be given instead, as ls shows it" if self._is_unbound_method() else ""
            usage(f"{self.shown}: {error}{hint}")
        return call

    def _arguments(
        self, signature: inspect.Signature, words: Sequence[str], *, by_name: bool = False
    ) -> tuple[list[Any], dict[str, Any]]:
        try:
            return arguments(self.shown, signature, words, by_name=by_name)
        except ConfigurationError as error:
            usage(str(error))

    def _is_unbound_method(self) -> bool:
        handle = self.handle
        return not handle._bound and handle._binds == "instance" and not handle._behind  # noqa: SLF001

    def named_arguments(self, words: Sequence[str]) -> dict[str, Any]:
        """Arguments by name, of which some may be left out; words that do not fit are a wrong command line."""
        signature = signature_of(self.memo.function, bound=bool(self.handle._bound))  # noqa: SLF001
        return self._arguments(signature, words, by_name=True)[1]

    def bound_arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        """With the object or class that the function is bound to, where that tells its entries apart."""
        handle, memo = self.handle, self.memo
        binder = memo.callkey.binder
        first = binder.names[0] if handle._bound else None  # noqa: SLF001
        if first is None or first in memo.ignore or first == binder.var_positional:
            return given
        return {first: handle._bound[0], **given}  # noqa: SLF001

    def invalidation(self, given: dict[str, Any]) -> Any:
        """The flow that deletes what has these arguments."""
        return self.handle._invalidation(given)  # noqa: SLF001

    def peek(self, call: Invocation, missing: object) -> Any:
        """What is stored for a call; of an ``async def``, too."""
        return self.engine.run(entries.peek(call, call.entry, missing))


def find_function(args: argparse.Namespace, name: str) -> Target:
    """Import the module as ``python -m`` would, from the current folder first, and find the function in it.

    Where there is no such module or function, or it is not decorated, the command line is wrong: others are suggested.

    Args:
        args: With the options of `add_server`.
        name: ``package.module:function`` or ``package.module:Class.method``.

    Raises:
        ConfigurationError: The module's own code failed.
    """
    read_environment(args)
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        usage("a function is named as package.module:function or package.module:Class.method")
    module = _imported(module_name)
    found: Any = module
    trail: list[str] = []
    for part in path.split("."):
        inside = found
        try:
            found = getattr(inside, part)
        except AttributeError:
            where = ".".join((module_name, *trail))
            usage(f"{where} has no {part!r}; {_suggestions(inside, module, part)}")
        trail.append(part)
    handle = _handle_of(found)
    if handle is None:
        usage(f"{name} is not decorated with redis_cached; {_suggestions(found, module, trail[-1])}")
    memo = handle._memo  # noqa: SLF001
    settings = memo.engine.settings
    if args.url is not None and settings.url != args.url:
        # What the command line says counts, wherever the code configures its server; with the code's own secret.
        memo.given_cache = Cache(dataclasses.replace(settings, url=Settings.build(args.url).url))
    return Target(name, handle)


def _handle_of(found: Any) -> Handle | None:
    try:
        handle: Handle = handle_of(found)
    except TypeError:
        return None
    return handle


def _imported(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path[:1]:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"{name} cannot be imported: it needs {error.name}, which is not here") from error
        usage(f"there is no module {error.name!r}{_similar_modules(error.name)}")
    except Exception as error:  # whatever a module's own code raises
        at = error.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        where = f" in {Path(at.tb_frame.f_code.co_filename).name}, line {at.tb_lineno}" if at is not None else ""
        # Its text may quote a password.
        raise ConfigurationError(
            f"{name} cannot be imported: {type(error).__name__}{where}; python -c 'import {name}' shows all of it"
        ) from error


def _similar_modules(name: str) -> str:
    parent, _, last = name.rpartition(".")
    folders = None
    if parent:
        with contextlib.suppress(ImportError):
            folders = list(getattr(importlib.import_module(parent), "__path__", []))
    if folders is None:
        folders = [str(Path.cwd())]
    known = [module.name for module in pkgutil.iter_modules(folders)]
    near = [f"{parent}.{each}" if parent else each for each in difflib.get_close_matches(last, known, 3)]
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return (
        " in the current folder, nor on the path"
        if not parent
        else f"; {parent} has {', '.join(sorted(known)) or 'none'}"
    )


def _suggestions(inside: Any, module: Any, name: str) -> str:
    """Names of decorated functions, the nearest first."""
    known = _decorated(inside)
    if inside is not module:
        known += [each for each in _decorated(module) if each not in known]
    near = difflib.get_close_matches(name, known, 3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"decorated here: {', '.join(known)}" if known else "nothing here is decorated"


def _decorated(scope: Any) -> list[str]:
    found = []
    for name, value in list(getattr(scope, "__dict__", {}).items()):
        if _handle_of(value) is not None:
            found.append(name)
        elif isinstance(value, type) and value.__module__ == getattr(scope, "__name__", None):
            found += [f"{name}.{each}" for each, inner in vars(value).items() if _handle_of(inner) is not None]
    return found
