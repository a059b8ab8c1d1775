"""Data made from templates: a task written in YAML alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key, at_least_one, at_most_one, exactly_one
from harness.spec.types.scalars import DEFAULT_SHARES, Continues, DataSeed, Shares, Text, Word

# A file of a megabyte can ask for any amount of work; these are far above what tasks have.
LONGEST_TEXT = 4_000
MOST_TEMPLATES = 2_000
MOST_CONSTRAINTS = 200
MOST_NAMES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One sentence frame. `split` puts the whole frame into that split alone."""

    ABOUT: ClassVar = About(
        "Template", "A sentence frame; a plain text is short for {text: …}.", short_for="text"
    )

    text: Annotated[
        Text,
        Key(
            "Text",
            "The prompt; `{A}` is replaced by the word of slot A. The answer comes after it. With "
            "a tokenizer.json, `{}` at the end says how: right after the text in `to {CC}{}`, "
            "after a space in `to {}`, which may be left out.",
            ["When {X} and {Y} went to the {PLACE}, {S2} gave a drink to"],
            max_length=LONGEST_TEXT,
        ),
    ]
    split: Annotated[
        Word | None,
        Key(
            "Split",
            "Puts the whole frame into this split alone; null lets each prompt's hash decide.",
            ["new_frames"],
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WordList:
    """Words inline, from a text file (one per line), or a range of numbers padded to `digits`.

    Exactly one of `words`, `file`, `range` is given.
    """

    ABOUT: ClassVar = About(
        "Word list",
        "Words; a list is short for {words: […]}.",
        short_for="words",
        rules=(exactly_one("words", "file", "range"),),
        needs={"digits": ["range"]},
    )

    words: Annotated[
        tuple[Text, ...] | None,
        Key(
            "Words",
            "The words themselves.",
            [["Mary", "John", "Tom"]],
            absent=True,
            min_items=1,
            unique=True,
        ),
    ] = None
    file: Annotated[
        Text | None,
        Key(
            "File",
            "Text file with one word per line, relative to this file.",
            ["words/names.txt"],
            absent=True,
        ),
    ] = None
    range: Annotated[
        tuple[
            Annotated[int, Key(minimum=0, maximum=999_999_999)],
            Annotated[int, Key(minimum=0, maximum=999_999_999)],
        ]
        | None,
        Key("Range", "First and last of consecutive whole numbers.", [[0, 99]], absent=True),
    ] = None
    digits: Annotated[
        int | None,
        Key(
            "Digits",
            "Pads the numbers of a range with zeros to this many digits; left out, they are not "
            "padded.",
            [2],
            absent=True,
            minimum=1,
            maximum=9,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRule:
    """Which words answer: the one in `slot`, a fixed `word`, or words of a `list`.

    Of a list, all words, or those after (up to and with) the word in the slot `after` (`up_to`).
    """

    ABOUT: ClassVar = About(
        "Answer",
        "Which words answer; the name of a slot is short for {slot: …}.",
        name="answer",
        short_for="slot",
        rules=(exactly_one("slot", "word", "list"), at_most_one("after", "up_to")),
        needs={"after": ["list"], "up_to": ["list"]},
    )

    slot: Annotated[Text | None, Key("Slot", "The word in this slot.", ["IO"], absent=True)] = None
    word: Annotated[Text | None, Key("Word", "Always this word.", ["yes"], absent=True)] = None
    list: Annotated[
        Text | None,
        Key(
            "List",
            "All words of this list, or those `after` or `up_to` a place in it.",
            ["digits"],
            absent=True,
        ),
    ] = None
    after: Annotated[
        Text | None,
        Key(
            "After",
            "Only the words of the list after the one in this slot.",
            ["YY"],
            absent=True,
        ),
    ] = None
    up_to: Annotated[
        Text | None,
        Key(
            "Up to",
            "Only the words of the list up to and with the one in this slot.",
            ["YY"],
            absent=True,
        ),
    ] = None


Read = Annotated[
    Text | None,
    Key(
        "Read",
        "Where the answer is read: at the `first` token of the prompt (BOS, where there is one), "
        "the `last`, or that of a slot, which every template must show once (its last token, "
        "where it has several). Left out, the last.",
        ["first", "B"],
        younger=True,
        absent=True,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlsoRead:
    """One more place where a prompt is read, with an answer of its own."""

    ABOUT: ClassVar = About("Also read", "One more place where an answer is read.")

    read: Read = None
    good: Annotated[AnswerRule, Key("Good answers", "The correct answers there.", ["B"])]
    bad: Annotated[
        AnswerRule,
        Key("Bad answers", "What the correct answers there are compared with.", ["A"]),
    ]


ListName = Annotated[
    str,
    Key(
        pattern=r"^\w+(\.[0-9]+)?$(?!\n)",
        message="must be the name of a list, or a table's with the number of a column: facts.0",
    ),
]
Row = Annotated[tuple[Text, ...], Key(min_items=2)]
Replacements = Annotated[Mapping[Word, Text], Key(min_keys=1, max_keys=MOST_NAMES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateData:
    """A task written in YAML alone: frames, slots, constraints, a corruption by slot."""

    ABOUT: ClassVar = About("Data made from templates", rules=(at_least_one("lists", "tables"),))

    kind: Literal["template"] = "template"
    templates: Annotated[
        tuple[Template, ...],
        Key(
            "Templates",
            "Sentence frames with slots in braces.",
            [["{A} then {B} then {A} then"]],
            min_items=1,
            max_items=MOST_TEMPLATES,
        ),
    ]
    slots: Annotated[
        Mapping[Word, Text],
        Key(
            "Slots",
            "Each slot draws a word from the named list, or copies the word of an earlier slot. Of "
            "a table, `facts.0` is column 0; slots of its columns have the words of one row.",
            [{"A": "letters", "B": "letters", "A2": "A"}],
            min_keys=1,
            max_keys=MOST_NAMES,
        ),
    ]
    lists: Annotated[
        Mapping[Word, WordList],
        Key(
            "Lists",
            "Words by name: inline, from a text file, or a range of numbers.",
            [{"letters": ["a", "b", "c"]}],
            max_keys=MOST_NAMES,
        ),
    ] = field(default_factory=dict)
    tables: Annotated[
        Mapping[Word, Annotated[tuple[Row, ...], Key(min_items=1)]] | None,
        Key(
            "Tables",
            "Rows of words that belong together, by name. Column k of the table `facts` is the "
            "list `facts.k`; the first slots that draw from its columns have one row, the second "
            "slots another, and so on.",
            [{"facts": [["France", "Paris"], ["Norway", "Oslo"]]}],
            absent=True,
            younger=True,
            min_keys=1,
            max_keys=MOST_NAMES,
        ),
    ] = None
    good: Annotated[
        AnswerRule,
        Key("Good answers", "The correct answers.", ["B", {"list": "digits", "after": "YY"}]),
    ]
    bad: Annotated[
        AnswerRule,
        Key(
            "Bad answers",
            "The answers that the correct ones are compared with.",
            ["A", {"word": "no"}],
        ),
    ]
    read: Read = None
    also_read: Annotated[
        tuple[AlsoRead, ...] | None,
        Key(
            "Also read",
            "Further places where a prompt is read, each with one answer of its own.",
            [[{"read": "B", "good": "A", "bad": "C"}]],
            younger=True,
            absent=True,
            min_items=1,
            max_items=64,
        ),
    ] = None
    corruptions: Annotated[
        Mapping[Word, Replacements],
        Key(
            "Corruptions",
            "By name: what stands in a slot of the corrupted prompt, another slot's word or, "
            "after '=', a word.",
            [{"swap": {"A": "B", "B": "A"}}, {"fixed": {"YY": "=01"}}],
            min_keys=1,
            max_keys=MOST_NAMES,
        ),
    ]
    corruption: Annotated[Text, Key("Corruption", "Which of the corruptions is used.", ["swap"])]
    aliases: Annotated[
        tuple[Replacements, ...],
        Key(
            "Aliases",
            "Maps from placeholders in templates to slots; every template is used under each map.",
            [[{"X": "A", "Y": "B"}, {"X": "B", "Y": "A"}]],
            max_items=MOST_NAMES,
        ),
    ] = ()
    constraints: Annotated[
        tuple[Text, ...],
        Key(
            "Constraints",
            "What every prompt keeps, between slots: `A != B`, `A < B` (by place in their list), "
            "`distinct(A, B, C)`; and of its tokens: `aligned` (leave out pairs that differ in "
            "length slot by slot), `whole_tokens(A, B)` (no token joins these slots with other "
            "text), `one_token(names)` (of this list only words that are one token after a "
            "space).",
            [["A != B", "distinct(A, B, C)"], ["aligned"]],
            unique=True,
            max_items=MOST_CONSTRAINTS,
        ),
    ] = ()
    held_out: Annotated[
        Mapping[
            Word,
            Mapping[ListName, Annotated[tuple[Text, ...], Key(min_items=1, unique=True)]],
        ],
        Key(
            "Held-out words",
            "By split and list: words that appear only in prompts of that split.",
            [{"test": {"names": ["Mary", "Tom"]}}],
        ),
    ] = field(default_factory=dict)
    shares: Shares = field(default_factory=lambda: dict(DEFAULT_SHARES))
    seed: DataSeed = 0
    continues: Continues = None


SPEC = TemplateData
