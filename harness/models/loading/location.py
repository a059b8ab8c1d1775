"""The folder of a checkpoint, which is downloaded once if it is on the hub."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from harness.datasets.locate import locate
from harness.errors import HarnessError
from harness.spec.types import LoadModel

# No pickles, and not the second copy of all weights that some repositories hold.
DOWNLOADED = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
)


def checkpoint_folder(spec: LoadModel, folder: Path) -> Path:
    """The folder of a model whose spec is in `folder`.

    The network is used only for a spec with `hub`. Raises `NotFound` if a path does not exist,
    `HarnessError` if the hub is unreachable and the cache lacks the files.
    """
    if spec.path is not None:
        return locate(spec.path, folder)
    assert spec.hub is not None  # the schema requires exactly one of the two
    return _downloaded(spec.hub, spec.revision)


@cache  # one answer for a whole run, even if a branch moves meanwhile
def _downloaded(name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise HarnessError(
            f"model {name!r} of the hub needs the `huggingface-hub` package; install it with: "
            "pip install 'circuit-harness[hub]', or download the model and give its path"
        ) from error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(DOWNLOADED)))
    except (OSError, ValueError) as error:
        at = f" at revision {revision!r}" if revision else ""
        first = str(error).strip().partition("\n")[0]
        raise HarnessError(
            f"cannot fetch model {name!r}{at} from the Hugging Face hub: {first}. Check the name, "
            "your network and access; or download the model and give its path"
        ) from error
