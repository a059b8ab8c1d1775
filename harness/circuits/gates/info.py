"""What specs may ask of circuits made of channels."""

from __future__ import annotations

from harness.spec.granularity import GranularityInfo

INFO = GranularityInfo(
    name="channel",
    unit="channels",
    components=("channels", "neurons"),
    ablations=("mean_training", "mean", "mean_positional", "zero", "interchange", "resample"),
    positions=("all",),
    space="harness.circuits.gates.space:GatedSpace.from_header",
    patchable="harness.circuits.gates.channels:patchable",
)
