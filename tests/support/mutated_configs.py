"""Mutants of `config.json`, loaded one after the other in a process of their own.

    python -m support.mutated_configs MUTANTS FOLDER...

prints how many were loaded and refused, the longest message in characters, the slowest in seconds,
and the peak of memory. Any error that is no `HarnessError` ends it with a traceback.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from copy import deepcopy
from pathlib import Path
from random import Random

from harness.errors import HarnessError
from harness.models.checkpoint import load_model

ODD_VALUES = [
    *(0, -1, 1, 2, 3, 10**6, 10**18, 10**30, -(10**18), 1e-300, 1e300, -0.0, 0.5, True, False),
    *(None, "", "x", "\ud800", "gelu", "x" * 10**5, [], [0], [[]], {}, {"a": {}}, [1] * 10**4),
    *(float("nan"), float("inf"), -float("inf"), "default", "yarn", ["full_attention"] * 3),
]


def mutated(text: bytes, draw: Random) -> bytes:
    """The bytes of a configuration, changed in one or two places."""
    if draw.random() < 0.15:
        data = bytearray(text)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        return bytes(data[: draw.choice([len(data), len(data), draw.randrange(len(data))])])
    config = json.loads(text)
    for _ in range(draw.randint(1, 2)):
        place = config
        nested = [one for one in config.values() if isinstance(one, dict) and one]
        if nested and draw.random() < 0.3:
            place = draw.choice(nested)
        name = draw.choice([*place, "unknown", "rope_scaling", "x" * 5000])
        if draw.random() < 0.15:
            place.pop(name, None)
        else:
            place[name] = deepcopy(draw.choice([*ODD_VALUES, draw.choice([*config.values()])]))
    return json.dumps(config).encode()


def main() -> None:
    mutants, slowest = int(sys.argv[1]), 0.0
    count = {"loaded": 0, "refused": 0, "longest": 0}
    for folder in map(Path, sys.argv[2:]):
        text, draw = (folder / "config.json").read_bytes(), Random(folder.name[:4])
        load_model(folder)
        for _ in range(mutants):
            (folder / "config.json").write_bytes(mutated(text, draw))
            began = time.perf_counter()
            try:
                load_model(folder)
                count["loaded"] += 1
            except HarnessError as error:
                count["refused"] += 1
                count["longest"] = max(count["longest"], len(str(error)))
            slowest = max(slowest, time.perf_counter() - began)
        (folder / "config.json").write_bytes(text)
    print(json.dumps({**count, "slowest": slowest, "peak_mib": peak_mib()}))


def peak_mib() -> float:
    """The most memory that this program has held, in MiB."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # On Linux `ru_maxrss` also counts the process that this one was forked from.
    (line,) = [one for one in status.read_text().splitlines() if one.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
