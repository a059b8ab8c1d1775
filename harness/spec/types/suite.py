"""A suite: the grid of cells that is run."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key
from harness.spec.types.evaluation_change import EvaluationChange
from harness.spec.types.scalars import (
    Description,
    Name,
    References,
    SeedNumber,
    SpecVersion,
    Text,
    Title,
)

ControlSearch = Literal["swapped", "nonsense", "untrained"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Where and how precisely numbers are computed; all of it is part of a cell's identity."""

    ABOUT: ClassVar = About(
        "Runtime", "Part of every cell's identity: it moves the last digits of numbers."
    )

    device: Annotated[Literal["cpu", "cuda"], Key("Device", "Kind of device.", ["cpu"])] = "cpu"
    dtype: Annotated[
        Literal["float32", "float64", "bfloat16", "float16"],
        Key(
            "Data type",
            "Precision of weights and activations. In half precision (bfloat16, float16) models "
            "are still trained, masks learned and measures taken in float32.",
            ["float32", "bfloat16"],
        ),
    ] = "float32"
    threads: Annotated[
        int, Key("Threads", "Threads of one cell on a CPU.", [1, 2], minimum=1, maximum=1024)
    ] = 2
    processes: Annotated[
        int,
        Key(
            "Processes",
            "Processes that share the prompts of every batch, started with `torchrun "
            "--nproc-per-node N -m harness run`; threads are those of each.",
            [1, 2],
            minimum=1,
            maximum=1024,
            younger=True,
        ),
    ] = 1
    shards: Annotated[
        int,
        Key(
            "Shards",
            "Processes over which the weights of every layer lie, so that models fit that one "
            "cannot hold: 1, or as many as `processes`.",
            [1, 2],
            minimum=1,
            maximum=1024,
            younger=True,
        ),
    ] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """Cells that a suite leaves out: those that agree with everything given here."""

    ABOUT: ClassVar = About(
        "Exclusion",
        "Leaves out the cells that agree with everything given here.",
        part="grid",
        min_keys=1,
    )

    task: Annotated[
        Text | None,
        Key(
            "Task",
            "A task of the suite, as it stands in `tasks`; null means every one.",
            ["ioi"],
        ),
    ] = None
    model: Annotated[
        Text | None,
        Key(
            "Model",
            "A model of the suite, as it stands in `models`; null means every one.",
            ["gpt2-small"],
        ),
    ] = None
    method: Annotated[
        Text | None,
        Key(
            "Method",
            "A method or control of the suite, as it stands there; null means every one.",
            ["acdc"],
        ),
    ] = None
    evaluation: Annotated[
        EvaluationChange,
        Key(
            "Evaluation",
            "Choices that the cell's evaluation has; null and absent ones are not looked at.",
            [{"discovery_pairs": 100000}],
        ),
    ] = field(default_factory=EvaluationChange)


