"""Dictionaries to be obtained: the model they are of, and their id.

The id is the digest of everything that can move a number of theirs: the model, the prompts, the
spec, and of those that are read their files. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.datasets.locate import locate
from harness.disk import file_digest
from harness.errors import HarnessError, NotFound
from harness.runs.plan.cells import Cell, ModelSource, make_cell
from harness.runs.plan.identities import training_identity
from harness.runs.plan.shipped import refuse_other_recipe, shipped_weights
from harness.runs.plan.threads import of_training
from harness.spec.identity import digest, identity_fields
from harness.spec.load import Loaded
from harness.spec.types import DictionarySpec, LoadDictionary, Method, Runtime, TrainDictionary

_LABEL = Method(name="dictionary", title="Dictionaries alone", kind="random")
"""A cell needs a method; the model and the prompts do not depend on it."""

_WEIGHTS = ".safetensors"
_ENDINGS = (".json", _WEIGHTS)


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
        spec = self.loaded.spec
        if isinstance(spec, TrainDictionary):
            return spec.weights is None
        return not isinstance(spec, LoadDictionary)

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides the weights of trained ones: spec, prompts, and the model's own weights."""
        model = self.cell.identity["model"]
        names = ("dictionary", "prompts", "stopped_on")
        return {
            **{name: self.identity[name] for name in names if name in self.identity},
            "model": model.get("weights", model),
        }

    def files_changed(self) -> bool:
        """Whether files that they are loaded from are no longer those that the id was made of."""
        return bool(
            _digests(self.loaded.spec, self.loaded.folder) != self.identity.get("files", {})
        )


def plan_dictionaries(loaded: Loaded[DictionarySpec], runtime: Runtime) -> PlannedDictionaries:
    """The dictionaries of a spec with their id; reads the files that they are loaded from.

    Raises `NotFound` for files that are missing, `HarnessError` for `weights` of another spec or
    model, `StoreCorrupt` for damaged ones.
    """
    assert loaded.task is not None
    task, spec = loaded.task, loaded.spec
    source = ModelSource.of(task)
    if loaded.model is not None:
        source = ModelSource.named(loaded.model, str(spec.model))
    cell = make_cell(task, source, _LABEL, "method", 0, runtime)
    shared = ("identity_version", "code", "torch", "numpy")
    identity: dict[str, Any] = {name: cell.identity[name] for name in shared}
    identity |= {
        "model_id": cell.model_id,
        "dictionary": identity_fields(spec),
        "runtime": of_training(runtime),
    }
    if files := _digests(spec, loaded.folder):
        identity["files"] = files
    if not isinstance(spec, LoadDictionary):
        task_part = cell.identity["task"]
        identity["prompts"] = training_identity(task_part)
        target = spec.target if isinstance(spec, TrainDictionary) else None
        if target is not None and "corruption" in task_part["data"]:
            # Held-out pairs say when to stop, and the corruption which pairs there are.
            identity["stopped_on"] = {"corruption": task_part["data"]["corruption"]}
    planned = PlannedDictionaries(digest(identity), identity, loaded.path.stem, loaded, cell)
    if isinstance(spec, TrainDictionary) and spec.weights is not None:
        refuse_changing_model(cell)
        refuse_other_recipe(shipped_weights(spec, loaded.folder), files, planned.recipe)
    return planned


def dictionary_weights_problem(loaded: Loaded[DictionarySpec]) -> str | None:
    """Why the weights beside a spec are not its own; None if they are, or are not there."""
    if not isinstance(loaded.spec, TrainDictionary) or loaded.spec.weights is None:
        return None
    try:
        plan_dictionaries(loaded, Runtime())
    except NotFound:
        return None  # files that are missing are no mistake of the spec
    except HarnessError as error:
        return str(error)
    return None


def refuse_changing_model(cell: Cell) -> None:
    """Refuse `weights` of dictionaries of a model that every machine trains itself."""
    if cell.trains:
        raise HarnessError(
            f"dictionaries with `weights` are of one model's weights, and {cell.model_name!r} is "
            "trained anew on every machine; give its spec `weights` first (`harness train`)"
        )


def dictionary_files(planned: PlannedDictionaries) -> list[Path]:
    """The files that dictionaries are read from, and what says how they were trained."""
    spec, folder = planned.loaded.spec, planned.loaded.folder
    if isinstance(spec, LoadDictionary):
        return _read_files(locate(spec.path, folder), _ENDINGS)
    if not isinstance(spec, TrainDictionary) or spec.weights is None:
        return []
    return shipped_weights(spec, folder).files()


def _digests(spec: DictionarySpec, folder: Path) -> dict[str, str]:
    """sha256 of the files that dictionaries are read from; {} if they are trained."""
    if isinstance(spec, LoadDictionary):
        return file_digests(locate(spec.path, folder), _ENDINGS)
    if not isinstance(spec, TrainDictionary) or spec.weights is None:
        return {}
    return file_digests(shipped_weights(spec, folder).folder, (_WEIGHTS,))


def file_digests(place: Path, endings: Collection[str]) -> dict[str, str]:
    """sha256 of each file of dictionaries by path in their folder; `NotFound` if there is none."""
    files = _read_files(place, endings)
    return {path.relative_to(place).as_posix(): file_digest(path) for path in files}


def _read_files(place: Path, endings: Collection[str]) -> list[Path]:
    files = sorted(path for path in place.rglob("*") if path.suffix in endings and path.is_file())
    if not files:
        raise NotFound(f"{place} holds no dictionaries")
    return files
