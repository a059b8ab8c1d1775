"""How large a model is, and about how long one pass of it takes: read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.datasets.locate import find
from harness.datasets.open import open_data
from harness.discovery.info import Extent
from harness.discovery.registry import info_of
from harness.runs.plan import Cell
from harness.runs.store.record import PlannedCell
from harness.spec.schema.params import completed_params
from harness.spec.types import CompileModel, LoadModel, TrainModel

KERNEL_SECONDS = 0.0015
"""Of a layer's kernels, forward and backward, for one batch however small."""

FLOPS = 3e10
"""Multiply-adds and additions of a core's forward and backward in a second, roughly."""

BATCH = 128

COMPILED_MIB = 1.0


@dataclass(frozen=True)
class Shape:
    """Sizes of a transformer; `tokens`: of its longest prompt."""

    layers: int
    heads: int
    groups: int
    d_model: int
    d_mlp: int
    vocab: int
    tokens: int
    gated: bool = False

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Shape | None:
        """From a config.json in our names or Hugging Face's; None if it says too little."""
        config = {**config, **config.get("text_config", {})}

        def first(*names: str) -> int | None:
            values = (config.get(name) for name in names)
            return next((x for x in values if isinstance(x, int) and x > 0), None)

        layers = first("n_layers", "n_layer", "num_hidden_layers")
        heads = first("n_heads", "n_head", "num_attention_heads")
        width = first("d_model", "n_embd", "hidden_size")
        vocab = first("d_vocab", "vocab_size")
        if not (layers and heads and width and vocab):
            return None
        groups = first("n_key_value_heads", "num_key_value_heads") or heads
        mlp = first("d_mlp", "n_inner", "intermediate_size") or 4 * width
        if config.get("d_mlp") == 0 or config.get("attn_only") is True:
            mlp = 0
        tokens = min(first("n_ctx", "max_position_embeddings") or 32, 32)
        gated = bool(config.get("gated")) or "rms_norm_eps" in config
        return cls(layers, heads, groups, width, mlp, vocab, tokens, gated)

    @property
    def matrices(self) -> int:
        """Weights in the layers' matrices."""
        attention = 2 * self.d_model**2 * (1 + self.groups / self.heads)
        mlp = (3 if self.gated else 2) * self.d_model * self.d_mlp
        return int(self.layers * (attention + mlp))

    def weights_mib(self, shards: int = 1) -> float:
        """Of the weights in float32; in shards, of a process's share and of one whole layer."""
        matrices = self.matrices / shards + (0 if shards == 1 else self.matrices / self.layers)
        return (matrices + 2 * self.vocab * self.d_model) * 4 / 2**20

    @property
    def writers(self) -> int:
        """Components that add to the residual stream."""
        return 1 + self.layers * self._of_a_layer

    @property
    def _of_a_layer(self) -> int:
        return self.heads + (1 if self.d_mlp else 0)

    @property
    def edges(self) -> int:
        """Of the graph of heads (their queries, keys and values apart) and MLPs."""
        total = self.writers
        for layer in range(self.layers):
            before = 1 + layer * self._of_a_layer
            total += before * (self.heads + 2 * self.groups)
            total += before + self.heads if self.d_mlp else 0
        return total


def shape_of(cell: Cell) -> Shape | None:
    """The shape of a cell's model; None where its files are not there or do not say.

    Raises `HarnessError` for a task that cannot be opened.
    """
    model = cell.model
    if isinstance(model, TrainModel):
        data, own = open_data(cell.task), model.architecture
        groups = own.n_key_value_heads or own.n_heads
        mlp = 4 * own.d_model if own.d_mlp is None else own.d_mlp
        sizes = (own.n_layers, own.n_heads, groups, own.d_model, mlp)
        return Shape(*sizes, data.tokenizer.size, data.longest, own.gated)
    if isinstance(model, CompileModel):
        data = open_data(cell.task)
        return Shape(4, 2, 2, 64, 128, data.tokenizer.size, data.longest)  # about
    return _loaded(model, cell)


def _loaded(model: LoadModel, cell: Cell) -> Shape | None:
    folder = find(model.path, cell.model_folder) if model.path else None
    try:
        config = json.loads((folder / "config.json").read_bytes()) if folder else None
    except (OSError, ValueError):
        return None  # reported by validation
    return Shape.of_config(config) if isinstance(config, dict) else None


