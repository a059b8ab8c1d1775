"""`harness bench`: what methods cost, and whether that grows with the number of prompts."""

from __future__ import annotations

import json
from typing import Any, Literal

import click
from click.core import ParameterSource

ON_A_BATCH = ("model", "batch", "length")
ON_PROMPTS = ("task",)


@click.command()
@click.option("--model", default="gpt2-small-random", show_default=True)
@click.option("--methods", default="", help="Rows to measure, separated by commas (default: all).")
@click.option("--batch", default=8, show_default=True, type=click.IntRange(min=1))
@click.option("--length", default=18, show_default=True, type=click.IntRange(min=2))
@click.option(
    "--prompts",
    metavar="N,N,...",
    help="Instead of one batch, so many prompts of --task: does the cost of each stay the same?",
)
@click.option("--task", default="ioi_t1", show_default=True, help="Task of --prompts.")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(min=1))
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_context
def bench(
    context: click.Context,
    model: str,
    methods: str,
    batch: int,
    length: int,
    prompts: str | None,
    task: str,
    threads: int,
    repeats: int,
    device: Literal["cpu", "cuda"],
    as_json: bool,
) -> None:
    """Measure methods in units of one plain forward+backward, beside their floors.

    With --prompts: the cost of a prompt, and memory, as prompts become more.
    """
    _check_options(context, ON_A_BATCH if prompts else ON_PROMPTS, bool(prompts))
    rows = tuple(name.strip() for name in methods.split(",") if name.strip())
    if prompts:
        from harness.runs.bench_prompts import PromptBench, bench_prompts

        growth = PromptBench(_counts(prompts), task, threads, repeats, device)
        found = bench_prompts(growth, rows, lambda text: click.echo(text, err=True))
    else:
        from harness.runs.bench import run_bench
        from harness.runs.bench_subject import Bench

        found = run_bench(Bench(model, batch, length, threads, repeats, device), rows)
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo(_prompts_table(found) if prompts else _batch_table(found))


def _check_options(context: click.Context, unused: tuple[str, ...], prompts: bool) -> None:
    """Refuse options that would make no difference."""
    for name in unused:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            how = "does not go with" if prompts else "needs"
            raise click.UsageError(f"--{name} {how} --prompts")


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(
            f"--prompts wants whole numbers, as 1000,100000, not {text!r}"
        ) from None


def _batch_table(found: dict[str, Any]) -> str:
    headers = ["method", "cost ↓ (plain f+b)", "floor", "seconds", "peak MiB"]
    keys = ("method", "cost_fb", "floor_fb", "seconds", "peak_mib")
    return (
        f"{found['model']}, batch {found['batch'][0]} × {found['batch'][1]} tokens, "
        f"{found['threads']} threads: one plain forward+backward takes "
        f"{found['plain_fb_seconds']:.3f} s\n\n"
        + _table(found["rows"], headers, keys, ("", ".3f", ".3f", ".3f", ".0f"))
    )


def _prompts_table(found: dict[str, Any]) -> str:
    headers = [
        *("method", "prompts", "seconds", "ms of each prompt ↓", "ratio to the fewest"),
        *("peak MiB", "MiB of prompts"),
    ]
    keys = ("method", "prompts", "seconds", "cost_ms", "ratio", "peak_mib", "prompts_mib")
    return (
        f"{found['task']} ({found['distinct']:,} distinct prompts), {found['model']}, "
        f"{found['edges']} edges, random weights, threads: {found['threads']}\n\n"
        + _table(found["rows"], headers, keys, ("", ",", ".2f", ".4f", ".2f", ".0f", ".1f"))
    )


def _table(
    rows: list[dict[str, Any]], headers: list[str], keys: tuple[str, ...], forms: tuple[str, ...]
) -> str:
    from tabulate import tabulate

    cells = [[row[key] for key in keys] for row in rows]
    return tabulate(cells, headers=headers, tablefmt="github", floatfmt=forms, intfmt=",")
