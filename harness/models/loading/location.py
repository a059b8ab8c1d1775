"""Where a checkpoint lies: in a folder, or on the hub, from which it is fetched once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from harness.datasets.locate import locate
from harness.errors import HarnessError
from harness.spec.types import LoadModel

# No pickles, and not the second copy of all weights that some repositories hold.
FETCHED = ("config.json", "tokenizer.json", "model*.safetensors", "model.safetensors.index.json")


def checkpoint_folder(spec: LoadModel, folder: Path) -> Path:
    """The folder of a model whose spec stands in `folder`.

    The network is used for a spec with `hub` alone. Raises `NotFound` for a path that is nowhere,
    `HarnessError` if the hub cannot give the files and the cache has none.
    """
    if spec.path is not None:
        return locate(spec.path, folder)
    assert spec.hub is not None  # the schema asks for exactly one of both
    return _fetched(spec.hub, spec.revision)


@cache  # one answer for a whole run, even if a branch moves meanwhile
def _fetched(name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise HarnessError(
            f"model {name!r} of the hub needs the `huggingface-hub` package; install it with: "
            "pip install 'circuit-harness[hub]', or download the model and give its path"
        ) from error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FETCHED)))
    except (OSError, ValueError) as error:
        at = f" at revision {revision!r}" if revision else ""
        first = str(error).strip().partition("\n")[0]
        raise HarnessError(
            f"cannot fetch model {name!r}{at} from the Hugging Face hub: {first}. Check the name, "
            "your network and access; or download the model and give its path"
        ) from error
