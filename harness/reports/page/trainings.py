"""How the models and dictionaries of a page were trained, from the logs beside the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.errors import StoreCorrupt
from harness.reports.page.charts import Chart, Series, chart
from harness.runs.plan.shipped import TRAINING
from harness.runs.store.models import ModelStore
from harness.runs.store.record import MODELS, StoredCell
from harness.spec.identity import digest

NO_LOG = "No training log lies beside the results: it was loaded, compiled, or ships with its spec."


@dataclass
class Trained:
    """A model, or the dictionaries of one; `facts` are names and values of its last evaluation.

    `problem` says why there is no log.
    """

    anchor: str
    kind: str
    name: str
    id: str
    tasks: list[str]
    facts: list[tuple[str, str]] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    tensors: list[tuple[str, int, int]] = field(default_factory=list)
    problem: str = ""


def trainings(cells: Sequence[StoredCell]) -> list[Trained]:
    """Models in order of first appearance, each followed by its dictionaries."""
    every: dict[str, Trained] = {}
    for cell in cells:
        if cell.result is None:
            continue
        store, entry = ModelStore(cell.store.folder.parent / MODELS), cell.entry
        wanted = [("model", entry.model, entry.model_id, store)]
        if (identity := entry.identity.get("dictionary")) is not None:
            name = f"dictionaries of {entry.model}"
            wanted.append(("dictionaries", name, digest(identity), store.dictionaries))
        for kind, name, own, place in wanted:
            if own not in every:
                every[own] = _trained(f"trained-{len(every) + 1}", kind, name, own, place)
            if entry.task not in every[own].tasks:
                every[own].tasks.append(entry.task)
    return list(every.values())


def _trained(anchor: str, kind: str, name: str, own: str, store: ModelStore) -> Trained:
    one = Trained(anchor, kind, name, own, [])
    if not store.exists(own):
        one.problem = NO_LOG
        return one
    try:
        folder = store.read(own)
        log = folder.json(TRAINING) if TRAINING in folder.digests else {}
        if history := log.get("history", []):
            _read_log(one, history, log)
        else:
            one.problem = NO_LOG
    except StoreCorrupt as error:
        one.problem = str(error)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        one.problem = f"{TRAINING} is of a form that is not read here: {error!r}"
    return one


def _read_log(one: Trained, history: Sequence[Mapping[str, Any]], log: Mapping[str, Any]) -> None:
    one.facts = _facts(history[-1], log)
    one.charts = _charts(history)
    last = history[-1].get("tensors", {})
    budgets = log.get("budgets", {})
    one.tensors = [
        (tensor, int(count), int(budgets[tensor]["entries"]))
        for tensor, count in last.items()
        if tensor in budgets
    ]


_NAMES = {
    "step": "steps",
    "loss": "held-out loss (nats)",
    "training_loss": "training loss",
    "entropy": "entropy of the data (nats)",
    "excess": "held-out loss above the entropy (nats)",
    "accuracy": "held-out accuracy",
    "good_mass": "probability of right answers",
    "nonzeros": "weights that are not zero",
    "dead_neurons": "dead neurons",
    "splice_kl": "KL with the codes spliced in (nats)",
    "l0": "active features per token (L0)",
    "dead": "dead features",
}


def _facts(last: Mapping[str, Any], log: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [
        (name, _number(last[key]))
        for key, name in _NAMES.items()
        if isinstance(last.get(key), int | float)
    ]
    if "budgets" in log and "nonzeros" in last:
        entries = sum(budget["entries"] for budget in log["budgets"].values())
        facts.append(("of weights that may be", f"{entries:,}"))
    recipe = log.get("identity", {}).get("dictionary", {}).get("dictionary", {})
    if "features" in recipe:
        facts.append(("features", f"{recipe['features']:,}"))
    if "k" in recipe:
        sites = ", ".join(f"{site} {k}" for site, k in recipe.get("k_by_site", {}).items())
        facts.append(("active features per token (k)", sites or str(recipe["k"])))
    return facts


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


LOSSES = (("loss", "held-out"), ("training_loss", "training"), ("excess", "above the entropy"))


def _charts(history: Sequence[Mapping[str, Any]]) -> list[Chart]:
    entropy = history[-1].get("entropy")
    levels = [] if entropy is None else [(float(entropy), "entropy of the data")]
    drawn = [
        chart("Loss", "step", "loss (nats)", _series(history, LOSSES), levels),
        chart(
            "Accuracy",
            "step",
            "held-out accuracy",
            _series(history, (("accuracy", "accuracy"), ("good_mass", "right answers"))),
            (),
            (0.0, 1.0),
        ),
        chart(
            "Sparsity",
            "step",
            "number",
            _series(history, (("nonzeros", "weights not zero"), ("dead_neurons", "dead neurons"))),
        ),
        chart(
            "Codes spliced in",
            "step",
            "KL (nats)",
            _series(history, (("splice_kl", "KL"),)),
        ),
    ]
    return [one for one in drawn if one is not None]


def _series(
    history: Sequence[Mapping[str, Any]], wanted: Sequence[tuple[str, str]]
) -> list[Series]:
    """Those of the wanted values that the log has; a logarithmic axis begins after step 0."""
    series = []
    for style, (key, name) in enumerate(wanted):
        points = [one for one in history if isinstance(one.get(key), int | float)]
        if points:
            nothing = [None] * len(points)
            steps = [float(one["step"]) for one in points]
            values = [float(one[key]) for one in points]
            series.append(Series(name, style, False, steps, values, nothing, nothing))
    return series
