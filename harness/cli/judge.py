"""`harness judge`: all measures of one circuit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options
from harness.cli.overlap import consistency_shown
from harness.cli.overlap import share as _share
from harness.cli.say import say

if TYPE_CHECKING:
    from harness.runs.services.lookup import NamedCircuit
    from harness.spec.load import Library, Loaded
    from harness.spec.types import DictionarySpec, Runtime, Task

Row = tuple[str, str, str]

EXCLUSION = "exclusion"


@click.command("judge")
@click.argument("circuit")
@click.option("--task", help="Judge on this task (default: the one the circuit was found on).")
@click.option("--on", help="In the same model, on the prompts of this task: does it transfer?")
@click.option("--model", help="In this model in place of the task's own.")
@click.option(
    "--dictionary", help="Of a circuit of features: its dictionaries (default: as it says)."
)
@click.option("--split", default="test", show_default=True, help="Prompt pairs to measure on.")
@options.circuit_size
@click.option("--against", multiple=True, help="Overlap with this circuit too (several times).")
@click.option(
    "--tests",
    help="Only these of completeness, minimality, necessity, interchange, attention, "
    "equivalence, independence, as a,b; exclusion, if named; or none.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Of exclusion: searches at most.",
)
@click.option(
    "--random-sets",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Of necessity and interchange: sets of as many elements beside the circuit.",
)
@click.option("--pairs", type=click.IntRange(min=2), help="Prompt pairs (default: the task's).")
@click.option("--seed", type=click.IntRange(min=0), help="Of all draws (default: the cell's, 0).")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Compute there.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads.")
@options.results("-o")
@options.include
@options.as_json
def command(
    circuit: str,
    task: str | None,
    on: str | None,
    model: str | None,
    dictionary: str | None,
    split: str,
    size: float | None,
    against: tuple[str, ...],
    tests: str | None,
    rounds: int,
    random_sets: int,
    pairs: int | None,
    seed: int | None,
    device: str | None,
    threads: int | None,
    results: Path,
    include: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Measure CIRCUIT: faithfulness, completeness, minimality, necessity, tests, overlap.

    CIRCUIT is a circuit file, the beginning of a cell's id, or RUN:CELL. On another split, or with
    --on on another task in the same model, this shows how far it transfers.
    """
    from harness.cli.choose import checked_task, default_runtime, log, model_source
    from harness.evaluation.judge import Effort
    from harness.runs.services.judge import Request, judge_circuit, runtime_of
    from harness.runs.services.lookup import find_circuit
    from harness.runs.store.record import model_store
    from harness.spec.load import Library

    chosen, excluding = _tests(tests)
    library = Library(include)
    named = find_circuit(results, circuit, size)
    loaded = _task(library, task, named)
    measured = None if on is None else checked_task(library, on)
    runtime = runtime_of(named, default_runtime(library))
    request = Request(
        named=named,
        task=loaded,
        source=model_source(library, loaded, model),
        runtime=_changed(runtime, device, threads),
        on=measured,
        dictionary=_dictionary(library, dictionary, named, measured or loaded),
        split=split,
        against=tuple(find_circuit(results, other, size) for other in against),
        tests=chosen,
        pairs=pairs,
        seed=seed,
        rounds=rounds if excluding else None,
    )
    effort = Effort(random_sets=random_sets)
    report = judge_circuit(request, model_store(results), log, effort)
    say(json.dumps(report, indent=1, allow_nan=False) if as_json else _text(report))


# ---------------------------------------------------------------- what was asked for
def _tests(text: str | None) -> tuple[tuple[str, ...], bool]:
    """The tests that are asked for, and whether exclusion is, which is none of the usual ones."""
    from harness.evaluation.judge import TESTS

    if text is None:
        return TESTS, False
    wanted = tuple(part.strip() for part in text.split(","))
    if wanted == ("none",):
        return (), False
    for name in wanted:
        if name not in (*TESTS, EXCLUSION):
            raise click.UsageError(
                f"--tests knows {', '.join(TESTS)}, {EXCLUSION} and none, not {name!r}"
            )
    return tuple(name for name in wanted if name != EXCLUSION), EXCLUSION in wanted


