"""`harness features`: labels of a tiny dictionary of a tiny model, beside its baselines."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest

MODEL = """\
spec_version: 1
name: tiny
title: Tiny
kind: train
task: othello_moves
architecture: {n_layers: 1, n_heads: 2, d_model: 16}
training: {objective: answer, steps: 10, batch_size: 16}
"""
DICTIONARY = """\
spec_version: 1
name: codes
title: Codes
kind: train
task: othello_moves
model: tiny
dictionary: {features: 24, k: 4}
training: {tokens: 12000, batch_tokens: 512, buffer_tokens: 4096}
"""
SMALL = ("--tokens", "9000", "--label-tokens", "9000", "--held-out", "40")


@pytest.fixture
def tiny(measuring: Any) -> Any:
    measuring.write("specs/models/tiny.yaml", MODEL)
    measuring.write("specs/dictionaries/codes.yaml", DICTIONARY)
    return measuring


def test_labels_coverage_probes_and_panels(tiny: Any) -> None:
    asked = ("features", "codes", *SMALL, "--output", "out", "--panels", "2")
    assert "--train trains and keeps them" in tiny(*asked, code=2).stderr
    text = tiny(*asked, "--train").stdout
    report = json.loads((tiny.folder / "out/features.json").read_text())
    names = [one["name"] for one in report["subjects"]]
    assert names == [
        "a0.out",
        "m0.out",
        "m0.hidden (neurons)",
        "a0.out (random)",
        "m0.out (random)",
    ]
    assert all(name in text for name in names)
    assert [one["site"] for one in report["probes"]] == ["a0.stream", "m0.stream"]
    for one in report["subjects"]:
        confirmed = [label for label in one["labels"] if label["confirmed"]]
        assert one["confirmed"] == len(confirmed) == sum(one["by_family"].values())
        assert one["confirmed"] <= one["chosen"] <= one["precise"] <= one["features"]
        assert all(label["precision"] >= 0.95 for label in confirmed)
        assert all(0 <= share <= 1 for share in one["coverage"].values())
        assert set(one["rebuilt"]) == {"mine", "theirs", "legal"}
    assert [one["kind"] for one in report["together"]] == ["features", "neurons", "random"]
    assert "all sites (neurons)" in text
    assert report["probes"][0]["f1"]["empty"] > 0.5
    for panel in report["panels"]:
        svg = (tiny.folder / f"out/{panel['site']}.{panel['feature']}.svg").read_text()
        assert panel["label"] in "".join(ET.fromstring(svg).itertext())
        assert sum(panel["positions"]) == panel["tokens"]
    assert report["panels"]


def test_some_sites_alone(tiny: Any) -> None:
    asked = ("features", "codes", *SMALL, "--train", "--no-baselines", "--json")
    report = json.loads(tiny(*asked, "--sites", "m0").stdout)
    assert [one["name"] for one in report["subjects"]] == ["m0.out"]
    assert report["probes"] == []
    said = tiny(*asked, "--sites", "a7", code=2).stderr
    assert "no dictionary of site 'a7'; there are a0.out, m0.out" in said
