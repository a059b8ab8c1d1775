"""Tasks written in YAML alone: sentence frames, word lists, corruption and answers by slot.

A *filling* is a frame with one word for every slot. Splits: a template's own `split` first,
then words held out for a split, else the hash of the clean prompt. All constraints always
hold, also for slots that a frame does not show. A pair whose prompts are not aligned token by
token is refused; with the constraint `aligned` it is never drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import compress, cycle
from pathlib import Path

import numpy as np

from harness.datasets.classes import Classes, no_next_token
from harness.datasets.pairs import (
    Ints,
    Objective,
    PromptPairs,
    TrainingBatch,
    answer_batch,
    join_pairs,
    next_token_targets,
    pick_answers,
)
from harness.datasets.problems import listed
from harness.datasets.rows import Rows, first_of_each, join, take
from harness.datasets.splits import Hashes, Shares, hash_rows
from harness.datasets.stream import LARGEST_DRAW, StreamData, pair_rng, too_few
from harness.datasets.template.answers import (
    SIDES,
    AnswerTokens,
    answer_vocabulary,
    leave_out_words,
)
from harness.datasets.template.constraints import satisfied
from harness.datasets.template.fillings import Fillings
from harness.datasets.template.plan import FIRST, LAST, TemplatePlan
from harness.datasets.template.read import read_plan
from harness.datasets.template.render import Renderer, Side, TextRenderer, WordRenderer
from harness.datasets.template.spec import TemplateData
from harness.datasets.tokenizers import Asked, FileTokenizer, Tokenizer, Vocabulary, tokenizer_for
from harness.errors import HarnessError
from harness.spec.types import TokenizerSpec

HIDDEN_ROUNDS = 200  # tries to fill the slots that a prompt does not show
LISTED_TOKENS = 1 << 25  # of all fillings that are held at once
TEXT_ROUNDS = 20  # ... where every try has to be tokenized


class Templates:
    """Source of template prompts (see `stream.PromptSource`); open with a plan free of problems."""

    def __init__(
        self, data: TemplateData, plan: TemplatePlan, tokenizer: Vocabulary | FileTokenizer
    ) -> None:
        """Take the spec, its plan and the tokenizer made by `template_tokenizer`."""
        self.tokenizer: Tokenizer = tokenizer
        self._plan = plan
        texts = list(dict.fromkeys(word for words in plan.lists.values() for word in words))
        self._word = {text: index for index, text in enumerate(texts)}
        self._renderer = self._make_renderer(tokenizer, texts)
        self.longest = self._renderer.longest
        # Most fillings that `everything` is used for; rendering text is some 50 times slower.
        most = 1 << (18 if isinstance(self._renderer, WordRenderer) else 13)
        self.countable = min(most, LISTED_TOKENS // self.longest)
        self._good, self._bad = (
            [AnswerTokens(plan, side, self._word, tokenizer, at) for at in range(plan.places)]
            for side in SIDES
        )
        self.fillings = Fillings(data, plan, self._word)

    def draw(self, rng: np.random.Generator, n: int, split: str, paired: bool) -> Rows:
        """Return at most n random fillings that fit `split`; those breaking a rule are dropped."""
        candidates, allowed = self.fillings.frames_of(split), self.fillings.allowed(split)
        if not len(candidates) or not all(len(places) for places in allowed):
            nothing = np.zeros((0, len(allowed)), dtype=np.int64)
            return self._rows(rng, candidates[:0], nothing, paired)
        frames = candidates[rng.integers(len(candidates), size=n)]
        places = self.fillings.draw(rng, n, allowed)
        words = self.fillings.words(places)
        keep = satisfied(self._plan.rules, places, words)
        keep[keep] = self._renderer.keep(frames[keep], words[keep], paired)
        return self._rows(rng, frames[keep], words[keep], paired)

    def everything(self, rng: np.random.Generator, split: str) -> Rows:
        """Return every filling of shown slots that fits `split`; hidden slots are drawn."""
        allowed = self.fillings.allowed(split)
        parts = [self.draw(rng, 0, split, paired=True)]  # the right arrays, without rows
        if all(len(places) for places in allowed):
            frames = self.fillings.frames_of(split)
            parts += [self._fill_frame(rng, frame, allowed) for frame in frames]
        return join(parts)

    def split_of(self, rows: Rows, shares: Shares) -> Ints:
        """Return the split of each row; -1 if its words are held out for different splits."""
        return self.fillings.split_of(rows, shares)

    def pairs(self, rows: Rows) -> PromptPairs:
        """Return rows as pairs, read where the task says; HarnessError if twins are not aligned."""
        frames, words = rows["frame"], rows["words"]
        self._renderer.check_aligned(frames, words)
        return PromptPairs(
            clean=rows["tokens"],
            corrupted=rows["corrupted"],
            lengths=rows["lengths"],
            positions=self._positions(rows),
            good=_stacked([answers.of(frames, words) for answers in self._good]),
            bad=_stacked([answers.of(frames, words) for answers in self._bad]),
        )

    def template_of(self, frame: int) -> int:
        """Return the number of the template that a frame is made from."""
        return self._plan.frames[frame].template

    def continuations(self, rows: Rows, paired: bool) -> Iterator[Asked]:
        """Yield what is asked at the end of each row (see `stream.TextSource`), by its template.

        What is read elsewhere, or is a class, is no next token.
        """
        if not isinstance(self._renderer, TextRenderer) or self._plan.classes is not None:
            return
        frames, words = rows["frame"], rows["words"]
        sides: tuple[Side, ...] = ("clean", "corrupted") if paired else ("clean",)
        prompts = [self._renderer.texts(side, frames, words) for side in sides]
        read_last = [one.where == LAST for one in self._plan.frames[0].answered]
        tokens = compress([*self._good, *self._bad] if paired else self._good, cycle(read_last))
        texts_of = [one.texts(frames, words) for one in tokens]
        answers = [[text for texts in row for text in texts] for row in zip(*texts_of, strict=True)]
        answers = answers or [[] for _ in frames]
        for index, asked, texts in zip(
            frames.tolist(), answers, zip(*prompts, strict=True), strict=True
        ):
            place = f"data.templates[{self.template_of(index)}]"
            yield from (Asked(text, one, place, joined=True) for text in texts for one in asked)

    def batch(self, rows: Rows, objective: Objective) -> TrainingBatch:
        """Return rows as a batch; several good answers are soft targets of `answer`."""
        tokens, lengths = rows["tokens"], rows["lengths"]
        good = _stacked([answers.of(rows["frame"], rows["words"]) for answers in self._good])
        places = self._positions(rows)
        if objective == "answer":
            outputs = answer_vocabulary(self._plan, self.tokenizer).size
            return answer_batch(tokens, lengths, good, outputs, places)
        if self._plan.classes is not None:
            raise no_next_token()
        answers = pick_answers(rows["point"][:, None], good)
        return TrainingBatch(tokens, lengths, next_token_targets(tokens, lengths, answers, places))

    def _positions(self, rows: Rows) -> Ints:
        """Return where the answers of rows are read [n, P]."""
        frames, lengths = rows["frame"], rows["lengths"]
        columns = []
        for number, one in enumerate(self._plan.frames[0].answered):  # alike in all but slots
            if one.where == FIRST:
                columns.append(np.zeros_like(lengths))
            elif one.where == LAST:
                columns.append(lengths - 1)
            else:
                columns.append(self._renderer.ends(frames, rows["words"], number))
        return np.stack(columns, axis=1)

    def _make_renderer(self, tokenizer: Vocabulary | FileTokenizer, texts: list[str]) -> Renderer:
        if isinstance(tokenizer, Vocabulary) and tokenizer.kind == "words":
            vocabulary = set(self._plan.vocabulary)
            ids = np.array([tokenizer.single(text) if text in vocabulary else -1 for text in texts])
            return WordRenderer(self._plan, tokenizer, ids)
        return TextRenderer(self._plan, tokenizer, texts)

    def _fill_frame(self, rng: np.random.Generator, frame: int, allowed: list[Ints]) -> Rows:
        """Return every filling of the slots that one frame shows; rules are kept."""
        shown, hidden = self.fillings.drawn_in(frame)
        grids = np.meshgrid(*(allowed[column] for column in shown), indexing="ij")
        n = math.prod(len(allowed[column]) for column in shown)
        places = np.zeros((n, len(allowed)), dtype=np.int64)
        for column, grid in zip(shown, grids, strict=True):
            places[:, column] = grid.ravel()
        pending = np.arange(n)
        rounds = HIDDEN_ROUNDS if isinstance(self._renderer, WordRenderer) else TEXT_ROUNDS
        for _ in range(rounds if hidden else 1):
            for column in hidden:
                draws = rng.integers(len(allowed[column]), size=len(pending))
                places[pending, column] = allowed[column][draws]
            self.fillings.tie(places)
            words = self.fillings.words(places[pending])
            ok = satisfied(self._plan.rules, places[pending], words)
            ok[ok] = self._renderer.keep(np.full(ok.sum(), frame), words[ok], paired=True)
            pending = pending[~ok]
            if not len(pending):
                break
        words = self.fillings.words(np.delete(places, pending, axis=0))
        return self._rows(rng, np.full(len(words), frame), words, paired=True)

    def _rows(self, rng: np.random.Generator, frames: Ints, words: Ints, paired: bool) -> Rows:
        exist = [answers.exist(frames, words) for answers in (*self._good, *self._bad)]
        keep = np.logical_and.reduce(exist)
        frames, words = frames[keep], words[keep]
        tokens, lengths = self._renderer.render("clean", frames, words)
        rows: Rows = {
            "frame": frames,
            "words": words,
            "tokens": tokens,
            "lengths": lengths,
            "point": rng.random(len(frames)),  # picks the answer that continues a sentence
        }
        if paired:
            rows["corrupted"] = self._renderer.render("corrupted", frames, words)[0]
        return rows


def _stacked(answers: list[Ints]) -> Ints:
    """Return answers [n, G_p] at P places as [n, P, G], padded with -1."""
    out = np.full((len(answers[0]), len(answers), max(one.shape[1] for one in answers)), -1)
    for place, one in enumerate(answers):
        out[:, place, : one.shape[1]] = one
    return out


class TemplateTask(StreamData):
    """`TaskData` of a template: small tasks are enumerated, so their counts are exact."""

    source: Templates

    def shared_prompts(self) -> Hashes | None:
        """Return hashes of the distinct prompts, where they are few and only shares divide them."""
        fillings = self.source.fillings
        if fillings.count("train") > self.source.countable or not fillings.only_shares:
            return None
        rows = self.source.everything(pair_rng(self.shares, "train", 0), "train")
        rows = take(rows, first_of_each(rows))
        return hash_rows(rows["tokens"], rows["lengths"], self.shares.seed)

    def pairs(self, split: str, n: int, seed: int, *, at_most: bool = False) -> PromptPairs:
        """Return n pairs of `split` with distinct clean prompts (see `TaskData`)."""
        index = self.shares.index(split)
        if self.source.fillings.count(split) > self.source.countable:
            return super().pairs(split, n, seed, at_most=at_most)
        rng = pair_rng(self.shares, split, seed)
        rows = self.source.everything(rng, split)
        rows = take(rows, self.source.split_of(rows, self.shares) == index)
        rows = take(rows, first_of_each(rows))
        available = len(rows["lengths"])
        if n > available and not (at_most and available):
            raise too_few(split, available, n)
        chosen = rng.permutation(available)[:n]
        parts = [chosen[at : at + LARGEST_DRAW] for at in range(0, len(chosen), LARGEST_DRAW)]
        return join_pairs([self.checked_pairs(take(rows, part)) for part in parts])


def template_splits(data: TemplateData) -> tuple[str, ...]:
    """Return the splits named by templates and held-out words."""
    named = [template.split for template in data.templates if template.split is not None]
    return tuple(dict.fromkeys([*named, *data.held_out]))


def template_tokenizer(
    plan: TemplatePlan, spec: TokenizerSpec, folder: Path, continues: bool
) -> Vocabulary | FileTokenizer:
    """Return the vocabulary of all frames and lists, or the tokenizer file of the spec."""
    return tokenizer_for(spec, folder, [*plan.literals, *plan.vocabulary], continues)


def open_template(
    data: TemplateData, spec: TokenizerSpec, folder: Path, classes: Classes | None = None
) -> TemplateTask:
    """Return the opened task; HarnessError with every problem of the template."""
    plan, problems = read_plan(data, folder, classes)
    if problems:
        raise HarnessError(listed(problems))
    tokenizer = template_tokenizer(plan, spec, folder, data.continues is not False)
    if lacking := leave_out_words(plan, tokenizer):
        raise HarnessError("\n".join(f"data.constraints: {text}" for text in lacking))
    shares = Shares(data.shares, data.seed, template_splits(data))
    task = TemplateTask(Templates(data, plan, tokenizer), shares)
    task.classes = classes
    return task
