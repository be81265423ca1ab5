"""Checks of what the model is taught: that there is something to learn, that it learns to stop, that it fits."""

from __future__ import annotations

from collections.abc import Sequence

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.data.collect import length_99
from core.types import Options

HEAVY_SHARE = 0.2  # of all trained tokens, in the longest hundredth of the examples


def _places(examples: Sequence[CheckedExample]) -> list[str]:
    return [example.place for example in examples]


def counted(number: int, word: str = "example") -> str:
    """`1 example`, `2,345 examples`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def nothing_to_train(facts: DataFacts, options: Options) -> list[Finding]:
    """Examples in which no token is trained, before any cutting."""
    found = [e for e in (*facts.train, *facts.validation) if not e.cut and not (e.labels != -100).any()]
    if not found:
        return []
    total = len(facts.train) + len(facts.validation)
    message = f"{len(found):,} of {counted(total)} have no token that is trained"
    return [
        Finding(message, _places(found), help="check roles_to_train and the labels of these rows, or take them out")
    ]


def end_of_turn(facts: DataFacts, options: Options) -> list[Finding]:
    """Examples that do not teach the model to stop."""
    trained = [e for e in (*facts.train, *facts.validation) if e.kept]
    found = [example for example in trained if not example.ends]
    if not found:
        return []
    message = (
        f"{len(found):,} of {counted(len(trained))} end their trained text without an end-of-turn token: "
        "the model does not learn to stop there"
    )
    help = f"end the trained text in {facts.tokenizer.eos_token!r}; for chat_template, keep train_on_eos: turn"
    return [Finding(message, _places(found), help=help)]


def too_long(facts: DataFacts, options: Options) -> list[Finding]:
    """Examples longer than `sequence_len`: dropped or cut, and those cut so far that nothing trained is left."""
    findings = []
    rows = [*facts.train, *facts.validation]
    lengths = sorted(example.length for example in rows)
    long = [example for example in rows if example.length > facts.sequence_len]
    if long:
        cut = sum(example.cut for example in long)
        done = "cut" if cut else "dropped"
        message = f"{done} {counted(len(long))} of {len(rows):,} longer than sequence_len {facts.sequence_len:,}"
        fit = f"the longest has {lengths[-1]:,} tokens, sequence_len {length_99(lengths):,} would fit 99 %"
        findings.append(Finding(message, _places(long), help=fit))
    empty = [example for example in long if example.cut and not example.kept]
    if empty:
        message = f"dropped {counted(len(empty))} of which nothing trained is left after the cut"
        findings.append(Finding(message, _places(empty), help="raise sequence_len"))
    return findings


def straddling(facts: DataFacts, options: Options) -> list[Finding]:
    """Tokens that reach over the seam of trained and untrained text; they count as what they start in."""
    found = [example for example in (*facts.train, *facts.validation) if example.kept and example.straddling]
    if not found:
        return []
    count = sum(example.straddling for example in found)
    message = f"{counted(count, 'token')} over the seam of trained and untrained text, in {counted(len(found))}"
    return [Finding(message, _places(found), help="let what stands before an answer end in a line break, not a space")]


def too_few(facts: DataFacts, options: Options) -> list[Finding]:
    """Fewer examples than a model learns a task from."""
    kept = sum(example.kept for example in facts.train)
    least = int(options["least"])
    if kept >= least:
        return []
    message = f"only {counted(kept)} to train on: so few are learnt by heart rather than understood"
    return [Finding(message, count=kept, help=f"add examples that differ; {least} to 1,000 good ones are a start")]


def length_spread(facts: DataFacts, options: Options) -> list[Finding]:
    """A few very long answers that most of the loss is computed on."""
    trained = [(int((e.labels != -100).sum()), e) for e in facts.train if e.kept]
    if len(trained) < 100:
        return []
    trained.sort(key=lambda pair: -pair[0])
    top = trained[: len(trained) // 100]
    total, share = sum(tokens for tokens, _ in trained), sum(tokens for tokens, _ in top)
    if share <= HEAVY_SHARE * total:
        return []
    message = f"the longest 1 % of the examples hold {share / total:.0%} of all trained tokens and outweigh the others"
    return [Finding(message, _places([e for _, e in top]), help="shorten or split them, or lower sequence_len")]


@hookimpl
def data_checks() -> list[DataCheck]:
    least = {
        "least": {"type": "integer", "minimum": 1, "default": 100, "description": "How many training examples suffice."}
    }
    return [
        DataCheck("nothing_to_train", nothing_to_train, "error", description="Examples without a trained token."),
        DataCheck("end_of_turn", end_of_turn, "error", description="Trained text without an end-of-turn token."),
        DataCheck("too_long", too_long, description="Examples longer than sequence_len, dropped or cut."),
        DataCheck("straddling", straddling, description="Tokens over the seam of trained and untrained text."),
        DataCheck("too_few", too_few, options_schema=least, description="Fewer training examples than `least`."),
        DataCheck("length_spread", length_spread, description="Few long examples that outweigh all others."),
    ]
