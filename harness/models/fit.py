"""Whether prompts suit a model: their length, and the tokens they use. Needs no torch."""

from __future__ import annotations

from harness.datasets.classes import classes_of
from harness.datasets.pairs import PromptPairs, TaskData
from harness.datasets.tokenizers import Tokenizer
from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.spec.printable import quoted


def outputs_problem(config: TransformerConfig, data: TaskData) -> str | None:
    """Why a task's answers are not the model's outputs, tokens or classes; None if they are."""
    classes = classes_of(data)
    if classes is None and data.tokenizer.kind == "moves" and config.d_vocab != data.tokenizer.size:
        return (
            f"the model has {config.d_vocab} tokens, the task {data.tokenizer.size} moves, so that "
            "they would not mean the same; leave a checkpoint's other symbols out with "
            "`without_tokens`, such as [0] for a padding symbol before the moves"
        )
    if classes is None and config.n_outputs != config.d_vocab:
        return (
            f"the model answers in {config.n_outputs} classes, not in its {config.d_vocab} tokens: "
            "name them in the task's `answers`, in the order of its outputs"
        )
    if classes is not None and config.n_outputs != classes.size:
        return (
            f"the task names {classes.size} classes in `answers`, and the model has "
            f"{config.n_outputs} outputs; name one for each"
        )
    return None


def length_problem(config: TransformerConfig, longest: int) -> str | None:
    """Why prompts of up to `longest` tokens are too long; None if they are not."""
    if longest <= config.n_ctx:
        return None
    return (
        f"the task's longest prompt has {longest} tokens, and the model takes {config.n_ctx}; "
        "shorten the prompts or choose another model"
    )


def token_problem(
    config: TransformerConfig, *drawn: PromptPairs, tokenizer: Tokenizer | None = None
) -> str | None:
    """Why prompts or answers cannot be given to a model; None if they can.

    A tokenizer may have more ids than the embedding has rows, as long as none of them is used.
    """
    used = [ids for pairs in drawn for ids in (pairs.clean, pairs.corrupted)]
    if config.n_outputs == config.d_vocab:  # else answers are classes
        used += [ids for pairs in drawn for ids in (pairs.good, pairs.bad)]
    largest = max((int(ids.max(initial=-1)) for ids in used), default=-1)
    if largest < config.d_vocab:
        return None
    text = "" if tokenizer is None else f" ({quoted(tokenizer.tokens[largest])})"
    return (
        f"a prompt or answer uses token {largest}{text}, and the model knows {config.d_vocab} "
        "tokens, the rows of its embedding. Use the model's own tokenizer, or leave such prompts "
        "out"
    )


def require_tokens(config: TransformerConfig, *drawn: PromptPairs) -> None:
    """Raise `HarnessError` for prompts or answers with tokens that the model does not know."""
    if problem := token_problem(config, *drawn):
        raise HarnessError(problem)
