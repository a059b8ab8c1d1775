"""`harness trace`: the circuit of one prompt, without patching."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli import options
from harness.cli.say import say


@click.command("trace")
@click.argument("task")
@click.option("--model", help="With this model in place of the task's own.")
@click.option("--split", default="test", show_default=True, help="Where the prompt is from.")
@click.option(
    "--prompt", type=click.IntRange(min=0), default=0, show_default=True, help="Which prompt."
)
@click.option("--corrupted", is_flag=True, help="Its corrupted twin.")
@click.option(
    "--target",
    help="logit:a4, logit_diff, feature:m1.357@15 or attention:a1.h0:15:14 (query, key); default: "
    "the largest logit.",
)
@click.option(
    "--keep",
    default="rel:0.01",
    show_default=True,
    help="Contributions that become edges: abs:X, rel:X, topk:N, cum:X or null:P.",
)
@click.option(
    "--nodes", type=click.IntRange(min=1), default=300, show_default=True, help="At most so many."
)
@click.option(
    "--mlps",
    type=click.Choice(["neurons", "modules"]),
    default="neurons",
    show_default=True,
    help="What MLPs without a dictionary are taken apart into.",
)
@click.option("--dictionary", help="Take modules apart into the features of this spec.")
@click.option(
    "--above",
    type=float,
    help="Choose nodes by hierarchical attribution: only influences above this pass on.",
)
@click.option(
    "--branches", type=click.IntRange(min=1), default=3, show_default=True, help="In the tree."
)
@click.option(
    "--depth", type=click.IntRange(min=1), default=3, show_default=True, help="Of the tree."
)
@click.option(
    "--validity",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Take so many parts out of each node and compare with what happens.",
)
@click.option(
    "--validity-prompts",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Do so on so many prompts, from this one on.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Names of the dictionary's features, from this output of `harness features`.",
)
@options.loose
@click.option("--train", is_flag=True, help="Train a model that is not there yet.")
@click.option(
    "--circuit-tracer",
    "other_form",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the graph for circuit-tracer's front ends into this file too.",
)
@options.results("-o")
@options.include
@options.as_json
def command(
    task: str,
    model: str | None,
    split: str,
    prompt: int,
    corrupted: bool,
    target: str | None,
    keep: str,
    nodes: int,
    mlps: str,
    dictionary: str | None,
    above: float | None,
    branches: int,
    depth: int,
    validity: int,
    validity_prompts: int,
    labels: Path | None,
    loose: float,
    train: bool,
    other_form: Path | None,
    results: Path,
    include: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Trace one prompt of TASK from a logit, a feature or an attention score to its embeddings.

    Nothing is patched: with norms, attention patterns and gates held, every number of the run is
    exactly the sum of what its parts contribute.
    """
    from harness.cli.choose import (
        checked_task,
        default_runtime,
        log,
        model_source,
        planned_dictionaries,
    )
    from harness.disk import write
    from harness.reports.screens.trace import trace_text
    from harness.runs.services.trace import TraceRequest, trace_prompt
    from harness.runs.store.record import model_store
    from harness.spec.load import Library
    from harness.tracing.keep import KeepRule

    if validity_prompts > 1 and not validity:
        raise click.UsageError("--validity-prompts needs --validity")
    if labels is not None and dictionary is None:
        raise click.UsageError("--labels needs --dictionary")
    library = Library(include)
    loaded, runtime = checked_task(library, task), default_runtime(library)
    request = TraceRequest(
        loaded,
        model_source(library, loaded, model),
        runtime,
        split,
        prompt,
        corrupted,
        target,
        KeepRule.parse(keep),
        nodes,
        "modules" if mlps == "modules" else "neurons",
        None if dictionary is None else planned_dictionaries(library, dictionary),
        above,
        train,
        validity,
        validity_prompts,
        labels,
        loose,
    )
    report = trace_prompt(request, model_store(results), log)
    if other_form is not None:
        text = json.dumps(report.circuit_tracer, indent=1, allow_nan=False)
        write(other_form, f"{text}\n".encode())
    own = json.dumps(report.own, indent=1, allow_nan=False)
    say(own if as_json else trace_text(report.own, options.window(), branches, depth))
