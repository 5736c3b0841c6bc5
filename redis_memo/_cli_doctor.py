"""``redis-memo doctor``: what is wrong between this process and its server, how bad it is, and what to do."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _doctor
from ._cli_target import add_server, find_function, read_environment
from ._config import Settings
from ._console import Exit, counted, say, say_json, shown
from ._engine import Engine
from ._findings import Finding, Severity
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LOADERS", "NAME", "SUMMARY", "add_arguments", "add_options", "diagnose", "report", "run"]

NAME = "doctor"
SUMMARY = "what is wrong between this process and its server, and what to do about it"

LOADERS = "python-dotenv, EnvironmentFile= of systemd, env_file of compose"
_EXAMPLES = """examples:
  redis-memo doctor                          the server of REDIS_MEMO_URL, of .env, or the embedded one
  redis-memo doctor --url redis://host:6379/0
  redis-memo doctor --env-file .env          as by a service that loads that file
  redis-memo doctor pkg.mod:history          with the settings that the function's own code configures

Exit code 0: nothing is wrong; 1: there are warnings; 3: there are errors. No secret is printed.
"""
_MARKS = {Severity.OK: "ok", Severity.INFO: "info", Severity.WARNING: "WARNING", Severity.ERROR: "ERROR"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what it takes."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What ``doctor`` and ``config check`` both take."""
    parser.add_argument(
        "function", nargs="?", metavar="MODULE:FUNCTION", help="whose settings; default: the environment's"
    )
    parser.add_argument("--quiet", action="store_true", help="say only what is wrong")
    parser.add_argument("--json", action="store_true", help="for machines")
    add_server(parser)


def run(args: argparse.Namespace) -> Exit:
    """Look, and report."""
    return report(list(diagnose(args)), args)


def diagnose(args: argparse.Namespace) -> Iterator[Finding]:
    """All findings for the server that is meant."""
    origins = read_environment(args)
    environ = dict(os.environ)
    if args.function is not None:
        target = find_function(args, args.function)
        engine = target.engine
        yield Finding("settings", Severity.OK, f"of {args.function}: {engine.backend.where}")
        secret = b",".join(engine.settings.secrets).decode("utf-8", "replace")
        yield from _doctor.about_secret(secret, engine.settings.url, Path.cwd(), "")
        yield from _doctor.examined(engine, environ, target.memo)
        return
    secret = environ.pop("REDIS_MEMO_SECRET", "")
    try:
        settings = Settings.build(args.url, environ=environ)
        yield from _doctor.about_secret(secret, settings.url, Path.cwd(), origins.get("REDIS_MEMO_SECRET", ""))
        with contextlib.suppress(ConfigurationError):  # of the secret, of which all is said
            settings = Settings.build(args.url, secret=secret or None, environ=environ)
        engine = Engine(settings)
    except ConfigurationError as error:
        remedy = "correct REDIS_MEMO_URL, or whichever setting it names"
        yield Finding("settings", Severity.ERROR, str(error), remedy)
        return
    named = (
        "the command line" if args.url else origins.get("REDIS_MEMO_URL") or origins.get("REDIS_URL") or "the default"
    )
    yield Finding("settings", Severity.OK, f"{engine.backend.where}, by {named}")
    yield from _about_file(origins, args)
    calendar = environ.get("REDIS_MEMO_CALENDAR")
    if calendar and not Path(calendar).expanduser().exists():
        yield Finding(
            "calendar", Severity.ERROR, "REDIS_MEMO_CALENDAR names a file that is not here",
            "correct the path, or remove the setting",
        )  # fmt: skip
    yield from _doctor.examined(engine, environ)
    engine.close()


def _about_file(origins: dict[str, str], args: argparse.Namespace) -> Iterator[Finding]:
    """Settings that the ``.env`` of the folder has, and the environment has not; a file that was named is known of."""
    names = [
        name
        for name, origin in origins.items()
        if origin != "environment" and not (args.url and name in ("REDIS_MEMO_URL", "REDIS_URL"))
    ]
    if names and args.env_file is None:
        yield Finding(
            "environment", Severity.WARNING,
            f"only .env has {' and '.join(names)}: this command reads that file, the service itself does not",
            f"let the service load it ({LOADERS}); where it does, say --env-file .env here",
        )  # fmt: skip


def report(findings: list[Finding], args: argparse.Namespace) -> Exit:
    """Say the findings, and end by the worst."""
    worst = max((finding.severity for finding in findings), default=Severity.OK)
    if args.quiet:
        findings = [finding for finding in findings if finding.severity >= Severity.WARNING]
    if args.json:
        listed: list[dict[str, Any]] = [
            {**finding._asdict(), "severity": finding.severity.name.lower()} for finding in findings
        ]
        say_json({"worst": worst.name.lower(), "findings": listed})
    else:
        for finding in findings:
            say(f"{_MARKS[finding.severity]:8} {finding.check:12} {shown(finding.said)}")
            if finding.remedy and finding.severity > Severity.OK:
                say(f"{'':21} -> {shown(finding.remedy)}")
        errors, warnings = (sum(f.severity is level for f in findings) for level in (Severity.ERROR, Severity.WARNING))
        say(f"{counted(errors, 'error', 'errors')}, {counted(warnings, 'warning', 'warnings')}")
    return {Severity.ERROR: Exit.FAILED, Severity.WARNING: Exit.ATTENTION}.get(worst, Exit.OK)
