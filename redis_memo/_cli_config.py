"""``redis-memo config``: bring a project's own files to redis_memo, look whether the server suits, and go back."""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from . import _cli_doctor, _doctor
from ._config import Settings, redacted
from ._console import Exit, confirmed, note, say, say_json, shown, usage
from ._dotenv import assignments, with_value
from ._edits import settings_by_name, with_cache_section, with_dependency, with_requirement
from ._engine import Engine
from ._findings import Severity
from ._masking import difference
from ._rewrite import Change, applied, backups, rolled_back
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NAME", "SUMMARY", "add_arguments", "run"]

NAME = "config"
SUMMARY = "update a project's files, check its server, roll back"

_MODULES = ("deployment_config.py", "config/deployment_config.py")

_EXAMPLES = """examples:
  redis-memo config update --dry-run --url redis://cache.internal:6379/0     the diff, and nothing else
  redis-memo config update --url redis://cache.internal:6379/0               asks first
  redis-memo config update --settings deployment_config.py --environment production --yes
  redis-memo config check                                                    as redis-memo doctor
  redis-memo config rollback                                                 byte for byte as before

Changed are .env (REDIS_MEMO_URL, REDIS_MEMO_SECRET), requirements.txt, pyproject.toml, and the cache sections (dicts
under a key or name such as "cache", or with names such as "cache_ttl") of a Python settings module. No secret is shown.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what it takes."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    update = actions.add_parser("update", help="edit .env, requirements.txt, pyproject.toml and a settings module")
    update.add_argument("root", nargs="?", default=".", metavar="FOLDER", help="the project (default: this folder)")
    update.add_argument("--url", metavar="URL", help="the server; default: the one that .env names already")
    update.add_argument("--env-file", metavar="FILE", default=".env", help="default: .env")
    update.add_argument("--no-secret", action="store_true", help="make no REDIS_MEMO_SECRET where there is none")
    update.add_argument("--never-embedded", action="store_true", help="set REDIS_MEMO_EMBEDDED=never, for production")
    update.add_argument("--requirements", metavar="FILE", default="requirements.txt", help="default: requirements.txt")
    update.add_argument(
        "--settings",
        metavar="FILE",
        action="append",
        help=f"a Python settings module (default: {' or '.join(_MODULES)})",
    )
    update.add_argument(
        "--environment", metavar="NAME", action="append", default=[], help="only of this environment; may be repeated"
    )
    update.add_argument(
        "--set",
        metavar="NAME=LITERAL",
        action="append",
        default=[],
        dest="entries",
        help="one more entry of cache sections",
    )
    update.add_argument("--dry-run", action="store_true", help="show the diff, and change nothing")
    update.add_argument("--backup", action="store_true", help="made in any case, in .redis_memo; rollback goes by it")
    update.add_argument("--no-verify", action="store_true", help="do not look at the server afterwards")
    update.add_argument("-y", "--yes", action="store_true", help="do not ask")
    update.add_argument("--json", action="store_true", help="for machines")
    check = actions.add_parser("check", help="as redis-memo doctor", description=_cli_doctor.SUMMARY)
    _cli_doctor.add_options(check)
    back = actions.add_parser("rollback", help="put back the files of the last update")
    back.add_argument("root", nargs="?", default=".", metavar="FOLDER", help="the project (default: this folder)")
    back.add_argument("--backup", metavar="NAME", help="which one (default: the newest)")
    back.add_argument("--list", action="store_true", help="name the backups")
    back.add_argument("--force", action="store_true", help="also where a file has changed since: loses those changes")
    back.add_argument("--dry-run", action="store_true", help="say what would be done")
    back.add_argument("-y", "--yes", action="store_true", help="do not ask")
    back.add_argument("--json", action="store_true", help="for machines")


def run(args: argparse.Namespace) -> Exit:
    """Update, check or roll back."""
    if args.action == "check":
        return _cli_doctor.run(args)
    root = Path(args.root)
    if not root.is_dir():
        raise ConfigurationError(f"{root} is not a folder")
    return _update(root, args) if args.action == "update" else _rollback(root, args)


# ----------------------------------------------------------------------------------------------------------- update


def _update(root: Path, args: argparse.Namespace) -> Exit:
    notes: list[str] = []
    planned: list[tuple[Change, str, str, str]] = []

    def plan(name: str, kind: str, edit: Callable[[str], str], *, make: bool = False) -> None:
        path = root / name
        if path.exists() and not path.is_file():
            notes.append(f"{name}: it is not a file, and is left as it is")
            return
        try:
            before = path.read_bytes()
        except FileNotFoundError:
            if not make:
                return
            before = None
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
        try:
            text = (before or b"").decode()
            changed = edit(text)
        except UnicodeDecodeError:
            notes.append(f"{name}: it is not UTF-8, and is left as it is")
        except ConfigurationError as error:
            notes.append(f"{name}: {error}")
        else:
            if changed != text:
                planned.append((Change(path, before, changed.encode()), kind, text, changed))

    requirement = _requirement()
    plan(args.env_file, "env", lambda text: _edited_env(text, args, notes), make=True)
    plan(args.requirements, "requirements", lambda text: with_requirement(text, requirement))
    plan("pyproject.toml", "toml", lambda text: with_dependency(text, requirement))
    entries = _entries(args.entries)
    for name in args.settings or _MODULES:
        if args.settings and not (root / name).is_file():
            raise ConfigurationError(f"{root / name} is not a file")
        plan(name, "python", lambda text, name=name: _edited_settings(name, text, entries, args, notes))  # type: ignore[misc]
    names = [os.path.relpath(change.path, root) for change, *_ in planned]
    if not args.json:
        for (_, kind, text, changed), name in zip(planned, names, strict=True):
            for line in difference(name, text, changed, kind):
                say(shown(line))
    if not args.json or args.dry_run:
        for each in notes:
            note(each)
    said: dict[str, Any] = {"changes": names, "notes": notes, "applied": False}
    if not planned or args.dry_run:
        if args.json:
            listed = {n: list(difference(n, t, c, k)) for (_, k, t, c), n in zip(planned, names, strict=True)}
            say_json({**said, "diffs": listed})
        elif not planned:
            say("nothing is to be changed")
        return Exit.OK
    if not confirmed(f"Change {', '.join(names)}?", yes=args.yes):
        return Exit.FAILED
    backup = applied(root, [change for change, *_ in planned])
    said |= {"applied": True, "backup": backup.name}
    if not args.json:
        say(f"changed {', '.join(names)}; to undo it: redis-memo config rollback")
    unread = [
        f"{name}: the service does not read it by itself, and has to load it ({_cli_doctor.LOADERS})"
        for name in names
        if name == os.path.normpath(args.env_file)
    ]
    notes += unread
    code = _verified(root, args, said)
    for each in unread if not args.json else ():
        note(each)
    return code


def _requirement() -> str:
    try:
        return f"redis_memo>={importlib.metadata.version('redis_memo')}"
    except importlib.metadata.PackageNotFoundError:  # run from a folder of sources
        return "redis_memo"


def _entries(given: list[str]) -> dict[str, object]:
    entries: dict[str, object] = {"backend": "redis_memo", "url_env": "REDIS_MEMO_URL"}
    for word in given:
        name, equals, text = word.partition("=")
        if not name or not equals:
            usage("--set takes NAME=LITERAL, as in --set ttl=300")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        if not isinstance(value, (str, int, float, bool, type(None))):
            usage("--set takes text, a number, True, False or None")
        entries[name] = value
    return entries


def _edited_env(text: str, args: argparse.Namespace, notes: list[str]) -> str:
    standing = {each.name: each.value for each in assignments(text)}
    changed = text
    url = args.url
    if url is not None:
        Settings.build(url, environ={})  # raises where it is none
    elif not standing.get("REDIS_MEMO_URL") and not standing.get("REDIS_URL"):
        url = _composed(standing)
        if url is None:
            notes.append(f"{args.env_file}: no server is named; say --url redis://host:6379/0")
    if url is not None:
        changed = with_value(changed, "REDIS_MEMO_URL", url)
    named = bool(url or standing.get("REDIS_MEMO_URL") or standing.get("REDIS_URL"))
    own = (url or "").startswith("embedded://")  # which makes its own
    if named and not own and not standing.get("REDIS_MEMO_SECRET") and not args.no_secret:
        changed = with_value(changed, "REDIS_MEMO_SECRET", secrets.token_urlsafe(32))
        notes.append(f"{args.env_file}: a new REDIS_MEMO_SECRET; all processes that share entries need the same one")
    if args.never_embedded:
        changed = with_value(changed, "REDIS_MEMO_EMBEDDED", "never")
    return changed


def _composed(standing: dict[str, str]) -> str | None:
    """A URL from the single settings that many services have."""
    host = standing.get("REDIS_HOST")
    if not host:
        return None
    user, password = standing.get("REDIS_USERNAME", ""), standing.get("REDIS_PASSWORD", "")
    scheme = "rediss" if standing.get("REDIS_SSL", "").lower() in ("1", "true", "yes", "on") else "redis"
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    bracketed = f"[{host}]" if ":" in host else host
    return f"{scheme}://{login}{bracketed}:{standing.get('REDIS_PORT') or 6379}/{standing.get('REDIS_DB') or 0}"


def _edited_settings(
    name: str, text: str, entries: dict[str, object], args: argparse.Namespace, notes: list[str]
) -> str:
    changed, sections, left = with_cache_section(text, entries, args.environment)
    notes += [f"{name}: {each}" for each in left]
    named = settings_by_name(text)
    notes += [f"{name}: {each} is read by name, perhaps by another library: set it by hand" for each in named]
    if not sections and not named and not args.environment:
        notes.append(
            f"{name}: it has no cache section (a dict under a name or key such as 'cache', or one with names such as "
            "'cache_ttl')"
        )
    return changed


def _verified(root: Path, args: argparse.Namespace, said: dict[str, Any]) -> Exit:
    """Whether the server that the files name now suits."""
    if args.no_verify:
        if args.json:
            say_json(said)
        return Exit.OK
    path = root / args.env_file
    environ = dict(os.environ)
    if path.is_file():
        environ |= {each.name: each.value for each in assignments(path.read_text(encoding="utf-8")) if each.value}
    engine = Engine(Settings.build(environ=environ))
    findings = list(_doctor.examined(engine, environ))
    engine.close()
    worst = max(finding.severity for finding in findings)
    if args.json:
        bad = [f._asdict() | {"severity": f.severity.name.lower()} for f in findings if f.severity >= Severity.WARNING]
        say_json({**said, "server": redacted(engine.settings.url), "findings": bad})
    else:
        for finding in findings:
            if finding.severity >= Severity.WARNING:
                say(f"{finding.severity.name} {finding.check}: {shown(finding.said)}\n  -> {finding.remedy}")
        say(f"{engine.backend.where}: {'see above' if worst >= Severity.WARNING else 'nothing is wrong'}")
    return Exit.ATTENTION if worst >= Severity.WARNING else Exit.OK


# --------------------------------------------------------------------------------------------------------- rollback


def _rollback(root: Path, args: argparse.Namespace) -> Exit:
    found = backups(root)
    if args.list:
        if args.json:
            say_json({"backups": [path.name for path in found]})
        else:
            for path in found:
                say(path.name)
        return Exit.OK
    chosen = [path for path in found if args.backup in (None, path.name)]
    if not chosen:
        raise ConfigurationError(f"there is no {'such ' if args.backup else ''}backup of {root.resolve()}")
    backup = chosen[-1]
    would = rolled_back(root, backup, force=args.force, dry_run=True)
    if not args.dry_run:
        names = ", ".join(name for name, what in would if what != "as it was") or "nothing"
        if not confirmed(f"Put back {names}, as of {backup.name}?", yes=args.yes):
            return Exit.FAILED
        would = rolled_back(root, backup, force=args.force)
    if args.json:
        say_json({"backup": backup.name, "applied": not args.dry_run, "files": dict(would)})
    else:
        for name, what in would:
            say(f"{'would be ' if args.dry_run and what != 'as it was' else ''}{what}: {name}")
    return Exit.OK
