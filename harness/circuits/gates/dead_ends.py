"""Channels that surely change no logit: those that nothing hears, and those that hear nothing.

A channel is heard if a way of weights leads from it through kept channels to the final read. What
is written to the stream is heard by every later read, as norms read all of it; queries and keys by
what their head writes, whichever of its values are kept. Where the channels of a site are mixed
(`Wiring.mixed`), what reaches one of them reaches all, kept or not.

Where dropped channels carry what they carried in another run (`OF_A_RUN`), a channel all of whose
sources are dropped carries that too, and may as well be dropped. Embeddings are always those of
the clean prompt, so that reads of the stream always differ.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.circuits.gates.wiring import Bools, Link, Wiring
from harness.circuits.patchable import OF_A_RUN
from harness.spec.types import Ablation

Sites = Mapping[str, Bools]
"""What is kept or heard of every site, in order of computation."""


def without_dead_ends(
    kept: Sites, heads: Mapping[str, int], wiring: Wiring, ablation: Ablation
) -> dict[str, Bools]:
    """The kept channels of each site without those that surely change nothing.

    `heads`: how many heads or groups the queries, keys and values of a site divide into.
    """
    alive = _heard(kept, heads, wiring)
    if ablation in OF_A_RUN:
        differs = _differing(kept, heads, wiring)
        alive = {site: inside & differs[site] for site, inside in alive.items()}
    return {site: alive[site] for site in kept}


def _heard(kept: Sites, heads: Mapping[str, int], wiring: Wiring) -> dict[str, Bools]:
    """Kept channels that a way leads from to the final read."""
    heard: dict[str, Bools] = {}
    read = False  # whether any later read of the stream is heard
    for site in reversed(list(kept)):
        part, _, kind = site.partition(".")
        if kind == "out":
            heard[site] = kept[site] & np.bool_(read)
        elif kind in ("q", "k"):
            listening = _listening(heard, heads, wiring, part)
            if kind == "k":
                listening = np.logical_or.reduce(listening.reshape(heads[site], -1), axis=1)
            heard[site] = kept[site] & _by_head(listening, kept[site])
        elif kind:
            links = _out(wiring, site)
            ways = [link.feeding(_spread(heard, wiring, link.target)) for link in links]
            heard[site] = kept[site] & np.logical_or.reduce(ways)
            read |= kind == "in" and bool(heard[site].any())
        else:  # the final read
            heard[site] = kept[site]
            read = bool(heard[site].any())
    return heard


def _listening(heard: Sites, heads: Mapping[str, int], wiring: Wiring, part: str) -> Bools:
    """Heads of an attention whose values, kept or not, are heard: [H]."""
    out = _spread(heard, wiring, f"{part}.out")
    groups = heads[f"{part}.v"]
    each = [link.feeding(out).reshape(groups, -1).any(1) for link in _out(wiring, f"{part}.v")]
    return np.stack(each, axis=1).reshape(-1)


def _differing(kept: Sites, heads: Mapping[str, int], wiring: Wiring) -> dict[str, Bools]:
    """Kept channels that need not be what they are in the counterfactual run."""
    differs: dict[str, Bools] = {}
    for site in kept:
        part, _, kind = site.partition(".")
        if kind in ("", "in"):
            differs[site] = kept[site]
            continue
        links = [link for link in wiring.links if link.target == site]
        if kind == "out" and part.startswith("a"):
            handed_on = zip(links, _mixes(differs, heads, part), strict=True)
            ways = [link.fed(values) for link, values in handed_on]
        else:
            ways = [link.fed(differs[link.source]) for link in links]
        reached = np.logical_or.reduce(ways)
        if site in wiring.mixed:
            reached = np.full_like(reached, reached.any())
        differs[site] = kept[site] & reached
    return differs


def _mixes(differs: Sites, heads: Mapping[str, int], part: str) -> list[Bools]:
    """What each head of every group hands on that differs: by its place in the group, [G·K]."""
    values, groups = differs[f"{part}.v"], heads[f"{part}.v"]
    keys = differs[f"{part}.k"].reshape(groups, -1).any(1)
    queries = differs[f"{part}.q"].reshape(heads[f"{part}.q"], -1).any(1).reshape(groups, -1)
    return [values | _by_head(keys | one, values) for one in queries.T]


def _out(wiring: Wiring, site: str) -> list[Link]:
    return [link for link in wiring.links if link.source == site]


def _spread(heard: Sites, wiring: Wiring, site: str) -> Bools:
    """Channels of a site that have an effect if a weight leads into them, kept or not."""
    inside = heard[site]
    return np.full_like(inside, inside.any()) if site in wiring.mixed else inside


def _by_head(heads: Bools, like: Bools) -> Bools:
    """A value per head for each of its channels."""
    return np.repeat(heads, len(like) // len(heads))
