"""Write dictionaries that were trained into a folder that their spec can name as its `weights`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.dictionaries.files.store import FILE
from harness.disk import write
from harness.errors import HarnessError
from harness.runs.plan.dictionaries import PlannedDictionaries, refuse_changing_model
from harness.runs.plan.shipped import TRAINING
from harness.runs.services.shipping.models import CARD, origin, ship_folder
from harness.runs.store.atomic import json_bytes
from harness.runs.store.models import ModelStore
from harness.spec.key import plain
from harness.spec.types import TrainDictionary


def ship_dictionaries(
    planned: PlannedDictionaries, report: Mapping[str, Any], models: ModelStore, output: Path
) -> None:
    """Write weights, log and a card; `report`: what `measured_dictionaries` says of them.

    Raises `HarnessError` if `output` is there already, for dictionaries that are not trained, and
    for those of a model that is trained anew on every machine.
    """
    if not isinstance(planned.loaded.spec, TrainDictionary):
        raise HarnessError(f"dictionaries {planned.name!r} are not trained: nothing to ship")
    refuse_changing_model(planned.cell)
    folder = models.dictionaries.read(planned.id)
    stored = folder.json("training.json")
    note = {
        "history": stored["history"],
        **planned.recipe,
        "quality": dict(report),
        "seconds": folder.json("timing.json")["seconds"],
        **origin(planned.cell),
    }

    def fill(draft: Path) -> None:
        shutil.copyfile(folder.path(FILE), draft / FILE)
        write(draft / TRAINING, json_bytes(note))
        write(draft / CARD, _card(planned, report).encode())

    ship_folder(output, fill)


def _card(planned: PlannedDictionaries, report: Mapping[str, Any]) -> str:
    """The folder's README: what the dictionaries are, how good they are, how to train them."""
    rows = [
        f"| {one['site']} | {one['l0']:.1f} | {one['alive']} | {one['error_share']:.4f} | "
        f"{one['ev']:.4f} | {_behaviour(one['splice'])} |"
        for one in report["sites"]
    ]
    spec = plain(planned.loaded.spec)
    return "\n".join(
        [
            f"# {planned.name}",
            "",
            f"Dictionaries of the model `{report['model']}`, trained on the prompts of the task "
            f"`{report['task']}`; `{TRAINING}` holds the log and all measures. Measured on "
            f"{report['prompts']:,} held-out prompts (split test):",
            "",
            "| replaced | L0 | alive | error/norm | EV | accuracy | KL |",
            "|---|---|---|---|---|---|---|",
            *rows,
            f"| all at once | {report['l0']:.1f} | | | | {_behaviour(report['spliced'])} |",
            f"| nothing | | | | | {_behaviour(report['model_behaviour'])} |",
            "",
            *_sequences(report["sequences"]),
            "The spec, without `weights`; `harness dictionary NAME --train --output FOLDER` makes "
            "such a folder from it:",
            "",
            "```yaml",
            yaml.safe_dump(spec, sort_keys=False, allow_unicode=True).strip(),
            "```",
            "",
        ]
    )


def _behaviour(measures: Mapping[str, float]) -> str:
    return f"{measures['accuracy']:.4f} | {measures['kl']:.4f}"


def _sequences(measured: Mapping[str, Any] | None) -> list[str]:
    """What whole sequences lose with all sites replaced at once, if that was measured."""
    if measured is None:
        return []
    model, spliced, change = (measured[name] for name in ("model", "spliced", "change"))
    rows = [
        f"| {name} | {model[name]['value']:.4f} | {spliced[name]['value']:.4f} | "
        f"{change[name]['value']:+.4f} ± {change[name]['se']:.4f} |"
        for name in model
    ]
    return [
        f"Over {measured['n']:,} whole held-out sequences, all at once, at a mean L0 of "
        f"{measured['l0']:.1f} and a KL of {spliced['kl']['value']:.4f}:",
        "",
        "| measure | model | all at once | change |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
