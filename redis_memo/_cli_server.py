"""``redis-memo server``: the embedded server of this user: whether it runs, who uses it, and how to end it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from . import _embedded
from ._cli_target import add_server, read_environment
from ._console import Exit, say, say_json, usage
from .errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

__all__ = ["NAME", "SUMMARY", "add_arguments", "run"]

NAME = "server"
SUMMARY = "the embedded server: status, stop"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what it takes."""
    parser.add_argument(
        "action",
        choices=("status", "stop"),
        help="stop ends it for all that use it; entries are kept, and it starts again",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="FOLDER|embedded://...",
        help="default: the folder of the embedded URL that --url or the settings name, else your own cache folder",
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    add_server(parser)


def run(args: argparse.Namespace) -> Exit:
    """Look, or end it."""
    folder = _folder(args)
    stopped = _embedded.stop(folder) if args.action == "stop" else None
    status = _embedded.status(folder)
    said: dict[str, Any] = {
        "folder": str(status.folder), "running": status.running, "version": status.version,
        "server": status.server or None, "keeper": status.keeper or None, "users": list(status.users),
    }  # fmt: skip
    if stopped is not None:
        said["stopped"] = stopped
    if args.json:
        say_json(said)
    elif stopped is not None:
        say(f"the embedded server in {status.folder} {'was stopped' if stopped else 'was not running'}")
    elif status.running:
        users = ", ".join(map(str, status.users)) or "unknown"
        say(f"the embedded server in {status.folder} runs: {status.version or 'starting'}")
        say(f"  server {status.server}, keeper {status.keeper}, used by {users}")
    else:
        say(f"the embedded server in {status.folder} does not run")
    return Exit.OK if args.action == "stop" or status.running else Exit.ATTENTION


def _folder(args: argparse.Namespace) -> Path | None:
    """The folder that is meant; None is your own."""
    read_environment(args)
    if args.folder is not None and args.url is not None:
        usage("name the embedded server by FOLDER or by --url, not by both")
    named = args.folder if args.url is None else args.url
    if named is not None:
        if args.url is None and "://" not in named:
            return Path(named)
        try:
            return _folder_in(named)
        except ConfigurationError as error:
            usage(str(error))
    url = os.environ.get("REDIS_MEMO_URL") or os.environ.get("REDIS_URL") or ""
    return _folder_in(url) if url.startswith("embedded://") else None


def _folder_in(url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme != "embedded" or parts.netloc:
        raise ConfigurationError("an embedded URL is embedded:// or embedded:///a/folder (three slashes)")
    return Path(unquote(parts.path)) if parts.path else None
