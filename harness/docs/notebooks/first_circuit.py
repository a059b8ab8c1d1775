# %% [markdown]
# # A first circuit
#
# From a task in YAML over a table of methods to a drawn circuit: what a model of Othello uses to
# know which moves are legal. The model is small and comes with the package, so everything here
# takes seconds.
#
# Each cell shows one thing that `import harness` gives; `harness help python` has all of it.

# %%
from pathlib import Path

import harness

# %% [markdown]
# ## A task
#
# A task is one YAML file: where prompts come from, what makes two circuits comparable, and the
# model. Here games of Othello on a small board are broken off after 8 to 14 moves.

# %%
TASK = """\
spec_version: 1
name: openings
title: Legal moves after an opening
tokenizer: {kind: moves}
data:
  kind: generator
  generator: othello
  params: {size: 6, min_ply: 8, max_ply: 14}
evaluation: {ablation: interchange, positions: all, discovery_pairs: 64, test_pairs: 64}
model: othello6-2l-128
"""
Path("tasks").mkdir(exist_ok=True)
Path("tasks/openings.yaml").write_text(TASK, encoding="utf-8")
task = harness.load_task("tasks/openings.yaml")

# %% [markdown]
# A prompt pair is a clean prompt and its corrupted twin. These differ in the last move, so other
# moves are legal after it; any of them is a right answer.

# %%
harness.prompt_pairs(task, n=3)

# %% [markdown]
# ## A circuit
#
# The model has 310 edges: from the embeddings, attention heads and MLPs to the heads, MLPs and
# logits that read what they write. EAP-IG gives each a score, and the circuit keeps one in ten.

# %%
model = harness.load_model(task)
circuit = harness.discover(task, model, "eap_ig", size=0.1)
circuit.draw()

# %% [markdown]
# How well does the circuit alone do what the model does? All other edges carry what they carry
# after the corrupted prompt. Faithfulness is 1 for the whole model and 0 for no edge at all.

# %%
harness.evaluate(circuit, task, model)

# %%
circuit.to_dataframe().sort("score", descending=True).head(5)

# %% [markdown]
# ## A table
#
# Which method finds the best circuits? A suite is a grid of tasks, methods and seeds. What is
# computed once is stored below `results` and never computed again.

# %%
SUITE = """\
spec_version: 1
name: openings
title: Which method explains openings best
tasks: [openings]
methods: [eap, eap_ig, random]
"""
Path("specs/suites").mkdir(parents=True, exist_ok=True)
Path("specs/suites/openings.yaml").write_text(SUITE, encoding="utf-8")
done = harness.run("openings")
harness.leaderboard("openings")

# %% [markdown]
# Two intervals that overlap say little about a difference. A comparison resamples the difference
# itself, pair by pair.

# %%
harness.compare("eap_ig", "eap")

# %% [markdown]
# ## Two circuits in one picture
#
# EAP takes the gradient at one point, EAP-IG its mean along a path. Where do they disagree?

# %%
circuit.draw(harness.discover(task, model, "eap", size=0.1))
