"""`harness trace`: a prompt's circuit as text, as JSON and in circuit-tracer's form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness as api
from harness.reports.screens.trace import trace_text
from harness.runs.services.boards import board_after

OTHELLO = """\
spec_version: 1
name: board
title: A small board
tokenizer: {kind: moves}
data: {kind: generator, generator: othello, params: {size: 6, min_ply: 8, max_ply: 8}}
evaluation: {ablation: interchange, positions: all, discovery_pairs: 4, test_pairs: 6}
model:
  kind: train
  architecture: {n_layers: 1, n_heads: 2, d_model: 8}
  training: {objective: answer, steps: 1, batch_size: 4}
"""
DICTIONARY = """\
spec_version: 1
name: tiny
title: A tiny dictionary
kind: train
task: board
sites: [attention, mlp]
dictionary: {activation: topk, features: 12, k: 3}
training: {tokens: 2000, batch_tokens: 64, buffer_tokens: 512}
"""


@pytest.fixture
def board(harness: Any) -> Any:
    harness.write("tasks/board.yaml", OTHELLO)
    return harness


def report(harness: Any, *arguments: str) -> Any:
    return json.loads(harness("trace", *arguments, "--train", "--json").stdout)


def test_a_prompt_is_traced_to_its_embeddings(board: Any) -> None:
    shown = report(board, "board", "--prompt", "2", "--keep", "abs:0", "--nodes", "100000")
    task = api.load_task("board")
    model = api.load_model(task)
    pairs = api.prompt_pairs(task)
    tokens, names = pairs.clean[2, :8], task.data.tokenizer.tokens
    assert shown["tokens"] == [names[int(token)] for token in tokens]
    import torch

    logits = model(torch.from_numpy(tokens.astype(np.int64))[None])[0, 7]
    target, budget = shown["target"], shown["budget"]
    assert target["name"] == f"logit:{names[int(logits.argmax())]}"
    assert target["value"] == pytest.approx(float(logits.max() - logits.mean()), abs=1e-5)
    assert sum(budget.values()) == pytest.approx(target["value"], abs=1e-5)
    direct = sum(edge["weight"] for edge in shown["edges"] if edge["into"] is None)
    assert direct + target["constant"] == pytest.approx(target["value"], abs=1e-5)
    kinds = {node["kind"] for node in shown["nodes"]}
    assert kinds == {"embed", "position", "head", "neuron", "bias"}
    assert shown["replacement"] == 1
    assert shown["model_id"]
    other = report(board, "board", "--prompt", "2", "--corrupted")
    assert other["tokens"] == [names[int(token)] for token in pairs.corrupted[2, :8]]


def test_the_tree_shows_the_largest_contributions(board: Any) -> None:
    arguments = ["board", "--target", "logit_diff", "--train", "--branches", "2", "--depth", "2"]
    text = board("trace", *arguments).stdout
    shown = report(board, "board", "--target", "logit_diff")
    assert text.rstrip("\n") == trace_text(shown, 100, 2, 2)
    assert f"logit_diff = {shown['target']['value']:.3f}" in text
    direct = [edge for edge in shown["edges"] if edge["into"] is None]
    largest = max(direct, key=lambda edge: abs(edge["weight"]))
    assert f"─ {largest['weight']:+.3f} {shown['nodes'][largest['source']]['name']}" in text
    assert "to move, × is legal" in text
    taken_apart = [node for node in shown["nodes"] if node["sums"] is not None]
    sums = [
        f"  {one['sums']['positive']:+.3f} {one['sums']['negative']:+.3f}" for one in taken_apart
    ]
    assert sum(line.endswith(tuple(sums)) for line in text.splitlines()) >= 2


def test_prompts_that_are_no_games_are_shown_as_tokens(harness: Any) -> None:
    text = harness("trace", "toy", "--train", "--mlps", "modules").stdout
    tokens = report(harness, "toy", "--mlps", "modules")["tokens"]
    assert f"  0:{tokens[0]} 1:{tokens[1]}" in text
    assert "m0@" in text


def test_parts_beyond_chance_are_those_beyond_other_prompts(board: Any) -> None:
    every = report(board, "board", "--keep", "abs:0", "--nodes", "100000")
    some = report(board, "board", "--keep", "null:0.05", "--nodes", "100000")
    assert 0 < len(some["edges"]) < len(every["edges"])


def test_contributions_are_compared_with_what_happens(board: Any) -> None:
    rows = report(board, "board", "--validity", "5")["validity"]
    assert [row["kind"] for row in rows] == ["logit", "mlp", "query", "key", "total"]
    assert all(row["n"] >= 3 and abs(row["pearson"]) <= 1 + 1e-9 for row in rows)
    text = board("trace", "board", "--validity", "5").stdout
    labels = ("last norm", "before an MLP", "before a query", "before keys", "is written")
    for row, label in zip(rows, labels, strict=True):
        (line,) = [one for one in text.splitlines() if label in one]
        assert f"{row['n']}" in line
        assert f"{row['coefficient']:.3f}" in line


def test_contributions_of_several_prompts_are_compared_together(board: Any) -> None:
    one, both = (
        report(board, "board", "--validity", "3", "--validity-prompts", n)["validity"]
        for n in ("1", "2")
    )
    for few, many in zip(one, both, strict=True):
        assert few["kind"] == many["kind"]
        assert few["n"] < many["n"] <= 3 * few["n"]
    assert "needs --validity" in board("trace", "board", "--validity-prompts", "2", code=2).stderr


def test_scores_are_shown_as_pairs_of_parts(board: Any) -> None:
    arguments = ["board", "--target", "attention:a0.h1:6:2"]
    shown = report(board, *arguments)
    pairs = shown["pairs"]
    assert pairs["score"] == pytest.approx(shown["target"]["value"], abs=1e-5)
    assert pairs["pairs"][0]["query"] in {"embed@6", "position@6", "biases"}
    assert len(pairs["pairs"]) == 9  # embedding, position and biases on either side
    assert sum(one["weight"] for one in pairs["pairs"]) == pytest.approx(pairs["score"], abs=1e-5)
    for side in ("queries", "keys"):
        assert sum(one["weight"] for one in pairs[side]) == pytest.approx(pairs["score"], abs=1e-5)
    first = pairs["pairs"][0]
    line = f"{first['weight']:+8.3f}  {first['query']} × {first['key']}"
    assert line in board("trace", *arguments).stdout
    assert report(board, "board")["pairs"] is None


def test_a_file_for_another_tool_is_written(board: Any) -> None:
    shown = report(board, "board", "--circuit-tracer", "graph.json")
    graph = json.loads(Path("graph.json").read_text())
    assert len(graph["links"]) == len(shown["edges"])
    assert graph["metadata"]["prompt_tokens"] == shown["tokens"]
    assert {node["clerp"] for node in graph["nodes"]} == {
        shown["target"]["name"],
        *(node["name"] for node in shown["nodes"]),
    }


def test_modules_are_taken_apart_into_features(board: Any) -> None:
    board.write("specs/dictionaries/tiny.yaml", DICTIONARY)
    report(board, "board")
    missing = board("trace", "board", "--dictionary", "tiny", code=2).stderr
    assert "are not trained yet; --train trains and keeps them" in missing
    shown = report(board, "board", "--dictionary", "tiny", "--keep", "abs:0")
    assert {node["kind"] for node in shown["nodes"]} >= {"feature", "error", "embed"}
    assert shown["budget"]["error"] != 0
    assert sum(shown["budget"].values()) == pytest.approx(shown["target"]["value"], abs=1e-5)
    assert 0 < shown["replacement"] < 1
    feature = next(n for n in shown["nodes"] if n["kind"] == "feature" and n["writer"] == "m0")
    target = f"feature:{feature['name']}"
    traced = report(board, "board", "--dictionary", "tiny", "--target", target)
    assert traced["target"]["value"] == pytest.approx(feature["activity"])
    other_name = target.replace("m0.", "m0.out.")
    assert report(board, "board", "--dictionary", "tiny", "--target", other_name) == traced
    text = board("trace", "board", "--dictionary", "tiny").stdout
    assert "dictionaries tiny: " in text
    harness_task = board("trace", "toy", "--dictionary", "tiny", "--train", code=2).stderr
    assert "dictionaries tiny are of model" in harness_task


def test_features_are_called_what_they_stand_for(board: Any) -> None:
    board.write("specs/dictionaries/tiny.yaml", DICTIONARY)
    few = ("--tokens", "3000", "--label-tokens", "3000", "--held-out", "20", "--no-baselines")
    board("features", "tiny", "--train", *few, "--output", "named")
    traced = ("board", "--dictionary", "tiny", "--keep", "abs:0", "--labels", "named")
    shown = report(board, *traced, "--loose", "0", "--circuit-tracer", "graph.json")
    subjects = json.loads(Path("named/features.json").read_text())["subjects"]
    labels = {
        (one["site"], label["feature"]): label["concept"]
        for one in subjects
        for kind in ("leanings", "labels")
        for label in one[kind]
    }
    features = [node for node in shown["nodes"] if node["kind"] == "feature"]
    named = [node for node in features if (f"{node['writer']}.out", node["unit"]) in labels]
    assert named
    for node in named:
        assert labels[f"{node['writer']}.out", node["unit"]] in node["stands_for"]
    assert all(not node["stands_for"] for node in shown["nodes"] if node not in named)
    called = {node["clerp"] for node in json.loads(Path("graph.json").read_text())["nodes"]}
    assert {f"{node['name']} {node['stands_for']}" for node in named} <= called
    text = board("trace", *traced, "--loose", "0", "--branches", "100").stdout
    assert any(f"{node['name']} {node['stands_for']} (" in text for node in named)
    alone = board("trace", "board", "--labels", "named", code=2).stderr
    assert "--labels needs --dictionary" in alone


def test_what_is_not_there_is_refused(board: Any) -> None:
    assert "--train trains and keeps it" in board("trace", "board", code=2).stderr
    for arguments, problem in (
        (["--prompt", "6"], "prompts 0 to 5"),
        (["--split", "toast"], "unknown split 'toast'"),
        (["--target", "logit:z9"], "unknown output 'z9'"),
        (["--keep", "some"], "no rule to keep contributions"),
    ):
        assert problem in board("trace", "board", "--train", *arguments, code=2).stderr


def test_a_model_that_comes_with_its_weights_is_traced_at_once(harness: Any) -> None:
    arguments = ["bracket_matching", "--model", "brackets-sparse-2l-64", "--nodes", "5", "--json"]
    shown = json.loads(harness("trace", *arguments).stdout)
    assert len(shown["nodes"]) <= 5
    assert sum(shown["budget"].values()) == pytest.approx(shown["target"]["value"], abs=1e-4)


def test_boards_follow_the_rules() -> None:
    start = board_after(6, [])
    assert start["rows"] == ["······", "······", "··○●··", "··●○··", "······", "······"]
    assert (start["turn"], start["last"]) == ("●", None)
    assert start["legal"] == ["b3", "c2", "d5", "e4"]
    after = board_after(6, ["b3"])
    assert after["rows"][1:4] == ["··●···", "··●●··", "··●○··"]
    assert (after["turn"], after["last"]) == ("○", "b3")
