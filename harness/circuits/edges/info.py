"""What specs may ask of circuits made of edges."""

from __future__ import annotations

from harness.spec.granularity import GranularityInfo

NO_SPARSITY = (
    "granularity 'edge' is not available for models with activation_sparsity: what AbsTopK keeps "
    "is decided for all heads and writers together, so that no edge has a part of its own; use "
    "channels"
)

INFO = GranularityInfo(
    name="edge",
    unit="edges",
    components=("heads_qkv_mlps",),
    ablations=(
        "interchange",
        "mean",
        "mean_positional",
        "optimal",
        "zero",
        "resample",
        "mean_training",
    ),
    positions=("all", "per_token"),
    space="harness.circuits.edges.space:EdgeSpace.from_header",
    patchable="harness.circuits.edges.patchable:patchable",
    capabilities=frozenset({"edges"}),
)
