"""Which field of a spec can move a number, and the part of a spec that does.

A cell is reused when its id is found, so its id must change with everything that can move its
numbers and with nothing else. Each field of each spec class stands here exactly once; a test
fails when a field is added to `harness.spec.types` without being classified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from harness.spec import types


class Part(Enum):
    """What a field does to a cell's id."""

    IDENTITY = "identity"  # can move a number: part of the id
    LABEL = "label"  # only shown to people: never part of the id
    CONTENT = "content"  # names a file: what the file holds, or a digest of it, stands in for it
    GRID = "grid"  # says which cells there are: each cell's own choice is in its id


_I, _L, _C, _G = Part.IDENTITY, Part.LABEL, Part.CONTENT, Part.GRID


def _all(part: Part, names: str) -> dict[str, Part]:
    return dict.fromkeys(names.split(), part)


FIELDS: Mapping[type, Mapping[str, Part]] = {
    types.TokenizerSpec: _all(_I, "kind bos path"),
    types.GeneratorData: _all(_I, "generator kind params seed shares"),
    types.Template: _all(_I, "text split"),
    types.WordList: _all(_I, "words file range digits"),
    types.AnswerRule: _all(_I, "slot word list after up_to"),
    types.TemplateData: _all(
        _I,
        "templates slots lists good bad corruptions corruption kind aliases constraints "
        "held_out shares seed",
    ),
    types.Columns: _all(_I, "clean corrupted good bad split"),
    types.FileData: _all(_I, "path kind format columns shares seed"),
    types.ProgramSelect: _all(_I, "keys queries predicate which"),
    types.ProgramStep: _all(_I, "map numerical select aggregate of selector_width"),
    types.ProgramData: _all(_I, "vocabulary lengths program output kind causal seed shares"),
    types.Evaluation: _all(
        _I,
        "granularity component ablation positions direction set inputs head_bias metric measures "
        "sizes discovery_pairs discovery_repeats test_pairs",
    ),
    types.Architecture: _all(
        _I,
        "n_layers n_heads d_model d_head d_mlp n_ctx norm norm_eps positions activation bias "
        "unembed_bias tied causal n_key_value_heads parallel gated rotary_base",
    ),
    types.Target: _all(_I, "metric value"),
    types.Training: _all(
        _I,
        "objective steps batch_size learning_rate final_learning_rate warmup_steps weight_decay "
        "beta1 beta2 clip seed evaluate_every target",
    ),
    # What `task` names: what a model is made of that task's data stands in for it.
    types.TrainModel: _all(_I, "architecture training kind") | _all(_L, "name") | _all(_C, "task"),
    # Where the files come from and whose form they have: their digests stand in for both.
    types.LoadModel: _all(_I, "kind") | _all(_L, "name") | _all(_C, "path hub revision format"),
    types.CompileModel: _all(_I, "kind hardness") | _all(_L, "name"),
    # A task's model is identified on its own, because a suite may choose another one.
    types.Task: _all(_I, "name data tokenizer evaluation version")
    | _all(_L, "title description tags spec_version")
    | _all(_G, "model"),
    types.Selection: _all(_I, "rule order"),
    types.Method: _all(_I, "kind version params selection")
    | _all(_L, "name title description spec_version"),
    types.Runtime: _all(_I, "device dtype threads"),
    types.Suite: _all(_L, "name title description spec_version")
    | _all(_G, "tasks methods models evaluations exclude controls seeds skip_missing runtime"),
    types.Exclusion: _all(_G, "task model method evaluation"),
    # What it changes stands in the evaluation of each cell's task.
    types.EvaluationChange: _all(
        _G,
        "ablation positions inputs head_bias metric sizes discovery_pairs discovery_repeats "
        "test_pairs",
    ),
}


def identity_part(spec: Any) -> Any:
    """The identity of a spec as plain JSON data: labels, contents and the grid left out."""
    if is_dataclass(spec) and not isinstance(spec, type):
        parts = FIELDS[type(spec)]
        return {
            field.name: identity_part(getattr(spec, field.name))
            for field in fields(spec)
            if parts[field.name] is Part.IDENTITY
        }
    if isinstance(spec, Mapping):
        return {key: identity_part(value) for key, value in spec.items()}
    if isinstance(spec, (list, tuple)):
        return [identity_part(value) for value in spec]
    return spec
