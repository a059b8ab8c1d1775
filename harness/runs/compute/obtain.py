"""Obtain the model of a cell: trained (once, then cached, or shipped), loaded or compiled."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from harness import ranks
from harness.datasets.classes import classes_of
from harness.datasets.corpus import CorpusData, open_corpus
from harness.datasets.corpus.open import unfit_corpus
from harness.datasets.generators.python_code.questions import questions
from harness.datasets.kinds import kind_of
from harness.datasets.open import open_data
from harness.datasets.pairs import TaskData, unfit
from harness.disk import write
from harness.errors import HarnessError
from harness.models.checkpoint import load_model, save_model
from harness.models.compile.assemble import Compiled, compile_program
from harness.models.config import TransformerConfig
from harness.models.fit import length_problem, outputs_problem
from harness.models.loading.location import checkpoint_folder
from harness.models.precision import at_least_single
from harness.models.training.data import HeldOut, HeldOutPairs
from harness.models.training.sequences import held_out_sequences
from harness.models.training.texts import HeldOutTexts
from harness.models.training.trainer import Trainer
from harness.models.transformer import Transformer
from harness.runs.compute.machine import use_precision
from harness.runs.plan import Cell
from harness.runs.plan.processes import require_processes
from harness.runs.plan.shipped import weights_folder
from harness.runs.store.models import ModelStore
from harness.spec.types import CompileModel, LoadModel, TrainModel

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

QUESTION_PAIRS = 16
"""Pairs of each question about Python that a training on a corpus is asked at every evaluation."""

VALIDATION_PAIRS = 512
"""Held-out pairs that decide early stopping; fewer where the split has fewer."""

VALIDATION_SEQUENCES = 256
"""Whole held-out sequences that the training log measures, of tasks that have them."""

Log = Callable[[str], None]


def obtain_model(cell: Cell, data: TaskData, models: ModelStore, log: Log) -> Transformer:
    """The cell's model, frozen, on its device and in its precision.

    In half precision a trained model is one trained in float32, rounded. With `runtime.shards` each
    process has its share of the weights; process 0 alone trains, and has them all while it does.
    """
    runtime = cell.runtime
    mesh, dtype = _mesh(cell), getattr(torch, runtime.dtype)
    if isinstance(cell.model, LoadModel):
        folder = checkpoint_folder(cell.model, cell.model_folder)
        model = load_model(
            folder,
            cell.model.format,
            dtype=dtype,
            device=runtime.device,
            without_tokens=cell.model.without_tokens or (),
            mesh=mesh,
        )
        require_fit(model, data)
    elif isinstance(cell.model, CompileModel):
        model = compiled_of(cell, cell.model).model
    elif cell.model.weights is not None:
        training_data(cell, data)  # refuses a task that the model was not trained for
        folder = weights_folder(cell.model, cell.model_folder)
        model = load_model(folder, "harness", dtype=dtype, device=runtime.device, mesh=mesh)
        require_fit(model, data)
    else:
        taught = training_data(cell, data, models)
        with ranks.turns("training a model"), models.lock(cell.model_id):
            if models.exists(cell.model_id):
                log(f"model {cell.model_name} [{cell.model_id[:12]}] is in the cache")
            else:
                require_first(f"model {cell.model_name}", models)
                _train(cell, cell.model, taught, models, log)
        models.verify(cell.model_id)
        folder = models.path(cell.model_id)
        model = load_model(folder, dtype=dtype, device=runtime.device, mesh=mesh)
    return model.to(runtime.device, dtype).requires_grad_(False).eval()


def _mesh(cell: Cell) -> DeviceMesh | None:
    """The processes over which a model's weights lie; None where each has all.

    Raises `HarnessError` where there are not so many processes.
    """
    runtime = cell.runtime
    if runtime.shards == 1:
        return None
    require_processes([cell], ranks.world())
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(runtime.device, (runtime.shards,))


def require_first(what: str, models: ModelStore) -> None:
    """Refuse to train in a process that should find what the first one trained (`HarnessError`)."""
    if not ranks.is_first():
        raise HarnessError(
            f"process {ranks.rank()} does not find {what} in {models.root}, where process 0 keeps "
            "it: processes that share prompts need one results folder that all of them see"
        )


def compiled_of(cell: Cell, spec: CompileModel) -> Compiled:
    """The compiled program of a cell's task; never stored, since compiling takes milliseconds.

    Raises `HarnessError` if the task has no program.
    """
    data = cell.task.spec.data
    program = kind_of(data).program
    if program is None:
        raise HarnessError(
            f"task {cell.task.spec.name!r} has no program to compile a model from (its data are of "
            f"kind {data.kind!r}); choose another model"
        )
    return compile_program(program(data), spec.hardness)


def require_fit(model: Transformer, data: TaskData) -> None:
    """Refuse a task with too long prompts or other answers than the model has (`HarnessError`).

    Its tokens are looked at where prompts are drawn (`harness.models.fit`).
    """
    require_outputs(model, data)
    if problem := length_problem(model.config, data.longest):
        raise HarnessError(problem)


def require_outputs(model: Transformer, data: TaskData) -> None:
    """Refuse a task whose answers are not the model's outputs (`HarnessError`)."""
    if problem := outputs_problem(model.config, data):
        raise HarnessError(problem)


