"""Which words may stand in the slots of each split: drawn at random, or listed and counted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from harness.datasets.pairs import Ints
from harness.datasets.rows import Rows
from harness.datasets.splits import SPLITS, Shares, hash_rows
from harness.datasets.template.plan import TemplatePlan
from harness.datasets.template.spec import TemplateData


class Fillings:
    """Words of free slots by *places* [n, slots] in their lists; words are numbers.

    Slots of one row of a table (`plan.follows`) have the place of the first of them.
    """

    def __init__(self, data: TemplateData, plan: TemplatePlan, numbers: Mapping[str, int]) -> None:
        """Take a plan without problems, and the number of every word."""
        self._data, self._plan = data, plan
        self._lists = [
            np.array([numbers[word] for word in plan.lists[name]]) for name in plan.free.values()
        ]
        slots = list(plan.free)
        # Columns of slots that have the row of another slot, and of those slots.
        self._followers = [slots.index(slot) for slot in plan.follows]
        self._leaders = [slots.index(slot) for slot in plan.follows.values()]
        self._shown = self._shown_slots()
        self._drawn = self._drawn_slots()
        self._frame_split: list[str | None] = [frame.split for frame in plan.frames]
        self._holder: list[str | None] = [None] * len(numbers)
        for split, lists in data.held_out.items():
            for words in lists.values():
                for word in words:
                    if word in numbers:  # a rule `one_token` may have left it out
                        self._holder[numbers[word]] = split

    @property
    def only_shares(self) -> bool:
        """Whether neither words nor templates are held out for a split."""
        return not self._data.held_out and not any(self._frame_split)

    def count(self, split: str) -> int:
        """Return how many fillings of shown slots there are, before rules and splits."""
        sizes = np.array([len(places) for places in self.allowed(split)], dtype=np.float64)
        counts = [np.prod(sizes[self._drawn[frame]]) for frame in self.frames_of(split)]
        return int(min(sum(counts), 2.0**62))

    def draw(self, rng: np.random.Generator, n: int, allowed: list[Ints]) -> Ints:
        """Return the places of n random fillings among those `allowed`."""
        drawn = [
            np.zeros(n, dtype=np.int64)
            if column in self._followers
            else one[rng.integers(len(one), size=n)]
            for column, one in enumerate(allowed)
        ]
        places = np.stack(drawn, axis=1)
        self.tie(places)
        return places

    def drawn_in(self, frame: int) -> tuple[list[int], list[int]]:
        """Return the slots to draw for what a frame shows, and those that it does not show."""
        drawn = np.flatnonzero(self._drawn[frame]).tolist()
        apart = {*drawn, *self._followers}
        return drawn, [column for column in range(len(self._lists)) if column not in apart]

    def split_of(self, rows: Rows, shares: Shares) -> Ints:
        """Return the split of each row; -1 if its words are held out for different splits."""
        index = {name: number for number, name in enumerate(shares.names)}
        index_of = [-1 if name is None else index[name] for name in self._holder]
        holder = np.array(index_of or [-1])[rows["words"]]
        shown = self._shown[rows["frame"]]
        own = np.where(shown, holder, -1).max(axis=1, initial=-1)
        frame = np.array([-1 if name is None else index[name] for name in self._frame_split])
        split = shares.of(hash_rows(rows["tokens"], rows["lengths"], shares.seed))
        split = np.where(own >= 0, own, split)
        split = np.where(frame[rows["frame"]] >= 0, frame[rows["frame"]], split)
        clash = (holder >= 0) & (holder != split[:, None])
        split[clash.any(axis=1)] = -1
        return split

    def frames_of(self, split: str) -> Ints:
        """Return the frames whose prompts can be in `split`."""
        shares = self._data.shares
        shared = shares[split] > 0 if split in shares else not shares and split in SPLITS
        open_to_all = shared or split in self._data.held_out
        return np.array(
            [
                index
                for index, own in enumerate(self._frame_split)
                if own == split or (own is None and open_to_all)
            ],
            dtype=np.int64,
        )

    def allowed(self, split: str) -> list[Ints]:
        """Return for each free slot the places of its list that `split` may use.

        Of a table these are rows all of whose words that are drawn may be used.
        """
        allowed = [
            np.array(
                [place for place, word in enumerate(words) if self._holder[word] in (None, split)],
                dtype=np.int64,
            )
            for words in self._lists
        ]
        for follower, leader in zip(self._followers, self._leaders, strict=True):
            allowed[leader] = np.intersect1d(allowed[leader], allowed[follower])
        for follower, leader in zip(self._followers, self._leaders, strict=True):
            allowed[follower] = allowed[leader]
        return allowed

    def tie(self, places: Ints) -> None:
        """Give slots that follow others the places of these."""
        places[:, self._followers] = places[:, self._leaders]

    def words(self, places: Ints) -> Ints:
        """Return the words [n, slots] at places."""
        return np.stack(
            [words[places[:, column]] for column, words in enumerate(self._lists)], axis=1
        )

    def _shown_slots(self) -> NDArray[np.bool_]:
        """Return which free slots the clean prompt of each frame shows, bool [frames, slots]."""
        columns = {slot: index for index, slot in enumerate(self._plan.free)}
        shown = np.zeros((len(self._plan.frames), len(columns)), dtype=np.bool_)
        for index, frame in enumerate(self._plan.frames):
            for part in frame.clean:
                if part.slot is not None:
                    shown[index, columns[self._plan.origin[part.slot]]] = True
        return shown

    def _drawn_slots(self) -> NDArray[np.bool_]:
        """Return which slots have to be drawn for what each frame shows, bool [frames, slots]."""
        drawn = self._shown.copy()
        drawn[:, self._followers] = False
        for follower, leader in zip(self._followers, self._leaders, strict=True):
            drawn[:, leader] |= self._shown[:, follower]
        return drawn
