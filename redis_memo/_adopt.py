"""`adopt`: the private caches of a code base, and what replacing the sure ones would change.

Files are read in the order of their paths and only looked at as text: nothing of the code base is imported or run.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ._adopt_files import find_files
from ._adopt_finding import Finding, Lifetime, Project
from ._adopt_judge import Risk
from ._adopt_library import candidates, find_library, holders
from ._adopt_named import find_named
from ._adopt_patterns import find_patterns
from ._adopt_rewrite import conflict, rewritten
from ._adopt_source import Source, is_kept, read
from ._adopt_uses import uses_of
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Change", "Report", "survey", "write"]

_SKIPPED: Final = frozenset(
    {"site-packages", "build", "dist", "node_modules", "__pycache__", "venv", "virtualenv", "__pypackages__"}
)


@dataclass(frozen=True, slots=True)
class Change:
    """A file that would be rewritten.

    Attributes:
        source: As it is.
        new: Its bytes after.
    """

    source: Source
    new: bytes

    def diff(self) -> str:
        """The change as ``patch`` and ``git apply`` take it."""
        name = self.source.shown
        old = self.source.raw.decode(self.source.encoding).splitlines(keepends=True)
        new = self.new.decode(self.source.encoding).splitlines(keepends=True)
        lines = difflib.unified_diff(_by_newline(old), _by_newline(new), f"a/{name}", f"b/{name}")
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found.

    Attributes:
        files: How many files were read.
        findings: By file and line.
        unreadable: Files that were left out, with the reason.
        kept: How many caches a comment ``# redis-memo: keep`` silences.
        changes: Files in which something is sure.
    """

    files: int
    findings: tuple[Finding, ...]
    unreadable: tuple[tuple[str, str], ...]
    kept: int
    changes: tuple[Change, ...]

    def sure(self) -> list[Finding]:
        """Those that `write` replaces."""
        return [each for each in self.findings if each.confidence == "sure"]


def _by_newline(lines: list[str]) -> list[str]:
    """Join what ``splitlines`` took apart at form feeds and the like: a diff knows the newline only."""
    whole = "".join(lines)
    parts = whole.split("\n")
    return [f"{part}\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def survey(path: Path, lifetime: Lifetime) -> Report:
    """Look for private caches below a path.

    Args:
        path: A folder, or one file.
        lifetime: Of caches that state none.

    Raises:
        ConfigurationError: There is no such path.
    """
    if not path.exists():
        raise ConfigurationError(f"there is no {path}: name a folder with Python code, or a file")
    sources, unreadable = [], []
    modules: dict[str, Source] = {}
    tops: set[str] = set()
    for file in _files(path):
        shown = file.relative_to(path).as_posix() if path.is_dir() else file.name
        module = _module(file)
        source = read(file, shown, module)
        if isinstance(source, str):
            unreadable.append((shown, source))
            continue
        sources.append(source)
        modules.setdefault(module, source)
        by_path = ".".join(Path(shown).with_suffix("").parts).removesuffix(".__init__")
        modules.setdefault(by_path, source)
        modules.setdefault(by_path.removeprefix("src."), source)
        tops |= {module.partition(".")[0], by_path.removeprefix("src.").partition(".")[0]}
    project = Project(sources, modules, lifetime)
    found, kept = _found(project)
    changes = []
    handed_on = frozenset(target for source in sources for targets in source.imported.values() for target in targets)
    by_file: dict[str, list[Finding]] = defaultdict(list)
    for each in found:
        if each.confidence == "sure":
            by_file[each.source.shown].append(each)
    unmoved = set()
    for shown, sure in by_file.items():
        source = sure[0].source
        new = rewritten(source, sure, frozenset(tops), handed_on)
        if new == source.raw:
            unmoved.add(shown)
        else:
            changes.append(Change(source, new))
    findings = [
        _doubted(each) if each.confidence == "sure" and each.source.shown in unmoved else each for each in found
    ]
    return Report(
        files=len(sources), findings=tuple(findings), unreadable=tuple(unreadable), kept=kept, changes=tuple(changes)
    )


def _doubted(finding: Finding) -> Finding:
    reason = conflict(finding.source) or "it stands where it cannot be replaced without touching more"
    return replace(finding, risks=(*finding.risks, Risk("rewrite", reason, "likely")))


def _found(project: Project) -> tuple[list[Finding], int]:
    project.holders.update(holders(project))
    project.uses.update(uses_of(project.sources, candidates(project)))
    found: list[Finding] = []
    kept = 0
    for source in project.sources:
        patterns = list(find_patterns(source, project))
        mine = [
            *find_library(source, project),
            *patterns,
            *find_named(source, project, patterns),
            *find_files(source, project),
        ]
        for each in mine:
            if is_kept(source, each.line, each.last) or any(is_kept(source, line, line) for line in each.also):
                kept += 1
            else:
                found.append(each.settled())
    known = {f"@{decorator}" for each in found if (decorator := each.decorator)}
    found = [
        each
        for each in found
        if each.kind != "decorator named a cache"
        or f"@{(each.holder or '').strip('@').rpartition('.')[2]}" not in known
    ]
    unique = {(each.source.shown, each.line, each.kind, each.name): each for each in found}
    return sorted(unique.values(), key=lambda each: (each.source.shown, each.line, each.kind, each.name)), kept


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path):
        here = Path(folder)
        folders[:] = sorted(each for each in folders if not _skipped(here, each))
        for name in sorted(names):
            if name.endswith((".py", ".pyw")) and not name.startswith("."):
                yield here / name


def _skipped(folder: Path, name: str) -> bool:
    return (
        name.startswith(".")
        or name in _SKIPPED
        or name.endswith((".egg-info", ".dist-info"))
        or (folder / name / "pyvenv.cfg").exists()
    )


def _module(file: Path) -> str:
    """Dotted name of a module, by the packages around it."""
    parts = [] if file.name == "__init__.py" else [file.stem]
    folder = file.resolve().parent
    while (folder / "__init__.py").exists():
        parts.append(folder.name)
        folder = folder.parent
    return ".".join(reversed(parts)) or file.resolve().parent.name


def write(change: Change) -> None:
    """Replace a file by its new bytes, at once or not at all.

    Raises:
        ConfigurationError: It cannot be written, or it is not what was read any more.
    """
    target = change.source.path.resolve()
    name = None
    try:
        if target.read_bytes() != change.source.raw:
            raise ConfigurationError(
                f"{change.source.shown} was changed meanwhile, and is left as it is: run adopt again"
            )
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(change.new)
        shutil.copymode(target, name)
        Path(name).replace(target)
    except OSError as error:
        if name is not None:
            with contextlib.suppress(OSError):
                Path(name).unlink()
        raise ConfigurationError(f"{change.source.shown} cannot be written: {error.strerror}") from error
