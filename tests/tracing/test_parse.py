"""Targets as they are written, and refusals that say what there is."""

from __future__ import annotations

import pytest
from support.traces import LENGTH, run_of

from harness.errors import HarnessError
from harness.tracing.parse import PromptOutputs, parse_target
from harness.tracing.target import score_target, single_logit

NAMES = ["a1", "b@2", " c", "d", "e", "f", "g", "h", "i", "j", "k"]
OUTPUTS = PromptOutputs(NAMES, LENGTH - 1, good=[0, 3], bad=[5])


def test_logits_are_named_by_token_or_number() -> None:
    run, _ = run_of("gpt2-like", "neurons")
    logits = run.model(run.tokens[None])[0]
    for text, output, token in (
        ("logit:a1", 0, 5),
        ("logit:a1@2", 0, 2),
        ("logit:b@2", 1, 5),
        ("logit:b@2@3", 1, 3),
        ("logit:c", 2, 5),
        ("logit:#10@1", 10, 1),
    ):
        target = parse_target(run, text, OUTPUTS)
        expected = float(logits[token, output] - logits[token].mean())
        assert target.value == pytest.approx(expected, abs=1e-12)
        assert (target.name, target.token, target.unit) == (text, token, output)
        probability = float(logits[token].softmax(-1)[output])
        assert target.probability == pytest.approx(probability)
    most = parse_target(run, None, OUTPUTS)
    assert most.unit == int(logits[5].argmax())
    assert most.name == f"logit:{NAMES[most.unit]}"


def test_differences_features_and_scores_are_named_too() -> None:
    run, _ = run_of("windowed-capped", "neurons")
    logits = run.model(run.tokens[None])[0]
    for text, token in (("logit_diff", 5), ("logit_diff@1", 1)):
        row = logits[token]
        expected = float((row[0] + row[3]) / 2 - row[5])
        assert parse_target(run, text, OUTPUTS).value == pytest.approx(expected, abs=1e-12)
    hidden = float(run.frozen.mlps[1].hidden[4, 7])
    assert parse_target(run, "feature:m1.7@4", OUTPUTS).value == pytest.approx(hidden)
    score = parse_target(run, "attention:a1.h2:5:3", OUTPUTS)
    assert score.value == score_target(run, 1, 2, 5, 3).value
    assert parse_target(run, "logit:#0", OUTPUTS).value == single_logit(run, "", 0, 5).value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("logits:a1", "no target: 'logits:a1'; there are logit:TOKEN"),
        ("logit:", "no target"),
        ("logit:zz", "'zz'"),
        ("logit:a1@6", "tokens 0 to 5, no 6"),
        ("logit:#11", "'#11'"),
        ("logit_diff@x", "no token's number"),
        ("feature:m1@4", "no target"),
        ("feature:m9.1@4", "nothing called 'm9' writes to the stream; there are embed"),
        ("feature:a1.1@4", "a1 is not taken apart into features or neurons"),
        ("feature:m1.99@4", "m1.99 is not active at token 4"),
        ("attention:a1.h0:3:5", "does not see the key at 5"),
        ("attention:a1.h0:5:0", "does not see the key at 0"),
        ("attention:a1.h3:5:5", "has 3 heads, no h3"),
        ("attention:a2.h0:5:5", "has 2 layers"),
    ],
)
def test_what_is_no_target_is_refused(text: str, problem: str) -> None:
    run, _ = run_of("windowed-capped", "neurons")
    with pytest.raises(HarnessError) as caught:
        parse_target(run, text, OUTPUTS)
    assert problem in str(caught.value)


def test_prompts_without_wrong_answers_have_no_difference() -> None:
    run, _ = run_of("gpt2-like", "neurons")
    with pytest.raises(HarnessError, match="no right or no wrong"):
        parse_target(run, "logit_diff", PromptOutputs(NAMES, 5, [0], []))
