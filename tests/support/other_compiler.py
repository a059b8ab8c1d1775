"""Programs that another compiler turned into transformers: weights, prompts and facts as files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.datasets.pairs import PromptPairs
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer
from support.edge_by_edge import model_weights_from

PROGRAMS = ("reverse", "xproportion")


@dataclass(frozen=True)
class Published:
    """A program: its weights under TransformerLens names, prompts by length, and facts."""

    name: str
    weights: Mapping[str, np.ndarray]
    stored: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, reference_file: Callable[[str], Path]) -> Published:
        folder = reference_file("tracr")
        facts = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return cls(
            name,
            _arrays(folder / f"{name}_weights.npz"),
            _arrays(folder / f"{name}_pairs.npz"),
            facts,
        )

    def model(self) -> Transformer:
        config = self.facts["config"]
        names = ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "d_vocab", "n_ctx")
        shape = TransformerConfig(**{name: config[name] for name in names}, norm="none", bias=False,
                                  activation="relu", causal=False)  # fmt: skip
        assert not any(array.any() for name, array in self.weights.items() if ".b_" in name)
        model = Transformer(shape)
        arrays = model_weights_from(self.weights)
        # Fewer outputs than tokens: the other logits are 0.
        rows = np.zeros((shape.d_vocab, shape.d_model), dtype=np.float32)
        rows[: len(arrays["unembedding"])] = arrays["unembedding"]
        arrays["unembedding"] = rows
        model.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in arrays.items()})
        return model.requires_grad_(False)

    def pairs(self, lengths: tuple[int, ...]) -> PromptPairs:
        """Stored prompts, 32 of each length, read after BOS; answers do not matter here."""
        width = max(lengths) + 1

        def rows(name: str) -> np.ndarray:
            return np.concatenate(
                [
                    np.pad(self.stored[f"{name}_{n}"][:32], ((0, 0), (0, width - n - 1)))
                    for n in lengths
                ]
            )

        clean = rows("clean")
        sizes = np.concatenate(
            [np.full(len(self.stored[f"clean_{n}"][:32]), n + 1) for n in lengths]
        )
        columns = np.arange(1, width)
        positions = np.where(columns < sizes[:, None], columns, -1)
        good = np.ones((*positions.shape, 1), dtype=np.int64)
        return PromptPairs(clean, rows("corrupted"), sizes, positions, good, 0 * good)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}
