"""Renders frames with drawn words as token ids.

In a `words` task every slot is one token, so frames become a matrix of ids and slot columns
and rendering is one gather. With other tokenizers whole sentences are encoded as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.datasets.pairs import Ints, padded
from harness.datasets.template.align import Piece, Prompt, misaligned
from harness.datasets.template.plan import Frame, FramePart, TemplatePlan
from harness.datasets.tokenizers import FileTokenizer, Spans, Vocabulary, after_bos
from harness.errors import HarnessError

Side = Literal["clean", "corrupted"]
MAX_CACHED = 1 << 14  # texts whose tokens are kept: a task that is listed in full has fewer


class Renderer(Protocol):
    """Frames and words to tokens."""

    longest: int

    def render(self, side: Side, frames: Ints, words: Ints) -> tuple[Ints, Ints]:
        """Return tokens [n, T] and lengths [n]; `words` [n, free slots] are word ids."""
        ...

    def ends(self, frames: Ints, words: Ints, number: int) -> Ints:
        """Return the last token [n] of the slot where answer `number` of each prompt is read."""
        ...

    def check_aligned(self, frames: Ints, words: Ints) -> None:
        """Raise HarnessError if a pair is not aligned slot by slot."""
        ...

    def keep(self, frames: Ints, words: Ints, paired: bool) -> NDArray[np.bool_]:
        """Return which rows obey the token rules of the task."""
        ...


class WordRenderer:
    """One token per slot."""

    def __init__(self, plan: TemplatePlan, tokenizer: Vocabulary, word_tokens: Ints) -> None:
        """Take the token id of every word id."""
        self._word_tokens = word_tokens
        columns = {slot: index for index, slot in enumerate(plan.free)}
        self._layout = {
            "clean": self._matrix(plan, [frame.clean for frame in plan.frames], tokenizer, columns),
            "corrupted": self._matrix(
                plan, [frame.corrupted for frame in plan.frames], tokenizer, columns
            ),
        }
        self._ends = [self._slot_ends(frame, tokenizer) for frame in plan.frames]
        self._lengths = (self._layout["clean"] != _EMPTY).sum(axis=1)
        self.longest = int(self._lengths.max())

    def render(self, side: Side, frames: Ints, words: Ints) -> tuple[Ints, Ints]:
        """Return tokens [n, T] and lengths [n]."""
        layout = self._layout[side][frames]
        tokens = self._word_tokens[words]
        filled = tokens[
            np.arange(len(frames))[:, None],
            np.where(layout < 0, -layout - 1, 0).clip(0, tokens.shape[1] - 1),
        ]
        out = np.where(layout >= 0, layout, filled)
        out[layout == _EMPTY] = 0
        return out, self._lengths[frames]

    def ends(self, frames: Ints, words: Ints, number: int) -> Ints:
        """Return the token [n] of the slot where answer `number` of each prompt is read."""
        return np.array([self._ends[frame][number] for frame in frames.tolist()], dtype=np.int64)

    def _slot_ends(self, frame: Frame, tokenizer: Vocabulary) -> list[int]:
        """Return the token of each slot at which the prompts of a frame are read, -1 for others."""
        sizes = [
            1 if part.slot is not None else len(tokenizer.encode(part.text)) for part in frame.clean
        ]
        last = np.cumsum(sizes) - 1 + int(tokenizer.bos is not None)
        slots = [frame.shown(one.where) for one in frame.answered]
        return [int(last[parts[0]]) if parts else -1 for parts in slots]

    def check_aligned(self, frames: Ints, words: Ints) -> None:
        """Nothing can be misaligned: each slot and each literal word is one token."""

    def keep(self, frames: Ints, words: Ints, paired: bool) -> NDArray[np.bool_]:
        """Return true for every row, for the same reason."""
        return np.ones(len(frames), dtype=np.bool_)

    def _matrix(
        self,
        plan: TemplatePlan,
        rows: Sequence[tuple[FramePart, ...]],
        tokenizer: Vocabulary,
        columns: dict[str, int],
    ) -> Ints:
        """Return token ids [frames, T], -1 - column for slots, `_EMPTY` after the end."""
        ids = []
        for parts in rows:
            row = [] if tokenizer.bos is None else [tokenizer.bos]
            for part in parts:
                if part.slot is None:
                    row += tokenizer.encode(part.text)
                else:
                    row.append(-1 - columns[plan.origin[part.slot]])
            ids.append(row)
        return padded(ids, _EMPTY)


_EMPTY = -(1 << 40)


class TextRenderer:
    """Whole sentences as text: `characters` and `file` tokenizers."""

    def __init__(
        self, plan: TemplatePlan, tokenizer: Vocabulary | FileTokenizer, word_texts: Sequence[str]
    ) -> None:
        """Take the text of every word id."""
        self._plan = plan
        self._tokenizer = tokenizer
        self._words = word_texts
        self._columns = {slot: index for index, slot in enumerate(plan.free)}
        self._most: dict[str, int] = {}  # tokens of the longest word, by list
        self._cached: dict[str, Spans] = {}
        self.longest = max(self._bound(frame.clean) for frame in plan.frames)

    def render(self, side: Side, frames: Ints, words: Ints) -> tuple[Ints, Ints]:
        """Return tokens [n, T] and lengths [n]."""
        texts = self.texts(side, frames, words)
        ids = [after_bos(self._tokenizer, tokens) for tokens, _ in self._spans(texts)]
        lengths = np.array([len(row) for row in ids], dtype=np.int64)
        if lengths.max(initial=0) > self.longest:
            longest = texts[int(lengths.argmax())]
            raise HarnessError(f"more than {self.longest} tokens, the most expected: {longest!r}")
        return padded(ids, 0, self.longest), lengths

    def texts(self, side: Side, frames: Ints, words: Ints) -> list[str]:
        """Return the prompts as text, without BOS."""
        return ["".join(one.text for one in row) for row in self._pieces(side, frames, words)]

    def ends(self, frames: Ints, words: Ints, number: int) -> Ints:
        """Return the last token [n] of the slot where answer `number` of each prompt is read.

        Pairs are aligned slot by slot, so it is the same in both prompts.
        """
        bos, ends = int(self._tokenizer.bos is not None), list[int]()
        for prompt, index in zip(self._prompts("clean", frames, words), frames, strict=True):
            frame = self._plan.frames[index]
            (part,) = frame.shown(frame.answered[number].where)
            ends.append(bos + max(prompt.tokens_of(part)))
        return np.array(ends, dtype=np.int64)

    def keep(self, frames: Ints, words: Ints, paired: bool) -> NDArray[np.bool_]:
        """Return which rows obey the token rules; `aligned` is about pairs alone.

        Slots that are whole in the clean prompt are so in a corrupted one that is aligned with it.
        """
        rules, ok = self._plan.token_rules, np.ones(len(frames), dtype=np.bool_)
        if not rules.whole and not (rules.aligned and paired):
            return ok
        clean = self._prompts("clean", frames, words)
        if rules.whole:
            ok &= self._whole(clean, frames)
        if rules.aligned and paired:
            pairs = zip(clean, self._prompts("corrupted", frames, words), strict=True)
            ok &= np.array([misaligned(*pair) is None for pair in pairs], dtype=np.bool_)
        return ok

    def check_aligned(self, frames: Ints, words: Ints) -> None:
        """Raise HarnessError if a pair is not aligned slot by slot (see `template.align`)."""
        if self._plan.token_rules.aligned:
            return  # others were not drawn
        clean = self._prompts("clean", frames, words)
        for one, other in zip(clean, self._prompts("corrupted", frames, words), strict=True):
            if reason := misaligned(one, other):
                raise HarnessError(
                    f"clean and corrupted are not aligned token by token, {reason}: "
                    f"{one.text!r} / {other.text!r}; use words of equal token length, or the "
                    "constraint `aligned`, which leaves such pairs out"
                )

    def _whole(self, prompts: Sequence[Prompt], frames: Ints) -> NDArray[np.bool_]:
        """Return in which prompts the slots that must be whole are."""
        ok: list[bool] = []
        for prompt, index in zip(prompts, frames, strict=True):
            frame = self._plan.frames[index]
            chosen = [at for at, part in enumerate(frame.clean) if part.slot in frame.whole]
            ok.append(all(prompt.is_whole(at) for at in chosen))
        return np.array(ok, dtype=np.bool_)

    def _prompts(self, side: Side, frames: Ints, words: Ints) -> list[Prompt]:
        rows = self._pieces(side, frames, words)
        tokens = self._spans(["".join(one.text for one in row) for row in rows])
        return [Prompt(row, spans) for row, spans in zip(rows, tokens, strict=True)]

    def _spans(self, texts: Sequence[str]) -> list[Spans]:
        """Return the tokens of texts; a rule, and tries to keep it, ask for the same ones often."""
        new = list(dict.fromkeys(text for text in texts if text not in self._cached))
        if len(self._cached) + len(new) > MAX_CACHED:
            self._cached.clear()
            new = list(dict.fromkeys(texts))
        self._cached |= zip(new, self._tokenizer.spans(new), strict=True)
        return [self._cached[text] for text in texts]

    def _pieces(self, side: Side, frames: Ints, words: Ints) -> list[list[Piece]]:
        return [
            [self._piece(part, row) for part in getattr(self._plan.frames[frame], side)]
            for frame, row in zip(frames.tolist(), words.tolist(), strict=True)
        ]

    def _piece(self, part: FramePart, words: list[int]) -> Piece:
        if part.slot is None:
            return Piece(part.text, f"={part.text}")
        return Piece(self._words[words[self._columns[self._plan.origin[part.slot]]]], part.slot)

    def _bound(self, parts: tuple[FramePart, ...]) -> int:
        """Return an upper bound of the tokens of a frame: the sum over its parts, worst words.

        A part can have one token more in the sentence than alone, where it touches another.
        """
        extra = len(parts) if self._tokenizer.kind == "file" else 0
        total = extra + int(self._tokenizer.bos is not None)
        for part in parts:
            if part.slot is None:
                total += len(self._tokenizer.encode(part.text))
            else:
                total += self._longest_word(self._plan.free[self._plan.origin[part.slot]])
        return total

    def _longest_word(self, name: str) -> int:
        """Return the most tokens that a word of the list has, at the start of a text or later."""
        if name not in self._most:
            texts = list(self._plan.lists[name])
            if self._tokenizer.kind == "file":
                texts += [f" {word}" for word in texts]
            self._most[name] = max(len(ids) for ids, _ in self._tokenizer.spans(texts))
        return self._most[name]
