"""The table of granularities decides what an evaluation can be, also those of packages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, SpecError
from harness.runs.plan.variants import variants
from harness.spec import types
from harness.spec.granularity import BY_GRANULARITY, refused
from harness.spec.issues import Issue
from harness.spec.key import spec_fields
from harness.spec.load import Library
from harness.spec.types import EvaluationChange

PLUGIN = """
from harness.spec.granularity import GranularityInfo
INFO = GranularityInfo(
    name="toy", unit="parts", components=("halves", "thirds"), ablations=("zero", "shuffle"),
    positions=("all",), space="my_toy:space", patchable="my_toy:patchable",
)
"""


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution with one good and one broken granularity."""
    (tmp_path / "my_toy.py").write_text(PLUGIN, encoding="utf-8")
    info = tmp_path / "my_toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[harness.granularities]\ntoy = my_toy:INFO\nbroken = my_absent:INFO\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def write(folder: Path, text: str, evaluation: str) -> Path:
    """A task like that of `text` with another evaluation."""
    head, _, rest = text.partition("evaluation:")
    after = rest[rest.index("\nmodel:") :]
    path = folder / "tiny.yaml"
    path.write_text(f"{head}evaluation: {evaluation}{after}", encoding="utf-8")
    return path


def messages(path: Path) -> list[str]:
    found: list[Issue] = Library().issues(path, "task")
    return [f"{one.where}: {one.message}" for one in found]


def test_choices_with_one_legal_value_have_defaults(tmp_path: Path, tiny_task: str) -> None:
    task = Library().task(str(write(tmp_path, tiny_task, "{ablation: zero, positions: all}")))
    choices = {name: getattr(task.spec.evaluation, name) for name in types.CHOICES}
    assert choices == {
        "granularity": "edge",
        "component": "heads_qkv_mlps",
        "ablation": "zero",
        "positions": "all",
        "direction": "noising",
        "set": "complement",
        "inputs": "token",
        "head_bias": "unattached",
        "key_value_edges": "grouped",
        "answers": "right",
    }
    resolved = task.resolved["evaluation"]
    assert {name: resolved[name] for name in choices} == choices


def test_the_fields_that_a_granularity_decides_are_marked() -> None:
    marked = [n for n, one in spec_fields(types.Evaluation).items() if one.key.by_granularity]
    assert tuple(marked) == BY_GRANULARITY


@pytest.mark.parametrize(
    ("evaluation", "expected"),
    [
        (
            "{granularity: edges, ablation: zero, positions: all}",
            [
                "evaluation.granularity: 'edges' is not one of 'edge', 'channel', 'feature'; did "
                "you mean 'edge'?"
            ],
        ),
        (
            "{component: halves, ablation: zero, positions: all}",
            ["evaluation.component: 'halves' is not one of 'heads_qkv_mlps'"],
        ),
    ],
)
def test_what_edges_do_not_know_is_refused(
    evaluation: str, expected: list[str], tmp_path: Path, tiny_task: str
) -> None:
    assert messages(write(tmp_path, tiny_task, evaluation)) == expected


@pytest.mark.usefixtures("plug_in")
@pytest.mark.parametrize(
    ("evaluation", "expected"),
    [
        ("{granularity: toy, ablation: shuffle, positions: all}", []),
        ("{granularity: toy, component: thirds, ablation: zero, positions: all}", []),
        (
            "{granularity: toi, ablation: zero, positions: all}",
            [
                "evaluation.granularity: 'toi' is not one of 'edge', 'channel', 'feature', "
                "'broken', 'toy'; did you mean 'toy'?"
            ],
        ),
        (
            "{granularity: toy, component: heads_qkv_mlps, ablation: mean, positions: per_token}",
            [
                "evaluation.component: 'heads_qkv_mlps' is not one of 'halves', 'thirds'",
                "evaluation.ablation: 'mean' is not one of 'zero', 'shuffle'",
                "evaluation.positions: 'per_token' is not one of 'all'",
            ],
        ),
        (
            "{ablation: shuffle, positions: all}",
            [
                "evaluation.ablation: 'shuffle' is not one of 'interchange', 'mean', "
                "'mean_positional', 'optimal', 'zero', 'resample', 'mean_training'"
            ],
        ),
        (
            "{granularity: broken, ablation: zero, positions: all}",
            [
                "evaluation.granularity: granularity 'broken' cannot be loaded: No module named "
                "'my_absent'"
            ],
        ),
    ],
)
def test_granularities_of_packages_have_values_of_their_own(
    evaluation: str, expected: list[str], tmp_path: Path, tiny_task: str
) -> None:
    assert messages(write(tmp_path, tiny_task, evaluation)) == expected


@pytest.mark.usefixtures("plug_in")
def test_the_first_component_of_a_granularity_is_the_default(
    tmp_path: Path, tiny_task: str
) -> None:
    text = "{granularity: toy, ablation: shuffle, positions: all}"
    task = Library().task(str(write(tmp_path, tiny_task, text)))
    assert task.spec.evaluation.component == "halves"
    assert task.spec.evaluation.ablation == "shuffle"
    assert task.resolved["evaluation"]["component"] == "halves"


SUITE = """\
spec_version: 1
name: both
title: Both
tasks: [tiny.yaml]
methods: [random]
evaluations: [{{ablation: {ablation}}}]
"""


@pytest.mark.usefixtures("plug_in")
def test_a_suite_changes_to_what_some_granularity_knows(tmp_path: Path, tiny_task: str) -> None:
    path = write(tmp_path, tiny_task, "{granularity: toy, ablation: zero, positions: all}")
    suite = tmp_path / "both.yaml"
    library: Any = Library()
    suite.write_text(SUITE.format(ablation="shuffle"))
    spec = library.suite(str(suite)).spec
    assert spec.evaluations == (EvaluationChange(ablation="shuffle"),)  # type: ignore[arg-type]
    (varied,) = variants(library.task(str(path)), spec)
    assert varied[1].spec.evaluation.ablation == "shuffle"
    unfit = replace(spec, evaluations=(EvaluationChange(ablation="mean"),))
    with pytest.raises(HarnessError, match="task 'tiny': ablation 'mean' is not one of granula"):
        variants(library.task(str(path)), unfit)
    suite.write_text(SUITE.format(ablation="shuffel"))
    with pytest.raises(SpecError, match="'mean_training', 'shuffle', null; did you mean 'shuffle'"):
        Library().suite(str(suite))


def test_refusals_name_the_legal_values() -> None:
    assert refused("edge", {"ablation": "zero", "sizes": (1.0,)}) is None
    assert refused("edge", {"positions": "some"}) == (
        "positions 'some' is not one of granularity 'edge': all, per_token"
    )
