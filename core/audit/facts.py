"""What a data check sees, and what it finds. Light: nothing here imports numpy or torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Literal

from core.audit.looked import looked_up
from core.types import DatasetPlan, Example, Options, Row, Schema

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from core.audit.contents import Contents
    from core.types import Tokenizer

Level = Literal["error", "warn", "off"]


@dataclass(frozen=True)
class Finding:
    """One thing that a data check found; the recipe decides whether it is an error or a warning.

    message: what was found, in one line without the places. places: where (`file:line`), in the order of the data.
    count: how many examples it concerns; default: as many as places. help: the next step. details: lines for an error
    that say more than the places do. private: pages leave these rows out, because what was found must not be shown.
    """

    message: str
    places: Sequence[str] = ()
    count: int | None = None
    help: str | None = None
    details: Sequence[str] = ()
    private: bool = False

    @property
    def number(self) -> int:
        """How many examples it concerns."""
        return len(self.places) if self.count is None else self.count


@dataclass(frozen=True, slots=True)
class CheckedExample:
    """One example as data checks see it.

    place: `file:line`. number: of its row in the data set, from 1. row: the fields as they stand in the file.
    example: what the format made of it.
    prompt, answer: the text up to the last answer, and that answer, as in evaluation; both empty without one.
    input_ids, labels: int32 arrays of equal length, -100 where not trained, cut where `cut` says so.
    kept: it is trained on (or scored); not so where it was too long, or nothing in it is trained.
    cut: it was longer than sequence_len and lost its end. length: its tokens before that.
    straddling: tokens that reach over the seam of trained and untrained text.
    ends: an end-of-turn token is among its last trained tokens.
    """

    place: str
    row: Row
    example: Example
    dataset: DatasetPlan
    prompt: str
    answer: str
    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    length: int
    kept: bool = True
    cut: bool = False
    straddling: int = 0
    ends: bool = True
    number: int = 0

    @property
    def text(self) -> str:
        """The whole text; empty for an example that came as token ids."""
        return "".join(segment.text for segment in self.example.segments)

    @property
    def thinking(self) -> str:
        """What it thinks, which is part of neither prompt nor answer."""
        return "".join([segment.text for segment in self.example.segments if segment.thought])

    @property
    def content(self) -> str:
        """What it is about: prompt and answer, else the text, else the ids as bytes. Equal for copies alone, and for
        what thinks otherwise of the same."""
        if self.answer:
            return f"{self.prompt}\0{self.answer}"
        return self.text or self.input_ids.tobytes().decode("latin-1")


@dataclass(frozen=True)
class DataFacts:
    """All data of a run. train: every training example, those that `val_set_size` holds back included, and those that
    were left out. test: the evaluation items, with the tokens of prompt and answer. contents: what was noted of the
    training examples while they were prepared (see `contents_of`). held_out: whether there is anything but `train`, or
    will be."""

    train: Sequence[CheckedExample]
    validation: Sequence[CheckedExample]
    test: Sequence[CheckedExample]
    tokenizer: Tokenizer
    sequence_len: int
    contents: Contents | None = None
    held_out: bool = True

    def every(self) -> Iterator[CheckedExample]:
        """The examples of all three, in turn."""
        return chain(self.train, self.validation, self.test)

    def example(self, number: int) -> CheckedExample:
        """An example by its number, counted from 0 through all three."""
        for part in (self.train, self.validation, self.test):
            if number < len(part):
                return part[number]
            number -= len(part)
        raise IndexError(number)

    def place(self, number: int) -> str:
        """Where an example stands, by its number."""
        for part in (self.train, self.validation, self.test):
            if number < len(part):
                look = getattr(part, "place", None)  # cheaper than the whole example, where it is on disk
                return str(look(number) if look is not None else part[number].place)
            number -= len(part)
        raise IndexError(number)

    def places(self, numbers: Sequence[int]) -> Sequence[str]:
        """Where examples stand, by their numbers; looked up when asked for, if they are many."""
        return looked_up(numbers, self.place)


@dataclass(frozen=True)
class Watch:
    """A check that goes through the data once, a few examples at a time, while they are prepared.

    see(part, first, examples): `part` is `train`, `validation` or `test`, in this order; `first` is the number of the
    first of these examples, counted through all parts. findings(facts): what was found, after the last; what was noted
    by number is looked up in `facts`. It keeps little: examples are not held in memory. spread() -> how many training
    examples are of which kind, most first: said where they are of several kinds and nothing else was found.
    """

    see: Callable[[str, int, Sequence[CheckedExample]], None]
    findings: Callable[[DataFacts], list[Finding]]
    spread: Callable[[], Mapping[str, int]] | None = None


@dataclass(frozen=True)
class DataCheck:
    """Looks over the data before anything heavy starts; `data_checks: {name: error, warn or off}` sets its level.

    check(facts, options) -> findings, none if all is well; `options` are those of `options_schema`, which a recipe sets
    with `data_checks: {name: {level: warn, option: value}}`. default: the level where the recipe sets none.
    watch(facts, options) -> a `Watch` to use in its place, for data of any size (`facts` has no examples yet, only the
    tokenizer and the length): each walk of `check` over examples reads them from the disk again. See `watching`.
    """

    name: str
    check: Callable[[DataFacts, Options], list[Finding]]
    default: Level = "warn"
    options_schema: Schema = field(default_factory=dict)
    description: str = ""
    watch: Callable[[DataFacts, Options], Watch] | None = None


@dataclass(frozen=True)
class CheckPlan:
    """A check that a run makes. level: `error` or `warn`."""

    check: DataCheck
    level: Level
    options: Options = field(default_factory=dict)
