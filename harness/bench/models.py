"""The shape of the model that the bench measures; its weights are random.

Shapes come from the bench's own list, from specs that state an architecture, and from folders with
a `config.json`. Nothing is trained, and no weights are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.bench.rows import BUILT_IN
from harness.datasets.locate import locate
from harness.errors import HarnessError, NotFound
from harness.models.config import GPT2_SMALL, Rotary, TransformerConfig
from harness.models.loading.folder import CONFIG
from harness.models.loading.read import config_of_folder
from harness.models.transformer import Transformer
from harness.spec.load import Library
from harness.spec.types import LoadModel, TrainModel

VOCABULARY = 512
"""Vocabulary size of a model that a spec describes; in training it depends on the task."""

_LLAMA: dict[str, Any] = {
    "norm": "rmsnorm",
    "positions": "rotary",
    "activation": "silu",
    "gated": True,
    "bias": False,
}

MODELS = {
    "gpt2-small-random": GPT2_SMALL,
    "small-random": TransformerConfig(
        n_layers=4, n_heads=4, d_model=128, d_head=32, d_mlp=512, d_vocab=512, n_ctx=64
    ),
    "codellama-13b-random": TransformerConfig(
        n_layers=40,
        n_heads=40,
        d_model=5120,
        d_head=128,
        d_mlp=13824,
        d_vocab=32016,
        n_ctx=16384,
        rotary=Rotary(base=1e6),
        **_LLAMA,
    ),
    "llama3-8b-random": TransformerConfig(
        n_layers=32,
        n_heads=32,
        n_key_value_heads=8,
        d_model=4096,
        d_head=128,
        d_mlp=14336,
        d_vocab=128256,
        n_ctx=8192,
        rotary=Rotary(base=5e5),
        **_LLAMA,
    ),
}


def shape_of(model: str, length: int) -> TransformerConfig:
    """The shape of a named model, a spec or a folder, for prompts of `length` tokens.

    Raises `NotFound` for anything else, `HarnessError` for a model whose shape is known only once
    it is compiled or downloaded, and for prompts beyond its context.
    """
    if model in MODELS:
        config = MODELS[model]
    elif (Path(model) / CONFIG).is_file():
        config = config_of_folder(Path(model))
    else:
        config = _of_spec(model, length)
    if length > config.n_ctx:
        raise HarnessError(f"model {model!r} takes {config.n_ctx} tokens, not {length}")
    return config


def _of_spec(model: str, length: int) -> TransformerConfig:
    try:
        loaded = Library().model(model)
    except NotFound as error:
        raise NotFound(
            f"no model {model!r} to bench: it is none of {', '.join(BUILT_IN)}, no folder with a "
            f"{CONFIG}, and {error}"
        ) from error
    spec = loaded.spec
    if isinstance(spec, TrainModel):
        return TransformerConfig.from_architecture(spec.architecture, VOCABULARY, length)
    if isinstance(spec, LoadModel) and spec.path is not None:
        return config_of_folder(locate(spec.path, loaded.folder), spec.format)
    raise HarnessError(
        f"model {model!r} is of kind {spec.kind!r}, whose shape is not known before it is "
        f"{'downloaded; give the folder of a copy' if spec.kind == 'load' else 'compiled'}"
    )


def count_parameters(config: TransformerConfig) -> int:
    """The number of parameters of a model, without allocating them."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in Transformer(config).parameters())
