"""Identities of tasks, models and methods: everything that affects the numbers of a cell.

Plain JSON values; the spec classes say which of their fields take part (`harness.spec.key`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.metrics.necessity import OF_RANDOM
from harness.runs.plan.weights import weight_digests
from harness.spec import granularity
from harness.spec.identity import identity_fields
from harness.spec.load import Loaded
from harness.spec.types import (
    Data,
    Evaluation,
    LoadModel,
    Method,
    Model,
    Task,
    TrainModel,
)


def task_identity(task: Loaded[Task]) -> dict[str, Any]:
    """The identity of a task; reads the files that it refers to."""
    from harness.datasets.open import content_digests

    part: dict[str, Any] = identity_fields(task.spec)
    if task.spec.tokenizer.kind == "model":
        # Its content counts ("files"), not where the model lies.
        part["tokenizer"]["path"] = None
    return {
        **part,
        "files": dict(content_digests(task)),
        "order": _order(task.spec.data),
        **_tokenizer_rules(task),
        **plug_in_identity(task.spec.data),
        **_granularity_identity(task.spec.evaluation),
        **_measured_otherwise(task.spec.evaluation),
    }


def _granularity_identity(evaluation: Evaluation) -> dict[str, str]:
    """Package and version of a granularity from a plug-in."""
    origin = granularity.plug_in(evaluation.granularity)
    return {} if origin is None else {"granularity_plug_in": origin}


def _measured_otherwise(evaluation: Evaluation) -> dict[str, str]:
    """How a measure is taken, where earlier versions took it otherwise.

    Random sets that a circuit's necessity is compared with were drawn from all elements.
    """
    return {"random_sets": "active"} if OF_RANDOM in evaluation.measures else {}


def _tokenizer_rules(task: Loaded[Task]) -> dict[str, Any]:
    """How a tokenizer's file is read, where earlier versions read it otherwise.

    BOS was the first of a list of names, and settings that cut or fill up texts were obeyed. What
    the tokenizer's config says of BOS counts where it may be asked.
    """
    from harness.datasets.locate import locate
    from harness.datasets.tokenizers.bos import configured_bos
    from harness.datasets.tokenizers.settings import settings_of

    tokenizer = task.spec.tokenizer
    if tokenizer.path is None:
        return {}
    file = locate(tokenizer.path, task.folder)
    rules: dict[str, Any] = {}
    if tokenizer.bos is True:
        rules["bos"] = {"rule": "own first", "configured": configured_bos(file)[1]}
    if off := settings_of(file):
        rules["tokenizer_off"] = list(off)
    return rules


def _order(data: Data) -> dict[str, list[str]]:
    """Keys of mappings whose order affects how data is drawn, in the order written.

    Canonical JSON sorts keys, so the identity records their order separately.
    """
    names = ("slots", "shares", "held_out")
    return {name: list(getattr(data, name)) for name in names if hasattr(data, name)}


def training_identity(task_part: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a task that affects training: not the corruption, which training never sees."""
    names = ("data", "tokenizer", "files", "order", "bos", "tokenizer_off", "plug_in")
    picked = {name: task_part[name] for name in names if name in task_part}
    data = {name: value for name, value in picked["data"].items() if name != "corruption"}
    return {**picked, "data": data}


def data_identity(
    model: Model, folder: Path, task_part: Mapping[str, Any], trained_on: Loaded[Task] | None
) -> dict[str, Any]:
    """What a model is trained on: its corpus, another task, or the task that uses it.

    `folder`: that of the model's spec, `task_part`: the identity of the task that uses it. Reads
    the files of a corpus.
    """
    if isinstance(model, TrainModel) and model.corpus is not None:
        from harness.datasets.corpus.open import corpus_content

        content = corpus_content(model.corpus, folder)
        return {"corpus": {**identity_fields(model.corpus), "content": content}}
    if trained_on is not None:
        return training_identity(task_identity(trained_on))
    # A loaded model does not depend on the task's data; a trained one is made of it.
    return {} if isinstance(model, LoadModel) else training_identity(task_part)


def plug_in_identity(spec: Data | Method) -> dict[str, str]:
    """Package and version of a plug-in's code: another version may give other numbers."""
    origin = _method_origin(spec) if isinstance(spec, Method) else _data_origin(spec)
    return {} if origin is None else {"plug_in": origin}


def _method_origin(method: Method) -> str | None:
    from harness.discovery.registry import plug_in

    return plug_in(method.kind)


def _data_origin(data: Data) -> str | None:
    from harness.datasets.kinds import kind_of

    return kind_of(data).plug_in(data)


def model_identity(model: Model, folder: Path) -> dict[str, Any]:
    """The identity of a model whose spec is in `folder`; reads its weights if it has any."""
    part: dict[str, Any] = identity_fields(model)
    if isinstance(model, LoadModel) or (isinstance(model, TrainModel) and model.weights):
        part["weights"] = weight_digests(model, folder)
    return part
