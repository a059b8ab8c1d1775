"""Python source files below folders, by default the standard library of the running interpreter."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path

from harness.errors import HarnessError, NotFound

HELD_OUT_SHARE = 0.05
"""Of the files, by a hash of their names."""

_INSTALLED = {"site-packages", "dist-packages", "__pycache__"}
"""Folders of other people's packages: they differ from machine to machine."""


@dataclass(frozen=True)
class SourceFile:
    """A file by its path below its folder; `held_out` is decided by that name alone."""

    name: str
    path: Path

    @property
    def held_out(self) -> bool:
        """Whether the file is never trained on."""
        point = int.from_bytes(sha256(self.name.encode()).digest()[:6], "big") / 2**48
        return point < HELD_OUT_SHARE


@dataclass(frozen=True)
class PythonSource:
    """All files in a fixed order. Those that are no UTF-8 are skipped, and counted in `skipped`."""

    files: tuple[SourceFile, ...]

    @classmethod
    def below(cls, folders: Sequence[Path] | None) -> PythonSource:
        """Return the .py files below folders, sorted by name; None: the standard library.

        Raises `NotFound` for a folder that is missing, `HarnessError` if there are no files.
        """
        roots = [Path(sysconfig.get_paths()["stdlib"])] if folders is None else list(folders)
        files = []
        for number, root in enumerate(roots):
            if not root.is_dir():
                raise NotFound(f"corpus: no folder {root} with Python files")
            for here, inner, names in os.walk(root):
                inner[:] = [one for one in inner if one not in _INSTALLED]
                inside = os.path.relpath(here, root).replace(os.sep, "/")
                files += [
                    SourceFile(f"{number}/{inside}/{name}", Path(here, name))
                    for name in names
                    if name.endswith(".py") and os.path.isfile(os.path.join(here, name))
                ]
        if not files:
            raise HarnessError(f"corpus: no .py files below {', '.join(map(str, roots))}")
        return cls(tuple(sorted(files, key=lambda one: one.name)))

    def texts(self, *, held_out: bool) -> list[str]:
        """Return the texts that are held out, or all others, in order."""
        chosen = (one for one in self.files if one.held_out == held_out)
        texts = (_text(one.path) for one in chosen)
        return [text for text in texts if text is not None]

    @cached_property
    def skipped(self) -> int:
        """Number of files that cannot be decoded."""
        return sum(_text(one.path) is None for one in self.files)

    def digest(self) -> str:
        """Return the sha256 (hex) of all names and contents."""
        total = sha256()
        for one in self.files:
            stat = one.path.stat()
            content = _digest(one.path, stat.st_size, stat.st_mtime_ns)
            total.update(f"{one.name}\0{content}\n".encode())
        return total.hexdigest()


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None


@lru_cache(maxsize=1 << 14)
def _digest(path: Path, size: int, changed: int) -> str:
    """The digest of a file that is unchanged; size and time are part of the cache key."""
    return sha256(path.read_bytes()).hexdigest()
