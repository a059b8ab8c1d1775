"""What specs may ask of circuits made of a dictionary's features."""

from __future__ import annotations

from harness.spec.granularity import DICTIONARIES, GranularityInfo

INFO = GranularityInfo(
    name="feature",
    unit="features",
    components=("features", "features_and_errors", "features_without_errors"),
    ablations=("interchange", "mean_positional", "mean", "mean_training", "zero", "resample"),
    positions=("all",),
    space="harness.circuits.gates.space:GatedSpace.from_header",
    patchable="harness.circuits.gates.features:patchable",
    capabilities=frozenset({DICTIONARIES}),
)
