"""A table of dictionaries: what each codes beside what it costs to use it in the model's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.reports.text import grid

_HEAD = (
    "site",
    "L0",
    "alive",
    "dense",
    "opposite",
    "norm",
    "error/norm",
    "EV",
    "cosine",
    "accuracy",
    "KL",
    "recovered",
)


def dictionaries_text(report: Mapping[str, Any]) -> str:
    """The report of `harness.runs.services.dictionary` for people.

    `accuracy` and `KL` are those of the model with the site alone replaced; the last lines are all
    sites at once, and the model itself.
    """
    rows = [_row(one) for one in report["sites"]]
    whole, plain = report["spliced"], report["model_behaviour"]
    empty = [""] * 6
    rows.append(["all at once", f"{report['l0']:.1f}", *empty, "", *_behaviour(whole), ""])
    rows.append(["model", "", *empty, "", *_behaviour(plain), ""])
    features = sorted({one["features"] for one in report["sites"]})
    lines = [
        f"{report['dictionary']} ({report['dictionary_id'][:12]}): "
        f"{' or '.join(map(str, features))} features a site, of {report['model']} on "
        f"{report['task']}; {report['prompts']:,} held-out prompts, {report['tokens']:,} tokens",
        "",
        grid(list(_HEAD), rows, "github"),
    ]
    if lines_by_position := _by_position(report):
        lines += ["", "L0 by position:", *lines_by_position]
    return "\n".join([*lines, *_sequences([report])])


def comparison_text(reports: Sequence[Mapping[str, Any]]) -> str:
    """Reports of several specs in one table: each site of each, then all sites at once."""
    rows: list[list[str]] = []
    for report in reports:
        name, empty = report["dictionary"], [""] * 6
        rows += [[name, *_row(one)] for one in report["sites"]]
        whole = _behaviour(report["spliced"])
        rows.append([name, "all at once", f"{report['l0']:.1f}", *empty, "", *whole, ""])
    models = {(one["model"], one["model_id"]): one for one in reports}
    for (name, _), report in models.items():
        plain = _behaviour(report["model_behaviour"])
        rows.append([f"model {name}", "", "", *[""] * 7, *plain, ""])
    heads = [
        f"{report['dictionary']} ({report['dictionary_id'][:12]}): of {report['model']} on "
        f"{report['task']}; {report['prompts']:,} held-out prompts, {report['tokens']:,} tokens"
        for report in reports
    ]
    table = grid(["dictionary", *_HEAD], rows, "github")
    return "\n".join([*heads, "", table, *_sequences(reports)])


def _sequences(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whole sequences: each model, then all sites of each spec at once and how that changes it."""
    measured = [one for one in reports if one["sequences"]]
    if not measured:
        return []
    n = measured[0]["sequences"]["n"]
    lines = ["", f"{n:,} whole held-out sequences, all sites at once, mean ± standard error:", ""]
    names = list(measured[0]["sequences"]["model"])
    models = {(one["model"], one["model_id"]): one["sequences"]["model"] for one in measured}
    rows = [[f"model {name}", "", *_means(means, names), ""] for (name, _), means in models.items()]
    for report in measured:
        one, name = report["sequences"], report["dictionary"]
        kl = _means(one["spliced"], ["kl"])
        rows.append([name, f"{one['l0']:.1f}", *_means(one["spliced"], names), *kl])
        rows.append([f"{name}, change", "", *_means(one["change"], names, sign="+"), ""])
    return [*lines, grid(["", "L0", *names, "KL"], rows, "github")]


def _means(
    means: Mapping[str, Mapping[str, float]], names: Sequence[str], sign: str = ""
) -> list[str]:
    return [f"{means[x]['value']:{sign}.4f} ± {means[x]['se']:.4f}" for x in names]


def _row(one: Mapping[str, Any]) -> list[str]:
    recovered = one["recovered"]
    return [
        one["site"],
        f"{one['l0']:.1f}",
        str(one["alive"]),
        str(one["dense"]),
        str(one["opposite"]),
        f"{one['norm']:.2f}",
        f"{one['error_share']:.3f}",
        f"{one['ev']:.4f}",
        f"{one['cosine']:.4f}",
        *_behaviour(one["splice"]),
        "" if recovered is None else f"{recovered:.4f}",
    ]


def _behaviour(measures: Mapping[str, float]) -> list[str]:
    return [f"{measures['accuracy']:.4f}", f"{measures['kl']:.4f}"]


def _by_position(report: Mapping[str, Any]) -> list[str]:
    """A line per site: L0 at the first, middle and last positions of the longest prompt."""
    lines = []
    for one in report["sites"]:
        values = one["l0_by_position"]
        picked = sorted({round(i * (len(values) - 1) / 7) for i in range(8)})
        shown = "  ".join(f"{at}: {values[at]:.0f}" for at in picked)
        lines.append(f"  {one['site']:<12}{shown}")
    return lines
