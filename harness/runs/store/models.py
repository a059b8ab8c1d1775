"""The cache of models that all runs of a results folder share.

`<root>/<model_id>/` holds a finished model and appears in one rename. While a model is trained,
its process holds `.locks/<model_id>.lock` and keeps checkpoints in `.scratch/<model_id>/`, which
survive a kill so that training can resume.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from harness.errors import StoreCorrupt
from harness.runs.store.atomic import (
    folder_digests,
    json_bytes,
    publish_folder,
    read_json,
    remove_folder,
    write_synced,
)

MANIFEST = "manifest.json"


class ModelStore:
    """Models by the digest of their identity (`Cell.model_id`)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, model_id: str) -> Path:
        """Folder of a finished model (whether or not it exists)."""
        return self.root / model_id

    def exists(self, model_id: str) -> bool:
        """Whether the model is finished and can be loaded from `path`."""
        return (self.path(model_id) / MANIFEST).is_file()

    @contextmanager
    def lock(self, model_id: str) -> Iterator[None]:
        """Wait for and hold the right to train this model; check `exists` again inside."""
        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{model_id}.lock"):
            yield

    def scratch(self, model_id: str) -> Path:
        """Folder for training checkpoints; survives a kill, removed once the model is published."""
        folder = self.root / ".scratch" / model_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def publish(self, model_id: str, tmp_dir: Path) -> Path:
        """Make the files of `tmp_dir` the model, in one rename; returns `path(model_id)`.

        `tmp_dir` is consumed. A model that already exists is kept.
        """
        manifest = {k: v for k, v in folder_digests(tmp_dir).items() if k != MANIFEST}
        write_synced(tmp_dir / MANIFEST, json_bytes(manifest))
        final = self.path(model_id)
        try:
            placed = publish_folder(tmp_dir, final)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            placed = self._publish_from_other_disk(model_id, tmp_dir)
        if not placed and not self.exists(model_id):
            raise StoreCorrupt(f"{final} is not a published model; delete it and run again")
        remove_folder(tmp_dir)
        remove_folder(self.root / ".scratch" / model_id)
        return final

    def _publish_from_other_disk(self, model_id: str, tmp_dir: Path) -> bool:
        near = self.root / ".scratch" / f"{model_id}.incoming"
        remove_folder(near)
        shutil.copytree(tmp_dir, near)
        placed = publish_folder(near, self.path(model_id))
        remove_folder(near)
        remove_folder(tmp_dir)
        return placed

    def ids(self) -> list[str]:
        """Ids of all finished models, sorted."""
        if not self.root.is_dir():
            return []
        names = (path.name for path in self.root.iterdir() if not path.name.startswith("."))
        return sorted(name for name in names if self.exists(name))

    def verify(self, model_id: str) -> None:
        """Check every file against the digest noted when it was published (`StoreCorrupt`)."""
        folder = self.path(model_id)
        noted = read_json(folder / MANIFEST)
        actual = {k: v for k, v in folder_digests(folder).items() if k != MANIFEST}
        for name in sorted(noted.keys() | actual.keys()):
            if noted.get(name) != actual.get(name):
                raise StoreCorrupt(
                    f"{folder / name} is not the file that was published; "
                    f"delete the folder {folder} and run again to remake the model"
                )
