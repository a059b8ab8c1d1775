"""`harness bench`: what methods cost, in plain forward+backwards of the same model."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--model", default="gpt2-small-random", show_default=True)
@click.option("--methods", default="", help="Rows to measure, separated by commas (default: all).")
@click.option("--batch", default=8, show_default=True, type=click.IntRange(min=1))
@click.option("--length", default=18, show_default=True, type=click.IntRange(min=2))
@click.option("--threads", default=2, show_default=True, type=click.IntRange(min=1))
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def bench(
    model: str,
    methods: str,
    batch: int,
    length: int,
    threads: int,
    repeats: int,
    device: str,
    as_json: bool,
) -> None:
    """Measure methods in units of one plain forward+backward, beside their floors."""
    from harness.runs.bench import run_bench
    from harness.runs.bench_subject import Bench

    rows = tuple(name.strip() for name in methods.split(",") if name.strip())
    found = run_bench(Bench(model, batch, length, threads, repeats, device), rows)
    if as_json:
        click.echo(json.dumps(found))
        return
    from tabulate import tabulate

    click.echo(
        f"{found['model']}, batch {batch} × {length} tokens, {threads} threads: one plain "
        f"forward+backward takes {found['plain_fb_seconds']:.3f} s\n"
    )
    headers = ["method", "cost ↓ (plain f+b)", "floor", "seconds", "peak MiB"]
    keys = ("method", "cost_fb", "floor_fb", "seconds", "peak_mib")
    table = [[row[key] for key in keys] for row in found["rows"]]
    click.echo(
        tabulate(
            table, headers=headers, tablefmt="github", floatfmt=("", ".3f", ".3f", ".3f", ".0f")
        )
    )
