"""What specs may ask of circuits made of edges."""

from __future__ import annotations

from harness.spec.granularity import GranularityInfo

INFO = GranularityInfo(
    name="edge",
    unit="edges",
    components=("heads_qkv_mlps",),
    ablations=("interchange", "mean", "mean_positional", "optimal", "zero", "resample"),
    positions=("all", "per_token"),
    space="harness.circuits.edges.space:EdgeSpace.from_header",
    patchable="harness.circuits.edges.patchable:patchable",
    capabilities=frozenset({"edges"}),
)
