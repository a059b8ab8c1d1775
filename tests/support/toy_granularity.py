"""A granularity that can be named, whose elements are no edges; it has no code."""

from __future__ import annotations

from harness.spec.granularity import GranularityInfo

TOY = GranularityInfo("toy", "parts", ("parts",), ("zero",), ("all",), "", "")
WHERE = "support.toy_granularity:TOY"
