"""`harness run`: compute what is missing of suites or tasks, then print the leaderboard."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import ranks
from harness.cli import options
from harness.cli.say import say
from harness.errors import HarnessError
from harness.launcher import launched, local_world

if TYPE_CHECKING:
    from harness.reports.leaderboard import Leaderboard
    from harness.runs.executors.session import Executor, RunSummary
    from harness.runs.plan import Cell, Plan
    from harness.runs.services.forecasts.busy import Watch

RESUME = "finished cells are kept; run the same command to resume"


@click.command("run")
@click.argument("specs", nargs=-1, metavar="[SPEC]...")
@options.results("-o")
@options.grid
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Worker processes (default: 1); with ray, most cells at a time (default: no limit).",
)
@click.option(
    "--executor",
    metavar="NAME",
    default="local",
    help="Who computes: local (this machine), ray (the cluster of RAY_ADDRESS, else one of this "
    "machine), or ray://HOST:PORT.",
)
@options.include
@options.size
@options.layout
@click.option("--fail-fast", is_flag=True, help="Stop at the first cell that fails.")
@options.as_json
def command(
    specs: tuple[str, ...],
    results: Path,
    jobs: int | None,
    executor: str,
    include: tuple[Path, ...],
    size: float,
    fail_fast: bool,
    as_json: bool,
    columns: str | None,
    wide: bool,
    **grid: Any,
) -> int:
    """Compute every cell of SPEC that is not stored yet, then print the leaderboard.

    SPEC is a suite, a task, or the path of either (default: the suite quickstart); a task runs
    with the methods of quickstart. Running again computes only what is missing. Everything that
    is said on the way is also in the file run.log of the run's folder.

    `torchrun --nproc-per-node N -m harness run SPEC` shares the prompts of every cell between N
    processes (`harness help clusters`).
    """
    from harness.cli.choose import note_faults, note_skipped
    from harness.runs.services.forecasts.busy import Watch

    watch = Watch()
    chosen_executor = _executor(executor, jobs)
    layout = options.layout_of(columns, wide)
    with ranks.joined():
        chosen = ranks.agreed("planning", lambda: _plans(specs, include, grid))
        if not ranks.is_first():
            return _follow(chosen, results)
        note_skipped(one for plan in chosen for one in plan.skipped)
        summaries = [
            _run(plan, results, chosen_executor, jobs or 1, fail_fast, watch) for plan in chosen
        ]
    board, faults = _leaderboard(chosen, results, size)
    if as_json:
        say(json.dumps(_data(chosen, summaries, results, board), indent=1))
    else:
        from harness.reports.table import render

        say(render(board, "github", layout), nl=False)
    return max(note_faults(faults), *(summary.exit_code for summary in summaries))


def _plans(specs: Sequence[str], include: Sequence[Path], grid: Mapping[str, Any]) -> list[Plan]:
    """The plans of all specs, of as many processes as there are."""
    from harness.cli.choose import overrides, plans
    from harness.runs.plan.processes import refuse_other_number, require_processes

    changes = overrides(**grid)
    if ranks.world() > 1:
        refuse_other_number(changes.processes, ranks.world())
        changes = replace(changes, processes=ranks.world())
    chosen = plans(specs, include, changes)
    cells = [cell for plan in chosen for cell in plan.cells]
    require_processes(cells, ranks.world())
    if len(set(ranks.gathered(tuple(cell.id for cell in cells)))) > 1:
        raise HarnessError(
            "the processes of this run plan different cells: their files, code or packages differ"
        )
    return chosen


def _follow(chosen: Sequence[Plan], results: Path) -> int:
    """Compute with process 0 what it computes."""
    from harness.runs.executors.torchrun import follow
    from harness.runs.store.record import model_store

    for plan in chosen:
        follow(plan, model_store(results))
    return 0


def _executor(name: str, jobs: int | None) -> Executor:
    """The executor of a name; `click.UsageError` for another one, or beside torchrun."""
    if launched() > 1:
        from harness.runs.executors.torchrun import TorchrunExecutor

        if jobs is not None or name != "local":
            raise click.UsageError(
                "under torchrun all processes compute one cell together: leave out "
                f"{'--jobs' if jobs is not None else '--executor'}, or run without torchrun"
            )
        return TorchrunExecutor()
    if name == "local":
        from harness.runs.executors.local import LocalExecutor

        return LocalExecutor(jobs or 1)
    kind, has_address, address = name.partition("://")
    if kind != "ray" or bool(has_address) != bool(address):
        raise click.BadParameter(
            f"{name!r} is none; give local, ray, or ray://HOST:PORT", param_hint="--executor"
        )
    from harness.runs.executors.ray.executor import RayExecutor

    return RayExecutor(name if has_address else None, jobs)


def _run(
    plan: Plan, results: Path, executor: Executor, jobs: int, fail_fast: bool, watch: Watch
) -> RunSummary:
    from harness.cli.progress import Progress
    from harness.runs.executors import session
    from harness.runs.store import CellStore
    from harness.runs.store.record import RUN_LOG, model_store, record

    store = CellStore(results / plan.name)
    record(store.folder, plan)
    todo = [cell for cell in plan.cells if not store.has(cell.id)]
    expected, ahead = _ahead(todo, results, jobs, watch)
    with Progress(plan, log=store.folder / RUN_LOG, expected=expected) as progress:
        for line in ahead:
            progress.say(line)
        settings = session.Settings(
            models=model_store(results),
            compute=session.COMPUTE,
            fail_fast=fail_fast,
            notify=progress,
        )
        try:
            summary = executor.run(plan, store, settings)
        except KeyboardInterrupt:
            progress.close_view()
            for line in (*progress.interrupted(), RESUME):
                progress.say(line)
            raise
        progress.close_view()
        for line in _outcome(plan, summary, store.folder):
            progress.say(line)
    return summary


def _ahead(
    todo: list[Cell], results: Path, jobs: int, watch: Watch
) -> tuple[dict[str, float], list[str]]:
    """Expected seconds of each cell that is to be computed, and what to say before the first."""
    from harness.progress import duration
    from harness.runs.services.forecasts.forecast import forecast
    from harness.runs.store.record import model_store

    if not todo:
        return {}, []
    expected = forecast(todo, results, model_store(results))
    low, high = (seconds / min(jobs, len(todo)) for seconds in expected.bounds)
    lines = [f"{len(todo)} cells to compute: {duration(low)} to {duration(high)}"]
    here = min(jobs, len(todo)) if ranks.world() == 1 else local_world()
    wanted = here * max(cell.runtime.threads for cell in todo)
    if warning := watch.load().warning(wanted):
        lines.append(warning)
    return expected.expected(todo), lines


def _outcome(plan: Plan, summary: RunSummary, folder: Path) -> Iterator[str]:
    """What became of the run, line by line."""
    names = {cell.model_id: cell.model_name for cell in plan.cells}
    titles = {cell.id: cell.title() for cell in plan.cells}
    for word, models in (("reused", summary.models_reused), ("made", summary.models_built)):
        for model_id in models:
            yield f"{word} model {names[model_id]} ({model_id[:12]})"
    if summary.reused:
        yield f"reused {len(summary.reused)} cells: {'; '.join(titles[i] for i in summary.reused)}"
    for cell_id, reason in summary.failed:
        yield f"failed {titles[cell_id]} ({cell_id[:12]}): {reason}"
    yield (
        f"{plan.name}: {len(summary.computed)} computed, {len(summary.reused)} reused, "
        f"{len(summary.elsewhere)} computed by another process, {len(summary.failed)} failed, "
        f"{len(summary.skipped)} not tried, in {summary.seconds:.1f} s; results in {folder}"
    )


def _leaderboard(chosen: list[Plan], results: Path, size: float) -> tuple[Leaderboard, list[str]]:
    """The leaderboard of the plans' cells, and what is wrong with damaged ones."""
    from harness.reports.leaderboard import leaderboard
    from harness.runs.store.record import entries_of, faults_of, load_cells

    cells = []
    for plan in chosen:
        folder = results / plan.name
        wanted = {cell.id for cell in plan.cells}
        cells += load_cells(folder, [e for e in entries_of(folder) if e.id in wanted])
    return leaderboard(cells, size), faults_of(cells)


def _data(
    chosen: list[Plan], summaries: list[RunSummary], results: Path, board: Leaderboard
) -> dict[str, Any]:
    from harness.reports.records import as_data

    return {
        "status": "failed" if any(summary.exit_code for summary in summaries) else "ok",
        "runs": [
            {
                "run": str(results / plan.name),
                "computed": summary.computed,
                "reused": summary.reused,
                "elsewhere": summary.elsewhere,
                "failed": dict(summary.failed),
                "skipped": summary.skipped,
                "left_out": [vars(one) for one in plan.skipped],
                "models_made": summary.models_built,
                "models_reused": summary.models_reused,
                "seconds": summary.seconds,
            }
            for plan, summary in zip(chosen, summaries, strict=True)
        ],
        "leaderboard": as_data(board),
    }
