# Two commands that need nothing but Python 3.11+: `make demo` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow browser lint types layers schemas leaderboard readme-table comparisons \
  frontiers notebook picture clean

# The quickstart suite: trains three headline models, measures its methods, prints the
# leaderboard. What is already in results/ is reused. Two processes: small models leave cores idle.
demo: $(READY)
	$(BIN)/harness run --jobs 2

# All but the tests marked slow: minutes on two cores.
test: $(READY)
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

# The others: trainings until a known circuit is found, every call that fails once, thousands of
# mutated files, pages followed as a reader would. Continuous integration runs these too.
test-slow: $(READY) browser
	$(BIN)/pytest -n 2 --dist worksteal -m slow

# A Chromium for the tests of pages: one that is there, else of the system's packages, else
# Playwright's own. Where none can be had these tests are skipped and say why.
BROWSERS := chromium-headless-shell chromium chromium-browser google-chrome
browser: $(READY)
	@for one in $(BROWSERS); do command -v $$one && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && apt-get update -qq \
	  && apt-get install -y -qq chromium-headless-shell; then exit 0; fi; \
	$(BIN)/playwright install chromium || echo "no Chromium: tests in a browser are skipped"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# Folders import only from those below them: the contract in pyproject.toml.
layers: $(READY)
	$(BIN)/lint-imports

# The JSON Schemas in specs/ anew, after a change of the spec classes in harness/spec/types/.
schemas: $(READY)
	$(BIN)/python -m harness.cli.schemas

# The published table, its data and its curves from the last run of the quickstart suite, and
# the picture and the small table in the README.
leaderboard: $(READY)
	$(BIN)/harness run  # one process: costs are those of an idle machine
	$(BIN)/harness table quickstart --wide --provenance --write results/leaderboard.md
	$(BIN)/harness table quickstart --full --format csv --write results/leaderboard.csv
	$(BIN)/harness plot curves quickstart -o results/leaderboard.svg
	$(BIN)/python -m harness.cli.picture
	$(MAKE) readme-table

# What the README shows of results/leaderboard.md: one task, and these columns of its table.
README_TASK := ioi
README_COLUMNS := 1-4,7,10,13
readme-table:
	sed -n '/^### $(README_TASK) on /,/^### /p' results/leaderboard.md | grep '^|' \
	  | cut -d '|' -f $(README_COLUMNS) | sed 's/$$/|/' > README.table
	awk '/<!-- leaderboard:start/ {print; while ((getline line < "README.table") > 0) \
	  print line; skip = 1} /<!-- leaderboard:end/ {skip = 0} !skip' README.md > README.new
	mv README.new README.md
	rm README.table

# harness/docs/notebooks/first_circuit.ipynb: the cells of the script beside it, and what they show.
notebook: $(READY)
	$(BIN)/python -m harness.cli.notebook

# The README's picture alone, from results of the quickstart suite: results/picture.svg.
picture: demo
	$(BIN)/python -m harness.cli.picture

# The published tables of the other suites: they are run, and what they have is reused. TABLE:
# the size whose numbers stand in the table. DATA: known_circuits has too many rows for --full.
comparisons: comparison-known_circuits comparison-edge_pruning comparison-edge_pruning_prompts \
  comparison-edges_and_channels comparison-othello comparison-othello8
TABLE_edge_pruning := --size 0.03
TABLE_edge_pruning_prompts := --size 0.034
DATA_edge_pruning := --full
DATA_edge_pruning_prompts := --full
DATA_edges_and_channels := --full
DATA_othello := --full
DATA_othello8 := --full

# PLOT: what is drawn against circuit size, if anything.
PLOT_edge_pruning := --measure kl

comparison-%: $(READY)
	$(BIN)/harness run $* --jobs 2 > /dev/null
	$(BIN)/harness table $* $(TABLE_$*) --wide --provenance --write results/$*.md
	$(BIN)/harness table $* $(DATA_$*) --format csv --write results/$*.csv
	$(if $(PLOT_$*),$(BIN)/harness plot curves $* $(PLOT_$*) -o results/$*.svg)

# How small circuits get: weight-sparse models beside dense ones. Trains some twenty models.
frontiers: frontier-weight_sparse frontier-weight_sparse_cleaned frontier-weight_sparse_widths
FRONTIER_weight_sparse := --join heaviside_masks_sparse,heaviside_masks_range

frontier-%: $(READY)
	$(BIN)/harness run $* --jobs 2 > /dev/null
	$(BIN)/harness frontier $* $(FRONTIER_$*) > results/$*.md
	$(BIN)/harness table $* --full --format csv --write results/$*.csv

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): requirements.lock pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $(READY)
