"""Provenance: the commit is that of this package, or none."""

import subprocess
from pathlib import Path

from harness.runs.store.atomic import json_bytes
from harness.runs.store.provenance import collect, git_state
from harness.spec.types import Runtime


def git(folder: Path, *arguments: str) -> None:
    name = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", str(folder), *name, *arguments], check=True, capture_output=True)


def test_provenance_is_json_and_names_what_matters() -> None:
    found = collect(Runtime(threads=3))
    json_bytes(found)
    assert found["threads"] == 3
    assert found["versions"]["torch"]
    assert found["versions"]["harness"]
    assert found["created"].endswith("+00:00")


def test_git_state_follows_the_packages_own_repository(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert git_state(package) is None
    git(tmp_path, "init", "-q")
    git_state.cache_clear()
    # In a repository that does not track it (an environment inside somebody's project).
    assert git_state(package) is None
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    git_state.cache_clear()
    clean = git_state(package)
    assert clean is not None
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    (package / "__init__.py").write_text("changed")
    git_state.cache_clear()
    dirty = git_state(package)
    assert dirty == {"commit": clean["commit"], "dirty": True}
    git_state.cache_clear()