_TASKS = Key("Tasks", "Names or paths of tasks.", [["ioi", "bracket_matching"]], min_items=1)
_METHODS = Key(
    "Methods",
    "Names or paths of methods that compete.",
    [["eap", "eap_ig"]],
    min_items=1,
)
_MODELS = Key(
    "Models",
    "Names or paths of models that every task is run with; none means each task's own.",
    [["toy-2l-64"]],
)
_CONTROLS = Key(
    "Controls",
    "Methods shown as sanity rows and never ranked.",
    [["random_paths"], []],
)
_CONTROL_SEARCHES = Key(
    "Control searches",
    "Searches that should fail: every method runs again, at the same budget, for `swapped` "
    "answers, for `nonsense` (two tokens that answer no prompt stand for the two sides), "
    "and in the model `untrained`. Rows of the same table, never ranked.",
    [["swapped", "nonsense", "untrained"]],
    unique=True,
)
_EVALUATIONS = Key(
    "Evaluations",
    "Every task is run under each of these changes of its evaluation; none means the tasks' own "
    "alone.",
    [[{"ablation": "zero"}, {"ablation": "interchange"}]],
    unique=True,
    max_items=100,
)
_EXCLUDE = Key(
    "Exclude",
    "Cells of the grid to leave out, such as a slow method on many pairs.",
    [[{"method": "acdc", "evaluation": {"discovery_pairs": 100000}}]],
    unique=True,
    max_items=100,
)
_SEEDS = Key(
    "Seeds",
    "Each cell is computed once per seed of the method.",
    [[0, 1, 2]],
    min_items=1,
    unique=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherGrid:
    """A grid beside that of its suite; None, but for `exclude`, leaves what the suite has."""

    ABOUT: ClassVar = About(
        "Further grid",
        "Cells beside the suite's grid. Keys that are left out (or null) are as in the suite, but "
        "for `exclude`, which is each grid's own.",
        part="grid",
        min_keys=1,
    )

    tasks: Annotated[References | None, _TASKS] = None
    methods: Annotated[References | None, _METHODS] = None
    models: Annotated[References | None, _MODELS] = None
    controls: Annotated[References | None, _CONTROLS] = None
    control_searches: Annotated[tuple[ControlSearch, ...] | None, _CONTROL_SEARCHES] = None
    evaluations: Annotated[tuple[EvaluationChange, ...] | None, _EVALUATIONS] = None
    exclude: Annotated[tuple[Exclusion, ...], _EXCLUDE] = ()
    seeds: Annotated[tuple[SeedNumber, ...] | None, _SEEDS] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A grid tasks × models × methods × seeds × evaluations, less `exclude`.

    No models and no evaluations means each task's own. `controls` are methods that are shown as
    sanity rows and never ranked, as are `control_searches`; `skip_missing` leaves out tasks and
    models whose files are not there. `also`: further grids, which stand in the same tables and
    reports.
    """

    ABOUT: ClassVar = About("Suite", "A grid of tasks × models × methods × seeds.", part="grid")

    spec_version: SpecVersion = 1
    name: Annotated[
        Name,
        Key(
            description="Equal to the file's name without .yaml; results are stored under it.",
            examples=["quickstart"],
            part="label",
        ),
    ]
    title: Annotated[Title, Key(examples=["Small models in minutes"])]
    description: Annotated[
        Description, Key(examples=["All built-in methods on the headline tasks."])
    ] = ""
    tasks: Annotated[References, _TASKS]
    methods: Annotated[References, _METHODS]
    models: Annotated[References, _MODELS] = ()
    controls: Annotated[References, _CONTROLS] = ("random_paths",)
    control_searches: Annotated[tuple[ControlSearch, ...], _CONTROL_SEARCHES] = ()
    evaluations: Annotated[tuple[EvaluationChange, ...], _EVALUATIONS] = ()
    exclude: Annotated[tuple[Exclusion, ...], _EXCLUDE] = ()
    seeds: Annotated[tuple[SeedNumber, ...], _SEEDS] = (0,)
    also: Annotated[
        tuple[FurtherGrid, ...],
        Key(
            "Also",
            "Further grids of the same suite, such as some tasks with models or choices that the "
            "others do not have.",
            [[{"tasks": ["bracket_matching"], "evaluations": [{"granularity": "channel"}]}]],
            unique=True,
            max_items=100,
        ),
    ] = ()
    skip_missing: Annotated[
        bool,
        Key(
            "Skip missing",
            "Whether a task and model whose files are not there (a tokenizer, a model's folder) "
            "are left out, each with a note; else that is an error.",
            [True],
        ),
    ] = False
    runtime: Annotated[
        Runtime,
        Key(
            "Runtime",
            "Where and how precisely numbers are computed.",
            [{"device": "cpu", "threads": 2}],
        ),
    ] = Runtime()

    @property
    def grids(self) -> tuple[Suite, ...]:
        """The suite's own grid and then each of `also`, as suites without further ones."""
        alone = replace(self, also=())
        return (alone, *(_with(alone, one) for one in self.also))


def _with(suite: Suite, grid: FurtherGrid) -> Suite:
    chosen = {one.name: getattr(grid, one.name) for one in fields(grid)}
    return replace(suite, **{name: value for name, value in chosen.items() if value is not None})
