"""Published models: a real Llama and a real GPT-2 against numbers that others recorded."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from harness.circuits.patchable import plain_logits
from harness.datasets.batch import Batch
from harness.datasets.tokenizers import open_tokenizer
from harness.metrics.logits import logit_diff
from harness.models.checkpoint import load_model


# ---------------------------------------------------------------- a real Llama
def test_a_real_llama_writes_its_documented_story(reference_file):
    expected = json.loads(reference_file("stories260K/expected.json").read_text())
    model = load_model(reference_file("stories260K"))
    wanted = expected["greedy"]["ids"]
    # Teacher forcing: every greedy token is the largest logit after those before it.
    assert wanted[0] == 1
    chosen = model(torch.tensor([wanted[:-1]]))[0].argmax(-1)
    assert chosen.tolist() == wanted[1:]
    tokenizer = open_tokenizer("tokenizer.json", True, reference_file("stories260K"))
    assert tokenizer.bos == wanted[0]
    assert tokenizer.decode(wanted[1:]) == expected["greedy"]["text"]


def test_logits_of_a_real_llama(reference_file):
    expected = json.loads(reference_file("stories260K/expected.json").read_text())
    model = load_model(reference_file("stories260K"), dtype=torch.float64)
    for prompt in expected["prompts"]:
        found = model(torch.tensor([prompt["ids"]]))[0]
        wanted = torch.tensor(prompt["logits"], dtype=torch.float64)
        assert (found - wanted).abs().max() <= 3e-5
        assert int(found[-1].argmax()) == prompt["next_id"]


def test_pronouns_of_a_real_llama(reference_file):
    """A behaviour of a real model, through the batches that methods use."""
    expected = json.loads(reference_file("stories260K/expected.json").read_text())
    pairs = expected["pronoun_pairs"]["pairs"]
    model = load_model(reference_file("stories260K"))
    clean, corrupted = [], []
    for pair in pairs:
        batch = pronoun_batch(pair)
        clean.append(float(logit_diff(plain_logits(model, batch), batch)))
        corrupted.append(float(logit_diff(plain_logits(model, batch, corrupted=True), batch)))
    assert np.mean(clean) == pytest.approx(5.416707, abs=1e-4)
    assert np.mean(corrupted) == pytest.approx(-4.754218, abs=1e-4)


def pronoun_batch(pair):
    ids = [torch.tensor([pair[name]]) for name in ("clean_ids", "corrupted_ids")]
    she, he = torch.tensor([[[338]]]), torch.tensor([[[346]]])
    last = torch.tensor([[ids[0].shape[1] - 1]])
    return Batch(ids[0], ids[1], last, she, he, torch.tensor([0]))


# ---------------------------------------------------------------- a real GPT-2
def test_intermediates_of_a_real_gpt2(reference_file):
    model = load_model(reference_file("gpt_nano_sort"))
    expected = np.load(reference_file("gpt_nano_sort/expected.npz"), allow_pickle=False)

    def same(found, name):
        wanted = torch.from_numpy(expected[name])
        torch.testing.assert_close(found, wanted.expand_as(found), rtol=0, atol=5e-6)

    tokens = torch.from_numpy(expected["idx"]).long()
    same(model.embed(tokens), "tok_emb")
    same(model.position(11)[None], "pos_emb")
    x = model.start(tokens)
    first = next(model.layers())
    reads = first.read(x)
    q, k, v = first.split(reads.transpose(1, 2), axis=1)
    same(first.attention_norm(x), "ln1")
    same(reads.flatten(2), "qkv")
    for found, name in ((q, "q"), (k, "k"), (v, "v")):
        same(found, name)
    same(first.heads(x).flatten(2), "y")
    same(first.project(first.heads(x)), "yProj")
    after = x + first.project(first.heads(x))
    same(first.mlp_norm(after), "ln2")
    same(first.mlp_in(first.mlp_norm(after)), "fc")
    same(first.mlp(after), "mlp")
    for layer, block in enumerate(model.layers()):
        x = block(x)
        same(x, f"block{layer}")
    same(model.final_norm(x), "ln_f")
    same(model.unembed(x, tokens), "lm_head")


def test_a_real_gpt2_sorts(reference_file):
    model = load_model(reference_file("gpt_nano_sort"))
    expected = np.load(reference_file("gpt_nano_sort/expected.npz"), allow_pickle=False)
    logits = model(torch.from_numpy(expected["sort_tokens"]).long())[:, 5:]
    torch.testing.assert_close(logits, torch.from_numpy(expected["sort_logits"]), rtol=0, atol=1e-4)
    assert torch.equal(logits.argmax(-1), torch.from_numpy(expected["sort_answers"]).long())
