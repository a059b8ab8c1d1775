"""Ids change with everything that can move a number, and with nothing else."""

import dataclasses
import pickle
import types as python_types
import typing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_cells import FakeLibrary, a_cell, a_method, a_model, a_suite, a_task, loaded

from harness.datasets.files.spec import FileData
from harness.datasets.generators.spec import GeneratorData
from harness.errors import HarnessError
from harness.runs.plan import (
    ModelSource,
    Overrides,
    check_files,
    expand,
    grid,
    make_cell,
    single_task,
)
from harness.runs.plan import cells as planning
from harness.runs.plan.dictionaries import PlannedDictionaries
from harness.runs.plan.identities import training_identity
from harness.runs.plan.threads import SMALL_WIDTH, threads_for
from harness.spec import types
from harness.spec.data_kinds import DataSpec
from harness.spec.identity import digest, identity_fields
from harness.spec.key import spec_fields
from harness.spec.types import (
    EvaluationChange,
    Exclusion,
    FurtherGrid,
    LoadModel,
    Runtime,
    Selection,
    TokenizerSpec,
)

CLASSES = [
    value
    for value in vars(types).values()
    if isinstance(value, type)
    and dataclasses.is_dataclass(value)
    and value.__module__.startswith(types.__name__)
]


# ---------------------------------------------------------------- what is in an id
_HEAD = "name title description spec_version"
LEFT_OUT: dict[type, str] = {
    types.Task: "title description tags spec_version model",
    types.TrainModel: "name task corpus weights",
    types.Corpus: "tokenizer folders questions",
    types.LoadModel: "name path hub revision format bos",
    types.CompileModel: "name",
    types.ModelLabels: _HEAD,
    types.Method: _HEAD,
    types.Suite: f"{_HEAD} tasks methods models evaluations exclude controls "
    "control_searches seeds skip_missing runtime also",
    types.FurtherGrid: "tasks methods models evaluations exclude controls control_searches seeds",
    types.Exclusion: "task model method evaluation",
    types.DictionaryLabels: _HEAD,
    types.TrainDictionary: "task model weights",
    types.LoadDictionary: "task model path",
    types.RandomDictionary: "task model",
    types.Evaluation: "dictionary",  # an identity of its own
    types.EvaluationChange: "granularity component dictionary ablation positions inputs head_bias "
    "key_value_edges answers metric measures sizes counts targets searched_on margin "
    "discovery_pairs discovery_repeats test_pairs",
}
"""Fields that are not part of an identity, written down a second time: all others are."""


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_field_but_these_is_part_of_an_identity(cls: Any) -> None:
    out = {name for name, one in spec_fields(cls).items() if one.key.part != "identity"}
    assert out == set(LEFT_OUT.get(cls, "").split())


def samples(kind: Any) -> list[Any]:
    """Two different values of a field's type."""
    kind = GeneratorData if kind is DataSpec else kind
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return list(arguments)
    if origin in (typing.Union, python_types.UnionType):
        return [value for argument in arguments for value in samples(argument)][:3]
    if origin is tuple:
        first = samples(arguments[0])[0]
        return [(), (first,)] if arguments[-1] is Ellipsis else [(1, 2), (1, 3)]
    if origin is not None:
        return [{}, {"a": samples(arguments[1])[0]}]
    if dataclasses.is_dataclass(kind):
        return [sample(kind)]
    return {
        str: ["x", "y"],
        int: [1, 2],
        float: [0.1, 0.2],
        bool: [True, False],
        type(None): [None],
        typing.Any: [1],
    }[kind]


def sample(cls: Any) -> Any:
    hints = typing.get_type_hints(cls)
    keys = {name: one.key for name, one in spec_fields(cls).items()}
    return cls(
        **{
            f.name: f.default if keys[f.name].younger else samples(hints[f.name])[0]
            for f in dataclasses.fields(cls)
        }
    )


CASES = [(cls, field.name) for cls in CLASSES for field in dataclasses.fields(cls)]


