"""Weights that lie beside the spec that they were trained from.

The folder, as `harness train` and `harness dictionary` write it, holds the weights,
`training.json` (what was trained, on what, how it went and how good it is), a card, and
`manifest.json` with the digests of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from harness.datasets.corpus.open import STANDARD_LIBRARY
from harness.datasets.locate import locate
from harness.errors import HarnessError, NotFound
from harness.runs.store.sealed import MANIFEST, SealedFolder
from harness.spec.types import TrainDictionary, TrainModel

TRAINING = "training.json"
_SHOWN = 4  # differences in a message


def weights_folder(spec: TrainModel | TrainDictionary, folder: Path) -> Path:
    """The folder of a spec's weights; `folder` is that of the spec. `NotFound` if there is none."""
    assert spec.weights is not None
    try:
        return locate(spec.weights, folder)
    except NotFound as error:
        command = f"{_command(spec)} --output {spec.weights}"
        raise NotFound(f"{error}; `{command}` trains these weights") from error


def shipped_weights(spec: TrainModel | TrainDictionary, folder: Path) -> SealedFolder:
    """The folder for reading; what is not as it was published raises `StoreCorrupt`."""
    place, command = weights_folder(spec, folder), f"{_command(spec)} --output FOLDER"
    if not (place / MANIFEST).is_file():
        raise NotFound(
            f"needs {place / MANIFEST}, which is not there; `weights` is a folder that `{command}` "
            "wrote (what others made is read by specs of `kind: load`)"
        )
    return SealedFolder(place, f"copy it again, or train anew with `{command}`")


def _command(spec: TrainModel | TrainDictionary) -> str:
    """The command that trains the weights of a spec."""
    return "harness train MODEL" if isinstance(spec, TrainModel) else "harness dictionary NAME"


def recipe(model_part: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the weights: identities of the model and of the data it is trained on."""
    model = {name: value for name, value in model_part.items() if name not in _NOT_OF_TRAINING}
    return {"model": model, "trained_on": dict(training)}


_NOT_OF_TRAINING = ("weights", "trained_on")


def refuse_other_spec(
    spec: TrainModel, folder: Path, model_part: Mapping[str, Any], training: Mapping[str, Any]
) -> None:
    """Refuse weights that were trained from another spec, or that are not what was published.

    `model_part` and `training`: identities of the spec and of its data. Raises `HarnessError`
    naming the keys that differ, `StoreCorrupt` for a damaged folder.
    """
    refuse_other_recipe(
        shipped_weights(spec, folder), model_part["weights"], recipe(model_part, training)
    )


def refuse_other_recipe(
    sealed: SealedFolder, digests: Mapping[str, str], own: Mapping[str, Any]
) -> None:
    """Refuse a folder whose training.json says anything else than a spec's `own` recipe.

    `digests`: those of its weights as they are now. Raises as `refuse_other_spec`.
    """
    for name, digest in digests.items():
        if sealed.digests.get(name) != digest:
            sealed.path(name)  # says what is wrong with it
    note = sealed.json(TRAINING)
    stored = {name: note.get(name) for name in own} if isinstance(note, dict) else {}
    different = list(differences(_anywhere(stored), _anywhere(own), ""))
    if not different:
        return
    more = f" and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
    raise HarnessError(
        f"weights: {sealed.folder / TRAINING} says that they were trained from another spec: "
        f"{'; '.join(different[:_SHOWN])}{more}. Undo these changes, leave `weights` out to train "
        "anew, or train weights of this spec with `--output`"
    )


def _anywhere(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without the digest of the standard library, which every Python has another of."""
    copy: dict[str, Any] = deepcopy(dict(recipe))
    content = (copy.get("trained_on") or {}).get("corpus", {}).get("content", {})
    content.pop(STANDARD_LIBRARY, None)
    return copy


def differences(stored: Any, own: Any, place: str) -> Iterator[str]:
    """Keys in which two identities differ, with both values."""
    if isinstance(stored, Mapping) and isinstance(own, Mapping):
        for name in sorted({*stored, *own}):
            inner = f"{place}.{name}" if place else str(name)
            yield from differences(stored.get(name), own.get(name), inner)
    elif stored != own:
        yield f"{place} was {_short(stored)}, and is {_short(own)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
