"""Search for spec files by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from harness.spec.printable import shown_path
from harness.spec.schema import SpecKind
from harness.spec.shipped import shipped_root
from harness.spec.yaml.source import read_text

FOLDERS: dict[str, str] = {
    "task": "tasks",
    "model": "specs/models",
    "dictionary": "specs/dictionaries",
    "method": "specs/methods",
    "suite": "specs/suites",
}
_MODELINE = re.compile(r"#.*\$schema=\S*?(task|model|dictionary|method|suite)\.schema\.json")
ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True)
class SpecFile:
    """A spec file below a search folder. `ref` is its path there without ending: `known/x`."""

    ref: str
    path: Path
    folder: Path  # the search folder

    @property
    def name(self) -> str:
        """The file's name without ending; the spec's `name` must be the same."""
        return self.path.stem


def spec_kind(path: Path) -> SpecKind:
    """The kind of a spec file: by its `$schema=` line, else by its folder, else a task.

    Raises `SpecError` if the file cannot be read.
    """
    for line in read_text(path).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            break
        if match := _MODELINE.match(line.strip()):
            return cast(SpecKind, match[1])
    kinds = {Path(below).name: kind for kind, below in FOLDERS.items()}
    return cast(SpecKind, kinds.get(path.absolute().parent.name, "task"))


def is_path(ref: str) -> bool:
    """Whether a reference means a file, not a name to search for."""
    return ref.endswith(ENDINGS)


def is_file(path: Path) -> bool:
    """Whether there is a file; a path that cannot exist (too long, a NUL inside) is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def search_folders(kind: SpecKind, include: Sequence[Path]) -> list[Path]:
    """Existing folders in the order of search: includes, the current folder, shipped ones.

    An included folder is laid out like the repository (`tasks/`, `specs/models/`, …); one
    without any of these is itself a folder of tasks.
    """
    below = FOLDERS[kind]
    folders = [_included(Path(one), kind) for one in include]
    folders += [Path.cwd() / below, shipped_root() / below]
    unique = {folder.resolve(): folder for folder in reversed(folders) if folder.is_dir()}
    return [folder for folder in folders if unique.get(folder.resolve()) is folder]


def _included(folder: Path, kind: SpecKind) -> Path:
    laid_out = any((folder / below).is_dir() for below in FOLDERS.values())
    return folder if kind == "task" and not laid_out else folder / FOLDERS[kind]


def files_in(folder: Path) -> Iterator[SpecFile]:
    """All spec files below a folder, by reference."""
    paths = (path for ending in ENDINGS for path in folder.rglob(f"*{ending}"))
    files = [
        SpecFile(path.relative_to(folder).with_suffix("").as_posix(), path, folder)
        for path in paths
        if path.is_file() and not _hidden(path.relative_to(folder))
    ]
    yield from sorted(files, key=lambda one: (one.ref, one.path.suffix))


def all_files(folders: Sequence[Path]) -> list[SpecFile]:
    """The files of all folders; one in an earlier folder hides those of the same reference."""
    first: dict[str, SpecFile] = {}
    for folder in folders:
        for file in files_in(folder):
            first.setdefault(file.ref, file)
    return list(first.values())


def matching(ref: str, files: Sequence[SpecFile]) -> list[SpecFile]:
    """The file with this reference; else those with this name, all in one search folder."""
    exact = [file for file in files if file.ref == ref]
    named = exact or [file for file in files if file.name == ref]
    return [file for file in named if file.folder == named[0].folder]


def _hidden(path: Path) -> bool:
    # Editors and notebooks keep copies in such folders.
    return any(part.startswith(".") for part in path.parts)


def shown_folders(folders: Sequence[Path]) -> str:
    """Search folders for messages."""
    return ", ".join(shown_path(folder) for folder in folders) or "no folder"
