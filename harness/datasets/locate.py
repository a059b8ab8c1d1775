"""Where files lie that the user brings: tokenizers and checkpoints that no task can ship.

A relative path is looked for beside the task, then in each folder of the environment variable
`HARNESS_FILES`, then in the current folder. What is found is identified by its content, so it
does not matter where it was.

On a machine that does not have them, they are read where they were unpacked (`unpacked`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from harness.errors import NotFound
from harness.spec.printable import printable, shown_path

VARIABLE = "HARNESS_FILES"

_ALIKE = 0.75  # share of letters that two names have in common


@dataclass(frozen=True)
class _Unpacked:
    root: Path
    folders: tuple[Path, ...]


_unpacked: list[_Unpacked] = []  # the innermost last


@contextmanager
def unpacked(root: Path, folders: Sequence[Path]) -> Iterator[None]:
    """Read files of another machine below `root`, at the paths that they have there.

    `folders`: where that machine looks for what is not beside a task (`brought_folders`). A file
    that is not below `root` is read where it is.
    """
    _unpacked.append(_Unpacked(root, tuple(folders)))
    try:
        yield
    finally:
        _unpacked.pop()


def below(root: Path, path: Path) -> Path:
    """Return where the file of a path is kept below `root`."""
    whole = Path(os.path.normpath(path.absolute()))
    return root / whole.relative_to(whole.anchor)


def beside(path: str, folder: Path) -> Path:
    """Return where a path in a spec of `folder` leads, for files that lie beside the spec."""
    place = folder / path
    if not _unpacked:
        return place
    root, folders = _unpacked[-1].root, _unpacked[-1].folders
    inside = below(root, folders[-1] / place)  # a relative path is so to that machine's folder
    return inside if _exists(inside) else place


def brought_folders() -> list[Path]:
    """Return the folders of `HARNESS_FILES` and, last, the current one, as absolute paths."""
    if _unpacked:
        return list(_unpacked[-1].folders)
    named = os.environ.get(VARIABLE, "").split(os.pathsep)
    return [Path(one).absolute() for one in (*filter(None, named), "")]


def search_folders(folder: Path) -> list[Path]:
    """Return `folder` (that of the task), the folders of `HARNESS_FILES`, and the current one."""
    if _unpacked:
        return [folder, *_unpacked[-1].folders]
    named = [Path(one) for one in os.environ.get(VARIABLE, "").split(os.pathsep) if one]
    folders = [folder, *named, Path()]
    return list({one.resolve(): one for one in reversed(folders)}.values())[::-1]


def find(path: str, folder: Path) -> Path | None:
    """Return the file or folder that `path` means in a task of `folder`, or None."""
    candidates = (beside(path, one) for one in search_folders(folder))
    return next((one for one in candidates if _exists(one)), None)


def locate(path: str, folder: Path) -> Path:
    """Return the file or folder that `path` means; NotFound says how to provide it."""
    place = find(path, folder)
    if place is None:
        raise NotFound(needed(path, folder))
    return place


def needed(path: str, folder: Path) -> str:
    """Return the message for a path that is nowhere: what is needed and where it can be put."""
    alike = _alike(path, folder)
    hint = f" (did you mean {printable(alike)}?)" if alike else ""
    if Path(path).is_absolute():
        return f"needs {path}, which does not exist{hint}"
    places = [shown_path(one.absolute()) for one in search_folders(folder)]
    return (
        f"needs {path}, which is not below {' or '.join(places)}{hint}; put it there, or set "
        f"{VARIABLE} to the folder that holds {path}"
    )


def _alike(path: str, folder: Path) -> str | None:
    """A path that exists and differs in one name alone, by a few letters; None without one."""
    for root in search_folders(folder):
        parts = Path(path).parts
        for at, name in enumerate(parts):
            above = root.joinpath(*parts[:at])
            if not _exists(above / name):
                names = _names_in(above)
                for one in get_close_matches(name, names, n=3, cutoff=_ALIKE):
                    if _exists(above.joinpath(one, *parts[at + 1 :])):
                        return str(Path(*parts[:at], one, *parts[at + 1 :]))
                break
    return None


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(one.name for one in folder.iterdir())
    except (OSError, ValueError):
        return []


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a path that cannot exist: too long, a NUL inside
        return False
