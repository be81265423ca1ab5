"""What a probe of general abilities is made of. A probe brings texts and instructions; core asks the models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Instruction:
    """One instruction whose form of answer can be verified.

    name: of the kind of check, for the report. followed(answer) -> whether the answer has the form that was asked for.
    """

    name: str
    prompt: str
    followed: Callable[[str], bool]


@dataclass(frozen=True)
class Probe:
    """General abilities to compare before and after training; chosen by `evaluation.forgetting.probe`.

    texts() -> passages of general text, whose perplexity is measured. instructions() -> what is asked, through the
    model's chat template where it has one. Both are fixed lists: base and tuned model are asked the same.
    """

    name: str
    texts: Callable[[], Sequence[str]] | None = None
    instructions: Callable[[], Sequence[Instruction]] | None = None
    max_new_tokens: int = 96
    description: str = ""
