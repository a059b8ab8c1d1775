"""Half precision on a CPU: warned of where it is emulated, and said by the doctor."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from harness.cli.main import main
from harness.runs.compute import machine
from harness.runs.compute.machine import half_arithmetic, use_runtime
from harness.spec.types import Runtime


@pytest.fixture
def capabilities(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What torch says that this CPU has: nothing, to begin with."""
    has: dict[str, Any] = {"architecture": "x86_64", "avx512_f": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    machine._warn_if_emulated.cache_clear()
    return has


def use(dtype: Any) -> None:
    use_runtime(Runtime(dtype=dtype, threads=torch.get_num_threads()))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_emulated_half_precision_is_warned_of_once(
    capabilities: dict[str, Any], caplog: pytest.LogCaptureFixture, dtype: str
) -> None:
    with caplog.at_level(logging.WARNING):
        use(dtype)
        use(dtype)
    (said,) = caplog.messages
    assert said.startswith(f"this CPU has no arithmetic in {dtype} (none of amx_")
    assert said.endswith("take several times as long as in float32")


@pytest.mark.parametrize(
    ("dtype", "instruction"),
    [
        ("bfloat16", "amx_bf16"),
        ("bfloat16", "avx512_bf16"),
        ("bfloat16", "bf16"),
        ("float16", "avx512_fp16"),
        ("float16", "fp16_arith"),
        ("float32", "none"),
    ],
)
def test_nothing_is_said_where_the_cpu_has_it(
    capabilities: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    dtype: str,
    instruction: str,
) -> None:
    capabilities[instruction] = True
    with caplog.at_level(logging.WARNING):
        use(dtype)
    assert caplog.messages == []


def test_a_torch_that_does_not_tell_is_not_taken_for_a_cpu_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    machine._warn_if_emulated.cache_clear()
    assert half_arithmetic(torch.bfloat16) is None
    with caplog.at_level(logging.WARNING):
        use("bfloat16")
    assert caplog.messages == []


def test_the_doctor_says_what_there_is(capabilities: dict[str, Any], tmp_path: Path) -> None:
    capabilities["avx512_bf16"] = True
    doctor = ["doctor", "-o", str(tmp_path)]
    said = CliRunner().invoke(main, doctor).stdout
    assert "half  bfloat16 by avx512_bf16; float16 emulated, slow\n" in said
    facts = json.loads(CliRunner().invoke(main, [*doctor, "--json"]).stdout)
    assert facts["half"] == {"bfloat16": ["avx512_bf16"], "float16": []}
