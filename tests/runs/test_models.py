"""The model cache: a model appears whole, once, and its checkpoints outlive a kill."""

import errno
import threading
import time
from pathlib import Path

import pytest

from harness.errors import StoreCorrupt
from harness.runs.store import ModelStore


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def draft(models: ModelStore, name: str = "final", text: str = "weights") -> Path:
    folder = models.scratch("m") / name
    folder.mkdir()
    (folder / "model.safetensors").write_text(text)
    return folder


def test_a_published_model_is_there_and_its_scratch_is_gone(models: ModelStore) -> None:
    assert not models.exists("m")
    (models.scratch("m") / "checkpoint").write_text("step 10")
    assert (models.scratch("m") / "checkpoint").read_text() == "step 10"
    path = models.publish("m", draft(models))
    assert path == models.path("m")
    assert models.exists("m")
    assert models.ids() == ["m"]
    assert (path / "model.safetensors").read_text() == "weights"
    assert list((models.root / ".scratch").iterdir()) == []
    models.verify("m")


def test_the_first_model_stays(models: ModelStore, tmp_path: Path) -> None:
    models.publish("m", draft(models))
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_text("late")
    models.publish("m", other)
    assert (models.path("m") / "model.safetensors").read_text() == "weights"
    assert not other.exists()


def test_a_model_from_another_disk_is_copied(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def far(self: Path, target: Path) -> Path:
        if self.parent.parent.name == "elsewhere":
            raise OSError(errno.EXDEV, "another disk")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", far)
    folder = tmp_path / "elsewhere" / "x" / "final"
    folder.mkdir(parents=True)
    (folder / "weights").write_text("w")
    models.root.mkdir()
    models.publish("m", folder)
    models.verify("m")
    assert (models.path("m") / "weights").read_text() == "w"


def test_damage_is_found(models: ModelStore) -> None:
    models.publish("m", draft(models))
    (models.path("m") / "model.safetensors").write_text("weighty")
    with pytest.raises(StoreCorrupt, match=r"model\.safetensors"):
        models.verify("m")


def test_a_half_made_folder_is_no_model(models: ModelStore) -> None:
    models.path("m").mkdir(parents=True)
    (models.path("m") / "model.safetensors").write_text("half")
    assert not models.exists("m")
    with pytest.raises(StoreCorrupt, match="delete it"):
        models.publish("m", draft(models))


def test_the_lock_makes_others_wait(models: ModelStore) -> None:
    order = []

    def second() -> None:
        with models.lock("m"):
            order.append("second")

    with models.lock("m"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
