"""`harness analyse`: names from a report or measured now, tables, pictures, refusals."""

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
training: {objective: answer, steps: 2, batch_size: 8}
"""
DICTIONARY = """\
spec_version: 1
name: codes
title: Codes
kind: train
task: othello_moves
model: tiny
dictionary: {features: 16, k: 4}
training: {tokens: 2000, batch_tokens: 256, buffer_tokens: 1024}
"""
SMALL = ("--label-tokens", "2000", "--held-out", "20", "--loose", "0")


@pytest.fixture
def tiny(measuring: Any) -> Any:
    measuring.write("specs/models/tiny.yaml", MODEL)
    measuring.write("specs/dictionaries/codes.yaml", DICTIONARY)
    larger = DICTIONARY.replace("codes", "more").replace("features: 16", "features: 24")
    measuring.write("specs/dictionaries/more.yaml", larger)
    return measuring


@pytest.mark.slow
def test_names_come_from_a_report_or_are_measured(tiny: Any) -> None:
    asked = ("analyse", "flow", "codes", "--sequences", "1")
    assert "--train trains and keeps them" in tiny(*asked, *SMALL, code=2).stderr
    now = json.loads(tiny(*asked, *SMALL, "--train", "--json").stdout)
    named = ("--tokens", "2000", "--label-tokens", "2000", "--held-out", "20", "--output", "named")
    tiny("features", "codes", *named, "--no-baselines", "--panels", "0")
    read = json.loads(tiny(*asked, "--labels", "named", "--loose", "0", "--json").stdout)
    assert read["tables"] == now["tables"]
    assert read["named"]["in_all"] == now["named"]["in_all"] > 0
    text = tiny(*asked, "--labels", "named", "--output", "out").stdout
    report = json.loads((tiny.folder / "out/flow.json").read_text())
    assert all(f"{table['title']}:" in text for table in report["tables"])
    for table in report["tables"]:
        every = [
            row[1:] if table["title"].startswith("Into logits") else row[-1:]
            for row in table["rows"]
        ]
        assert sum(sum(row) for row in every) == pytest.approx(1)
    assert ET.fromstring((tiny.folder / "out/flow.svg").read_text()).tag.endswith("svg")


def test_an_unknown_family_is_refused_before_anything_is_trained(tiny: Any) -> None:
    said = tiny("analyse", "ov", "codes", "--family", "bogus", "--train", *SMALL, code=2).stderr
    assert "unknown family of concepts 'bogus'; known: move, move and flip, flipped, mine," in said
    assert "training" not in said


@pytest.mark.slow
def test_what_cannot_be_analysed_is_refused(tiny: Any) -> None:
    said = tiny("analyse", "splits", "codes", "--train", *SMALL, code=2).stderr
    assert "is of several dictionaries of one model; 1 are named" in said
    said = tiny("analyse", "flow", "codes", "more", *SMALL, code=2).stderr
    assert "is of one dictionary; 2 are named" in said
    text = tiny("analyse", "splits", "codes", "more", "--train", *SMALL, "--sequences", "3").stdout
    assert "Features of codes that split in more" in text
    tiny.write("named/features.json", '{"dictionary_id": "0123456789abcdef", "dictionary": "x"}')
    said = tiny("analyse", "flow", "codes", "--labels", "named", code=2).stderr
    assert "names the features of x [0123456789ab], not of codes" in said
    tiny.write("named/features.json", "[]")
    said = tiny("analyse", "flow", "codes", "--labels", "named", code=2).stderr
    assert "is no report of `harness features`" in said
    said = tiny("analyse", "flow", "codes", "--labels", "nowhere", code=2).stderr
    assert "`harness features` with --output writes it" in said
