"""Train a model spec, measure the model on held-out prompts, and write it to be shipped.

A shipped folder is read again by a spec with `weights` (`harness.runs.plan.shipped`).
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

import yaml
from torch import Tensor

from harness.datasets.open import open_data
from harness.errors import HarnessError
from harness.models.loading.folder import CONFIG, WEIGHTS
from harness.models.training.quality import quality
from harness.models.training.sequences import held_out_sequences, sequence_quality
from harness.models.transformer import Transformer
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import obtain_model
from harness.runs.plan import SEMANTICS_VERSION, Cell, ModelSource, make_cell
from harness.runs.plan.identities import data_identity, task_identity
from harness.runs.plan.shipped import TRAINING, recipe, shipped_weights
from harness.runs.store.atomic import json_bytes, publish_folder, remove_folder, write
from harness.runs.store.models import ModelStore
from harness.runs.store.sealed import SealedFolder, seal_folder
from harness.spec.key import plain
from harness.spec.load import Library, Loaded
from harness.spec.types import Method, Runtime, Task, TrainDictionary, TrainModel

CARD = "README.md"
TEST_PAIRS = 1000
"""Held-out prompts of the split test that a trained model is measured on, at most."""

TEST_SEQUENCES = 1000
"""Whole held-out sequences, of tasks that know every right next token."""

_LABEL = Method(name="train", title="Training alone", kind="random")
"""A cell needs a method; the model does not depend on it."""

Log = Callable[[str], None]


@dataclass(frozen=True)
class TrainedModel:
    """A model of the store, the cell that it was trained as, and how good it is.

    `quality`: of each measure its mean over `n` held-out prompts, or whole sequences where the task
    has them (split test), and the standard error of that mean. `note`: the store's training.json.
    """

    cell: Cell
    model: Transformer
    folder: SealedFolder
    quality: Mapping[str, Mapping[str, float]]
    note: Mapping[str, Any]


def train(
    task: Loaded[Task], source: ModelSource, runtime: Runtime, models: ModelStore, log: Log
) -> TrainedModel:
    """Train a model, or resume its training, or take it from the store; `weights` are not read.

    Raises `HarnessError` for a model that is not trained, and all that training may raise.
    """
    if not isinstance(source.spec, TrainModel):
        raise HarnessError(
            f"model {source.name!r} is of kind {source.spec.kind!r}; only models of kind 'train' "
            "are trained"
        )
    source = replace(source, spec=replace(source.spec, weights=None))
    cell = make_cell(task, source, _LABEL, "method", 0, runtime)
    use_runtime(runtime)
    data = open_data(cell.task)
    model = obtain_model(cell, data, models, log)
    pairs = data.pairs("test", TEST_PAIRS, 0, at_most=True)
    measured = {
        name: _mean(values) for name, values in quality(model, pairs, runtime.device).items()
    }
    whole = held_out_sequences(data, "test", TEST_SEQUENCES, 0)
    if whole is not None:
        measured |= sequence_quality(model, whole, runtime.device).means()
    folder = models.read(cell.model_id)
    return TrainedModel(
        cell,
        model,
        folder,
        measured,
        folder.json("training.json"),
    )


def _mean(values: Tensor) -> dict[str, float]:
    """Mean of [n], its standard error, and n."""
    n = len(values)
    error = float(values.std()) / math.sqrt(n) if n > 1 else 0.0
    return {"value": float(values.mean()), "se": error, "n": n}


def ship(trained: TrainedModel, output: Path) -> None:
    """Write a folder that the model's spec can name as its `weights`.

    It appears whole or not at all. Raises `HarnessError` if `output` is not an empty place.
    """

    def fill(draft: Path) -> None:
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(trained.folder.path(name), draft / name)
        write(draft / TRAINING, json_bytes(_note(trained)))
        write(draft / CARD, card(trained).encode())

    ship_folder(output, fill)


def ship_folder(output: Path, fill: Callable[[Path], None]) -> None:
    """Write a sealed folder with the files that `fill` puts into it, whole or not at all.

    Raises `HarnessError` if `output` is there already.
    """
    there = HarnessError(f"{output} is there already; remove it, or give another --output")
    if output.exists():
        raise there
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    draft = Path(mkdtemp(prefix=f".{output.name}-", dir=output.absolute().parent))
    try:
        fill(draft)
        seal_folder(draft)
        draft.chmod(0o755)
        if not publish_folder(draft, output.absolute()):
            raise there
    finally:
        remove_folder(draft)


def _note(trained: TrainedModel) -> dict[str, Any]:
    """`training.json`: what decides the weights, where they were trained, and how it went."""
    cell = trained.cell
    task_part = task_identity(cell.task)
    trained_on = data_identity(cell.model, cell.model_folder, task_part, cell.trained_on)
    stored = {name: value for name, value in trained.note.items() if name != "identity"}
    return {
        **stored,
        **recipe(cell.identity["model"], trained_on),
        "quality": {name: dict(one) for name, one in trained.quality.items()},
        "seconds": trained.folder.json("timing.json")["seconds"],
        **origin(cell),
    }


def origin(cell: Cell) -> dict[str, Any]:
    """Versions, device and precision of a training: part of its note."""
    return {
        "code": SEMANTICS_VERSION,
        "versions": {name: version(name) for name in ("torch", "numpy")},
        "device": cell.runtime.device,
        "dtype": cell.runtime.dtype,
    }


def card(trained: TrainedModel) -> str:
    """The folder's README: what the model is, how good it is, and how to train it again."""
    cell, note = trained.cell, trained.note
    last = note["history"][-1]
    rows = [
        f"| {name} | {one['value']:.4f} ± {one['se']:.4f} | {one['n']} |"
        for name, one in trained.quality.items()
    ]
    spec = yaml.safe_dump(plain(cell.model), sort_keys=False, allow_unicode=True).strip()
    return "\n".join(
        [
            f"# {cell.model_name}",
            "",
            f"Trained on {_data(cell)} for {last['step']:,} steps; `{TRAINING}` holds the log.",
            "",
            "| held-out, split test | mean ± standard error | n |",
            "|---|---|---|",
            *rows,
            "",
            "The spec, without `weights`; `harness train` makes such a folder from it:",
            "",
            "```yaml",
            spec,
            "```",
            "",
        ]
    )


def _data(cell: Cell) -> str:
    """What the cell's model is trained on, in words."""
    task = (cell.trained_on or cell.task).spec
    own = f"the task `{task.name}` ({task.title})"
    of_corpus = isinstance(cell.model, TrainModel) and cell.model.corpus is not None
    return f"a corpus (below; measured on {own})" if of_corpus else own


def all_shipped(library: Library) -> Iterator[SealedFolder]:
    """The folders of weights that sound specs of models and dictionaries of a library name."""
    every: list[Loaded[Any]] = [library.model(path) for path in _sound(library, "model")]
    every += [library.dictionary(path) for path in _sound(library, "dictionary")]
    for loaded in every:
        spec = loaded.spec
        if isinstance(spec, TrainModel | TrainDictionary) and spec.weights is not None:
            yield shipped_weights(spec, loaded.folder)


def _sound(library: Library, kind: Literal["model", "dictionary"]) -> list[str]:
    """Paths of the specs of a kind that have no mistakes."""
    return [str(entry.path) for entry in library.entries(kind) if not entry.issues]
