"""Atomic file writes: a kill, a full disk or an interrupt never leaves half a file.

Everything is written beside its final place, forced to disk, and only then renamed: a file
that can be read is complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from hashlib import sha256
from pathlib import Path
from uuid import uuid4


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the operating system say which file they are about, also those of a descriptor."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write(path: Path, content: bytes, *, synced: bool = False) -> None:
    """Write a file, and force it to disk if `synced`; an interrupt leaves a part of it."""
    with naming(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
            if synced:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and force it to disk; the caller renames it or its folder into place."""
    write(path, content, synced=True)


def sync(path: Path) -> None:
    """Force a file to disk, or a folder's entries, so that a rename in it survives a power cut."""
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path`, replacing any file there; all of it, or nothing.

    A writer that is killed leaves a draft beside it (`remove_drafts`).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        write_synced(draft, content)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync(path.parent)


def remove_drafts(path: Path) -> None:
    """Remove drafts of `path` whose writer was killed; the caller is its only writer."""
    for draft in path.parent.glob(f".{escape(path.name)}.*"):
        draft.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, hex."""
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
