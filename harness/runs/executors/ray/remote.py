"""What a worker of a cluster does: make a model or dictionaries, or compute a cell.

Plain functions of values that can be pickled; nothing here knows of Ray. What goes wrong in a
cell comes back as a value, so that an error is never tried again as the death of a worker is.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from harness.datasets.locate import unpacked
from harness.disk import write
from harness.errors import HarnessError
from harness.progress import shown_by
from harness.runs.compute.plug_in_frames import described
from harness.runs.executors.ray.luggage import Luggage
from harness.runs.executors.worker import Event, Tell, Told, load_compute
from harness.runs.plan import Cell
from harness.runs.plan.cells import remade
from harness.runs.plan.shipped import differences
from harness.runs.store import CellOutput, ModelStore, provenance
from harness.runs.store.cells import error_note, tensor_bytes

Files = Mapping[str, bytes]
"""The files of a model or of dictionaries, by their path in its folder."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Desk:
    """What all work of a run has in common, and where a worker does it."""

    compute: str  # "module:function"
    sent_by: Mapping[str, Any]  # what provenance says of the driver
    place: Path = Path()  # a folder of this run on a node, which all workers of the node share

    def at(self, place: Path) -> Desk:
        """The same on a node."""
        return replace(self, place=place)


@dataclass(frozen=True)
class Broken:
    """An error of the task: what the store keeps of it, and a line for messages."""

    note: Mapping[str, Any]
    text: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Computed:
    """A cell's output, with arrays as bytes of their files."""

    output: CellOutput
    provenance: Mapping[str, Any]
    seconds: float


def compute(
    desk: Desk,
    tell: Tell,
    cell: Cell,
    luggage: Luggage,
    model: Files | None,
    dictionaries: Files | None,
) -> Computed | Broken:
    """Compute a cell with a model and dictionaries that were made before (None: not trained)."""

    def work(models: ModelStore) -> Computed:
        _keep(models, cell.model_id, model)
        if cell.dictionaries is not None:
            _keep(models.dictionaries, cell.dictionaries.id, dictionaries)
        began = time.perf_counter()
        output = load_compute(desk.compute)(cell, models, _logger(tell, cell))
        models.forget_scratch(cell.id)
        files = {name: tensor_bytes(tensors) for name, tensors in output.tensors.items()}
        origin = provenance.collect(cell.runtime, desk.sent_by)
        return Computed(replace(output, tensors=files), origin, time.perf_counter() - began)

    return _attempt(desk, tell, cell, luggage, work)


def make_model(desk: Desk, tell: Tell, cell: Cell, luggage: Luggage) -> Files | Broken:
    """Train the model of a cell; the files of its folder."""

    def work(models: ModelStore) -> Files:
        _train(cell, models, tell)
        return models.read(cell.model_id).contents()

    return _attempt(desk, tell, cell, luggage, work)


def make_dictionaries(
    desk: Desk, tell: Tell, cell: Cell, luggage: Luggage, model: Files | None
) -> Files | Broken:
    """Train the dictionaries of a cell, of a model that was made before (None: not trained)."""
    from harness.runs.compute.dictionaries import dictionaries_of

    planned = cell.dictionaries
    assert planned is not None

    def work(models: ModelStore) -> Files:
        _keep(models, cell.model_id, model)
        dictionaries_of(cell, _train(cell, models, tell), models, _logger(tell, cell))
        return models.dictionaries.read(planned.id).contents()

    return _attempt(desk, tell, cell, luggage, work)


def _train(cell: Cell, models: ModelStore, tell: Tell) -> Any:
    from harness.datasets.open import open_data
    from harness.runs.compute.machine import use_runtime
    from harness.runs.compute.obtain import obtain_model

    use_runtime(cell.runtime)
    return obtain_model(cell, open_data(cell.task), models, _logger(tell, cell))


def _attempt(
    desk: Desk, tell: Tell, cell: Cell, luggage: Luggage, work: Callable[[ModelStore], Value]
) -> Value | Broken:
    began = time.perf_counter()
    try:
        tell(Event("start", cell.id))
        with _at(desk, luggage), shown_by(Told(tell, cell.id)):
            refuse_other_code(cell)
            return work(ModelStore(desk.place / "models"))
    except Exception as error:
        return Broken(error_note(error), described(error), time.perf_counter() - began)


@contextmanager
def _at(desk: Desk, luggage: Luggage) -> Iterator[None]:
    desk.place.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = desk.place / "files"
    luggage.unpack(root)
    with unpacked(root, [Path(folder) for folder in luggage.folders]):
        yield


def refuse_other_code(cell: Cell) -> None:
    """Refuse a cell that this machine's code, packages and files give another id (`HarnessError`).

    What is computed here would be other numbers under the same id.
    """
    here = remade(cell)
    if here.id != cell.id:
        different = "; ".join(differences(cell.identity, here.identity, ""))
        raise HarnessError(
            f"worker on {socket.gethostname()} gives this cell another id, so it runs other code: "
            f"{different}. Install there what is installed here"
        )


def _keep(models: ModelStore, model_id: str, files: Files | None) -> None:
    """Publish a model on this node, unless it has none or it is there."""
    if files is None or models.exists(model_id):
        return
    with models.lock(model_id):
        publish(models, model_id, files)


def publish(models: ModelStore, model_id: str, files: Files) -> None:
    """Store the files of a model that was made elsewhere, unless it is there; under its lock."""
    if models.exists(model_id):
        return
    draft = models.draft(model_id)
    for name, content in files.items():
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        write(draft / name, content)
    models.publish(model_id, draft)


def _logger(tell: Tell, cell: Cell) -> Callable[[str], None]:
    return lambda text: tell(Event("log", cell.id, text))
