"""Checks of what the model is taught: that there is something to learn, that it learns to stop, that it fits."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.audit import Watch
from core.audit.facts import Level
from core.audit.watching import TRAINED, Marks, Numbers, at_once, marking
from core.data.collected import length_99
from core.types import Options

IGNORED = -100
HEAVY_SHARE = 0.2  # of all trained tokens, in the longest hundredth of the examples


def counted(number: int, word: str = "example") -> str:
    """`1 example`, `2,345 examples`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def nothing_to_train(facts: DataFacts, options: Options) -> Watch:
    """Examples in which no token is trained, before any cutting."""

    def say(facts: DataFacts, marks: Marks) -> list[Finding]:
        if not len(marks):
            return []
        message = f"{len(marks):,} of {counted(marks.seen)} have no token that is trained"
        help = "check roles_to_train and the labels of these rows, or take them out"
        return [Finding(message, facts.places(marks.numbers), help=help)]

    return marking(lambda e: not e.cut and not (e.kept or (e.labels != IGNORED).any()), say)


def end_of_turn(facts: DataFacts, options: Options) -> Watch:
    """Examples that do not teach the model to stop."""

    def say(facts: DataFacts, marks: Marks) -> list[Finding]:
        if not len(marks):
            return []
        message = (
            f"{len(marks):,} of {counted(marks.seen)} end their trained text without an end-of-turn token: "
            "the model does not learn to stop there"
        )
        help = f"end the trained text in {facts.tokenizer.eos_token!r}; for chat_template, keep train_on_eos: turn"
        return [Finding(message, facts.places(marks.numbers), help=help)]

    return marking(lambda e: not e.ends, say, among=lambda e: e.kept)


def too_long(facts: DataFacts, options: Options) -> Watch:
    """Examples longer than `sequence_len`: dropped or cut, and those cut so far that nothing trained is left."""
    lengths, long, empty = array("i"), Marks(), Marks()
    cut = 0

    def see(part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        nonlocal cut
        if part not in TRAINED:
            return
        lengths.extend([example.length for example in examples])
        if max(example.length for example in examples) <= facts.sequence_len:
            return
        for number, example in enumerate(examples, first):
            if example.length > facts.sequence_len:
                long.numbers.append(number)
                cut += example.cut
                if example.cut and not example.kept:
                    empty.numbers.append(number)

    def findings(facts: DataFacts) -> list[Finding]:
        import numpy as np

        found = []
        if len(long):
            ordered = np.sort(np.frombuffer(lengths, dtype=np.int32))
            done = "cut" if cut else "dropped"
            message = f"{done} {counted(len(long))} of {len(ordered):,} longer than sequence_len {facts.sequence_len:,}"
            fits = length_99(ordered)
            would = f"{fits:,} would fit" if fits > facts.sequence_len else f"{facts.sequence_len:,} fits"
            help = f"the longest has {ordered[-1]:,} tokens, sequence_len {would} 99 %"
            found.append(Finding(message, facts.places(long.numbers), help=help))
        if len(empty):
            message = f"dropped {counted(len(empty))} of which nothing trained is left after the cut"
            found.append(Finding(message, facts.places(empty.numbers), help="raise sequence_len"))
        return found

    return Watch(see, findings)


def straddling(facts: DataFacts, options: Options) -> Watch:
    """Tokens that reach over the seam of trained and untrained text; they count as what they start in."""
    tokens = 0

    def mark(example: CheckedExample) -> bool:
        nonlocal tokens
        if example.kept and example.straddling:
            tokens += example.straddling
            return True
        return False

    def say(facts: DataFacts, marks: Marks) -> list[Finding]:
        if not len(marks):
            return []
        message = f"{counted(tokens, 'token')} over the seam of trained and untrained text, in {counted(len(marks))}"
        help = "let what stands before an answer end in a line break, not a space"
        return [Finding(message, facts.places(marks.numbers), help=help)]

    return marking(mark, say)


def too_few(facts: DataFacts, options: Options) -> Watch:
    """Fewer examples than a model learns a task from."""

    def say(facts: DataFacts, marks: Marks) -> list[Finding]:
        least = int(options["least"])
        if marks.seen >= least:
            return []
        message = f"only {counted(marks.seen)} to train on: so few are learnt by heart rather than understood"
        help = f"add examples that differ; {least} to 1,000 good ones are a start"
        return [Finding(message, count=marks.seen, help=help)]

    return marking(lambda e: False, say, parts=("train",), among=lambda e: e.kept)


def length_spread(facts: DataFacts, options: Options) -> Watch:
    """A few very long answers that most of the loss is computed on."""
    tokens, numbers = array("i"), Numbers()

    def see(part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        import numpy as np

        if part == "train":
            for number, example in enumerate(examples, first):
                if example.kept:
                    tokens.append(int(np.count_nonzero(example.labels != IGNORED)))
                    numbers.append(number)

    def findings(facts: DataFacts) -> list[Finding]:
        import numpy as np

        if len(tokens) < 100:
            return []
        trained = np.frombuffer(tokens, dtype=np.int32)
        top = np.argsort(-trained, kind="stable")[: len(trained) // 100]
        total, share = int(trained.sum(dtype=np.int64)), int(trained[top].sum(dtype=np.int64))
        if share <= HEAVY_SHARE * total:
            return []
        message = (
            f"the longest 1 % of the examples hold {share / total:.0%} of all trained tokens and outweigh the others"
        )
        places = facts.places([numbers[index] for index in top.tolist()])
        return [Finding(message, places, help="shorten or split them, or lower sequence_len")]

    return Watch(see, findings)


def watching(
    name: str, watch: Callable[[DataFacts, Options], Watch], default: Level = "warn", *, description: str, **more: Any
) -> DataCheck:
    """A data check that goes through the data once."""
    return DataCheck(name, at_once(watch), default, description=description, watch=watch, **more)


@hookimpl
def data_checks() -> list[DataCheck]:
    least = {
        "least": {"type": "integer", "minimum": 1, "default": 100, "description": "How many training examples suffice."}
    }
    return [
        watching("nothing_to_train", nothing_to_train, "error", description="Examples without a trained token."),
        watching("end_of_turn", end_of_turn, "error", description="Trained text without an end-of-turn token."),
        watching("too_long", too_long, description="Examples longer than sequence_len, dropped or cut."),
        watching("straddling", straddling, description="Tokens over the seam of trained and untrained text."),
        watching("too_few", too_few, options_schema=least, description="Fewer training examples than `least`."),
        watching("length_spread", length_spread, description="Few long examples that outweigh all others."),
    ]
