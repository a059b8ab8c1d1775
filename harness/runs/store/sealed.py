"""Stored bytes are hashed before they are used: sealed folders, and sealed JSON files.

A folder that never changes has a `manifest.json` with the sha256 of every other file. A JSON file
that is replaced now and then ends with the sha256 of itself, taken with 64 zeros in its place.
Whoever reads one of them gets what was written, or `StoreCorrupt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from harness.disk import file_digest
from harness.errors import StoreCorrupt
from harness.runs.store.atomic import json_bytes, parsed, write

MANIFEST = "manifest.json"
SEAL = "seal"
_NO_SEAL = "0" * 64
_CHANGED = f"is not what was published ({MANIFEST} has another digest)"


def folder_digests(folder: Path) -> Mapping[str, str]:
    """sha256 of every file below `folder` but the manifest, by its relative path (with `/`)."""
    return {name: file_digest(path) for name, path in folder_files(folder).items()}


def folder_files(folder: Path) -> Mapping[str, Path]:
    """Every file below `folder` but the manifest, by its relative path (with `/`)."""
    names = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return {name: path for name, path in names.items() if name != MANIFEST}


def seal_folder(folder: Path) -> None:
    """Write the manifest of a folder that is complete."""
    write(folder / MANIFEST, json_bytes(folder_digests(folder)))


class SealedFolder:
    """A published folder, for reading. All methods raise `StoreCorrupt`, which says the `remedy`.

    Files are hashed each time they are read; the manifest is read once.
    """

    def __init__(self, folder: Path, remedy: str) -> None:
        self.folder, self.remedy = folder, remedy

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """What the manifest says: digests by name."""
        path = self.folder / MANIFEST
        digests = parsed(self._content(path), path)
        if not isinstance(digests, dict):
            raise self.fault(path, "is no manifest")
        return digests

    def read(self, name: str) -> bytes:
        """The bytes of a file that was published."""
        path, noted = self._noted(name)
        content = self._content(path)
        if sha256(content).hexdigest() != noted:
            raise self.fault(path, _CHANGED)
        return content

    def json(self, name: str) -> Any:
        """The content of a JSON file that was published."""
        return parsed(self.read(name), self.folder / name)

    def path(self, name: str) -> Path:
        """The path of a file, after checking its digest block by block."""
        path, noted = self._noted(name)
        if self._digest(path) != noted:
            raise self.fault(path, _CHANGED)
        return path

    def check(self) -> None:
        """Check every file, and that there are no others."""
        for name in sorted(self.digests):
            self.path(name)
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and name not in (MANIFEST, *self.digests):
                raise self.fault(path, "was not published")

    def files(self) -> list[Path]:
        """The manifest, and every file that it names."""
        return [self.folder / MANIFEST, *(self.folder / name for name in sorted(self.digests))]

    def contents(self) -> dict[str, bytes]:
        """The bytes of every file but the manifest, by name."""
        return {name: self.read(name) for name in self.digests}

    def copy(self, folder: Path) -> None:
        """Write every file, but not the manifest, into another folder, which may not be there."""
        self.check()
        below = folder_files(self.folder)
        for name in self.digests:
            if name not in below:  # a foreign manifest may name any file of this machine
                raise self.fault(self.folder / name, "is not below its folder")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write(folder / name, self.read(name))

    def fault(self, path: Path, problem: str) -> StoreCorrupt:
        """The error for a file that is not as it was."""
        return StoreCorrupt(f"{path} {problem}; {self.remedy}")

    def _noted(self, name: str) -> tuple[Path, str]:
        path = self.folder / name
        if name not in self.digests:
            raise self.fault(path, f"is not in {MANIFEST}")
        return path, self.digests[name]

    def _content(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _digest(self, path: Path) -> str:
        try:
            return file_digest(path)
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _unreadable(self, path: Path, error: OSError) -> StoreCorrupt:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        return self.fault(path, "is missing" if missing else f"cannot be read ({error.strerror})")


# ---------------------------------------------------------------- files that are replaced
def sealed_json(document: Mapping[str, Any]) -> bytes:
    """A JSON object with its own digest as the entry `seal`."""
    content = json_bytes({**document, SEAL: _NO_SEAL})
    return content.replace(_entry(_NO_SEAL), _entry(sha256(content).hexdigest()))


def read_sealed_json(path: Path, remedy: str, without_seal: int | None) -> dict[str, Any]:
    """The object in a file that `sealed_json` wrote.

    Files of `schema_version` `without_seal`, which were written before there were seals, are
    returned as they are. Raises `FileNotFoundError`, and `StoreCorrupt` for all others.
    """
    content = path.read_bytes()
    document = parsed(content, path)
    if not isinstance(document, dict):
        raise StoreCorrupt(f"{path} is no JSON object; {remedy}")
    seal = document.pop(SEAL, None)
    if seal is None and document.get("schema_version") == without_seal:
        return document
    unsealed = content.replace(_entry(str(seal)), _entry(_NO_SEAL))
    if sha256(unsealed).hexdigest() != seal:
        raise StoreCorrupt(f"{path} is not what was written; {remedy}")
    return document


def _entry(seal: str) -> bytes:
    """The line of the seal: of all entries, those of the whole object alone have one space."""
    return f'\n "{SEAL}": "{seal}"'.encode(errors="replace")
