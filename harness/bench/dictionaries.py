"""What a training step of a dictionary takes, beside the matrix products that it cannot do without.

The products are five of B·D·F multiplications: code, decoded, and the gradients of the code and of
both matrices. Steps are whole: gradients, Adam, unit rows. Activations are made beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from harness.dictionaries.dictionary import Activation, random_dictionary
from harness.dictionaries.training.learner import DictionaryLearner
from harness.spec.types import DictionaryForm

WIDTH, ROWS, K = 128, 4096, 32

Precision = Literal["float32", "bfloat16"]


def bench_dictionaries(
    features: int, repeats: int, threads: int, precision: Precision
) -> dict[str, Any]:
    """Steps on 4,096 activations of width 128, by activation; products and step take turns.

    `share`: time of the products over that of the step, both the fastest of `repeats` in processor
    time of one thread, and in wall time otherwise.
    """
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    dtype: torch.dtype = getattr(torch, precision)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, WIDTH, generator=draw)
    products = _products(x.to(dtype), features)
    rows = []
    for activation in get_args(Activation):
        step = _step(activation, features, dtype, x)
        floor, whole = [], []
        for _ in range(repeats + 1):  # the first warms up
            floor.append(_seconds(products, clock))
            whole.append(_seconds(step, clock))
        fastest, taken = min(floor[1:]), min(whole[1:])
        rows.append(
            {
                "activation": activation,
                "products_seconds": fastest,
                "step_seconds": taken,
                "tokens_per_second": ROWS / taken,
                "share": fastest / taken,
            }
        )
    return {
        "width": WIDTH,
        "features": features,
        "batch_tokens": ROWS,
        "precision": precision,
        "threads": threads,
        "repeats": repeats,
        "rows": rows,
    }


def _products(x: Tensor, features: int) -> Callable[[], None]:
    """The five products, into memory that is there."""
    encoder, decoder = torch.randn(2, features, WIDTH).to(x)
    code, towards = torch.zeros(2, ROWS, features).to(x)
    decoded = torch.empty_like(x)
    gradient = torch.empty_like(encoder)

    def run() -> None:
        torch.mm(x, encoder.T, out=code)
        torch.mm(code, decoder, out=decoded)
        torch.mm(code.T, decoded, out=gradient)
        torch.mm(decoded, decoder.T, out=towards)
        torch.mm(towards.T, x, out=gradient)

    return run


def _step(
    activation: Activation, features: int, dtype: torch.dtype, x: Tensor
) -> Callable[[], None]:
    sparse = activation in ("topk", "batchtopk")
    k = min(K, features)
    form = DictionaryForm(activation=activation, features=features, k=k if sparse else None)
    first = random_dictionary(
        WIDTH, features, activation, seed=0, k=k if activation == "topk" else None
    )
    learner = DictionaryLearner(first, form, k, dtype)
    learner.start(x)
    optimiser = torch.optim.Adam(list(learner.parameters().values()), lr=1e-3, fused=True)

    def run() -> None:
        learner.backward(x)
        optimiser.step()
        learner.renormalise()

    return run


def _seconds(run: Callable[[], None], clock: Callable[[], float]) -> float:
    began = clock()
    run()
    return clock() - began
