"""Frozen dataclasses that mirror `specs/*.schema.json`.

The schema is the public contract: it validates, documents and gives defaults. These classes
only give the rest of the code typed access to a spec that is already valid and complete
(`harness.spec.load`). A test proves that both sides have the same fields and defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Ablation = Literal["interchange", "mean", "mean_positional", "optimal", "zero", "resample"]
HeadBias = Literal["unattached", "shared"]
Metric = Literal["logit_diff", "prob_diff", "squared_error"]
Objective = Literal["metric", "logit_diff", "prob_diff", "cross_entropy", "kl", "squared_error"]
DISTANCES: frozenset[str] = frozenset({"kl", "squared_error"})
"""Losses that compare with the whole model: at the whole model they and their gradients are 0."""

ExtraMeasure = Literal["prob_diff", "agreement", "good_mass", "prob_diff_10", "kendall_tau"]
Inputs = Literal["token", "summed", "split", "none"]
EdgePositions = Literal["all", "per_token"]
ModelFormat = Literal["auto", "harness", "huggingface", "transformer_lens"]

MIB_SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
DEFAULT_SHARES: Mapping[str, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}


# ---------------------------------------------------------------- task: tokenizer
@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerSpec:
    """How text becomes tokens.

    `path` is for kind `file` (a `tokenizer.json`). Kind `model` is the file of the model that
    a cell uses: its `path` is filled in when a model is chosen, never in a spec. `bos: auto` puts
    BOS where the file itself does.
    """

    kind: Literal["words", "characters", "moves", "file", "model"]
    bos: Literal[True, False, "auto"] = False
    path: str | None = None


# ---------------------------------------------------------------- task: data
@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorData:
    """Prompt pairs made by registered Python code; `params` are the generator's own.

    For the built-in generators a loaded spec holds all params, also those left to their default.
    """

    generator: str
    kind: Literal["generator"] = "generator"
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    shares: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_SHARES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One sentence frame. `split` puts the whole frame into that split alone."""

    text: str
    split: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WordList:
    """Words inline, from a text file (one per line), or a range of numbers padded to `digits`.

    Exactly one of `words`, `file`, `range` is given.
    """

    words: tuple[str, ...] | None = None
    file: str | None = None
    range: tuple[int, int] | None = None
    digits: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRule:
    """Which words answer: the one in `slot`, a fixed `word`, or words of a `list`.

    Of a list, all words, or those after (up to and with) the word in the slot `after` (`up_to`).
    """

    slot: str | None = None
    word: str | None = None
    list: str | None = None
    after: str | None = None
    up_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateData:
    """A task written in YAML alone: frames, slots, constraints, a corruption by slot."""

    templates: tuple[Template, ...]
    slots: Mapping[str, str]  # slot -> word list, or the name of an earlier slot it copies
    lists: Mapping[str, WordList]
    good: AnswerRule
    bad: AnswerRule
    corruptions: Mapping[str, Mapping[str, str]]  # name -> slot -> slot or "=word"
    corruption: str
    kind: Literal["template"] = "template"
    aliases: tuple[Mapping[str, str], ...] = ()  # each frame is used under every alias map
    constraints: tuple[str, ...] = ()
    held_out: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_SHARES))
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns of a data file; null means the column is not there."""

    clean: str = "clean"
    corrupted: str = "corrupted"
    good: str | None = None
    bad: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileData:
    """Prompt pairs read from JSON Lines, CSV or Parquet."""

    path: str
    kind: Literal["file"] = "file"
    format: Literal["jsonl", "csv", "parquet"] | None = None
    columns: Columns = Columns()
    shares: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_SHARES))
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramSelect:
    """Which keys each query selects: those for which the predicate holds, or their latest."""

    keys: str
    queries: str
    predicate: str
    which: Literal["all", "latest"] = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStep:
    """One step: exactly one of `map`, `select`, `aggregate` (with `of`), `selector_width`."""

    map: str | None = None
    numerical: bool = False  # of a map: one number instead of a category
    select: ProgramSelect | None = None
    aggregate: str | None = None
    of: str | None = None
    selector_width: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramData:
    """Random tokens, and as answers what a program computes from them at every position."""

    vocabulary: tuple[str, ...]
    lengths: tuple[int, ...]
    program: Mapping[str, ProgramStep]
    output: str
    kind: Literal["program"] = "program"
    causal: bool = False
    seed: int = 0
    shares: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_SHARES))


Data = GeneratorData | TemplateData | FileData | ProgramData


# ---------------------------------------------------------------- task: evaluation
@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The six choices that define a faithfulness score, the metric, and how much is measured.

    `measures`: what rows and tables show besides.
    """

    granularity: Literal["edge"]
    component: Literal["heads_qkv_mlps"]
    ablation: Ablation
    positions: EdgePositions
    direction: Literal["noising"]
    set: Literal["complement"]
    inputs: Inputs = "token"
    head_bias: HeadBias = "unattached"
    metric: Metric = "logit_diff"
    measures: tuple[ExtraMeasure, ...] = ()
    sizes: tuple[float, ...] = MIB_SIZES
    discovery_pairs: int = 128
    discovery_repeats: bool = False
    test_pairs: int = 256


