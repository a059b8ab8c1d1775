"""A bridge between the models of two specs: trained once into a folder, then steered.

The folder holds the sparse model in the harness's own form with the tokenizer of its corpus (a
`{kind: load, path: FOLDER}` spec names it, so that circuits of it can be found),
`bridge.safetensors`, and `bridge.json`: the ids of both models and the log of the training. While
it is trained there is a checkpoint to resume from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import __version__ as torch_version

from harness.bridges.bridge import Bridge
from harness.bridges.coupled import Coupled, CoupledCheckpoint, Prices, Terms, train_coupled
from harness.bridges.transfer import Carrier, Channel, Transfer, rank_channels, read_sites, transfer
from harness.circuits.files import load_circuit
from harness.datasets.batch import Batches
from harness.datasets.corpus import CorpusData, write_tokenizer
from harness.datasets.open import open_data
from harness.datasets.pairs import TaskData
from harness.disk import write
from harness.errors import HarnessError
from harness.models.checkpoint import load_model, save_model
from harness.models.config import TransformerConfig
from harness.models.fit import require_tokens
from harness.models.transformer import Transformer
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import held_out_of, obtain_model, training_data
from harness.runs.compute.prepare import TEST_SEED
from harness.runs.plan import Cell, ModelSource, make_cell
from harness.runs.store.models import ModelStore
from harness.spec.load import Loaded
from harness.spec.types import Method, Runtime, Task, TrainModel

_LABEL = Method(name="bridge", title="Two models", kind="random")
_BATCH = 64

_WEIGHTS, _NOTE = "bridge.safetensors", "bridge.json"
_CHECKPOINT = "training.safetensors"

Log = Callable[[str], None]


@dataclass(frozen=True)
class BridgeRequest:
    """Which models on which task, and what is carried over.

    `folder`: where the bridge is, or is written. `channel`: what to steer by; without it, the read
    channel that moves the sparse model most on discovery prompts, of those in the circuit file
    `circuit` if there is one.
    """

    task: Loaded[Task]
    dense: ModelSource
    sparse: ModelSource
    runtime: Runtime
    folder: Path
    channel: str | None = None
    circuit: Path | None = None
    strengths: Sequence[float] = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
    prices: Prices = field(default_factory=Prices)


def study_bridge(request: BridgeRequest, models: ModelStore, log: Log) -> dict[str, Any]:
    """Train the bridge or take it from its folder, and steer the dense model: plain JSON data.

    Raises `HarnessError` for models that no bridge fits, a folder of another bridge, and channels
    that there are not.
    """
    spec = request.sparse.spec
    if not isinstance(spec, TrainModel):
        raise HarnessError(
            f"the sparse model of a bridge is trained with it; {request.sparse.name!r} is of kind "
            f"{spec.kind!r}"
        )
    use_runtime(request.runtime)
    dense_cell, sparse_cell = (_cell(request, one) for one in (request.dense, request.sparse))
    data = open_data(dense_cell.task)
    dense = obtain_model(dense_cell, data, models, log)
    purpose = {
        "dense": dense_cell.model_id,
        "sparse": sparse_cell.model_id,
        "prices": {"nmse": request.prices.nmse, "kl": request.prices.kl},
    }
    if (request.folder / _NOTE).is_file():
        coupled = _read(request.folder, dense, purpose, log)
    else:
        taught = training_data(sparse_cell, data, models)
        request.folder.mkdir(parents=True, exist_ok=True)
        checkpoint = CoupledCheckpoint(
            request.folder / _CHECKPOINT, {**purpose, "torch": torch_version}
        )
        coupled = _trained(request, spec, taught, dense, log, checkpoint)
        if spec.corpus is not None:
            write_tokenizer(spec.corpus, request.sparse.folder, request.folder)
        _write(request.folder, coupled, purpose)
        checkpoint.path.unlink(missing_ok=True)
        log(f"wrote {request.folder}")
    return {
        "schema_version": 1,
        "task": request.task.spec.name,
        **purpose,
        "dense_name": request.dense.name,
        "sparse_name": request.sparse.name,
        "history": coupled.history,
        "transfer": _steered(request, data, dense, coupled),
    }


def _cell(request: BridgeRequest, source: ModelSource) -> Cell:
    return make_cell(request.task, source, _LABEL, "method", 0, request.runtime)


def _trained(
    request: BridgeRequest,
    spec: TrainModel,
    taught: TaskData | CorpusData,
    dense: Transformer,
    log: Log,
    checkpoint: CoupledCheckpoint,
) -> Coupled:
    """The sparse model, trained on what its spec says: both models run on these texts."""
    if taught.longest > dense.config.n_ctx:
        raise HarnessError(
            f"the sparse model is trained on up to {taught.longest} tokens, and the dense one "
            f"takes {dense.config.n_ctx}; a bridge runs both on the same texts"
        )
    config = TransformerConfig.from_architecture(
        spec.architecture, taught.tokenizer.size, taught.longest, dense.config.d_vocab_out
    )
    held_out = held_out_of(spec, taught)
    return train_coupled(
        dense,
        config,
        spec.training,
        spec.sparsity,
        taught,
        held_out,
        log,
        request.prices,
        checkpoint,
    )


# ---------------------------------------------------------------- the folder
def _write(folder: Path, coupled: Coupled, purpose: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_model(coupled.model, folder)
    tensors = {name: one.detach().cpu() for name, one in coupled.bridge.state_dict().items()}
    write(folder / _WEIGHTS, save(tensors))
    note = {"purpose": purpose, "history": coupled.history}
    write(folder / _NOTE, f"{json.dumps(note, indent=1, allow_nan=False)}\n".encode())


def _read(folder: Path, dense: Transformer, purpose: dict[str, Any], log: Log) -> Coupled:
    path = folder / _NOTE
    try:
        note = json.loads(path.read_text())
        held, history = note["purpose"], note["history"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HarnessError(f"{path}: not the note of a bridge: {error}") from error
    if held != purpose:
        raise HarnessError(
            f"{folder} holds a bridge between other models, or of other prices; remove it, or name "
            "another folder"
        )
    device = dense.embedding.device
    model = load_model(folder, "harness", device=device.type)
    bridge = Bridge(dense.config, model.config)
    try:
        bridge.load_state_dict(load_file(folder / _WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise HarnessError(f"{folder / _WEIGHTS}: not the weights of this bridge") from error
    log(f"the bridge is in {folder}")
    return Coupled(model, bridge.to(device).requires_grad_(False), history)


# ---------------------------------------------------------------- steering
def _steered(
    request: BridgeRequest, data: TaskData, dense: Transformer, coupled: Coupled
) -> dict[str, Any]:
    choices, device = request.task.spec.evaluation, request.runtime.device
    learned_from = data.pairs("train", choices.discovery_pairs, 0, at_most=True)
    fresh = data.pairs("test", choices.test_pairs, TEST_SEED, at_most=True)
    require_tokens(coupled.model.config, fresh)
    seen, tested = (tuple(Batches(one, _BATCH, device)) for one in (learned_from, fresh))
    carrier = Carrier.over(dense, coupled.model, coupled.bridge, seen)
    if request.channel is not None:
        channel = Channel.parse(request.channel, coupled.model)
    else:
        channel = rank_channels(coupled.model, seen, _among(request, coupled.model))[0]
    return _record(transfer(carrier, channel, tested, request.strengths), len(fresh))


def _among(request: BridgeRequest, sparse: Transformer) -> list[Channel] | None:
    """The read channels that a circuit file keeps; None without one."""
    if request.circuit is None:
        return None
    circuit, reads = load_circuit(request.circuit), read_sites(sparse)
    chosen = [name for name in circuit.elements() if name.rpartition(".")[0] in reads]
    if not chosen:
        raise HarnessError(f"{request.circuit} keeps no channel that reads the stream")
    return [Channel.parse(name, sparse) for name in chosen]


def _record(one: Transfer, n: int) -> dict[str, Any]:
    effects = {
        "steered": one.steered,
        "random_channel": one.random_channel,
        "random_direction": one.random_direction,
    }
    return {
        "channel": str(one.channel),
        "n": n,
        "strengths": list(one.strengths),
        **{
            name: {"partner": effect.partner.tolist(), "own": effect.own.tolist()}
            for name, effect in effects.items()
        },
        "strongest_random_channel": one.strongest.tolist(),
    }


TERMS = Terms._fields
"""Names of the couplings in an entry of the log."""