def training_data(
    cell: Cell, data: TaskData, models: ModelStore | None = None
) -> TaskData | CorpusData:
    """What the cell's model is trained on: the task's own data, or others that fit it.

    `models`: where the tokens of a corpus are kept. Raises `HarnessError` if a model of these data
    cannot do the cell's task.
    """
    if isinstance(cell.model, TrainModel) and cell.model.corpus is not None:
        corpus, folder = cell.model.corpus, cell.model_folder
        if text := unfit_corpus(corpus, folder, data):
            raise HarnessError(text)
        return open_corpus(corpus, folder, None if models is None else models.root)
    if cell.trained_on is None:
        return data
    taught = open_data(cell.trained_on)
    if text := unfit(taught, data):
        raise HarnessError(
            f"a model of task {cell.trained_on.spec.name!r} cannot do task "
            f"{cell.task.spec.name!r}: {text}"
        )
    return taught


def held_out_of(spec: TrainModel, data: TaskData | CorpusData) -> HeldOut:
    """What a model of a spec is judged by while it is trained on its `training_data`."""
    seed = spec.training.seed
    if isinstance(data, CorpusData):
        asked = spec.corpus is not None and spec.corpus.questions
        return HeldOutTexts(
            data.held_out(),
            questions(data.tokenizer, data.longest, QUESTION_PAIRS) if asked else {},
        )
    return HeldOutPairs(
        data.pairs("validation", VALIDATION_PAIRS, seed, at_most=True),
        held_out_sequences(data, "validation", VALIDATION_SEQUENCES, seed),
    )


def _train(
    cell: Cell, spec: TrainModel, data: TaskData | CorpusData, models: ModelStore, log: Log
) -> None:
    classes = classes_of(data)
    config = TransformerConfig.from_architecture(
        spec.architecture,
        data.tokenizer.size,
        data.longest,
        None if classes is None else classes.size,
    )
    began = time.perf_counter()
    log(f"training model {cell.model_name} [{cell.model_id[:12]}]")
    use_precision(spec.training.precision, cell.runtime.device, "training.precision")
    trainer = Trainer(
        config,
        spec.training,
        data,
        held_out_of(spec, data),
        scratch=models.scratch(cell.model_id),
        log=log,
        sparsity=spec.sparsity,
        device=cell.runtime.device,
        dtype=at_least_single(getattr(torch, cell.runtime.dtype)),
    )
    model, history = trainer.run()
    seconds = time.perf_counter() - began
    folder = models.draft(cell.model_id)
    save_model(model, folder)
    note = {
        "identity": dict(cell.identity)["model"],
        "history": history,
        "threads": cell.runtime.threads,
    }
    if spec.sparsity is not None:
        note["budgets"] = {
            name: {"entries": budget.entries, "nonzeros": budget.at(spec.sparsity, 1)}
            for name, budget in trainer.optimiser.budgets.items()
        }
    write_note(folder / "training.json", note)
    # Time of the run that finished the training; that of earlier, killed runs is not included.
    write_note(folder / "timing.json", {"seconds": seconds})
    models.publish(cell.model_id, folder)
    log(f"trained model {cell.model_name} in {seconds:.0f} s, {len(history)} evaluations")


def write_note(path: Path, content: object) -> None:
    """Write what is kept beside trained weights: JSON of one form for equal contents."""
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    write(path, f"{text}\n".encode())
