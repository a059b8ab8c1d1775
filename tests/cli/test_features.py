"""`harness features`: labels of a tiny dictionary of a tiny model, beside its baselines."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from harness.runs.services.boards import board_after

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
SVG = "{http://www.w3.org/2000/svg}"
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


def test_features_by_name_are_shown_labelled_or_not(tiny: Any) -> None:
    asked = ("features", "codes", *SMALL, "--train", "--no-baselines", "--sites", "m0")
    report = json.loads(tiny(*asked, "--json").stdout)
    assert report["panels"] == []
    (subject,) = report["subjects"]
    confirmed = {one["feature"]: one for one in subject["labels"] if one["confirmed"]}
    leaning = {one["feature"]: one for one in subject["leanings"]}
    names = [f"m0.{'out.' * (feature % 2)}{feature}" for feature in range(24)]
    options = [part for name in names for part in ("--feature", name)]
    assert json.loads(tiny(*asked, *options, "--json").stdout)["subjects"] == report["subjects"]

    # Without --panels there are those of these features alone, in the order asked.
    text = tiny(*asked, *options, "--output", "out", "--panels", "0").stdout
    report = json.loads((tiny.folder / "out/features.json").read_text())
    assert [panel["feature"] for panel in report["panels"]] == list(range(24))
    kinds = set()
    for panel in report["panels"]:
        feature = panel["feature"]
        title = f"m0.out.{feature}"
        assert panel["label"] == (confirmed[feature]["concept"] if feature in confirmed else None)
        if feature in confirmed:
            title += f": {confirmed[feature]['concept']}"
        elif feature in leaning:
            one = leaning[feature]
            title += f": ~{one['concept']} ({one['f1']:.2f})"
        kinds.add((feature in confirmed, feature in leaning))
        assert f"\n{title}; " in text
        drawing = ET.parse(tiny.folder / f"out/m0.out.{feature}.svg").getroot()
        assert title in [one.text for one in drawing.iter(f"{SVG}text")]
        groups = drawing.findall(f"{SVG}g[@class='example']")
        assert len(groups) == len(panel["examples"]) <= 6
        assert bool(panel["examples"]) == bool(panel["tokens"])
        for group in groups:
            squares = [one for one in group.iter(f"{SVG}rect") if one.get("fill") == "#eee"]
            assert len(squares) == 36
    assert len(kinds) > 1


def test_an_example_says_what_is_true_after_its_moves(tiny: Any) -> None:
    asked = ("features", "codes", *SMALL, "--train", "--no-baselines", "--sites", "m0", "--json")
    options = [part for feature in range(24) for part in ("--feature", f"m0.{feature}")]
    panels = json.loads(tiny(*asked, *options).stdout)["panels"]
    compared = 0
    for panel in panels:
        shown = [one["tokens"] for one in panel["examples"]]
        assert len({tuple(one) for one in shown}) == len(shown)
        strengths = [one["strength"] for one in panel["examples"]]
        assert strengths == sorted(strengths, reverse=True)
        for one in panel["examples"]:
            board, true = board_after(6, one["tokens"]), one["concepts"]
            assert one["position"] == len(one["tokens"]) - 1
            assert true["move"] == [f"{one['tokens'][-1]} played"]
            mover = "black moved" in true["turn"]
            for family, disc in (("mine", "○●"[mover]), ("theirs", "●○"[mover]), ("empty", "·")):
                cells = {
                    f"{'abcdef'[row]}{column + 1} {family}"
                    for row, line in enumerate(board["rows"])
                    for column, sign in enumerate(line)
                    if sign == disc
                }
                assert cells == set(true[family])
            if "pass follows" not in true["turn"]:
                assert {f"{name} legal" for name in board["legal"]} == set(true["legal"])
            compared += 1
    assert compared > 24


def test_a_panel_of_a_label_is_drawn_once(tiny: Any) -> None:
    asked = ("features", "codes", *SMALL, "--train", "--no-baselines", "--output", "out")
    tiny(*asked, "--panels", "1")
    best = json.loads((tiny.folder / "out/features.json").read_text())["panels"]
    assert best
    assert not any(panel["asked"] for panel in best)
    name = f"{best[0]['site']}.{best[0]['feature']}"
    text = tiny(*asked, "--panels", "1", "--feature", name, "--feature", name).stdout
    again = json.loads((tiny.folder / "out/features.json").read_text())["panels"]
    assert [(one["site"], one["feature"]) for one in again] == [
        (one["site"], one["feature"]) for one in best
    ]
    assert again[0] == {**best[0], "asked": True}
    assert text.count(f"\n{name}: ") == 1


def test_unknown_features_are_refused_before_anything_is_trained(tiny: Any) -> None:
    asked = ("features", "codes", *SMALL, "--train", "--feature", "a0.out.3", "--feature")
    said = tiny(*asked, "m0.24", code=2).stderr
    assert "no feature 'm0.24'; of m0.out there are m0.out.0 to m0.out.23" in said
    said = tiny(*asked, "m7.3", code=2).stderr
    assert "no feature 'm7.3'; there are a0.out.0 to a0.out.23, m0.out.0 to m0.out.23" in said
    said = tiny(*asked, "m0.3", "--sites", "a0", code=2).stderr
    assert "no feature 'm0.3'; there are a0.out.0 to a0.out.23" in said
    assert "training" not in said
    assert "are not trained yet" in tiny("features", "codes", code=2).stderr


def test_some_sites_alone(tiny: Any) -> None:
    asked = ("features", "codes", *SMALL, "--train", "--no-baselines", "--json")
    report = json.loads(tiny(*asked, "--sites", "m0").stdout)
    assert [one["name"] for one in report["subjects"]] == ["m0.out"]
    assert report["probes"] == []
    said = tiny(*asked, "--sites", "a7", code=2).stderr
    assert "no dictionary of site 'a7'; there are a0.out, m0.out" in said
