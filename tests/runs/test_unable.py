"""Plans refuse methods that cannot find what a cell asks for, by what their infos say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_cells import a_method, a_task, loaded
from support.hugging_face import MODELS, saved
from support.toy_granularity import WHERE

from harness.errors import HarnessError
from harness.models.checkpoint import load_model, save_model
from harness.models.loading.folder import CONFIG, WEIGHTS, has_post_norms
from harness.runs.plan import Cell, ModelSource, make_cell
from harness.runs.plan.unable import refuse_unable
from harness.spec.granularity import BUILT_IN
from harness.spec.types import ActivationSparsity, LoadModel, Runtime

CHECKPOINT = LoadModel(path="weights")


def cell_of(method: str, folder: Path, model: Any = CHECKPOINT, **choices: Any) -> Cell:
    task = a_task(evaluation=replace(a_task().evaluation, **choices))
    source = ModelSource(model, "m", folder)
    return make_cell(loaded(task, folder), source, a_method(method), "method", 0, Runtime())


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        ({"model_type": "gemma3"}, True),
        ({"activation": "gelu", "post_norms": True}, True),
        ({"activation": "gelu", "post_norms": False}, False),
        ({"model_type": "gpt2"}, False),
    ],
    ids=["gemma3", "ours", "ours without", "gpt2"],
)
def test_acdc_is_refused_for_checkpoints_that_normalise_heads(
    config: dict[str, Any], refused: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(config))
    (folder / WEIGHTS).write_text("1")
    others = [cell_of("eap", tmp_path), cell_of("acdc", tmp_path, a_task().model)]
    refuse_unable(others)
    cells = [*others, cell_of("acdc", tmp_path)]
    if not refused:
        refuse_unable(cells)
        return
    with pytest.raises(HarnessError, match="toy: acdc cannot be used with models that normalise"):
        refuse_unable(cells)


@pytest.mark.parametrize("name", MODELS)
def test_post_norms_are_seen_in_the_configuration(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    saved(name, theirs)
    model = load_model(theirs)
    ours.mkdir()
    save_model(model, ours)
    assert has_post_norms(theirs) == has_post_norms(ours) == model.config.post_norms


def test_methods_of_edges_are_refused_for_other_granularities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUILT_IN, "toy", WHERE)
    model = a_task().model
    cells = [cell_of(kind, tmp_path, model) for kind in ("eap_ig", "eap", "subnetwork_probing")]
    refuse_unable(cells)
    toy: Any = "toy"
    refuse_unable([replace_granularity(cell, toy) for cell in cells[1:]])
    with pytest.raises(HarnessError) as refused:
        refuse_unable([cells[0], *(replace_granularity(cell, toy) for cell in cells)])
    text = str(refused.value)
    assert text.startswith("toy: eap_ig cannot find circuits of granularity 'toy', only of edges;")
    assert "these kinds of methods can: eap, edge_pruning, element_patching," in text


def replace_granularity(cell: Cell, granularity: Any) -> Cell:
    evaluation = replace(cell.task.spec.evaluation, granularity=granularity)
    return replace(cell, task=loaded(replace(cell.task.spec, evaluation=evaluation)))


def test_edges_of_sparse_activations_are_refused_before_training(tmp_path: Path) -> None:
    model = a_task().model
    sparse = replace(
        model,
        architecture=replace(model.architecture, activation_sparsity=ActivationSparsity(keep=0.5)),
    )
    refuse_unable([cell_of("eap", tmp_path, model)])
    with pytest.raises(HarnessError, match="toy: granularity 'edge' is not available for models"):
        refuse_unable([cell_of("eap", tmp_path, model), cell_of("eap", tmp_path, sparse)])
    channels: Any = "channel"
    refuse_unable([replace_granularity(cell_of("random", tmp_path, sparse), channels)])