@dataclass(frozen=True)
class CodedSites:
    """Sites that dictionaries are of: features of all together, and their matrices' entries."""

    sites: int
    features: int
    weights: int

    @classmethod
    def of(cls, spec: Mapping[str, Any], shape: Shape) -> CodedSites | None:
        """From the identity of a spec of dictionaries; None for loaded ones, which do not say."""
        if "dictionary" not in spec:
            return None
        each = int(spec["dictionary"]["features"])
        widths: list[int] = []
        for name in spec["sites"]:
            width = shape.d_mlp if name.endswith(".hidden") else shape.d_model
            widths += [width] * (shape.layers if name in ("attention", "mlp") else 1)
        return cls(len(widths), each * len(widths), 2 * each * sum(widths))


def coded_sites(one: Cell | PlannedCell, shape: Shape) -> CodedSites | None:
    """Those of a cell's dictionaries; None for circuits of anything else, and loaded ones."""
    dictionaries = one.identity.get("dictionary")
    return None if dictionaries is None else CodedSites.of(dictionaries["dictionary"], shape)


def elements_of(one: Cell | PlannedCell, shape: Shape) -> int:
    """Elements of a cell's space; of edges where it is not known."""
    evaluation = one.identity["task"]["evaluation"]
    if evaluation["granularity"] == "channel":
        shared = shape.d_model * shape.groups // shape.heads
        of_a_layer = shape.d_model + shape.d_mlp  # neurons: what heads write, and hidden layers
        if evaluation["component"] == "channels":
            of_a_layer += 2 * shape.d_model + 2 * shared + (2 * shape.d_model if shape.d_mlp else 0)
            return shape.layers * of_a_layer + shape.d_model
        return shape.layers * of_a_layer
    coded = coded_sites(one, shape)
    return shape.edges if coded is None else coded.features


def pass_seconds(shape: Shape, pairs: int, coded: CodedSites | None = None) -> float:
    """Seconds of a plain forward and backward of so many prompts, before any measurement.

    `coded`: sites whose values are coded and decoded on the way.
    """
    batches = -(-pairs // BATCH)
    weights = shape.matrices + shape.d_model * shape.vocab
    if coded is not None:
        weights += coded.weights
    multiply_adds = 6 * weights * pairs * shape.tokens
    return batches * (shape.layers + 1) * KERNEL_SECONDS + multiply_adds / FLOPS


def dictionary_seconds(shape: Shape, identity: Mapping[str, Any]) -> float:
    """Seconds in which dictionaries are made of a model's activations; at most, with a target.

    `identity`: that of the spec. Each token is ten multiplications of features and width; the
    model's own run is a third of a pass, once for all uses of an activation.
    """
    coded = CodedSites.of(identity, shape)
    training = identity.get("training")
    if coded is None:
        return 0.0
    tokens = int(identity["tokens"] if training is None else training["tokens"])
    uses = 1 if training is None else int(training["buffer_uses"])
    run = pass_seconds(shape, max(1, tokens // shape.tokens)) / 3 / uses
    if training is None:
        return run
    through = int(training.get("finetune_tokens", 0))
    passes = pass_seconds(shape, -(-through // shape.tokens), coded=coded) if through else 0.0
    return run + 5 * coded.weights * tokens / FLOPS + passes


def passes_of(one: Cell | PlannedCell, shape: Shape | None) -> float | None:
    """Plain forward+backwards of a cell's method; None where it does not say."""
    part = one.identity["method"]
    info = info_of(part["kind"])
    if shape is None or info is None or info.passes is None:
        return None
    evaluation = one.identity["task"]["evaluation"]
    pairs = min(evaluation["discovery_pairs"], one.limit or evaluation["discovery_pairs"])
    wanted = [evaluation.get(name) for name in ("sizes", "counts", "targets")]
    circuits = max(len(asked) for asked in wanted if asked) if any(wanted) else 1
    if evaluation.get("key_value_edges") == "per_head":
        shape = replace(shape, groups=shape.heads)
    extent = Extent(elements_of(one, shape), shape.writers, shape.layers, pairs, circuits)
    params = completed_params("method", part["kind"], part.get("params", {}))
    search = (part.get("selection") or {}).get("search")
    trials = 1 if search is None else search["trials"]
    return float(trials * info.passes({**info.defaults, **params}, extent))