def _task(library: Library, task: str | None, named: NamedCircuit) -> Loaded[Task]:
    """The task asked for, or the one that the circuit was found on; refused if it has mistakes."""
    from harness.cli.choose import checked_task
    from harness.errors import HarnessError

    task = task or named.circuit.source.get("task")
    if task is None:
        raise HarnessError(f"{named.name} does not say which task it is for; name one with --task")
    return checked_task(library, task)


def _dictionary(
    library: Library, dictionary: str | None, named: NamedCircuit, task: Loaded[Task]
) -> Loaded[DictionarySpec] | None:
    """The dictionaries asked for, or those that the circuit names; None where it names none."""
    if dictionary is not None:
        return library.dictionary(dictionary)
    source, own = named.circuit.source.get("dictionary"), task.dictionary
    if own is not None and source in (None, own.path.stem):
        return own
    return None if source is None else library.dictionary(source)


def _changed(runtime: Runtime, device: Any, threads: int | None) -> Runtime:
    runtime = runtime if device is None else replace(runtime, device=device)
    return runtime if threads is None else replace(runtime, threads=threads)


# ---------------------------------------------------------------- the report as text
def _text(report: dict[str, Any]) -> str:
    from tabulate import tabulate

    from harness.reports.screens.validation import attention_rows, exclusion_rows
    from harness.spec.printable import printable

    choices = ", ".join(f"{name} {value}" for name, value in report["choices"].items())
    head = (
        f"{report['name']} on {report['task']} ({report['split']}, {report['n_examples']} pairs) "
        f"in {report['model']} ({report['model_id'][:12]}); metric {report['metric']}; {choices}."
    )
    rows = [*_behaviour(report), *_completeness(report), *_minimality(report)]
    rows += [*_necessity(report), *_interchange(report), *attention_rows(report)]
    rows += [*_tests_rows(report), *exclusion_rows(report), *_overlap(report)]
    lines = [[printable(text) for text in row] for row in rows]
    headers = ["measure", "value", "meaning"]
    table = tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True)
    metric = report["metric"]
    scale = f"Incompleteness and effects are shares of |{metric}(model) - {metric}(empty circuit)|."
    return f"{printable(head)}\n{scale}\n\n{table}"


def _shown(estimate: dict[str, Any]) -> str:
    from harness.reports.text import plus_minus

    low, high = estimate["low"], estimate["high"]
    half = None if low is None or high is None else (high - low) / 2
    return "not defined" if estimate["value"] is None else plus_minus(estimate["value"], half)


def _behaviour(report: dict[str, Any]) -> list[Row]:
    from harness.metrics.per_example import is_of_class

    point, whole = report["circuit"], report["whole"]
    rows = [
        (report["unit"], f"{report['size']} of {report['total']}", ""),
        ("nodes", f"{report['nodes']} of {report['nodes_total']}", "heads and MLPs"),
        ("sparsity", f"{report['sparsity']:.4f}", f"share of {report['unit']} not used"),
        ("faithfulness", _shown(point["faithfulness"]), "1 = whole model, 0 = empty circuit"),
    ]
    for name, title in (("metric", report["metric"]), ("kl", "KL"), ("accuracy", "accuracy")):
        rows.append((title, _shown(point[name]), f"whole model {_shown(whole[name])}"))
    if (stored := report.get("as_stored")) is not None:
        note = f"largest difference from what the file says, of {stored['measure']}"
        rows.append(("as in the file", f"{stored['apart']:.1e}", note))
    for name in filter(is_of_class, point):
        rows.append((name, _shown(point[name]), f"whole model {_shown(whole[name])}"))
    return rows


_SHOWN = 3  # parts of a knock-out; --json has them all
_KNOCKOUTS = {
    "nothing": "no knock-out",
    "random": "random subsets",
    "nodes": "each node",
    "worst_nodes": "worst nodes",
    "worst_elements": "worst {unit}",
    "learned": "learned mask",
}


