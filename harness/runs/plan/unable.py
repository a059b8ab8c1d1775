"""Refuse cells whose method does not support what their task asks for, before any is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from harness.discovery.refusals import (
    granularity_problem,
    objective_problem,
    per_token_problem,
    post_norms_problem,
    processes_problem,
    shards_problem,
    sparsity_problem,
    tracing_problem,
)
from harness.discovery.registry import info_of
from harness.errors import HarnessError
from harness.models.loading.folder import has_post_norms, is_circuit_sparsity
from harness.models.loading.location import checkpoint_folder
from harness.spec.types import CompileModel, DictionarySpec, LoadModel

if TYPE_CHECKING:
    from harness.runs.plan import Cell
    from harness.spec.load import Loaded


def refuse_unable(cells: Iterable[Cell]) -> None:
    """Raise `HarnessError` for the first reason why a method cannot be used in some cells."""
    cells = list(cells)
    for granularity in dict.fromkeys(cell.task.spec.evaluation.granularity for cell in cells):
        _refuse(
            [cell for cell in cells if cell.task.spec.evaluation.granularity == granularity],
            partial(granularity_problem, name=granularity),
        )
    for dictionaries, some in _by_dictionaries(cells):
        _refuse(some, partial(tracing_problem, dictionaries=dictionaries))
    _refuse(
        [cell for cell in cells if cell.task.spec.evaluation.positions == "per_token"],
        per_token_problem,
    )
    _refuse([cell for cell in cells if cell.runtime.processes > 1], processes_problem)
    sharded = [cell for cell in cells if cell.runtime.shards > 1]
    _refuse(sharded, shards_problem)
    unfit = [cell for cell in cells if post_norms_problem([cell.method.kind])]
    _refuse([cell for cell in unfit if _normalises_heads(cell)], post_norms_problem)
    by_reason: dict[str, list[Cell]] = {}
    for cell in cells:
        choices, params = cell.task.spec.evaluation, cell.method.params
        text = (
            sparsity_problem(choices, cell.model)
            or objective_problem(cell.method.kind, params, choices.metric, choices.ablation)
            or _search_problem(cell)
            or _shards_problem(cell)
        )
        if text:
            by_reason.setdefault(text, []).append(cell)
    for text, some in by_reason.items():
        raise _unable(some, text)


def _refuse(cells: list[Cell], problem_of: Callable[[Iterable[str]], str | None]) -> None:
    if problem := problem_of([cell.method.kind for cell in cells]):
        raise _unable(cells, problem)


def _by_dictionaries(
    cells: Iterable[Cell],
) -> Iterator[tuple[Loaded[DictionarySpec], list[Cell]]]:
    """The cells that have dictionaries, those of the same ones together."""
    groups: dict[str, tuple[Loaded[DictionarySpec], list[Cell]]] = {}
    for cell in cells:
        if (own := cell.dictionaries) is not None:
            groups.setdefault(own.id, (own.loaded, []))[1].append(cell)
    yield from groups.values()


def _search_problem(cell: Cell) -> str | None:
    """Why a search over a method's params cannot be made; None if it can or is not wanted."""
    search, kind = cell.method.selection.search, cell.method.kind
    if search is None:
        return None
    if cell.task.spec.evaluation.targets is None:
        return f"the search of method {cell.method.name!r} is for circuits of `targets`"
    info = info_of(kind)
    defaults = {} if info is None else info.defaults
    for name, (low, high) in search.ranges.items():
        default = (
            next(iter(value), 0.0) if isinstance(value := defaults.get(name), tuple) else value
        )
        if isinstance(default, bool) or not isinstance(default, int | float):
            numbers = [one for one, x in defaults.items() if isinstance(x, int | float | tuple)]
            return f"{kind} has no number {name!r} to search; it has {', '.join(numbers)}"
        if not 0 <= low < high:
            return (
                f"the search of method {cell.method.name!r} has no range of {name}: {low}, {high}"
            )
    return None


def _shards_problem(cell: Cell) -> str | None:
    """Why the cell's model cannot lie in shards; None if it can, or need not."""
    if cell.runtime.shards == 1:
        return None
    fault = None
    if isinstance(cell.model, CompileModel):
        fault = "is compiled, which makes it whole"
    elif cell.task.spec.evaluation.key_value_edges == "per_head":
        fault = "gets keys and values of every head (`key_value_edges`), which makes it anew"
    elif isinstance(cell.model, LoadModel) and is_circuit_sparsity(
        checkpoint_folder(cell.model, cell.model_folder), cell.model.format
    ):
        fault = "is a checkpoint of openai/circuit_sparsity, which can only be read whole"
    return fault and (
        f"model {cell.model_name} {fault}; with `runtime.shards` no process may hold all weights: "
        "leave `shards` at 1"
    )


def _normalises_heads(cell: Cell) -> bool:
    """Whether the cell's model is a checkpoint whose layers normalise what their heads add."""
    if not isinstance(cell.model, LoadModel):
        return False
    return has_post_norms(checkpoint_folder(cell.model, cell.model_folder), cell.model.format)


def _unable(cells: Iterable[Cell], problem: str) -> HarnessError:
    tasks = ", ".join(dict.fromkeys(cell.task.spec.name for cell in cells))
    return HarnessError(
        f"{tasks}: {problem}. Choose methods with --methods or in the suite, or leave cells "
        "out of the suite with `exclude`"
    )
