"""The cache of models that all runs of a results folder share.

`<root>/<model_id>/` holds a finished model and appears in one rename. While a model is trained,
its process holds `.locks/<model_id>.lock` and keeps checkpoints in `.scratch/<model_id>/`, which
survive a kill so that training can resume. True circuits and dictionaries of models are kept in
the same way in `<root>/truths/` and `<root>/dictionaries/`, and cells keep the checkpoints of
their search in `.scratch/<cell_id>/`.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import StoreCorrupt
from harness.runs.store import locks
from harness.runs.store.atomic import publish_folder, remove_folder
from harness.runs.store.sealed import MANIFEST, SealedFolder, seal_folder

TRUTHS = "truths"
DICTIONARIES = "dictionaries"


class ModelStore:
    """Models by the digest of their identity (`Cell.model_id`)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def truths(self) -> ModelStore:
        """True circuits, by the digest of all that they depend on."""
        return ModelStore(self.root / TRUTHS)

    @property
    def dictionaries(self) -> ModelStore:
        """Trained dictionaries, by the digest of their identity."""
        return ModelStore(self.root / DICTIONARIES)

    def path(self, model_id: str) -> Path:
        """Folder of a finished model (whether or not it exists)."""
        return self.root / model_id

    def exists(self, model_id: str) -> bool:
        """Whether the model is finished and can be loaded from `path`."""
        return (self.path(model_id) / MANIFEST).is_file()

    @contextmanager
    def lock(self, model_id: str) -> Iterator[None]:
        """Wait for and hold the right to train this model; check `exists` again inside."""
        with locks.lock(self._lock(model_id)):
            yield

    def scratch(self, model_id: str) -> Path:
        """Folder for checkpoints; it survives a kill. Use it under the `lock`."""
        folder = self._scratch(model_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def draft(self, model_id: str) -> Path:
        """An empty folder for the files of the model, to be given to `publish`."""
        folder = self.scratch(model_id) / "final"
        remove_folder(folder)
        folder.mkdir()
        return folder

    def publish(self, model_id: str, tmp_dir: Path) -> Path:
        """Make the files of `tmp_dir` the model, in one rename; returns `path(model_id)`.

        `tmp_dir` is consumed. A model that already exists is kept.
        """
        seal_folder(tmp_dir)
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
        remove_folder(self._scratch(model_id))
        return final

    def _publish_from_other_disk(self, model_id: str, tmp_dir: Path) -> bool:
        near = self.scratch(model_id) / "incoming"
        remove_folder(near)
        shutil.copytree(tmp_dir, near)
        return publish_folder(near, self.path(model_id))

    def forget_scratch(self, finished: str) -> None:
        """Remove the checkpoints of what is finished, unless another process is at work there."""
        folder = self._scratch(finished)
        if folder.is_dir():
            with locks.try_lock(self._lock(finished)) as held:
                if held:
                    remove_folder(folder)

    def clean(self, cells: Collection[str] = ()) -> None:
        """Remove what killed runs left behind of models and of these `cells`, all finished."""
        for store in (self, self.truths, self.dictionaries):
            drafts = store.root / ".scratch"
            names = sorted(path.name for path in drafts.iterdir()) if drafts.is_dir() else []
            for name in names:
                if name in cells or store.exists(name):
                    store.forget_scratch(name)

    def ids(self) -> list[str]:
        """Ids of all finished models, sorted."""
        if not self.root.is_dir():
            return []
        names = (path.name for path in self.root.iterdir() if not path.name.startswith("."))
        return sorted(name for name in names if self.exists(name))

    def read(self, model_id: str) -> SealedFolder:
        """The files of a finished model; `StoreCorrupt` if they are not what was published."""
        folder = self.path(model_id)
        return SealedFolder(folder, f"delete the folder {folder} and run again to remake it")

    def verify(self, model_id: str) -> None:
        """Check every file against the digest noted when it was published (`StoreCorrupt`)."""
        self.read(model_id).check()

    def _lock(self, model_id: str) -> Path:
        return self.root / ".locks" / f"{model_id}.lock"

    def _scratch(self, model_id: str) -> Path:
        return self.root / ".scratch" / model_id