def _completeness(report: dict[str, Any]) -> list[Row]:
    if "completeness" not in report:
        return []
    rows = []
    for kind, title in _KNOCKOUTS.items():
        gaps = report["completeness"].get(kind)
        if gaps is not None:
            name = f"incompleteness, {title.format(unit=report['unit'])}"
            rows.append((name, _shown(gaps["share"]), _knocked_out(gaps)))
    return rows


def _knocked_out(gaps: dict[str, Any]) -> str:
    worst = gaps["worst"]
    parts = worst["knockout"].split(", ")
    more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    name = ", ".join(parts[:_SHOWN]) + more
    if gaps["knockouts"] == 1:
        return f"K: {name}"
    return f"mean of {gaps['knockouts']}; worst {_share(worst['share'])}, K: {name}"


def _minimality(report: dict[str, Any]) -> list[Row]:
    rows = []
    for kind, title in (("elements", report["unit"]), ("nodes", "nodes")):
        effects = report.get("minimality", {}).get(kind)
        if effects is not None:
            weakest = effects["weakest"][0]["name"]
            note = f"{effects['below_1_percent']} of {effects['parts']} below 1 %; least {weakest}"
            median = effects["median"]
            shown = "not defined" if median is None else f"{median:.4f}"
            rows.append((f"median effect of {title}", shown, note))
    return rows


def _necessity(report: dict[str, Any]) -> list[Row]:
    if (needed := report.get("necessity")) is None:
        return []
    rows = []
    for kind, title in (("task_loss", "task loss"), ("calibrated", "calibrated task loss")):
        if needed[kind] is not None:
            note = f"0.693 is chance; {_random(needed[kind], needed['sets'])}"
            rows.append(
                (f"{title} without the circuit", _shown(needed[kind]["without_circuit"]), note)
            )
    return rows


def _interchange(report: dict[str, Any]) -> list[Row]:
    if (moved := report.get("interchange")) is None:
        return []
    note = f"by the rest {_shown(moved['rest'])}; {_random(moved, moved['sets'])}"
    return [(f"share of {report['metric']} that the circuit moves", _shown(moved["share"]), note)]


def _random(one: dict[str, Any], sets: int) -> str:
    mean, largest = one["random_mean"], one["random_largest"]
    if mean is None:
        return "no random sets"
    half = 0.0 if one["random_high"] is None else one["random_high"] - mean
    return f"{sets} random sets of this size {mean:.3f} ± {half:.3f}, at most {largest:.3f}"


_VERDICTS = {
    "equivalence": (
        "no sign that circuit or model scores higher more often",
        "circuit or model scores higher too often",
    ),
    "independence": (
        "no sign that what is outside the circuit still does the task",
        "what is outside the circuit still follows the model's scores",
    ),
    "minimality": (
        "no element that matters as little as random added ones",
        "some elements matter no more than random added ones",
    ),
}
"""What it means that a test's null hypothesis (`null` of the JSON) is not rejected, and is."""


def _tests_rows(report: dict[str, Any]) -> list[Row]:
    tests: dict[str, Any] = {
        name: report[name] for name in ("equivalence", "independence") if name in report
    }
    if "minimality" in report:
        tests["minimality"] = report["minimality"]["test"]
    rows = []
    for name, test in tests.items():
        if test is None:
            rows.append((f"{name} test", "not defined", "no random element can be added"))
            continue
        passed, failed = _VERDICTS[name]
        verdict = f"failed: {failed}" if test["rejected"] else f"passed: {passed}"
        rows.append((f"{name} test", f"p {test['p']:.3g}", verdict))
    return rows


def _overlap(report: dict[str, Any]) -> list[Row]:
    if report["overlap"] is None:
        return []
    rows = []
    for other in report["overlap"]["with"]:
        for kind, title in (("elements", report["unit"]), ("nodes", "nodes")):
            one = other[kind]
            note = f"{one['shared']} shared, {_share(one['of_smaller'])} of the smaller"
            note += f"; by chance IoU {_share(one['expected_iou'])}"
            rows.append((f"IoU of {title} with {other['name']}", _share(one["iou"]), note))
    if len(report["overlap"]["with"]) > 1:
        all_of = report["overlap"]["consistency"]
        rows.append((f"pairwise IoU of {all_of['n']} circuits", *consistency_shown(all_of)))
    return rows
