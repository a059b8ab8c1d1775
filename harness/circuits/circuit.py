"""A circuit: a space, the elements it keeps, optional scores, and where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from harness.circuits.baseline import Baseline
from harness.circuits.space import Space
from harness.errors import HarnessError
from harness.metrics.sparsity import sparsity
from harness.spec.types import Ablation

if TYPE_CHECKING:
    import polars

    from harness.circuits.drawing.svg import SvgPicture


@dataclass(frozen=True)
class Circuit:
    """`kept` bool [E]; `scores` float [E] or None; `d_model` and `source` travel with files.

    `source` says what it was found on and how (task, model, method, cell …), as plain strings.
    `baseline`: what dropped elements carry, where these are constants that can be kept with it;
    `measured`: what was measured with it on the source's test pairs, by measure. `ties`: of one of
    channels, the weights between kept ones by source and target, None through the stream; for
    drawings, where they are known.
    """

    space: Space
    kept: Tensor
    scores: Tensor | None = None
    d_model: int = 0
    source: Mapping[str, str] = field(default_factory=dict)
    baseline: Baseline | None = None
    measured: Mapping[str, float] = field(default_factory=dict)
    ties: Mapping[tuple[str, str], float | None] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Elements kept."""
        return int(self.kept.sum())

    @property
    def sparsity(self) -> float:
        """Share of the space that the circuit does not use."""
        return sparsity(self.size, len(self.space))

    def pruned(self, ablation: Ablation) -> Circuit:
        """The same circuit without the elements that surely change no logit under an ablation."""
        return replace(self, kept=self.space.prune(self.kept, ablation))

    def elements(self) -> Iterator[str]:
        """Names of the kept elements, in the order of the files."""
        kept = self.kept.tolist()
        return (self.space.name(element) for element in self.space.listing() if kept[element])

    def ranked(self) -> Tensor:
        """The kept elements [n], of largest |score| first; without scores in their order."""
        kept = self.kept.nonzero().flatten()
        if self.scores is None:
            return kept
        strength = self.scores.double().abs().nan_to_num(posinf=inf)[kept]
        return kept[strength.argsort(descending=True, stable=True)]

    def strongest(self, n: int = 10) -> list[tuple[str, float]]:
        """The n kept elements of largest |score| with their scores, the strongest first.

        Raises `HarnessError` for a circuit without scores.
        """
        if self.scores is None:
            raise HarnessError("this circuit has no scores: nothing says which element is stronger")
        kept = self.kept.nonzero().flatten()
        order = self.scores[kept].abs().argsort(descending=True, stable=True)[:n]
        return [(self.space.name(e), float(self.scores[e])) for e in kept[order].tolist()]

    def nodes(self) -> list[str]:
        """Components of the model (heads, MLPs, …) that the circuit uses."""
        return [name for name, used in self.components().items() if used]

    def components(self) -> dict[str, bool]:
        """Every component of the model (head, MLP, …), and whether the circuit uses it."""
        return dict(zip(self.space.components, self.space.touched(self.kept).tolist(), strict=True))

    # ------------------------------------------------------------ to and from other forms
    def save(self, path: Path | str, *, mib: bool = False) -> None:
        """Write a file; its suffix says in which form (`harness.circuits.files`).

        `mib` chooses the form of EAP-IG and MIB for JSON; `.pt` always has it.
        """
        from harness.circuits.files import save_circuit

        save_circuit(self, Path(path), mib=mib)

    @classmethod
    def load(cls, path: Path | str) -> Circuit:
        """Read a file of any form. Raises `HarnessError` that names the file and the fault."""
        from harness.circuits.files import load_circuit

        return load_circuit(Path(path))

    def to_dataframe(self) -> polars.DataFrame:
        """All elements: `element`, `score` (null without scores), `kept`."""
        import polars as pl

        order = list(self.space.listing())
        scores = None if self.scores is None else self.scores[order].tolist()
        return pl.DataFrame(
            {
                "element": [self.space.name(element) for element in order],
                "score": scores or [None] * len(order),
                "kept": self.kept[order].tolist(),
            },
            schema={"element": pl.String(), "score": pl.Float64(), "kept": pl.Boolean()},
        )

    def to_networkx(self) -> Any:
        """The kept edges as a `networkx.MultiDiGraph`, from writer to reading node.

        Each edge has its `name`, `reads` (q, k, v or nothing) and `score` (or None). Raises
        `HarnessError` for circuits that are not made of edges.
        """
        from harness.circuits.edges.networks import to_networkx

        return to_networkx(self)

    def to_dot(self) -> str:
        """What is kept as a graph in the DOT language of Graphviz."""
        from harness.circuits.graphs.text import dot

        return dot(self)

    def to_graphml(self) -> str:
        """What is kept as a graph that networkx, Gephi, yEd and Cytoscape read."""
        from harness.circuits.graphs.text import graphml

        return graphml(self)

    # ------------------------------------------------------------ pictures
    def draw(self, other: Circuit | None = None, *, title: str | None = None) -> SvgPicture:
        """SVG of what is kept; with `other`, of what either keeps, coloured by which.

        The text is a picture in notebooks. Raises `HarnessError` for circuits of different spaces.
        """
        from harness.circuits.drawing.draw import draw

        return draw(self, other, title)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return str(self.draw())
