"""Circuits that are searched for, from spec to table."""

from __future__ import annotations

import csv
import io


def measure_targets(measuring) -> None:
    path = measuring.task("toy")
    text = path.read_text().replace(
        "  sizes: [0.01, 0.1, 0.5, 1.0]\n", "  targets: [{faithfulness: 0.9}, {kl: 0.05}]\n"
    )
    path.write_text(text.replace("steps: 10", "steps: 40"))
    measuring("run", "toy", "--methods", "eap,random", "--seeds", "0,1", "--threads", "1")


def test_tables_and_rows_show_what_was_reached(measuring):
    measure_targets(measuring)
    table = measuring("table", "toy").stdout
    assert "edges @f≥0.9" in table
    assert "KL @f≥0.9" in table
    text = measuring("table", "toy", "--full", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 3 * 2 * 2  # methods with the control, seeds, targets
    assert all(float(row["bits"]) >= 0 for row in rows)
    assert all(float(row["faithfulness"]) >= 0.9 - 1e-6 for row in rows[::2])
    assert all(float(row["kl"]) <= 0.05 + 1e-6 for row in rows[1::2])


def test_what_needs_a_grid_of_sizes_says_so(measuring):
    measure_targets(measuring)
    message = measuring("plot", "curves", "toy", "-o", "toy.svg", code=2).stderr
    assert "searched for targets" in message


def test_one_way_to_say_how_large(measuring):
    path = measuring.task("toy")
    path.write_text(path.read_text().replace("  test_pairs", "  counts: [3, 9]\n  test_pairs"))
    message = measuring("validate", "tasks/toy.yaml", code=2)
    assert "give only one of sizes, counts" in message.output


def test_counts_ascend(measuring):
    path = measuring.task("toy")
    path.write_text(path.read_text().replace("sizes: [0.01, 0.1, 0.5, 1.0]", "counts: [9, 3]"))
    message = measuring("validate", "tasks/toy.yaml", code=2)
    assert "counts must ascend, but 3 follows 9" in message.output