CHOICES = (
    "granularity",
    "component",
    "ablation",
    "positions",
    "direction",
    "set",
    "inputs",
    "head_bias",
)
"""What has to be equal for two faithfulness numbers to mean the same (Miller et al. 2024)."""


# ---------------------------------------------------------------- model
@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Shape of a transformer; null means d_model/n_heads, 4·d_model, and the longest prompt."""

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int | None = None
    d_mlp: int | None = None
    n_ctx: int | None = None
    norm: Literal["layernorm", "rmsnorm", "none"] = "layernorm"
    norm_eps: float = 1e-5
    positions: Literal["learned", "rotary", "none"] = "learned"
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = "gelu_tanh"
    bias: bool = True
    unembed_bias: bool = False
    tied: bool = False
    causal: bool = True
    n_key_value_heads: int | None = None  # null: as many as heads
    parallel: bool = False
    gated: bool = False
    rotary_base: float = 10000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Training stops early once `metric` on the validation split reaches `value`."""

    metric: Literal["accuracy", "loss"] = "accuracy"
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """AdamW with linear warm-up and cosine decay."""

    objective: Literal["next_token", "answer"]
    steps: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    final_learning_rate: float = 0.1  # share of learning_rate at the last step
    warmup_steps: int = 100
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.98
    clip: float = 1.0
    seed: int = 0
    evaluate_every: int = 200
    target: Target | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainModel:
    """A model trained on the data of the task that uses it, or of the one that `task` names."""

    architecture: Architecture
    training: Training
    kind: Literal["train"] = "train"
    name: str | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadModel:
    """A model from a folder with `config.json` and safetensors, or from the Hugging Face hub.

    Exactly one of `path` and `hub` is given; `revision` goes with `hub`.
    """

    path: str | None = None
    hub: str | None = None
    revision: str | None = None
    format: ModelFormat = "auto"
    kind: Literal["load"] = "load"
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileModel:
    """A model whose weights are made from the task's program."""

    kind: Literal["compile"] = "compile"
    name: str | None = None
    hardness: float = 50.0  # attention scores are this far apart, in nats


Model = TrainModel | LoadModel | CompileModel


# ---------------------------------------------------------------- task, method, suite
@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A behaviour: prompt pairs, answer tokens, where they are read, and how it is scored."""

    name: str
    title: str
    data: Data
    tokenizer: TokenizerSpec
    evaluation: Evaluation
    model: Model
    spec_version: int = 1
    version: str = "1"
    description: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """How scores become circuits of a wanted size."""

    rule: Literal["top_n", "greedy"] = "top_n"
    order: Literal["absolute", "signed"] = "absolute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to score or find edges; `params` are the method's own."""

    name: str
    title: str
    kind: str
    spec_version: int = 1
    version: str = "1"
    description: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    selection: Selection = Selection()


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Where and how precisely numbers are computed; all of it is part of a cell's identity."""

    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    threads: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationChange:
    """What a suite changes in its tasks' evaluation; null leaves the task's own choice."""

    ablation: Ablation | None = None
    positions: EdgePositions | None = None
    inputs: Inputs | None = None
    head_bias: HeadBias | None = None
    metric: Metric | None = None
    sizes: tuple[float, ...] | None = None
    discovery_pairs: int | None = None
    discovery_repeats: bool | None = None
    test_pairs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """Cells that a suite leaves out: those that agree with everything given here."""

    task: str | None = None
    model: str | None = None
    method: str | None = None
    evaluation: EvaluationChange = EvaluationChange()


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A grid tasks × models × methods × seeds × evaluations, less `exclude`.

    No models and no evaluations means each task's own.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    spec_version: int = 1
    description: str = ""
    models: tuple[str, ...] = ()
    evaluations: tuple[EvaluationChange, ...] = ()
    exclude: tuple[Exclusion, ...] = ()
    controls: tuple[str, ...] = ("random_paths",)  # methods shown as sanity rows, never ranked
    seeds: tuple[int, ...] = (0,)
    skip_missing: bool = False  # leave out tasks and models whose files are not there, with a note
    runtime: Runtime = Runtime()
