"""What features cost on the model of He et al. 2024: tracing a prompt, and what they stand for.

Six layers of width 128 on 8×8 Othello, with a dictionary of what every attention and MLP writes of
which 32 features are active; all weights are random. Rows:
    frozen run + influence  a prompt of 59 moves, every part's total influence, and the leaf budget
    trace                   300 nodes of it, each taken apart
    scores                  what `traced_influence` says of some prompts, many to a frozen run
    scores one by one       the same with a run of its active features for each prompt
    strongest tokens        where every feature is strongest, over as many tokens as a study sees
    labels                  counting where concepts are true, over as many tokens as labels see
Seconds of the last two are told from smaller numbers of tokens, and not at all where others on the
machine took more time than the tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.circuits.gates.features import patchable
from harness.datasets.batch import Batch
from harness.datasets.open import open_data
from harness.datasets.pairs import TaskData
from harness.dictionaries.dictionary import DictionarySet, random_dictionary
from harness.discovery.attribution.frozen_features import answers_target, mean_over_prompts
from harness.discovery.attribution.traced_influence import influence_of_features
from harness.discovery.problem import Problem
from harness.interpretation.study import StudyBudget, study
from harness.interpretation.subjects import dictionary_subjects
from harness.interpretation.tokens import training_chunks
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer, random_model
from harness.runs.compute.machine import use_runtime
from harness.spec.load import Library
from harness.spec.types import Evaluation, Runtime
from harness.tracing.influence import total_influence
from harness.tracing.keep import KeepRule
from harness.tracing.run import frozen_run
from harness.tracing.target import single_logit
from harness.tracing.trace import trace

TASK = "othello_moves_8x8"
LAYERS, HEADS, WIDTH, K, NODES = 6, 8, 128, 32, 300
PROMPTS, LENGTH = 24, 20
"""Prompts that are scored, and tokens of each."""
FEW = StudyBudget(tokens=30_000, label_tokens=15_000, held_out=8)
"""What a study is measured on; twice the tokens of one kind, less these, give their rate."""


def bench_features(features: int, repeats: int, threads: int) -> dict[str, Any]:
    """The rows above: the fastest of `repeats`, wall time, in seconds.

    `strongest tokens` and `labels` are of `StudyBudget()`.
    """
    use_runtime(Runtime(threads=threads))
    data = open_data(Library().task(TASK))
    model = random_model(
        TransformerConfig(
            n_layers=LAYERS,
            n_heads=HEADS,
            d_model=WIDTH,
            d_head=WIDTH // HEADS,
            d_mlp=4 * WIDTH,
            d_vocab=data.tokenizer.size,
            n_ctx=data.longest,
        ),
        0,
    ).requires_grad_(False)
    sites = [f"{kind}{layer}.out" for layer in range(LAYERS) for kind in "am"]
    codes = DictionarySet(
        {
            site: random_dictionary(WIDTH, features, "topk", k=min(K, features), seed=at)
            for at, site in enumerate(sites)
        }
    ).frozen()
    rows = [
        *_of_a_prompt(model, codes, data, repeats),
        *_of_prompts(model, codes, repeats),
        *_of_a_study(model, codes, data, repeats),
    ]
    return {
        "task": TASK,
        "features": features,
        "dictionaries": len(sites),
        "threads": threads,
        "repeats": repeats,
        "precision": "float32",
        "rows": rows,
    }


def _of_a_prompt(
    model: Transformer, codes: DictionarySet, data: TaskData, repeats: int
) -> list[dict[str, Any]]:
    length = data.longest - 1
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(data.tokenizer.size, (length,), generator=draw)

    def influence() -> None:
        run = frozen_run(model, tokens, codes)
        total_influence(run, single_logit(run, "logit", 0, length - 1))

    run = frozen_run(model, tokens, codes)
    target = single_logit(run, "logit", 0, length - 1)
    keep = KeepRule("rel", 0.001)
    return [
        {
            "row": "frozen run + influence",
            "of": int((run.units >= 0).sum()),
            "unit": "parts",
            "seconds": _fastest(influence, repeats),
        },
        {
            "row": "trace",
            "of": len(trace(run, target, keep=keep, nodes=NODES).nodes),
            "unit": "nodes",
            "seconds": _fastest(lambda: trace(run, target, keep=keep, nodes=NODES), repeats),
        },
    ]


def _of_prompts(model: Transformer, codes: DictionarySet, repeats: int) -> list[dict[str, Any]]:
    draw = torch.Generator().manual_seed(0)

    def tokens(*shape: int) -> Tensor:
        return torch.randint(model.config.d_vocab, shape, generator=draw)

    batch = Batch(
        clean=tokens(PROMPTS, LENGTH),
        corrupted=tokens(PROMPTS, LENGTH),
        positions=torch.full((PROMPTS, 1), LENGTH - 1),
        good=tokens(PROMPTS, 1, 1),
        bad=tokens(PROMPTS, 1, 1),
        rows=torch.arange(PROMPTS),
    )
    choices = Evaluation(
        granularity="feature", component="features", ablation="zero", positions="all"
    )
    gated = patchable(model, choices, [], dictionaries=codes)
    problem = Problem(
        gated, (batch,), gated.counterfactuals(choices, [batch], 0), "logit_diff", draw
    )

    def together() -> None:
        mean_over_prompts(problem, "bench", influence_of_features, signed=False)

    def one_by_one() -> None:
        for row in range(PROMPTS):
            prompt = batch.take(torch.tensor([row]))
            run = frozen_run(model, prompt.clean[0], codes)
            influence_of_features(gated, run, answers_target(run, prompt))

    seconds = [_fastest(one, repeats) for one in (together, one_by_one)]
    of = {"of": PROMPTS, "unit": "prompts"}
    return [
        {"row": "scores", **of, "seconds": seconds[0], "ratio": seconds[0] / seconds[1]},
        {"row": "scores one by one", **of, "seconds": seconds[1]},
    ]


def _of_a_study(
    model: Transformer, codes: DictionarySet, data: TaskData, repeats: int
) -> list[dict[str, Any]]:
    subjects, whole = dictionary_subjects(codes), StudyBudget()

    def seconds(budget: StudyBudget) -> float:
        return _fastest(lambda: study(model, data, subjects, budget), repeats)

    few = seconds(FEW)
    rows = []
    for row, name in (("strongest tokens", "tokens"), ("labels", "label_tokens")):
        small, wanted = getattr(FEW, name), getattr(whole, name)
        more = seconds(replace(FEW, **{name: 2 * small}))
        # Sequences come by the chunk, so that more tokens are seen than were asked for.
        added = _seen(data, 2 * small) - _seen(data, small)
        told = (more - few) / added * wanted if more > few else None
        rows.append({"row": row, "of": wanted, "unit": "tokens", "seconds": told})
    return rows


def _seen(data: TaskData, wanted: int) -> int:
    return sum(len(chunk) for chunk in training_chunks(data, wanted))


def _fastest(run: Callable[[], object], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return min(taken)
