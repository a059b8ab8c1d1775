"""`harness bench`: what methods cost, and whether that grows with the number of prompts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from harness import ranks
from harness.bench.rows import BUILT_IN, NAMES, OF_PROMPTS, OTHERS, SHARED, STANDARD
from harness.cli.say import say
from harness.launcher import launched

if TYPE_CHECKING:
    from harness.bench.subject import Bench

ON_A_BATCH = ("model", "batch", "length", "dtype", "tf32", "beside")
ON_PROMPTS = ("task",)
ALL = "all"
ROWS_HELP = (
    f"Rows to measure, separated by commas, or {ALL!r}. Those of the default: "
    f"{', '.join(STANDARD)}. Others: {', '.join(OTHERS)}. With --prompts: {', '.join(OF_PROMPTS)}."
)
MODEL_HELP = (
    f"One of {', '.join(BUILT_IN)}; or the shape of a model spec or of a folder with a "
    "config.json. Weights are random."
)


@click.command()
@click.option("--model", default=BUILT_IN[0], show_default=True, help=MODEL_HELP)
@click.option("--methods", metavar="ROW,ROW,...", default="", help=ROWS_HELP)
@click.option("--batch", default=8, show_default=True, type=click.IntRange(min=1))
@click.option("--length", default=18, show_default=True, type=click.IntRange(min=2))
@click.option(
    "--prompts",
    metavar="N,N,...",
    help="Measure with N prompts of --task each, in place of one batch: does the cost grow?",
)
@click.option(
    "--games",
    type=click.IntRange(min=1),
    help="Play so many random games of Othello instead, with and without their boards.",
)
@click.option(
    "--dictionary",
    metavar="F",
    type=click.IntRange(min=32),
    help="Train a dictionary of F features instead, beside the matrix products of a step.",
)
@click.option(
    "--features",
    metavar="F",
    type=click.IntRange(min=32),
    help="Trace a prompt and study F features of each module of an Othello model instead.",
)
@click.option("--task", default="ioi_t1", show_default=True, help="Task of --prompts.")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(min=1))
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
@click.option(
    "--dtype",
    default="float32",
    show_default=True,
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Precision of the model.",
)
@click.option(
    "--beside",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Run every row in this precision too, in turns: a column says how the times compare.",
)
@click.option("--tf32", is_flag=True, help="Round products of float32 to TF32 (CUDA alone).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_context
def bench(
    context: click.Context,
    model: str,
    methods: str,
    batch: int,
    length: int,
    prompts: str | None,
    games: int | None,
    dictionary: int | None,
    features: int | None,
    task: str,
    threads: int,
    repeats: int,
    device: Literal["cpu", "cuda"],
    dtype: Literal["float32", "bfloat16", "float16"],
    beside: Literal["float32", "bfloat16", "float16"] | None,
    tf32: bool,
    as_json: bool,
) -> None:
    """Measure methods in units of one plain forward+backward, beside their floors.

    With --prompts: the cost of a prompt, and memory, as prompts become more. With --games: random
    games of Othello in a second. With --dictionary: the training of a dictionary. With --features:
    a traced prompt, and a study of what features stand for. `torchrun --nproc-per-node N -m harness
    bench`: what is gained where N processes share the prompts.
    """
    if launched() > 1:
        alone = ("prompts", "games", "dictionary", "features", *ON_PROMPTS, "beside")
        _check_options(context, alone, None)
        from harness.bench.subject import Bench

        _share(Bench(model, batch, length, threads, repeats, device, dtype, tf32), methods, as_json)
        return
    if features is not None:
        apart = ("device", *ON_PROMPTS, "methods", "prompts", "games", "dictionary")
        _check_options(context, (*ON_A_BATCH, *apart), None)
        from harness.bench.features import bench_features

        figures = bench_features(features, repeats, threads)
        say(json.dumps(figures) if as_json else _features_table(figures))
        return
    if dictionary is not None:
        if dtype == "float16" or device != "cpu":
            raise click.UsageError("--dictionary is for float32 or bfloat16 on the CPU")
        others = ("prompts", "games", "beside")
        unused = ("model", "batch", "length", "tf32", *ON_PROMPTS, "methods", *others)
        _check_options(context, unused, None)
        from harness.bench.dictionaries import bench_dictionaries

        trained = bench_dictionaries(dictionary, repeats, threads, dtype)
        say(json.dumps(trained) if as_json else _dictionaries_table(trained))
        return
    if games is not None:
        _check_options(context, (*ON_A_BATCH, *ON_PROMPTS, "methods", "prompts", "threads"), None)
        from harness.bench.games import bench_games

        played = bench_games(games, repeats)
        say(json.dumps(played) if as_json else _games_table(played))
        return
    _check_options(context, ON_A_BATCH if prompts else ON_PROMPTS, bool(prompts))
    rows = _rows(methods, OF_PROMPTS if prompts else NAMES)
    if prompts:
        from harness.bench.prompts import PromptBench, bench_prompts

        growth = PromptBench(_counts(prompts), task, threads, repeats, device)
        report = bench_prompts(growth, rows, lambda text: say(text, err=True))
    else:
        from harness.bench.measure import run_bench
        from harness.bench.subject import Bench

        asked = Bench(model, batch, length, threads, repeats, device, dtype, tf32, beside)
        report = run_bench(asked, rows)
    if as_json:
        say(json.dumps(report))
    else:
        say(_prompts_table(report) if prompts else _batch_table(report))


def _share(asked: Bench, methods: str, as_json: bool) -> None:
    """Measure in all processes that were launched, and in one; the first prints."""
    from harness.bench.processes import bench_processes
    from harness.progress import Nowhere, display_on, shown_by

    with ranks.joined():
        display = display_on(sys.stderr) if ranks.is_first() else Nowhere()
        with shown_by(display):
            rows = _rows(methods, SHARED)
            report = ranks.agreed("the bench", lambda: bench_processes(asked, rows))
    say(json.dumps(report) if as_json else _processes_table(report))


def _processes_table(report: dict[str, Any]) -> str:
    headers = ["method", "one process, seconds", "seconds", "× as fast ↑"]
    title = (
        f"{report['model']}, batch {report['batch'][0]} × {report['batch'][1]} tokens, "
        f"{report['processes']} processes, each with {_machine(report)}; "
        f"least of {report['repeats']}"
    )
    keys, forms = ("method", "alone_seconds", "seconds", "speedup"), ("", ".3f", ".3f", ".2f")
    return f"{title}\n\n{_table(report['rows'], headers, keys, forms)}"


def _dictionaries_table(report: dict[str, Any]) -> str:
    lines = [
        f"dictionaries of {report['features']} features of width {report['width']}, "
        f"{report['batch_tokens']} tokens a step, {report['precision']}, "
        f"{report['threads']} threads; least of {report['repeats']}",
        "",
        "activation   matrix products       step     tokens/s   share",
    ]
    for row in report["rows"]:
        lines.append(
            f"{row['activation']:<12} {row['products_seconds'] * 1e3:>12.1f} ms "
            f"{row['step_seconds'] * 1e3:>7.1f} ms {row['tokens_per_second']:>12,.0f} "
            f"{row['share']:>7.2f}"
        )
    return "\n".join(lines)


def _features_table(report: dict[str, Any]) -> str:
    title = (
        f"{report['dictionaries']} dictionaries of {report['features']} features on "
        f"{report['task']}, random weights, {report['precision']}, threads: {report['threads']}; "
        f"least of {report['repeats']}"
    )
    rows = [{"ratio": None, **row, "of": f"{row['of']:,} {row['unit']}"} for row in report["rows"]]
    headers = ["row", "of", "seconds ↓", "× one by one ↓"]
    keys, forms = ("row", "of", "seconds", "ratio"), ("", "", ".3f", ".2f")
    return f"{title}\n\n{_table(rows, headers, keys, forms)}"


def _rows(methods: str, every: tuple[str, ...]) -> tuple[str, ...]:
    """The named rows; none for the default."""
    named = tuple(name.strip() for name in methods.split(",") if name.strip())
    return every if ALL in named else named


def _check_options(context: click.Context, unused: tuple[str, ...], prompts: bool | None) -> None:
    """Refuse options that would make no difference; `prompts` is None with --games."""
    for name in unused:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            if prompts is None:
                raise click.UsageError(
                    f"--{name} does not go with --games, --dictionary, --features or torchrun"
                )
            how = "does not go with" if prompts else "needs"
            raise click.UsageError(f"--{name} {how} --prompts")


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(
            f"--prompts wants whole numbers, as 1000,100000, not {text!r}"
        ) from None


def _batch_table(report: dict[str, Any]) -> str:
    columns = [
        ("method", "method", ""),
        ("cost ↓ (plain f+b)", "cost_fb", ".3f"),
        ("floor", "floor_fb", ".3f"),
        ("seconds", "seconds", ".3f"),
        ("tokens/s", "tokens_per_second", ",.0f"),
        ("peak MiB", "peak_mib", ".0f"),
    ]
    title = (
        f"{report['model']}, batch {report['batch'][0]} × {report['batch'][1]} tokens, "
        f"{_machine(report)}: one plain forward+backward takes {report['plain_fb_seconds']:.3f} s"
    )
    if report["beside"] is not None:
        title += f", {report['plain_ratio']:.2f} × that in {report['beside']}"
        columns.append((f"× {report['beside']} ↓", "ratio", ".2f"))
    headers, keys, forms = zip(*columns, strict=True)
    table = _table(report["rows"], list(headers), keys, forms)
    if not any(row["method"].startswith("edge_pruning") for row in report["rows"]):
        return f"{title}\n\n{table}"
    gib = report["counted_gib"]
    counted = (
        f"An edge_pruning step holds {gib['all']:.3g} GiB by counting, "
        f"{gib['weights']:.3g} of them the model."
    )
    return f"{title}\n\n{table}\n\n{counted}"


def _machine(report: dict[str, Any]) -> str:
    """Threads, and what differs from float32 on a CPU."""
    if report["device"] == "cpu" and report["dtype"] == "float32":
        return f"{report['threads']} threads"
    precision = "tf32" if report["tf32"] else report["dtype"]
    return f"{report['threads']} threads, {precision} on {report['device']}"


def _prompts_table(report: dict[str, Any]) -> str:
    headers = [
        *("method", "prompts", "seconds", "ms of each prompt ↓", "ratio to the fewest"),
        *("peak MiB", "MiB of prompts"),
    ]
    keys = ("method", "prompts", "seconds", "cost_ms", "ratio", "peak_mib", "prompts_mib")
    return (
        f"{report['task']} ({report['distinct']:,} distinct prompts), {report['model']}, "
        f"{report['edges']} edges, random weights, threads: {report['threads']}\n\n"
        + _table(report["rows"], headers, keys, ("", ",", ".2f", ".4f", ".2f", ".0f", ".1f"))
    )


def _games_table(report: dict[str, Any]) -> str:
    headers = ["board", "row", "games/s ↑", "games per CPU second ↑"]
    keys = ("board", "row", "games_per_second", "games_per_cpu_second")
    return f"{report['games']:,} random games of Othello, one thread\n\n" + _table(
        report["rows"], headers, keys, ("", "", ",.0f", ",.0f")
    )


def _table(
    rows: list[dict[str, Any]], headers: list[str], keys: tuple[str, ...], forms: tuple[str, ...]
) -> str:
    from tabulate import tabulate

    cells = [[row[key] for key in keys] for row in rows]
    return tabulate(cells, headers=headers, tablefmt="github", floatfmt=forms, intfmt=",")