@pytest.mark.parametrize(("cls", "name"), CASES, ids=lambda x: getattr(x, "__name__", x))
def test_the_identity_moves_with_identity_fields_only(cls: Any, name: str) -> None:
    values = samples(typing.get_type_hints(cls)[name])
    before = sample(cls)
    digests = {digest(identity_fields(replace(before, **{name: value}))) for value in values}
    matters = spec_fields(cls)[name].key.part == "identity"
    assert len(digests) == (len(values) if matters else 1)


# ---------------------------------------------------------------- ids of cells
BASE = a_cell()
GOLDEN_ID = "57bbe118b98d2466b39ba547febd1603475ef06ed38bf6af74a6afd5f47332a9"
GOLDEN_MODEL_ID = "b18ca461792606453988149abe41b7322de63805ce6817501c45db8561c9f4d2"


@pytest.mark.parametrize(
    "cell",
    [
        a_cell(a_task(title="Another title")),
        a_cell(a_task(description="more", tags=("new",))),
        a_cell(a_task(model=replace(a_model(), name="called"))),
        a_cell(method=replace(a_method(), name="renamed", title="x", description="y")),
        a_cell(role="control"),
    ],
)
def test_what_is_only_shown_does_not_change_the_id(cell: Any) -> None:
    assert cell.id == BASE.id
    assert cell.model_id == BASE.model_id


EVALUATION = a_task().evaluation


@pytest.mark.parametrize(
    ("cell", "same_model"),
    [
        (a_cell(a_task("other")), True),
        (a_cell(a_task(version="2")), True),
        (a_cell(a_task(evaluation=replace(EVALUATION, ablation="mean"))), True),
        (a_cell(a_task(evaluation=replace(EVALUATION, test_pairs=41))), True),
        (a_cell(a_task(data=replace(a_task().data, seed=1))), False),
        (a_cell(a_task(tokenizer=types.TokenizerSpec(kind="words"))), False),
        (a_cell(a_task(model=a_model(learning_rate=0.002))), False),
        (a_cell(method=a_method("eap", steps=5)), True),
        (a_cell(method=replace(a_method(), version="2")), True),
        (a_cell(method=replace(a_method(), selection=Selection(order="signed"))), True),
        (a_cell(seed=1), True),
        (a_cell(limit=8), True),
    ],
)
def test_what_moves_numbers_changes_the_id(cell: Any, same_model: bool) -> None:
    assert cell.id != BASE.id
    assert (cell.model_id == BASE.model_id) is same_model


def with_runtime(runtime: Runtime) -> Any:
    source = ModelSource(a_model(), "m", Path())
    return make_cell(loaded(a_task()), source, a_method(), "method", 0, runtime)


@pytest.mark.parametrize(
    ("change", "same_model"),
    [
        ({"threads": 3}, True),
        ({"dtype": "float64"}, False),
        ({"dtype": "bfloat16"}, False),
        ({"device": "cuda"}, False),
    ],
)
def test_the_runtime_changes_the_cell_and_not_always_the_model(
    change: dict[str, Any], same_model: bool
) -> None:
    before, after = with_runtime(Runtime()), with_runtime(Runtime(**change))
    assert before.id != after.id
    assert (before.model_id == after.model_id) is same_model


