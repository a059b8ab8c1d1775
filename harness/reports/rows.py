"""Result rows: one per cell and circuit size, the form in which numbers leave the harness.

Column names and their order are a public contract. What does not apply is null. Measures that a
task adds (`evaluation.measures`) are columns after these, where a task among the rows adds some;
so are the accuracies of the classes that it names (`answers`), as `accuracy[NAME]`.
Rows are derived from the store and can be rebuilt at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.discovery.registry import info_of
from harness.metrics.per_example import is_of_class
from harness.metrics.sparsity import bits
from harness.reports.resample import chosen_measures
from harness.reports.results import by_score, ground_truth_of, holds, label_of, total_of, unit_of
from harness.runs.store.record import StoredCell

if TYPE_CHECKING:
    import polars

Row = dict[str, Any]

TEXT, WHOLE, REAL = "text", "whole", "real"

COLUMNS: Mapping[str, str] = {
    "task": TEXT,
    "model": TEXT,
    "method": TEXT,
    "granularity": TEXT,
    "ablation": TEXT,
    "seed": WHOLE,
    "n_examples": WHOLE,
    "unit": TEXT,  # what elements are counted in
    "total": WHOLE,  # elements of the whole space
    "size": WHOLE,  # elements kept, after dead ends are removed
    "bits": REAL,  # log2 C(total, size)
    "sparsity": REAL,
    "kl": REAL,
    "logit_diff": REAL,
    "accuracy": REAL,
    "faithfulness": REAL,
    "cpr": REAL,
    "cmd": REAL,
    "auroc": REAL,  # only where there is a true circuit
    "seconds": REAL,
    "peak_mib": REAL,
    "cost_fb": REAL,
    "status": TEXT,  # ok, smoke (cut short by --limit), failed, missing, damaged
    "cell": TEXT,
    "variant": TEXT,  # what the suite changed in the task's evaluation, as in tables; else empty
    "n_discovery": WHOLE,  # prompt pairs that the method used
    "max_pairs_drawn": WHOLE,  # learned masks alone: the most that one training takes of them
    "requested": WHOLE,  # elements asked for at most
    "target": TEXT,  # what the circuit is the smallest to reach; null where a size was asked for
    "reached": TEXT,  # yes, `not on test pairs` if searched on others, or no where nothing does
    "cost_fb_wall": REAL,  # by wall time; null where `cost_fb` is that, in older results
    "weights": WHOLE,  # not zero, between kept channels; null at other granularities
}


_TIMED = ("seconds", "peak_mib", "cost_fb", "cost_fb_wall")


def columns_of(cells: Iterable[StoredCell]) -> dict[str, str]:
    """`COLUMNS`, then the measures that tasks among the cells add, by kind."""
    results = [cell.result for cell in cells if cell.result is not None]
    chosen = (name for result in results for name in (*chosen_measures(result), *_classes(result)))
    return {**COLUMNS, **dict.fromkeys(chosen, REAL)}


def _classes(result: Mapping[str, Any]) -> list[str]:
    """The accuracies of classes that a result has."""
    return [name for name in result["whole"] if is_of_class(name)]


def rows(cells: Iterable[StoredCell]) -> list[Row]:
    """Rows of all cells; a cell without a result has one row with its status.

    Where a method settled on circuits of its own, those cut from its scores follow, under the name
    that tables have (`acdc by score`).
    """
    cells = list(cells)
    names = columns_of(cells)
    return [
        row
        for cell in cells
        for one in (cell, by_score(cell))
        if one is not None
        for row in _cell_rows(one, names)
    ]


def _cell_rows(cell: StoredCell, names: Iterable[str]) -> list[Row]:
    entry = cell.entry
    blank: Row = dict.fromkeys(names)
    blank |= {
        "task": entry.task,
        "model": entry.model,
        "method": entry.method,
        "seed": entry.seed,
        "status": cell.status,
        "cell": entry.id,
        "variant": entry.variant,
    }
    if cell.result is None:
        return [blank]
    timing, total = cell.timing or {}, total_of(cell.result)
    shared = {
        **blank,
        "granularity": cell.result["choices"]["granularity"],
        "ablation": cell.result["choices"]["ablation"],
        "n_examples": cell.result["n_examples"],
        "unit": unit_of(cell.result),
        "total": total,
        "n_discovery": cell.result["n_discovery"],
        "max_pairs_drawn": max_pairs_drawn(cell.result["identity"]["method"]),
        "cpr": value(cell.result["summary"]["cpr"]),
        "cmd": value(cell.result["summary"]["cmd"]),
        "auroc": (ground_truth_of(cell.result) or {}).get("auroc"),
        **{name: timing.get(name) for name in _TIMED},
    }
    return [
        {
            **shared,
            "requested": point["requested"],
            **_target(point),
            "size": point["size"],
            "bits": bits(point["size"], total),
            "weights": point["counts"].get("weights"),
            "sparsity": point["sparsity"],
            "kl": value(point["kl"]),
            "logit_diff": value(point["logit_diff"]),
            "accuracy": value(point["accuracy"]),
            "faithfulness": value(point["faithfulness"]),
            **{name: value(point[name]) for name in chosen_measures(cell.result)},
            **{name: value(point[name]) for name in _classes(cell.result)},
        }
        for point in cell.result["curve"]
    ]


def _target(point: Mapping[str, Any]) -> Row:
    if point["target"] is None:
        return {}
    says = "yes" if holds(point) else "not on test pairs" if point["target"]["reached"] else "no"
    return {"target": label_of(point), "reached": says}


def max_pairs_drawn(method: Mapping[str, Any]) -> int | None:
    """Steps × batch size of a method that trains masks, by its identity; None for other methods.

    What each training draws at most, pairs that come again counted each time: a batch is smaller
    where fewer pairs of one length are left. Other methods look at all pairs, once or more often.
    """
    info, params = info_of(method["kind"]), method["params"]
    if info is None or not info.trains_masks or not {"steps", "batch_size"} <= params.keys():
        return None
    drawn: int = params["steps"] * params["batch_size"]
    return drawn


def value(estimate: Mapping[str, Any]) -> float | None:
    """The value of an estimate; None where it is not defined."""
    number: float | None = estimate["value"]
    return number


def frame(cells: Iterable[StoredCell]) -> polars.DataFrame:
    """The rows as a polars data frame with the same columns, typed even when all are null."""
    import polars as pl

    kinds = {TEXT: pl.String(), WHOLE: pl.Int64(), REAL: pl.Float64()}
    cells = list(cells)
    schema = {name: kinds[kind] for name, kind in columns_of(cells).items()}
    return pl.DataFrame(rows(cells), schema=schema, orient="row")


def write_parquet(cells: Iterable[StoredCell], path: Path) -> None:
    """Write the rows as Parquet."""
    frame(cells).write_parquet(path)
