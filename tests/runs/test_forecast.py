"""What a run is expected to take: sizes without torch, costs of methods, what was measured."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.fake_cells import a_cell, a_method, a_task, output

from harness.circuits.edges.graph import Graph
from harness.circuits.patchable import make_patchable
from harness.cli.time_left import TimeLeft
from harness.discovery.info import Extent
from harness.discovery.registry import built_in
from harness.models.config import TransformerConfig
from harness.models.transformer import random_model
from harness.runs.plan import Cell, Plan
from harness.runs.services.forecasts.extent import (
    CodedSites,
    Shape,
    dictionary_seconds,
    elements_of,
    pass_seconds,
    passes_of,
)
from harness.runs.services.forecasts.forecast import MEASURED, ROUGH, SCALED, forecast
from harness.runs.store import CellStore, ModelStore
from harness.runs.store.record import record

GPT2 = {"n_layer": 12, "n_head": 12, "n_embd": 768, "vocab_size": 50257, "n_ctx": 1024}
LLAMA = {
    "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
    "hidden_size": 64, "intermediate_size": 256, "vocab_size": 100, "rms_norm_eps": 1e-5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "graph"),
    [
        (GPT2, Graph(12, 12)),
        (LLAMA, Graph(2, 8, n_groups=2)),
        ({"text_config": LLAMA}, Graph(2, 8, n_groups=2)),
        ({"n_layers": 1, "n_heads": 3, "d_model": 6, "d_vocab": 4}, Graph(1, 3)),
        (
            {"n_layers": 2, "n_heads": 3, "d_model": 6, "d_vocab": 4, "attn_only": True},
            Graph(2, 3, mlps=False),
        ),
    ],
)
def test_sizes_are_those_of_the_graph(config: Any, graph: Graph) -> None:
    shape = Shape.of_config(config)
    assert shape is not None
    assert (shape.edges, shape.writers) == (graph.n_edges, graph.n_writers)


def test_elements_are_counted_in_the_graph_of_the_choices() -> None:
    shape, costs = Shape.of_config(LLAMA), {}
    for choice in ("grouped", "per_head"):
        evaluation = replace(a_task().evaluation, key_value_edges=choice)
        cell = a_cell(a_task(evaluation=evaluation), a_method("activation_patching"))
        costs[choice] = passes_of(cell, shape)
    assert costs["grouped"] == pytest.approx(0.12 * Graph(2, 8, n_groups=2).n_edges)
    assert costs["per_head"] == pytest.approx(0.12 * Graph(2, 8).n_edges)


def test_gpt2_small_has_its_published_numbers() -> None:
    shape = Shape.of_config(GPT2)
    assert shape is not None
    assert (shape.edges, shape.writers) == (32_491, 157)
    assert shape.matrices == 12 * 12 * 768**2  # 84,934,656


@pytest.mark.parametrize("config", [{}, {"n_layer": 2}, {**GPT2, "n_head": 0}, {"n_layer": "2"}])
def test_a_config_that_does_not_say_has_no_shape(config: Any) -> None:
    assert Shape.of_config(config) is None


def test_every_built_in_method_says_its_cost_in_passes() -> None:
    extent = Extent(elements=479, writers=21, layers=4, pairs=128, circuits=10)
    passes = {
        kind: info.passes(info.defaults, extent)
        for kind, info in built_in().items()
        if info.passes is not None
    }
    assert passes.keys() == built_in().keys()
    assert passes["random"] == passes["random_paths"] == 0
    assert passes["eap"] < passes["eap_ig"] < passes["activation_patching"] < passes["acdc"]
    assert passes["eap_ig"] == pytest.approx(0.4 + 0.53 * 5)
    assert passes["activation_patching"] == pytest.approx(0.12 * 479)
    # 10 trainings of 1,000 steps on 32 of 128 pairs.
    assert passes["edge_pruning"] == pytest.approx(10 * 1000 * 32 / 128 * (0.5 + 0.67))


def test_more_work_takes_longer() -> None:
    shape = Shape.of_config(GPT2)
    assert shape is not None
    assert pass_seconds(shape, 64) < pass_seconds(shape, 128) < pass_seconds(shape, 1280)


# ---------------------------------------------------------------- from what is stored
def stored(results: Path, cells: list[Cell], timing: Any) -> None:
    folder = results / "trial"
    record(folder, Plan("trial", tuple(cells)))
    store = CellStore(folder)
    for cell, measured in zip(cells, timing, strict=True):
        made = output(cell)
        made.timing.clear()
        made.timing.update(measured)
        store.publish(cell.id, made, {})


def ahead(results: Path, *cells: Cell) -> Any:
    return forecast(cells, results, ModelStore(results / "models"))


def test_a_cell_is_expected_to_take_what_its_like_took(tmp_path: Path) -> None:
    stored(
        tmp_path,
        [a_cell(seed=0), a_cell(seed=1), a_cell(method=a_method("acdc"))],
        [{"cell_seconds": 10.0}, {"cell_seconds": 14.0}, {"cell_seconds": 500.0}],
    )
    new = a_cell(seed=2)
    guess = ahead(tmp_path, new).cells[new.id]
    assert (guess.seconds, guess.factor) == (12.0, MEASURED)
    smoke = a_cell(seed=2, limit=4)  # fewer pairs: none like it is stored
    assert ahead(tmp_path, smoke).cells[smoke.id].seconds != 12.0


def test_older_cells_count_without_the_whole_time(tmp_path: Path) -> None:
    stored(tmp_path, [a_cell()], [{"seconds": 3.0, "evaluation_seconds": 2.0, "cost_fb": 1.0}])
    new = a_cell(seed=1)
    assert 5 <= ahead(tmp_path, new).cells[new.id].seconds <= 7


def test_other_cells_scale_the_model_to_this_machine(tmp_path: Path) -> None:
    """A machine on which a pass takes 100 times what the model says, and eap twice its passes."""
    other = a_cell(a_task("other"))
    rough = ahead(tmp_path, other).cells[other.id]
    assert rough.factor == ROUGH
    cell = a_cell()
    models = ModelStore(tmp_path / "models")
    draft = models.draft(cell.model_id)
    config = {"n_layers": 1, "n_heads": 2, "d_model": 8, "d_vocab": 10, "n_ctx": 9}
    (draft / "config.json").write_text(json.dumps(config))
    models.publish(cell.model_id, draft)
    shape = Shape.of_config(config)
    assert shape is not None
    pass_takes = 100 * pass_seconds(shape, 40)
    timing = {"seconds": 1.7 * pass_takes, "cost_fb": 1.7, "evaluation_seconds": 0.0}
    stored(tmp_path, [cell], [timing])
    scaled = ahead(tmp_path, other).cells[other.id]
    assert scaled.factor == SCALED
    (path,) = tmp_path.glob("*/cells/*/timing.json")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1.7", b"9.7"))  # not what was published: counts for nothing
    assert ahead(tmp_path, other).cells[other.id] == rough
    path.write_bytes(content)
    fixed = 1.0
    assert (scaled.seconds - fixed) / (rough.seconds - fixed) > 90


def test_a_silent_package_is_not_guessed(tmp_path: Path) -> None:
    cell = a_cell(method=a_method("unheard_of"))
    found = ahead(tmp_path, cell)
    assert found.unknown == (cell.id,)
    assert found.cells == {}


def test_a_model_is_trained_once_and_counted_with_its_first_cell(tmp_path: Path) -> None:
    cells = [a_cell(seed=seed) for seed in range(3)]
    found = ahead(tmp_path, *cells)
    assert list(found.trainings) == [cells[0].model_id]
    seconds = found.expected(cells)
    training = found.trainings[cells[0].model_id].seconds
    assert seconds[cells[0].id] == pytest.approx(seconds[cells[1].id] + training)
    low, high = found.bounds
    assert low < found.seconds < high


# ---------------------------------------------------------------- while it runs
def test_what_is_left_follows_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("harness.cli.time_left.time.monotonic", lambda: now[0])
    left = TimeLeft({"a": 10.0, "b": 10.0, "c": 10.0})
    assert left.seconds == 30.0
    left.start("a")
    now[0] = 4.0
    assert left.seconds == 26.0
    now[0] = 30.0
    left.over("a", 30.0)  # three times as long; with the forecast's own weight, twice
    assert left.seconds == pytest.approx(40.0)
    left.over("b", None)  # computed elsewhere
    assert left.seconds == pytest.approx(20.0)
    assert left.text() == "about 20 s left"
    left.over("c", 1.0)
    assert (left.seconds, left.text()) == (None, "")


DICTIONARIES = {
    "kind": "train", "sites": ["attention", "m0.hidden"],
    "dictionary": {"features": 32, "k": 4},
    "training": {"tokens": 64_000, "buffer_uses": 2},
}  # fmt: skip


def test_elements_of_other_granularities_are_counted_too() -> None:
    shape = Shape.of_config(LLAMA)
    assert shape is not None

    def elements(granularity: str, component: str, **more: Any) -> int:
        evaluation = {"granularity": granularity, "component": component}
        return elements_of(
            SimpleNamespace(identity={"task": {"evaluation": evaluation}, **more}), shape
        )

    config = TransformerConfig(
        n_layers=2, n_heads=8, n_key_value_heads=2, d_model=64, d_head=8, d_mlp=256, gated=True,
        d_vocab=100, n_ctx=8,
    )  # fmt: skip
    model = random_model(config, 0)
    for component in ("channels", "neurons"):
        choices = replace(
            a_task().evaluation, granularity="channel", component=component, ablation="zero"
        )
        assert elements("channel", component) == len(make_patchable(model, choices, []).space)
    coded = {"dictionary": {"dictionary": DICTIONARIES}}
    assert elements("feature", "features", **coded) == 3 * 32
    loaded = {"dictionary": {"dictionary": {"kind": "load"}}}
    assert elements("feature", "features", **loaded) == shape.edges


def test_training_dictionaries_takes_products_and_runs_of_the_model() -> None:
    shape = Shape.of_config(LLAMA)
    assert shape is not None
    coded = CodedSites.of(DICTIONARIES, shape)
    assert coded == CodedSites(3, 96, 2 * 32 * (64 + 64 + 256))
    products = 10 * 32 * (64 + 64 + 256) * 64_000 / 3e10
    runs = pass_seconds(shape, 64_000 // shape.tokens) / 3
    assert dictionary_seconds(shape, DICTIONARIES) == pytest.approx(products + runs / 2)
    drawn = {**DICTIONARIES, "kind": "random", "tokens": 64_000}
    del drawn["training"]
    assert dictionary_seconds(shape, drawn) == pytest.approx(runs)
    tuned = DICTIONARIES["training"] | {"finetune_tokens": 10 * shape.tokens}
    more = dictionary_seconds(shape, DICTIONARIES | {"training": tuned}) - products - runs / 2
    assert more > pass_seconds(shape, 10)
    assert dictionary_seconds(shape, {"kind": "load"}) == 0
    assert pass_seconds(shape, 10, coded) > pass_seconds(shape, 10)
