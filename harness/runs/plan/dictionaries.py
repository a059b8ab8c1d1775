"""Dictionaries to be obtained: the model they are of, and their id.

The id is the digest of everything that can move a number of theirs: the model, the prompts, the
spec, and of a loaded one its files. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.datasets.locate import locate
from harness.disk import file_digest
from harness.errors import NotFound
from harness.runs.plan.cells import Cell, ModelSource, make_cell
from harness.runs.plan.identities import training_identity
from harness.spec.identity import digest, identity_fields
from harness.spec.load import Loaded
from harness.spec.types import DictionarySpec, LoadDictionary, Method, Runtime, TrainDictionary

_LABEL = Method(name="dictionary", title="Dictionaries alone", kind="random")
"""A cell needs a method; the model and the prompts do not depend on it."""

_ENDINGS = (".json", ".safetensors")


@dataclass(frozen=True)
class PlannedDictionaries:
    """Dictionaries and their id; `cell` is any cell of the model they are of."""

    id: str
    identity: Mapping[str, Any]
    name: str
    loaded: Loaded[DictionarySpec]
    cell: Cell

    @property
    def trains(self) -> bool:
        """Whether they have to be made, from the model, where the store does not have them."""
        return self.loaded.spec.kind != "load"

    def files_changed(self) -> bool:
        """Whether files that they are loaded from are no longer those that the id was made of."""
        spec = self.loaded.spec
        if not isinstance(spec, LoadDictionary):
            return False
        return bool(file_digests(spec, self.loaded.folder) != self.identity["files"])


def plan_dictionaries(loaded: Loaded[DictionarySpec], runtime: Runtime) -> PlannedDictionaries:
    """The dictionaries of a spec with their id; reads the files that they are loaded from.

    Raises `NotFound` for files that are missing.
    """
    assert loaded.task is not None
    task = loaded.task
    source = ModelSource.of(task)
    if loaded.model is not None:
        source = ModelSource.named(loaded.model, str(loaded.spec.model))
    cell = make_cell(task, source, _LABEL, "method", 0, runtime)
    shared = ("identity_version", "code", "torch", "numpy")
    identity: dict[str, Any] = {name: cell.identity[name] for name in shared}
    identity |= {
        "model_id": cell.model_id,
        "dictionary": identity_fields(loaded.spec),
        # As with models: what another number of threads trained is used.
        "runtime": identity_fields(replace(runtime, threads=Runtime().threads)),
    }
    if isinstance(loaded.spec, LoadDictionary):
        identity["files"] = file_digests(loaded.spec, loaded.folder)
    else:
        task_part = cell.identity["task"]
        identity["prompts"] = training_identity(task_part)
        target = loaded.spec.target if isinstance(loaded.spec, TrainDictionary) else None
        if target is not None and "corruption" in task_part["data"]:
            # Held-out pairs say when to stop, and the corruption which pairs there are.
            identity["stopped_on"] = {"corruption": task_part["data"]["corruption"]}
    return PlannedDictionaries(digest(identity), identity, loaded.path.stem, loaded, cell)


def file_digests(spec: LoadDictionary, folder: Path) -> dict[str, str]:
    """sha256 of every file that dictionaries are loaded from, by path in their folder.

    Raises `NotFound` if there are none.
    """
    place = locate(spec.path, folder)
    files = sorted(path for path in place.rglob("*") if path.suffix in _ENDINGS and path.is_file())
    if not files:
        raise NotFound(f"{place} holds no dictionaries")
    return {path.relative_to(place).as_posix(): file_digest(path) for path in files}
