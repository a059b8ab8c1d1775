"""Generators by name: built-in, from plug-ins, broken plug-ins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.datasets.generators import Generator, generator, generator_names
from harness.datasets.generators.spec import GeneratorData
from harness.errors import HarnessError, NotFound
from harness.spec.types import TokenizerSpec

PLUGIN = """
from harness.datasets.generators import Generator, generator
GENERATOR = Generator(generator("brackets").params, "characters", generator("brackets").open)
WRONG = 5
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution with one good and three broken generators."""
    (tmp_path / "my_generators.py").write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "my_broken.py").write_text("1 / 0", encoding="utf-8")
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[harness.generators]\n"
        "mine = my_generators:GENERATOR\n"
        "wrong = my_generators:WRONG\n"
        "broken = my_broken:GENERATOR\n"
        "absent = my_absent:GENERATOR\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_built_in() -> None:
    names = {"arithmetic", "boolean_expressions", "brackets", "othello", "quotes"}
    assert names <= set(generator_names())
    assert isinstance(generator("quotes"), Generator)


def test_unknown_name() -> None:
    with pytest.raises(NotFound, match="unknown generator 'bracket'; did you mean 'brackets'"):
        generator("bracket")


@pytest.mark.usefixtures("plugin")
def test_plugins_work_and_are_listed_without_importing() -> None:
    assert {"mine", "broken"} <= set(generator_names())
    assert "my_broken" not in sys.modules
    data = GeneratorData(generator="mine", params={"lengths": [7]})
    task = generator("mine").open_data(data, TokenizerSpec(kind="characters"))
    assert task.pairs("train", 3, 0).clean.shape == (3, 7)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "ZeroDivisionError"),
        ("absent", "ModuleNotFoundError"),
        ("wrong", "is a int, not a Generator"),
    ],
)
def test_broken_plugins_name_their_distribution(name: str, message: str) -> None:
    with pytest.raises(HarnessError, match=f"generator '{name}' of my-package") as error:
        generator(name)
    assert message in str(error.value)


def test_only_generators_that_can_take_a_tokenizer_file() -> None:
    assert generator("boolean_expressions").tokenizers == ("words", "file", "model")
    assert generator("brackets").tokenizers == ("characters",)
    data = GeneratorData(generator="boolean_expressions")
    with pytest.raises(HarnessError, match="kind 'words' or 'file' or 'model', not 'moves'"):
        generator("boolean_expressions").open_data(data, TokenizerSpec(kind="moves"))
    with pytest.raises(NotFound, match=r"needs none\.json"):
        generator("boolean_expressions").open_data(
            data, TokenizerSpec(kind="file", path="none.json")
        )


def test_opening_names_all_mistakes() -> None:
    data = GeneratorData(generator="othello", params={"size": 7, "sise": 6})
    with pytest.raises(HarnessError) as error:
        generator("othello").open_data(data, TokenizerSpec(kind="words"))
    for part in (
        "data.params.sise: unknown parameter 'sise'; did you mean 'size'?",
        "data.params.size: 7 is not one of 6, 8",
        "needs tokenizer kind 'moves', not 'words'",
    ):
        assert part in str(error.value)
