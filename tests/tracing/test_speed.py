"""A prompt of 8×8 Othello is traced in a moment, by processor time of one thread."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from harness.dictionaries.dictionary import random_dictionary
from harness.models.config import TransformerConfig
from harness.models.transformer import random_model
from harness.tracing.influence import total_influence
from harness.tracing.keep import KeepRule
from harness.tracing.run import frozen_run
from harness.tracing.target import single_logit
from harness.tracing.trace import trace

CONFIG = TransformerConfig(
    n_layers=6, n_heads=8, d_model=128, d_head=16, d_mlp=512, d_vocab=60, n_ctx=59
)
"""The model of He et al. 2024, with 12 dictionaries of 1024 features of which 32 are active."""


def fastest(run: Callable[[], object], repeats: int = 5) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.thread_time()
        run()
        seconds.append(time.thread_time() - began)
    return min(seconds)


@pytest.mark.slow  # a few seconds on a quiet core; a busy one makes processor time longer too
def test_a_prompt_is_traced_in_a_moment() -> None:
    model = random_model(CONFIG, 0).requires_grad_(False)
    sites = [f"{kind}{layer}.out" for layer in range(6) for kind in "am"]
    codes = {
        site: random_dictionary(128, 1024, "topk", k=32, seed=at).requires_grad_(False)
        for at, site in enumerate(sites)
    }
    tokens = torch.randint(60, (59,), generator=torch.Generator().manual_seed(0))

    def influence() -> object:
        run = frozen_run(model, tokens, codes)
        return total_influence(run, single_logit(run, "logit", 3, 58))

    assert fastest(influence) < 0.2
    run = frozen_run(model, tokens, codes)
    assert int((run.units >= 0).sum()) > 20_000
    target = single_logit(run, "logit", 3, 58)
    graph = trace(run, target, keep=KeepRule("rel", 0.001), nodes=300)
    assert len(graph.nodes) > 250
    assert fastest(lambda: trace(run, target, keep=KeepRule("rel", 0.001), nodes=300)) < 0.5
