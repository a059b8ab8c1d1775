"""What dictionaries cost over whole games, against a loop over games, positions and sites."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.feature_sets import exact

from harness.datasets.generators.othello.source import Othello, OthelloParams
from harness.datasets.pairs import NO_TARGET, TrainingBatch
from harness.datasets.splits import Shares
from harness.datasets.stream import StreamData
from harness.dictionaries.dictionary import Dictionary, DictionarySet, random_dictionary
from harness.dictionaries.sequences import spliced_sequences
from harness.dictionaries.sites import activations
from harness.dictionaries.splice import replaced_logits
from harness.models.config import TransformerConfig
from harness.models.training.sequences import sequence_quality
from harness.models.transformer import Transformer, random_model

SITES = ("a0.out", "m0.out")


@pytest.fixture(scope="module", params=["reject", "keep"])
def games(request: pytest.FixtureRequest) -> TrainingBatch:
    data = StreamData(Othello(OthelloParams(passes=request.param), False), Shares({}, 0))
    batch = data.sequences("test", 20, 0)
    assert batch is not None
    return batch


@pytest.fixture(scope="module")
def model(games: TrainingBatch) -> Transformer:
    longest = games.tokens.shape[1]
    return random_model(TransformerConfig(1, 2, 16, 8, 64, 40, longest), 0)


def test_an_exact_dictionary_changes_nothing(model: Transformer, games: TrainingBatch) -> None:
    measured = spliced_sequences(model, DictionarySet({one: exact(16) for one in SITES}), games)
    assert measured.l0 == pytest.approx(16, abs=0.01)  # a number that is 0 has no sign
    assert measured.spliced.means()["kl"]["value"] == pytest.approx(0, abs=1e-9)
    plain = sequence_quality(model, games).means()
    assert measured.model.means() == plain
    for name, change in measured.change.means().items():
        assert change["value"] == pytest.approx(0, abs=1e-6)
        assert measured.spliced.means()[name]["value"] == pytest.approx(plain[name]["value"])


def test_measures_are_those_of_the_definitions(model: Transformer, games: TrainingBatch) -> None:
    codes = DictionarySet({one: random_dictionary(16, 24, seed=n) for n, one in enumerate(SITES)})
    for one in codes.values():
        assert one.threshold is not None
        one.threshold.fill_(0.01)
    measured = spliced_sequences(model, codes, games)
    kl, legal, lost, active, tokens = [], [], [], 0, 0
    for game in range(len(games.tokens)):
        length = int(games.lengths[game])
        moves = torch.from_numpy(games.tokens[game, :length]).long()[None]
        with torch.no_grad():
            plain, other = model(moves)[0], replaced_logits(model, moves, codes, None)[0]
            after_first = {"a0.out": codes["a0.out"]}
            held = activations(model, moves, ["a0.out"])
            held["m0.out"] = _held(model, moves, after_first, "m0.out")
        for site in SITES:
            active += int((codes[site].encode(held[site]) > 0).sum())
        tokens += length
        p, q = plain.double().log_softmax(-1), other.double().log_softmax(-1)
        for at in range(length):
            if games.targets[game, at] == NO_TARGET:
                continue
            kl.append(float((p[at].exp() * (p[at] - q[at])).sum()))
            assert games.allowed is not None
            may = np.pad(games.allowed[game, at], (0, 8))
            legal.append(may[int(other[at].argmax())])
            lost.append(int(may[int(other[at].argmax())]) - int(may[int(plain[at].argmax())]))
    spliced, change = measured.spliced.means(), measured.change.means()
    assert spliced["kl"]["value"] == pytest.approx(np.mean(kl), rel=1e-4)
    assert spliced["allowed_top1"]["value"] == pytest.approx(np.mean(legal))
    assert change["allowed_top1"]["value"] == pytest.approx(np.mean(lost))
    assert np.any(np.array(lost) != 0)
    assert measured.l0 == pytest.approx(active / tokens / 2, rel=1e-6)


def _held(
    model: Transformer, moves: torch.Tensor, replace: dict[str, Dictionary], site: str
) -> torch.Tensor:
    """What a site holds where others are replaced."""
    seen: list[torch.Tensor] = []

    def keep(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x

    replaced_logits(model, moves, {**replace, site: keep}, None)
    return seen[0]
