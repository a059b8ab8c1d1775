"""Atomic file writes: a kill, a full disk or an interrupt never leaves half a file.

Everything is written beside its final place, forced to disk, and only then renamed: a file
that can be read is complete.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from harness.errors import StoreCorrupt

STALE_SECONDS = 60.0


def json_bytes(data: Any) -> bytes:
    """Readable JSON with one byte form per value: sorted keys, trailing newline.

    Raises ValueError for NaN and infinities, which JSON cannot represent.
    """
    text = json.dumps(data, allow_nan=False, sort_keys=True, indent=1, ensure_ascii=False)
    return (text + "\n").encode()


def read_json(path: Path) -> Any:
    """Parse a JSON file that this program wrote; `StoreCorrupt` names a broken one."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, UnicodeDecodeError) as error:
        raise StoreCorrupt(
            f"{path} is not valid JSON ({error}); delete it and run again to recompute it"
        ) from error


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and force it to disk; the caller renames it or its folder into place."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path`, replacing any file there; all of it, or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        write_synced(draft, content)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_stale_drafts(folder: Path) -> None:
    """Remove drafts of `replace_file` whose writer was killed."""
    for draft in folder.glob(".*.json.*"):
        with suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > STALE_SECONDS:
                draft.unlink()


def publish_folder(draft: Path, final: Path) -> bool:
    """Rename a finished folder into place; False (and `draft` stays) if the place is taken."""
    for path in sorted(draft.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(draft)
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        # rename refuses to replace a folder that holds something, so the first one wins.
        draft.rename(final)
    except OSError:
        if final.is_dir():
            return False
        raise
    sync_folder(final.parent)
    return True


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, hex."""
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_digests(folder: Path) -> Mapping[str, str]:
    """sha256 of every file below `folder`, by its path relative to it (with `/`)."""
    return {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the lock file without waiting; yield False if another process holds it.

    The operating system releases the lock when its holder dies. Empty lock files stay behind:
    removing one would race with a process that is about to take it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def remove_folder(folder: Path) -> None:
    """Remove a folder and its contents; no error if it does not exist."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
