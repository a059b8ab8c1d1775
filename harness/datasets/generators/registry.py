"""Generators by name: the built-in ones and those of installed packages.

A package adds one by an entry point in the group `harness.generators` that refers to a
`Generator`:

    [project.entry-points."harness.generators"]
    my_task = "my_package.my_module:GENERATOR"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.datasets.generators.params import Problem, read_params
from harness.datasets.generators.spec import GeneratorData
from harness.datasets.pairs import TaskData
from harness.datasets.splits import Shares
from harness.datasets.tokenizers import FileTokenizer, Kind, file_tokenizer, is_file
from harness.datasets.tokenizers.choose import FILE_KINDS
from harness.errors import HarnessError, NotFound
from harness.spec.issues import unknown
from harness.spec.types import TokenizerSpec

if TYPE_CHECKING:
    from harness.datasets.stream import PromptSource

GROUP = "harness.generators"


@dataclass(frozen=True)
class Generator:
    """A kind of task made by Python code.

    `params`: a frozen dataclass whose fields all have defaults; `problems()` may add rules.
    `tokenizer`: the kind a task of this generator names. `open(params, bos, shares)`: the task's
    data; `shares.seed` is the data seed. `open_file(params, tokenizer, shares)`, if there is one,
    makes the same prompts over a `tokenizer.json`; then kinds `file` and `model` are allowed too.
    Its source says what is asked after its prompts (see `stream.TextSource`).
    """

    params: type[Any]
    tokenizer: Kind
    open: Callable[[Any, bool, Shares], TaskData]
    open_file: Callable[[Any, FileTokenizer, Shares], TaskData] | None = None

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """The kinds that a task of this generator can name."""
        own = () if self.tokenizer in FILE_KINDS else (self.tokenizer,)
        return own if self.open_file is None else (*own, *FILE_KINDS)

    def problems(self, params: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with the params of a task."""
        return read_params(self.params, params)[1]

    def open_data(
        self, data: GeneratorData, tokenizer: TokenizerSpec, folder: Path = Path()
    ) -> TaskData:
        """Return the data of a task in `folder`; HarnessError with everything that is wrong."""
        params, problems = read_params(self.params, data.params)
        messages = [f"data.params.{name}: {text}" for name, text in problems]
        if tokenizer.kind not in self.tokenizers:
            messages.append(wrong_tokenizer(data.generator, self.tokenizers, tokenizer.kind))
        if messages:
            raise HarnessError("\n".join(messages))
        shares = Shares(data.shares, data.seed)
        if self.open_file is not None and is_file(tokenizer):
            file = file_tokenizer(tokenizer, folder, data.continues is not False)
            return self.open_file(params, file, shares)
        return self.open(params, tokenizer.bos is True, shares)


def wrong_tokenizer(name: str, wanted: Sequence[str], kind: str) -> str:
    """Return the message for a tokenizer that does not fit a generator."""
    kinds = " or ".join(repr(kind) for kind in wanted)
    return f"generator {name!r} needs tokenizer kind {kinds}, not {kind!r}"


def generator(name: str) -> Generator:
    """Return a generator by name.

    Raises NotFound with a suggestion for an unknown name, HarnessError naming the
    distribution if a plug-in cannot be imported or is no `Generator`.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]()
    for point in entry_points(group=GROUP, name=name):
        return _load(point)
    raise NotFound(unknown("generator", name, generator_names()))


def plug_in(name: str) -> str | None:
    """Package and version that a generator's code comes from, or None for a built-in one."""
    if name in _BUILT_IN:
        return None
    for point in entry_points(group=GROUP, name=name):
        return f"{point.dist.name} {point.dist.version}" if point.dist else None
    return None


def generator_names() -> list[str]:
    """Return all names, without importing anything."""
    return sorted({*_BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def _load(point: EntryPoint) -> Generator:
    origin = point.dist.name if point.dist else "an unknown distribution"
    label = f"generator {point.name!r} of {origin} ({point.value})"
    try:
        loaded = point.load()
    except Exception as error:  # a broken plug-in can raise anything
        raise HarnessError(f"{label} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(loaded, Generator):
        raise HarnessError(f"{label} is a {type(loaded).__name__}, not a Generator")
    return loaded


def _of_words(params: type, source: Callable[..., PromptSource]) -> Generator:
    """A generator over words: its own, or the pieces of a tokenizer's file."""
    from harness.datasets.stream import StreamData

    return Generator(
        params,
        "words",
        lambda params, bos, shares: StreamData(source(params, bos), shares),
        lambda params, tokenizer, shares: StreamData(
            source(params, tokenizer.bos is not None, tokenizer), shares
        ),
    )


def _arithmetic() -> Generator:
    from harness.datasets.generators.arithmetic import Arithmetic, ArithmeticParams

    return _of_words(ArithmeticParams, Arithmetic)


def _boolean_expressions() -> Generator:
    from harness.datasets.generators.boolean_expressions.source import (
        BooleanExpressions,
        BooleanParams,
    )

    return _of_words(BooleanParams, BooleanExpressions)


def _brackets() -> Generator:
    from harness.datasets.generators.brackets import BracketParams, Brackets
    from harness.datasets.stream import StreamData

    return Generator(
        BracketParams,
        "characters",
        lambda params, bos, shares: StreamData(Brackets(params, bos), shares),
    )


def _python_code() -> Generator:
    from harness.datasets.generators.python_code.source import PythonCode, PythonCodeParams
    from harness.datasets.stream import StreamData

    def refused(params: Any, bos: bool, shares: Shares) -> TaskData:
        raise HarnessError("generator 'python_code' has no vocabulary of its own")

    return Generator(
        PythonCodeParams,
        "file",
        refused,
        lambda params, tokenizer, shares: StreamData(PythonCode(params, tokenizer, shares), shares),
    )


def _quotes() -> Generator:
    from harness.datasets.generators.quotes.source import QuoteParams, Quotes
    from harness.datasets.stream import StreamData

    return Generator(
        QuoteParams,
        "characters",
        lambda params, bos, shares: StreamData(Quotes(params, bos, shares.seed), shares),
    )


def _othello() -> Generator:
    from harness.datasets.generators.othello.source import Othello, OthelloParams
    from harness.datasets.stream import StreamData

    return Generator(
        OthelloParams,
        "moves",
        lambda params, bos, shares: StreamData(Othello(params, bos), shares),
    )


_BUILT_IN: Mapping[str, Callable[[], Generator]] = {
    "arithmetic": _arithmetic,
    "boolean_expressions": _boolean_expressions,
    "brackets": _brackets,
    "othello": _othello,
    "python_code": _python_code,
    "quotes": _quotes,
}
