"""What methods say of themselves is true of them, and reading it needs neither torch nor polars."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, fields
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from support.toy_granularity import WHERE

from harness.discovery import registry
from harness.discovery.info import MethodInfo
from harness.discovery.problem import Problem
from harness.discovery.refusals import granularity_problem, objective_problem, post_norms_problem
from harness.discovery.registry import built_in, info_of, make_method
from harness.discovery.table import markdown
from harness.errors import HarnessError
from harness.spec.granularity import BUILT_IN
from harness.spec.types import Objective

ROOT = Path(__file__).resolve().parents[2]
INFOS = pytest.mark.parametrize("info", built_in().values(), ids=lambda info: info.kind)


def test_reading_infos_imports_neither_torch_nor_polars() -> None:
    code = (
        "import sys; from harness.discovery import refusals, registry; "
        "print(len(registry.built_in()), refusals.objective_problem('eap', {}, 'squared_error'), "
        "[m for m in ('torch', 'polars', 'tqdm') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith(f"{len(built_in())} method 'eap' takes the gradient")
    assert done.stdout.endswith("[]\n")


@INFOS
def test_an_info_describes_its_class(info: MethodInfo) -> None:
    assert info.method is not None
    module = sys.modules[info.method.__module__]
    assert module.INFO is info  # type: ignore[attr-defined]
    assert module.__name__.rpartition(".")[2] == info.kind
    assert info_of(info.kind) is info
    assert type(make_method(info.kind, info.defaults)) is info.method
    hints = get_type_hints(info.method)
    takes = "objective" in {one.name for one in fields(info.method)}
    assert (info.objective is not None) == takes
    if takes:
        assert set(get_args(hints["objective"])) == set(get_args(Objective))
    assert info.trains_masks == (hasattr(info.method, "training") and "masks" in module.__name__)
    for text in (info.title, info.cost):
        assert text
        assert "\n" not in text


def test_the_documentation_has_their_table() -> None:
    page = (ROOT / "harness/docs/methods.md").read_text(encoding="utf-8")
    section = page.partition("## What each kind can do\n")[2].partition("\n## ")[0]
    assert section.endswith(f"\n\n{markdown()}")


OF_EDGES = [kind for kind, info in built_in().items() if info.needs != "dictionaries"]


@pytest.fixture
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILT_IN, "toy", WHERE)


@pytest.mark.usefixtures("_toy")
def test_other_granularities_are_refused_with_the_methods_that_can() -> None:
    assert granularity_problem(OF_EDGES, "edge") is None
    text = granularity_problem(built_in(), "edge")
    assert text is not None
    of_features = ["direct_logit_attribution", "traced_influence"]
    unable = ", ".join(of_features)
    assert text.startswith(f"{unable} cannot find circuits of granularity 'edge', only of features")
    assert granularity_problem(of_features, "feature") is None
    text = granularity_problem(["acdc", "eap", "eap_ig"], "toy")
    assert text is not None
    unable, _, able = text.partition(" cannot find circuits of granularity 'toy', only of edges")
    assert unable == "acdc, eap_ig"
    named = able.partition("can: ")[2].split(", ")
    assert named == [kind for kind, info in built_in().items() if info.needs is None]
    assert granularity_problem(named, "toy") is None


def test_methods_that_make_a_frozen_run_say_so() -> None:
    frozen = "frozen_features"
    for kind, info in built_in().items():
        assert info.method is not None
        source = Path(str(sys.modules[info.method.__module__].__file__)).read_text(encoding="utf-8")
        assert info.traces == (frozen in source or "frozen_run" in source), kind


def test_models_that_normalise_heads_together_are_refused_for_acdc_alone() -> None:
    text = post_norms_problem(built_in())
    assert text is not None
    assert text.startswith("acdc cannot be used with models that normalise")
    assert post_norms_problem([kind for kind in built_in() if kind != "acdc"]) is None


# ---------------------------------------------------------------- installed packages
@dataclass(frozen=True)
class Silent:
    """A method that says nothing of itself."""

    share: float = 0.5

    def discover(self, problem: Problem) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Telling(Silent):
    """A method with an info of its own."""

    info = MethodInfo(kind="telling", title="Tells", cost="none", needs="edges", per_token=False)


@dataclass(frozen=True)
class Beside(Silent):
    """A method with an info beside it."""


INFO = MethodInfo(
    kind="beside",
    title="Stands beside",
    method=Beside,
    cost="none",
    objective="attributed",
    at_model=lambda params, ablation: ablation == "zero",
)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "silent": "Silent",
        "telling": "Telling",
        "beside": "Beside",
        "another": "Telling",
        "named": "NAMED",
        "broken": "Missing",
    }
    monkeypatch.setitem(sys.modules, "some_methods", sys.modules[__name__])
    monkeypatch.setattr(
        registry,
        "_plug_ins",
        lambda: {
            kind: EntryPoint(kind, f"some_methods:{name}", registry.GROUP)
            for kind, name in points.items()
        },
    )


NAMED = MethodInfo(kind="named", title="Named", method=Silent, cost="none", post_norms=False)


@pytest.mark.usefixtures("packages", "_toy")
def test_a_package_can_tell_what_its_method_can() -> None:
    assert info_of("silent") is None
    assert info_of("telling") is Telling.info
    assert info_of("beside") is INFO
    assert info_of("named") is NAMED
    assert make_method("named", {"share": 0.2}) == Silent(0.2)
    assert make_method("telling", {}) == Telling()
    assert granularity_problem(["silent", "telling", "beside"], "toy").startswith("telling cannot")
    assert post_norms_problem(["silent", "named"]).startswith("named cannot be used with models")
    assert objective_problem("beside", {}, "squared_error", "mean") is None
    assert "squared_error" in objective_problem("beside", {}, "squared_error", "zero")
    assert objective_problem("silent", {}, "squared_error", "zero") is None


@pytest.mark.usefixtures("packages")
def test_a_package_that_cannot_be_loaded_or_describes_another_method_is_refused() -> None:
    with pytest.raises(HarnessError, match="'broken' of package an unknown package cannot be"):
        info_of("broken")
    with pytest.raises(HarnessError, match="describes method 'telling', not 'another'"):
        info_of("another")
