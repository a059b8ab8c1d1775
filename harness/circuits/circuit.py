"""A circuit: a graph, the edges it keeps, optional scores, and where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from harness.circuits.edges.graph import Graph
from harness.circuits.edges.select import prune
from harness.spec.types import Ablation


@dataclass(frozen=True)
class Circuit:
    """`kept` bool [W, R]; `scores` float [W, R] or None; `d_model` and `source` travel with files.

    Both are [T, W, R] where each position has its own edges.
    `source` says what it was found on and how (task, model, method, cell …), as plain strings.
    """

    graph: Graph
    kept: Tensor
    scores: Tensor | None = None
    d_model: int = 0
    source: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Edges kept."""
        return int(self.kept.sum())

    @property
    def sparsity(self) -> float:
        """Share of the graph's edges that the circuit does not use."""
        return 1 - self.size / self.graph.n_edges

    def pruned(self, ablation: Ablation) -> Circuit:
        """The same circuit without the edges that surely change no logit under an ablation."""
        kept = prune(self.kept, self.graph, ablation)
        return Circuit(self.graph, kept, self.scores, self.d_model, self.source)

    def edges(self) -> Iterator[str]:
        """Names of the kept edges, in the order of the field's files."""
        kept = self.kept.cpu().numpy()
        for edge in self.graph.edges():
            if kept[edge]:
                yield self.graph.edge_name(*edge)

    def nodes(self) -> dict[str, bool]:
        """Every node, `logits` last, and whether any kept edge touches it (at any position)."""
        kept = self.graph.by_place(self.kept).any(0)
        touched = self.graph.owners[kept.any(0)].any(0)
        touched[:-1] |= kept.any(1)
        return dict(zip((*self.graph.writers, "logits"), touched.tolist(), strict=True))
