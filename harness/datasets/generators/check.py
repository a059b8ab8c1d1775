"""Tasks of generators: opened, and checked with places in the task's file."""

from __future__ import annotations

from pathlib import Path

from harness.datasets.generators.registry import generator, wrong_tokenizer
from harness.datasets.generators.spec import GeneratorData
from harness.datasets.pairs import TaskData
from harness.datasets.problems import Problem, share_problems_at
from harness.errors import HarnessError
from harness.spec.types import TokenizerSpec


def open_generated(data: GeneratorData, tokenizer: TokenizerSpec, folder: Path) -> TaskData:
    """Return the data of a task; HarnessError with everything that is wrong."""
    return generator(data.generator).open_data(data, tokenizer, folder)


def generator_problems(
    data: GeneratorData, tokenizer: TokenizerSpec, folder: Path
) -> list[Problem]:
    """Return everything that is wrong with a generator's name, params, shares and tokenizer."""
    problems = share_problems_at(data.shares)
    try:
        chosen = generator(data.generator)
    except HarnessError as error:
        return [*problems, (("data", "generator"), str(error))]
    if tokenizer.kind not in chosen.tokenizers:
        text = wrong_tokenizer(data.generator, chosen.tokenizers, tokenizer.kind)
        problems.append((("tokenizer", "kind"), text))
    problems += [(("data", "params", name), text) for name, text in chosen.problems(data.params)]
    return problems
