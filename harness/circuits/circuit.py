"""A circuit: a space, the elements it keeps, optional scores, and where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from harness.circuits.space import Space
from harness.spec.types import Ablation


@dataclass(frozen=True)
class Circuit:
    """`kept` bool [E]; `scores` float [E] or None; `d_model` and `source` travel with files.

    `source` says what it was found on and how (task, model, method, cell …), as plain strings.
    """

    space: Space
    kept: Tensor
    scores: Tensor | None = None
    d_model: int = 0
    source: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Elements kept."""
        return int(self.kept.sum())

    @property
    def sparsity(self) -> float:
        """Share of the space that the circuit does not use."""
        return 1 - self.size / len(self.space)

    def pruned(self, ablation: Ablation) -> Circuit:
        """The same circuit without the elements that surely change no logit under an ablation."""
        return replace(self, kept=self.space.prune(self.kept, ablation))

    def elements(self) -> Iterator[str]:
        """Names of the kept elements, in the order of the files."""
        kept = self.kept.tolist()
        return (self.space.name(element) for element in self.space.listing() if kept[element])

    def components(self) -> dict[str, bool]:
        """Every component of the model (head, MLP, …), and whether the circuit uses it."""
        return dict(zip(self.space.components, self.space.touched(self.kept).tolist(), strict=True))
