"""Folders and JSON files that appear whole or not at all, on top of `harness.disk`."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.disk import file_digest, remove_drafts, replace_file, sync, write, write_synced
from harness.errors import StoreCorrupt

__all__ = [
    "file_digest",
    "json_bytes",
    "parsed",
    "publish_folder",
    "read_json",
    "remove_drafts",
    "remove_folder",
    "replace_file",
    "write",
    "write_synced",
]


def json_bytes(data: Any) -> bytes:
    """Readable JSON with one byte form per value: sorted keys, trailing newline.

    Raises ValueError for NaN and infinities, which JSON cannot represent.
    """
    text = json.dumps(data, allow_nan=False, sort_keys=True, indent=1, ensure_ascii=False)
    return (text + "\n").encode()


def read_json(path: Path) -> Any:
    """Parse a JSON file that this program wrote; `StoreCorrupt` names a broken one."""
    return parsed(path.read_bytes(), path)


def parsed(content: bytes, path: Path) -> Any:
    """The JSON that was read from `path`; `StoreCorrupt` names a broken file."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StoreCorrupt(
            f"{path} is not valid JSON ({error}); delete it and run again to recompute it"
        ) from error


def publish_folder(draft: Path, final: Path) -> bool:
    """Rename a finished folder into place; False (and `draft` stays) if the place is taken.

    All that is in it is forced to disk first.
    """
    for path in sorted(draft.rglob("*")):
        sync(path)
    sync(draft)
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        # rename refuses to replace a folder that holds something, so the first one wins.
        draft.rename(final)
    except OSError:
        if final.is_dir():
            return False
        raise
    sync(final.parent)
    return True


def remove_folder(folder: Path) -> None:
    """Remove a folder and its contents; no error if it does not exist."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
