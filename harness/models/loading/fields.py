"""Typed reading of another program's `config.json`, with one clear error for a bad field.

Every field that is read is noted, so that those that nobody reads can be refused by name: a field
that is not understood may ask for another model than the one that would be loaded.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import HarnessError
from harness.models.config import MOST_LAYERS
from harness.spec.printable import printable

T = TypeVar("T")

ACTIVATIONS: Mapping[str, Any] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "gelu_quick",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
"""Their names of activations to ours; `gelu` alone is the exact one."""

_HARMLESS = """
    architectures model_type transformers_version torch_dtype dtype _name_or_path name_or_path
    _commit_hash _attn_implementation attn_implementation _attn_implementation_autoset
    _experts_implementation
    use_cache output_attentions output_hidden_states return_dict use_return_dict output_past
    gradient_checkpointing torchscript use_bfloat16 tf_legacy_loss xla_device pretraining_tp
    is_decoder chunk_size_feed_forward cross_attention_hidden_size reorder_and_upcast_attn
    cache_implementation unsloth_fixed unsloth_version max_sequence_length
    model_max_length tie_last_hidden_states
    initializer_range attention_dropout hidden_dropout classifier_dropout resid_pdrop embd_pdrop
    attn_pdrop dropout bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id
    unk_token_id tokenizer_class prefix task_specific_params finetuning_task problem_type
    num_labels id2label label2id summary_type summary_use_proj summary_activation
    summary_proj_to_labels summary_first_dropout
    max_length min_length max_new_tokens min_new_tokens do_sample early_stopping num_beams
    num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty
    length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences output_scores return_dict_in_generate forced_bos_token_id
    forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens epsilon_cutoff eta_cutoff encoder_repetition_penalty
    num_assistant_tokens num_assistant_tokens_schedule assistant_confidence_threshold
    assistant_lookbehind target_lookbehind
"""
HARMLESS = frozenset(_HARMLESS.split())
"""Fields of `transformers` that change no logits: training, generation, files, bookkeeping."""

_LONGEST = 60  # characters of a value in a message


@dataclass(frozen=True)
class Fields:
    """One object of a configuration; a value that is null counts as absent.

    `most_layers`: the largest number of layers there can be, such as the number of tensors.
    """

    data: Mapping[str, Any]
    path: Path
    place: str = ""  # of a nested object, for messages
    most_layers: int = MOST_LAYERS
    _read: set[str] = field(default_factory=set, compare=False, repr=False)
    _nested: dict[str, Fields] = field(default_factory=dict, compare=False, repr=False)

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return self.data.get(name) is not None

    def is_null(self, name: str) -> bool:
        """Whether the field is there and null, where that is not the same as absent."""
        return name in self.data and self.data[name] is None

    def count(self, name: str, default: int | None = None) -> int:
        """A positive whole number; `HarnessError` if it is absent and there is no default."""
        value = self._value(name, default)
        if type(value) is not int or value < 1:
            raise self._unfit(name, value, "a positive whole number")
        return value

    def layers(self, name: str) -> int:
        """The number of layers; `HarnessError` for more than there can be."""
        layers = self.count(name)
        if layers > self.most_layers:
            raise self._unfit(
                name, layers, f"a number of layers that {self.most_layers} tensors can hold"
            )
        return layers

    def number(self, name: str, default: float | None = None, *, positive: bool = False) -> float:
        """A finite number; `HarnessError` if it is absent and there is no default."""
        value = self._value(name, default)
        wanted = "a positive number" if positive else "a number"
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self._unfit(name, value, wanted)
        if positive and value <= 0:
            raise self._unfit(name, value, wanted)
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._value(name, default)
        if type(value) is not bool:
            raise self._unfit(name, value, "true or false")
        return value

    def text(self, name: str, default: str) -> str:
        """A text."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self._unfit(name, value, "a text")
        return value

    def choice(self, name: str, options: Mapping[str, T], default: str | None = None) -> T:
        """The option that a word names; `HarnessError` if there is none."""
        value = self._value(name, default)
        if not isinstance(value, str) or value not in options:
            raise self._unfit(name, value, f"one of {', '.join(options)}, which this reader knows")
        return options[value]

    def nested(self, name: str) -> Fields:
        """An object inside; empty where it is absent."""
        value = self._value(name, {})
        if not isinstance(value, dict):
            raise self._unfit(name, value, "an object")
        if name not in self._nested:
            place = f"{self.place}{name}."
            self._nested[name] = Fields(value, self.path, place, self.most_layers)
        return self._nested[name]

    def words(self, name: str) -> tuple[str, ...] | None:
        """A list of words, or None."""
        self._read.add(name)
        if not self.has(name):
            return None
        value = self.data[name]
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self._unfit(name, value, "a list of words")
        return tuple(value)

    def refuse(self, name: str, fine: Collection[Any], why: str) -> None:
        """Refuse a field that asks for an unsupported feature: any value not among `fine`."""
        self._read.add(name)
        if self.has(name) and self.data[name] not in fine:
            raise HarnessError(
                f"{self.path}: {self.place}{name} is {_shown(self.data[name])}, and {why}; such "
                "models cannot be loaded"
            )

    def agree(self, name: str, value: Any, of: str) -> None:
        """Refuse another value than the one that is read from the field `of`: one fact, twice."""
        self._read.add(name)
        if self.has(name) and self.data[name] != value:
            raise HarnessError(
                f"{self.path}: {self.place}{name} is {_shown(self.data[name])}, but {of} is "
                f"{_shown(value)}, and both say the same thing; make them agree, or leave one out"
            )

    def spelling(self, name: str, *others: str) -> str:
        """The name that is used for a field with several names, which must agree."""
        used = next((one for one in (name, *others) if self.has(one)), name)
        for one in (name, *others):
            self.agree(one, self.data.get(used), self.place + used)
        return used

    def ignore(self, names: Iterable[str]) -> None:
        """Note fields that change no logits."""
        self._read.update(names)

    def unread(self) -> list[str]:
        """The fields that nobody read."""
        return [name for name in self.data if name not in self._read and self.has(name)]

    def refuse_unread(self, fine: Mapping[str, Collection[Any]]) -> None:
        """Refuse fields that nobody read, here and in objects inside (`HarnessError`).

        `fine`: values of such fields that mean what is loaded anyway.
        """
        if bad := [name for name in self.unread() if self.data[name] not in fine.get(name, ())]:
            names = ", ".join(_cut(printable(self.place + name)) for name in bad[:8])
            more = f" and {len(bad) - 8} more" if len(bad) > 8 else ""
            raise HarnessError(
                f"{self.path}: {names}{more}: this reader does not support it and cannot tell "
                "what model is meant; remove the field if it changes no logits"
            )
        for one in self._nested.values():
            one.refuse_unread(fine)

    def _value(self, name: str, default: Any) -> Any:
        self._read.add(name)
        value = self.data[name] if self.has(name) else default
        if value is None:
            raise HarnessError(f"{self.path}: {self.place}{name} is missing")
        return value

    def _unfit(self, name: str, value: object, wanted: str) -> HarnessError:
        return HarnessError(f"{self.path}: {self.place}{name} is {_shown(value)}, not {wanted}")


def _shown(value: object) -> str:
    return _cut(printable(repr(value)))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
