"""Adding a method is one file and one spec, whichever room it is in.

The package is copied to a folder of its own and gets both; nothing else is changed by hand. The
JSON Schema learns the method's params when the schemas are generated anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.checkout import copied, harness

METHOD = '''"""Elements whose names come first in the alphabet come first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from harness.discovery.info import MethodInfo
from harness.discovery.problem import Discovery, Problem
from harness.spec.key import About, Key


@dataclass(frozen=True)
class Alphabetical:
    """All elements in the order of their names."""

    ABOUT: ClassVar = About("Parameters of `alphabetical`", name="alphabetical")

    reverse: Annotated[bool, Key("Reverse", "Whether the last names come first.", [True])] = False

    def discover(self, problem: Problem) -> Discovery:
        """Rank elements by their names."""
        import torch

        space = problem.space
        order = sorted(range(len(space)), key=space.name, reverse=not self.reverse)
        scores = torch.zeros(len(space), dtype=torch.float64)
        for place, element in enumerate(order):
            scores[element] = place
        return Discovery(scores)


INFO = MethodInfo(
    kind="alphabetical",
    title="Elements in the order of their names",
    method=Alphabetical,
    cost="none",
    per_token=False,
)
'''
SPEC = """spec_version: 1
name: by_name
title: Elements in the order of their names
kind: alphabetical
"""
PER_TOKEN = """spec_version: 1
name: per_token
title: A method that cannot tell positions apart
tasks: [copy_previous]
methods: [by_name]
evaluations: [{positions: per_token}]
seeds: [0]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its specs with one more method."""
    place = copied(tmp_path_factory.mktemp("checkout"))
    (place / "harness/discovery/controls/alphabetical.py").write_text(METHOD)
    (place / "specs/methods/by_name.yaml").write_text(SPEC)
    harness(place, module="harness.cli.schemas")
    return place


def test_it_is_listed_and_validated(place: Path) -> None:
    listed = json.loads(harness(place, "list", "methods", "--json").stdout)
    assert {"by_name", "eap"} <= {one["name"] for one in listed}
    harness(place, "validate", "by_name")
    shown = harness(place, "show", "by_name", "--kind", "method", "--resolved").stdout
    assert "reverse: false" in shown


@pytest.mark.parametrize(
    ("params", "mistake"),
    [
        (
            "revers: true",
            "bad.yaml:5:10: error: params: unknown key 'revers'; did you mean",
        ),
        ("reverse: 1", "bad.yaml:5:19: error: params.reverse"),
    ],
    ids=["name", "type"],
)
def test_its_params_are_checked_where_they_are_written(
    place: Path, params: str, mistake: str
) -> None:
    spec = place / "specs/methods/bad.yaml"
    spec.write_text(f"{SPEC.replace('by_name', 'bad')}params: {{{params}}}\n")
    try:
        assert mistake in harness(place, "validate", str(spec), code=2).stdout
    finally:
        spec.unlink()


def test_specs_and_plans_ask_its_info(place: Path) -> None:
    (place / "specs/suites/per_token.yaml").write_text(PER_TOKEN)
    text = "alphabetical cannot score the edges of each position on its own"
    done = harness(place, "validate", "per_token", code=2)
    assert text in done.stdout + done.stderr
    assert text in harness(place, "plan", "per_token", code=2).stderr


@pytest.mark.slow
def test_it_runs_and_is_ranked_beside_the_others(place: Path) -> None:
    arguments = ("copy_previous", "--seeds", "0", "--limit", "2")
    harness(place, "run", *arguments, "--methods", "by_name,random")
    results = [json.loads(path.read_text()) for path in place.glob("results/*/cells/*/result.json")]
    assert {"by_name", "random"} <= {one["method"] for one in results}
    (mine,) = (one for one in results if one["method"] == "by_name")
    assert mine["identity"]["method"]["kind"] == "alphabetical"
    assert [point["requested"] for point in mine["curve"]]