@pytest.mark.parametrize(
    ("name", "value"), [("SEMANTICS_VERSION", 10_000), ("minor_version", lambda package: "9.9")]
)
def test_code_and_torch_change_cell_and_model(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    monkeypatch.setattr(planning, name, value)
    assert a_cell().id != BASE.id
    assert a_cell().model_id != BASE.model_id


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_code_of_half_precision_changes_such_cells_alone(
    monkeypatch: pytest.MonkeyPatch, dtype: Any
) -> None:
    before = with_runtime(Runtime(dtype=dtype))
    monkeypatch.setattr(planning, "HALF_SEMANTICS_VERSION", 10_000)
    after = with_runtime(Runtime(dtype=dtype))
    assert (after.id != before.id) is dtype.endswith("float16")
    assert after.model_id == before.model_id


def test_a_smoke_run_shares_its_model() -> None:
    assert a_cell(limit=3).model_id == BASE.model_id
    assert a_cell(limit=3).smoke


def test_tasks_share_a_model_that_is_trained_on_one_of_them() -> None:
    """It is made of that task's data alone, and the cells of all three have ids of their own."""

    def cell(task: Any, taught: Any = None) -> Any:
        source = ModelSource(a_model(), "m", Path(), taught and loaded(taught))
        return make_cell(loaded(task), source, a_method(), "method", 0, Runtime())

    taught, asked = (
        a_task(name, data=GeneratorData(generator="brackets", seed=seed))
        for seed, name in enumerate(("taught", "asked"))
    )
    own, shared = cell(asked), cell(asked, taught)
    assert own.model_id != shared.model_id == cell(taught).model_id
    assert len({own.id, shared.id, cell(taught).id}) == 3
    # A change of the other task's data makes another model and another cell; of its name, none.
    changed = replace(taught, data=GeneratorData(generator="brackets", seed=7))
    assert cell(asked, changed).model_id != shared.model_id
    assert cell(asked, changed).id != shared.id
    assert cell(asked, replace(taught, name="called_otherwise")).id == shared.id


def test_a_model_trained_on_the_task_itself_is_its_own_model() -> None:
    task = a_task()
    cells = [
        make_cell(loaded(task), source, a_method(), "method", 0, Runtime())
        for source in (
            ModelSource(a_model(), "m", Path()),
            ModelSource(a_model(), "m", Path(), loaded(task)),
        )
    ]
    assert cells[0].id == cells[1].id


def test_how_the_file_of_a_tokenizer_is_read_is_part_of_the_id(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")

    def identity(**fields: Any) -> Any:
        task = loaded(a_task(tokenizer=TokenizerSpec(**fields)), tmp_path)
        source = ModelSource(a_model(), "m", Path())
        return make_cell(task, source, a_method(), "method", 0, Runtime()).identity["task"]

    def part(name: str, **fields: Any) -> Any:
        whole = identity(kind="file", path="tokenizer.json", **fields)
        assert whole.get(name) == training_identity(whole).get(name)
        return whole.get(name)

    plain = identity(kind="file", path="tokenizer.json")
    assert plain.keys().isdisjoint({"bos", "tokenizer_off"})
    assert "bos" not in identity(kind="words", bos=True)
    assert part("bos", bos="auto") is None
    assert part("bos", bos="<s>") is None  # named in the spec
    assert part("bos", bos=True) == {"rule": "own first", "configured": None}
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": {"content": "<s>"}, "x": 1}')
    assert part("bos", bos=True) == {"rule": "own first", "configured": "<s>"}
    text = '{"truncation": {"max_length": 3}, "padding": null, "model": {"dropout": 0.1}}'
    (tmp_path / "tokenizer.json").write_text(text)
    assert part("tokenizer_off") == ["truncation", "dropout"]


def test_files_of_the_task_to_train_on_are_watched(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("1")
    taught = loaded(a_task("taught", data=FileData(path="rows.jsonl")), tmp_path)
    source = ModelSource(a_model(), "m", Path(), taught)
    cell = make_cell(loaded(a_task()), source, a_method(), "method", 0, Runtime())
    check_files(cell)
    rows.write_text("2")
    with pytest.raises(HarnessError, match="a file of the task or model changed"):
        check_files(cell)


def test_prompts_that_dictionaries_are_trained_on_are_watched(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("1")
    source = ModelSource(a_model(), "m", Path(), loaded(a_task()))
    other = loaded(a_task("other", data=FileData(path="rows.jsonl")), tmp_path)
    of_other = make_cell(other, source, a_method(), "method", 0, Runtime())
    cell = make_cell(loaded(a_task()), source, a_method(), "method", 0, Runtime())
    spec = types.TrainDictionary(
        task="other",
        dictionary=types.DictionaryForm(features=4, k=2),
        training=types.DictionaryTraining(tokens=8),
    )
    codes = PlannedDictionaries("1", {}, "codes", replace(other, spec=spec), of_other)
    cell = replace(cell, dictionaries=codes)
    check_files(cell)
    rows.write_text("2")
    with pytest.raises(HarnessError, match="a file of the task or model changed"):
        check_files(cell)


def test_weights_of_a_loaded_model_are_part_of_the_id(tmp_path: Path) -> None:
    def cell() -> Any:
        task = a_task(model=LoadModel(path="weights"))
        source = ModelSource(task.model, "m", tmp_path)
        return make_cell(loaded(task, tmp_path), source, a_method(), "method", 0, Runtime())

    with pytest.raises(HarnessError, match="needs weights, which is not below"):
        cell()
    folder = tmp_path / "weights"
    folder.mkdir()
    with pytest.raises(HarnessError, match=r"config\.json and no model\.safetensors"):
        cell()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("1")
    first = cell()
    (folder / "model.safetensors").write_text("2")
    second = cell()
    assert first.id != second.id
    assert first.model_id != second.model_id
    # The folder's own name does not count.
    folder.rename(tmp_path / "moved")
    task = a_task(model=LoadModel(path="moved"))
    source = ModelSource(task.model, "m", tmp_path)
    moved = make_cell(loaded(task, tmp_path), source, a_method(), "method", 0, Runtime())
    assert moved.id == second.id


def test_the_id_is_the_digest_of_the_stored_identity() -> None:
    assert digest(BASE.identity) == BASE.id
    assert set(BASE.identity) == {
        "identity_version",
        "code",
        "torch",
        "numpy",
        "runtime",
        "task",
        "model",
        "method",
        "seed",
        "limit",
    }


def test_ids_are_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, every stored result becomes unreachable: is that meant?"""
    monkeypatch.setattr(planning, "minor_version", lambda package: "2.0")
    monkeypatch.setattr(planning, "SEMANTICS_VERSION", 1)
    assert (a_cell().id, a_cell().model_id) == (GOLDEN_ID, GOLDEN_MODEL_ID)


def test_cells_travel_to_other_processes() -> None:
    assert pickle.loads(pickle.dumps(BASE)).header() == BASE.header()


# ---------------------------------------------------------------- expanding
TASKS = [a_task("one"), a_task("two")]
METHODS = [a_method("a"), a_method("b")]


def plan_of(overrides: Overrides | None = None, **changes: Any) -> Any:
    library: Any = FakeLibrary(*TASKS, *METHODS, a_method("control"))
    return expand(loaded(a_suite(TASKS, METHODS, **changes)), library, overrides)


def test_a_plan_is_the_product_in_order() -> None:
    plan = plan_of(seeds=(0, 1), controls=("control",))
    points = [(c.task.spec.name, c.method.name, c.seed) for c in plan.cells]
    assert points == [
        (task, method, seed)
        for task in ("one", "two")
        for method in ("a", "b", "control")
        for seed in (0, 1)
    ]
    assert {c.method.name: c.role for c in plan.cells} == {
        "a": "method",
        "b": "method",
        "control": "control",
    }
    assert len({cell.id for cell in plan.cells}) == len(plan.cells)


def test_a_seed_given_twice_is_one_cell() -> None:
    assert len(plan_of(seeds=(0, 0)).cells) == 4


def test_overrides_replace_the_suites_choices() -> None:
    changes = Overrides(methods=("b",), seeds=(3,), limit=5, device="cuda", threads=7)
    plan = plan_of(changes)
    assert {(c.method.name, c.seed, c.limit) for c in plan.cells} == {("b", 3, 5)}
    assert {c.runtime for c in plan.cells} == {Runtime(device="cuda", threads=7)}


def a_model_of_width(width: int) -> types.TrainModel:
    shape = types.Architecture(n_layers=1, n_heads=1, d_model=width)
    return replace(a_model(), architecture=shape)


@pytest.mark.parametrize(
    ("model", "threads"),
    [
        (a_model_of_width(SMALL_WIDTH), 1),
        (a_model_of_width(SMALL_WIDTH + 1), Runtime().threads),
        (types.CompileModel(), 1),
        (LoadModel(path="anywhere"), Runtime().threads),
    ],
)
def test_threads_are_one_where_a_model_is_small(model: types.Model, threads: int) -> None:
    assert threads_for(model) == threads


def test_automatic_threads_stand_in_the_id_as_a_number() -> None:
    automatic, one = plan_of(Overrides(threads="auto")), plan_of(Overrides(threads=1))
    assert {cell.runtime.threads for cell in automatic.cells} == {1}
    assert [cell.id for cell in automatic.cells] == [cell.id for cell in one.cells]
    assert {cell.runtime.threads for cell in plan_of().cells} == {2}


@pytest.mark.parametrize("overrides", [None, Overrides(methods=("a", "b"))])
def test_a_control_that_is_named_as_a_method_stays_a_control(overrides: Overrides | None) -> None:
    plan = plan_of(overrides, controls=("a",))
    assert [(c.method.name, c.role) for c in plan.cells][:2] == [("a", "control"), ("b", "method")]
    assert len(plan.cells) == 4


def test_one_computation_under_two_names_is_refused() -> None:
    twin = replace(a_method("a"), name="twin")
    library: Any = FakeLibrary(*TASKS, METHODS[0], twin)
    with pytest.raises(HarnessError, match="same computation under two names"):
        expand(loaded(a_suite(TASKS, [METHODS[0], twin])), library)


def test_a_single_task_runs_with_the_grid_of_another_suite() -> None:
    suite = single_task(loaded(TASKS[1]), loaded(a_suite(TASKS, METHODS, seeds=(4,))), "two")
    library: Any = FakeLibrary(*TASKS, *METHODS)
    plan = expand(suite, library)
    assert plan.name == "two"
    assert {(c.task.spec.name, c.seed) for c in plan.cells} == {("two", 4)}


def test_the_order_of_splits_is_part_of_the_id() -> None:
    """Data is drawn through mappings in the order they are written; canonical JSON sorts keys."""
    shares = {"train": 0.8, "validation": 0.1, "test": 0.1}
    source = ModelSource(a_model(), "m", Path())
    one, other = (
        make_cell(
            loaded(a_task(data=GeneratorData(generator="brackets", shares=dict(items)))),
            source,
            a_method(),
            "method",
            0,
            Runtime(),
        )
        for items in (shares.items(), reversed(shares.items()))
    )
    assert one.id != other.id
    assert one.model_id != other.model_id


def test_the_corruption_is_no_part_of_the_model() -> None:
    data = {"data": {"kind": "template", "corruption": "abc"}, "tokenizer": {}, "files": {}}
    other = {**data, "data": {"kind": "template", "corruption": "swap"}}
    assert training_identity(data) == training_identity(other)


def test_two_specs_under_one_name_are_refused() -> None:
    source = ModelSource(a_model(), BASE.model_name, Path())
    other = make_cell(BASE.task, source, a_method(sleep=1), "method", 0, Runtime())
    assert other.place == BASE.place
    with pytest.raises(HarnessError, match="give one another name"):
        grid._refuse_namesake(BASE, other)


def test_a_suite_runs_its_tasks_under_every_evaluation_it_names() -> None:
    changes = (
        EvaluationChange(ablation="zero"),
        EvaluationChange(discovery_pairs=7, inputs="split"),
    )
    suite = a_suite([a_task()], [a_method()], evaluations=changes)
    plan = expand(loaded(suite), FakeLibrary(a_task(), a_method()))
    assert [cell.variant for cell in plan.cells] == [
        "ablation zero",
        "inputs split, discovery_pairs 7",
    ]
    zero, split = (cell.task.spec.evaluation for cell in plan.cells)
    own = a_task().evaluation
    assert zero == replace(own, ablation="zero")
    assert split == replace(own, discovery_pairs=7, inputs="split")
    assert len({cell.id for cell in plan.cells}) == 2
    assert len({cell.model_id for cell in plan.cells}) == 1  # the model is trained once
    alone = a_cell(replace(a_task(), evaluation=zero))
    assert plan.cells[0].id == alone.id  # the same as a task with that evaluation


def test_a_suite_leaves_out_what_it_excludes() -> None:
    few, many = EvaluationChange(discovery_pairs=7), EvaluationChange(discovery_pairs=9)
    suite = a_suite(
        [a_task()],
        [a_method(), a_method("slow")],
        evaluations=(few, many),
        exclude=(Exclusion(method="slow", evaluation=many),),
    )
    plan = expand(loaded(suite), FakeLibrary(a_task(), a_method(), a_method("slow")))
    assert {(cell.method.name, cell.variant) for cell in plan.cells} == {
        (a_method().name, "discovery_pairs 7"),
        (a_method().name, "discovery_pairs 9"),
        ("slow", "discovery_pairs 7"),
    }


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        (Exclusion(evaluation=EvaluationChange(discovery_pairs=8)), "has discovery_pairs 8"),
        (Exclusion(method=None), "excludes every cell"),
    ],
)
def test_an_exclusion_that_leaves_out_nothing_or_all_is_refused(
    exclude: Exclusion, message: str
) -> None:
    suite = a_suite(
        [a_task()],
        [a_method()],
        evaluations=(EvaluationChange(discovery_pairs=7),),
        exclude=(exclude,),
    )
    with pytest.raises(HarnessError, match=message):
        expand(loaded(suite), FakeLibrary(a_task(), a_method()))


def test_a_further_grid_adds_cells_and_moves_none() -> None:
    alone = a_suite([a_task(), a_task("second")], [a_method()], seeds=(0, 1))
    channels = EvaluationChange(granularity="channel", ablation="mean_training")
    grids = (
        FurtherGrid(
            tasks=("second",),
            methods=("mask_gradient_ig",),
            evaluations=(channels,),
            exclude=(Exclusion(task="second", evaluation=EvaluationChange(ablation="mean")),),
        ),
        FurtherGrid(tasks=("toy",), seeds=(1, 7)),
    )
    library = FakeLibrary(
        a_task(), a_task("second"), a_method(), a_method("mask_gradient_ig"), a_method("random")
    )
    before = expand(loaded(alone), library)
    with pytest.raises(HarnessError, match=r"exclude\.0 leaves out nothing"):
        expand(loaded(replace(alone, also=grids)), library)
    grids = (replace(grids[0], exclude=()), grids[1])
    both = expand(loaded(replace(alone, also=grids)), library)
    assert both.cells[: len(before.cells)] == before.cells
    added = both.cells[len(before.cells) :]
    assert [(cell.task.spec.name, cell.method.name, cell.seed) for cell in added] == [
        ("second", "mask_gradient_ig", 0),
        ("second", "mask_gradient_ig", 1),
        ("toy", "eap", 7),  # seed 1 is in the suite's own grid
    ]
    by_channels = added[0].task.spec.evaluation
    assert (by_channels.granularity, by_channels.component) == ("channel", "channels")
    words = "granularity channel, ablation mean_training"
    assert both.grid == before.grid | {("second", words)}
    # Of methods that are asked for a further grid has those that can find such circuits.
    asked = replace(alone, also=(replace(grids[0], methods=None),))
    methods = ("acdc", "random")
    library.specs |= {name: a_method(name) for name in methods}
    some = expand(loaded(asked), library, Overrides(methods=methods, seeds=(0,)))
    assert [(cell.method.name, cell.variant) for cell in some.cells] == [
        ("acdc", ""),
        ("random", ""),
        ("acdc", ""),
        ("random", ""),
        ("random", words),
    ]
    with pytest.raises(HarnessError, match="acdc cannot find circuits of granularity 'channel'"):
        expand(loaded(replace(asked, methods=("acdc",))), library)
    alone_again = single_task(loaded(a_task()), loaded(asked), "toy").spec
    assert alone_again.also == ()


# ---------------------------------------------------------------- names of models
@pytest.mark.parametrize(
    ("model", "name"),
    [
        (types.LoadModel(hub="openai-community/gpt2"), "gpt2"),
        (types.LoadModel(hub="gpt2"), "gpt2"),
        (types.LoadModel(path="../models/my_model"), "my_model"),
        (types.LoadModel(path="models/my_model/"), "my_model"),
        (types.LoadModel(path="/models/pythia-70m"), "pythia-70m"),
        (types.LoadModel(path=".."), "toy"),
        (types.LoadModel(path="../x", name="mine"), "mine"),
        (a_model(), "toy"),
        (replace(a_model(), name="small"), "small"),
        (types.CompileModel(), "toy"),
    ],
)
def test_an_inline_model_without_a_name_is_called_after_where_it_is_from(
    model: Any, name: str
) -> None:
    assert ModelSource.of(loaded(a_task("toy", model=model))).name == name
