"""``redis-memo server``: the embedded server of this user: whether it runs, who uses it, and how to end it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from . import _embedded
from ._console import Exit, say, say_json, usage

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
    parser.add_argument("folder", nargs="?", metavar="FOLDER|embedded://...", help="default: your own cache folder")
    parser.add_argument("--json", action="store_true", help="for machines")


def run(args: argparse.Namespace) -> Exit:
    """Look, or end it."""
    folder = _folder(args.folder)
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


def _folder(text: str | None) -> Path | None:
    if text is None:
        return None
    if "://" not in text:
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme != "embedded" or parts.netloc:
        usage("an embedded URL is embedded:// or embedded:///a/folder (three slashes)")
    return Path(unquote(parts.path)) if parts.path else None
