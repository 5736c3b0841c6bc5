"""The ``redis-memo`` command: the frame in which each subcommand is a module of its own.

A subcommand has a ``NAME``, a ``SUMMARY``, ``add_arguments(parser)`` and ``run(args)``; it says its answer with
`_console` and returns an `Exit`. All of them take ``--json``. An error of this package is said in one line and ends
with code 3; Ctrl-C and a closed pipe end quietly.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import TYPE_CHECKING, cast

from . import (
    _cli_adopt,
    _cli_calendar,
    _cli_clear,
    _cli_config,
    _cli_doctor,
    _cli_get,
    _cli_info,
    _cli_invalidate,
    _cli_ls,
    _cli_migrate,
    _cli_server,
)
from ._console import Command, Exit, note
from .errors import RedisMemoError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "main", "parser"]

COMMANDS: tuple[Command, ...] = (
    cast("Command", _cli_info),
    cast("Command", _cli_ls),
    cast("Command", _cli_get),
    cast("Command", _cli_invalidate),
    cast("Command", _cli_clear),
    cast("Command", _cli_doctor),
    cast("Command", _cli_config),
    cast("Command", _cli_adopt),
    cast("Command", _cli_migrate),
    cast("Command", _cli_server),
    cast("Command", _cli_calendar),
)

_EPILOG = """exit codes:
  0  done
  1  done, and what was found needs attention
  2  the command line is wrong
  3  it could not be done; the last line says why
"""


def parser() -> argparse.ArgumentParser:
    """The command line, all subcommands included."""
    top = argparse.ArgumentParser(
        prog="redis-memo",
        description="Look at what is stored, remove it, find what is wrong, move a project over.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    version = sys.modules["redis_memo"].__version__
    top.add_argument("--version", action="version", version=f"redis_memo {version}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_arguments(
            commands.add_parser(command.NAME, help=command.SUMMARY, description=command.SUMMARY, allow_abbrev=False)
        )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: Without the program's name; default: this process's own.

    Returns:
        The exit code.
    """
    given = _with_default_action(list(sys.argv[1:] if arguments is None else arguments))
    args = parser().parse_args(given)
    command = next(each for each in COMMANDS if args.command == each.NAME)
    logging.getLogger("redis_memo").addHandler(logging.NullHandler())  # the answer says what a log would
    try:
        code = command.run(args)
        sys.stdout.flush()
    except RedisMemoError as error:
        note(f"redis-memo {command.NAME}: {error}")
        return Exit.FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor may the interpreter complain at exit
        return 141
    return code


def _with_default_action(given: list[str]) -> list[str]:
    """``redis-memo calendar MCX`` is ``redis-memo calendar show MCX``; so with ``migrate`` and its ``run``."""
    defaults = {_cli_calendar.NAME: ("show", "import"), _cli_migrate.NAME: ("run", "rollback")}
    actions = defaults.get(given[0]) if given else None
    if actions is not None and not {*given[1:2]} & {*actions, "-h", "--help"}:
        return [given[0], actions[0], *given[1:]]
    return given


if __name__ == "__main__":
    sys.exit(main())
