"""The twenty questions asked of a tokenizer's model while it is trained on a corpus."""

from __future__ import annotations

from harness.datasets.generators.python_code.cues import CUES
from harness.datasets.generators.python_code.source import PythonCode, PythonCodeParams
from harness.datasets.pairs import PromptPairs
from harness.datasets.splits import Shares
from harness.datasets.stream import StreamData
from harness.datasets.tokenizers import FileTokenizer

SHARES = {"train": 0.5, "validation": 0.25, "test": 0.25}
"""Of the content words, as in `tasks/code`."""


def questions(tokenizer: FileTokenizer, longest: int, n: int) -> dict[str, PromptPairs]:
    """Return n prompt pairs of split validation for each question, by its name.

    `longest`: tokens of a prompt, BOS included. Raises `HarnessError` for a tokenizer in which
    twins have other numbers of tokens, or answers are not one.
    """
    shares = Shares(SHARES, 0)
    asked = {}
    for cue in CUES:
        params = PythonCodeParams(cue=cue, longest=min(longest, PythonCodeParams.longest))
        data = StreamData(PythonCode(params, tokenizer, shares), shares)
        asked[cue] = data.pairs("validation", n, 0)
    return asked
