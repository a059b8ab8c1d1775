"""Suites whose circuits are of features: what their dictionaries cannot give is refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

DICTIONARY = """\
spec_version: 1
name: {name}
title: Codes
kind: random
task: {task}
sites: [{sites}]
dictionary: {{features: 16, k: 4}}
"""
LOADED = """\
spec_version: 1
name: codes
title: Codes
kind: load
task: toy
path: brought
"""
METHOD = "spec_version: 1\nname: {kind}\ntitle: A method\nkind: {kind}\n"
FEATURES = "granularity: feature, dictionary: {name}, ablation: zero"


def dictionary(harness: Any, sites: str, name: str = "codes", task: str = "toy") -> None:
    text = DICTIONARY.format(name=name, task=task, sites=sites)
    harness.write(f"specs/dictionaries/{name}.yaml", text)


def suite(harness: Any, methods: list[str], *changes: str, task: str = "toy") -> Path:
    for kind in ("traced_influence", "direct_logit_attribution"):
        harness.write(f"specs/methods/{kind}.yaml", METHOD.format(kind=kind))
    path: Path = harness.suite("coded", [task], methods)
    whole = [f"  - {{{FEATURES.format(name='codes')}{change}}}\n" for change in changes or ("",)]
    path.write_text(path.read_text() + "evaluations:\n" + "".join(whole))
    return path


# ---------------------------------------------------------------- sites and traces
@pytest.mark.parametrize(
    ("sites", "column", "said"),
    [
        ("a0.stream", 9, "the site 'a0.stream'"),
        ("m0, a0, embed", 17, "the site 'embed'"),
        ("mlp, m0.hidden", 14, "the site 'm0.hidden'"),
    ],
)
def test_sites_that_cannot_be_traced_are_refused(
    sites: str, column: int, said: str, harness: Any
) -> None:
    dictionary(harness, sites)
    path = suite(harness, ["traced_influence", "eap", "direct_logit_attribution"])
    found = harness("validate", str(path), code=2).stdout
    assert found.count("error:") == 2
    for place in ("5:11: error: methods.0: traced_influence", "5:38: error: methods.2: direct"):
        assert f"coded.yaml:{place}" in found
    refused = harness("plan", "coded", code=2).stderr
    for text in (found, refused):
        assert "cannot use the dictionary 'codes'" in text
        assert f"{said} (" in text
        assert f"codes.yaml:6:{column}): " in text
        assert "; these kinds of methods can: eap, edge_pruning" in text
    assert refused.startswith("error: toy: direct_logit_attribution, traced_influence cannot")
    assert harness.computed() == 0
    harness("plan", "coded", "--methods", "eap")
    path.write_text(path.read_text().replace("traced_influence', ", "good', "))
    path.write_text(path.read_text() + "exclude: [{method: direct_logit_attribution}]\n")
    harness("validate", str(path))
    harness("plan", "coded")


def test_what_only_files_tell_is_left_to_the_cell(harness: Any) -> None:
    harness.write("specs/dictionaries/codes.yaml", LOADED)
    harness.write("specs/dictionaries/brought/dictionaries.safetensors", "not read yet")
    path = suite(harness, ["traced_influence"], ", counts: [5000]")
    harness("validate", str(path))
    harness("plan", "coded")


def test_a_further_grid_is_for_the_methods_that_can_trace_there(harness: Any) -> None:
    dictionary(harness, "attention, m0.hidden")
    path = suite(harness, ["eap"])
    further = FEATURES.format(name="streams")
    path.write_text(path.read_text() + f"also: [{{evaluations: [{{{further}}}]}}]\n")
    dictionary(harness, "a0.stream", "streams")
    harness("validate", str(path))
    harness("plan", "coded")
    planned = harness("plan", "coded", "--methods", "traced_influence,eap").stdout
    assert planned.count("traced_influence") == 1


# ---------------------------------------------------------------- counts
@pytest.mark.parametrize(
    ("sites", "change", "has"),
    [
        ("attention, mlp", ", counts: [3, 32, {}]", "32: 16 features of each of 2 sites"),
        (
            "attention, mlp, embed",
            ", component: features_and_errors, counts: [3, 4, {}]",
            "51: 16 features and an error of each of 3 sites",
        ),
    ],
)
def test_more_features_than_there_are_is_a_mistake_at_its_place(
    sites: str, change: str, has: str, harness: Any
) -> None:
    dictionary(harness, sites)
    there = int(has.partition(":")[0])
    path = suite(harness, ["eap"], ", counts: [1]", change.format(there + 1))
    wanted = (
        "error: evaluations.1.counts.2: task 'toy': a circuit of "
        f"{there + 1} elements is asked for, and the dictionary 'codes' has {has}"
    )
    for command in (("validate", str(path)), ("plan", "coded"), ("run", "coded")):
        result = harness(*command, code=2)
        assert wanted in result.stdout + result.stderr
        assert "coded.yaml:10:" in result.stdout + result.stderr
    assert harness.computed() == 0
    suite(harness, ["eap"], ", counts: [1]", change.format(there).replace("32, 32", "32"))
    harness("validate", str(path))
    harness("plan", "coded")


def test_counts_that_are_left_out_or_of_a_task_are_not_the_suites(harness: Any) -> None:
    dictionary(harness, "attention, mlp")
    path = suite(harness, ["eap"], ", counts: [1]", ", counts: [33]")
    whole = "exclude: [{evaluation: {counts: [33]}}]\n"
    path.write_text(path.read_text() + whole)
    harness("validate", str(path))
    harness("plan", "coded")
    task = harness.task("coded-task")
    text = task.read_text().replace("granularity: edge", "granularity: feature\n  dictionary: own")
    text = text.replace("component: heads_qkv_mlps", "component: features")
    task.write_text(text.replace("sizes: [0.01, 0.1, 0.5, 1.0]", "counts: [1, 33]"))
    dictionary(harness, "attention, mlp", "own", "coded-task")
    found = harness("validate", str(task), code=2).stdout
    assert "coded-task.yaml:20:15: error: evaluation.counts.1: a circuit of 33 elements" in found


def test_layers_of_a_model_that_is_brought_are_read_from_its_files(harness: Any) -> None:
    harness.brought("one")
    dictionary(harness, "mlp, attention", task="one")
    path = suite(harness, ["eap"], ", counts: [33]", task="one")
    harness("validate", str(path))
    harness.bring("one", "config.json", "model.safetensors")
    assert "has 32: 16 features" in harness("validate", str(path), code=2).stdout
