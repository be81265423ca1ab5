"""Checks that what is trained on is not also what the model is tested on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.audit import Watch
from core.audit.contents import Contents, contents_of
from core.types import Options
from plugins.checks.learning import watching
from plugins.checks.repeats import SIMILARITY
from plugins.checks.similarity import Texts, similar


def leakage(facts: DataFacts, options: Options) -> Watch:
    """Evaluation items and validation examples that are training examples, prompt and answer alike."""

    def findings(facts: DataFacts) -> list[Finding]:
        contents = contents_of(facts)
        found = _leaked(facts, facts.test, contents)
        findings = []
        if found:
            message = f"{len(found):,} of {len(facts.test):,} evaluation items are in the training data too"
            findings.append(_finding(f"{message}, so their score would mean nothing", found))
        tested = {example.place for example in facts.test} if len(facts.validation) else set()
        validation = [e for e in facts.validation if e.kept and e.place not in tested]
        found = _leaked(facts, validation, contents)
        if found:
            message = f"{len(found):,} of {len(validation):,} validation examples are in the training data too"
            findings.append(_finding(f"{message}, so the validation loss would flatter", found))
        return findings

    return Watch(lambda part, first, examples: None, findings)


def _leaked(facts: DataFacts, held_out: Iterable[CheckedExample], contents: Contents) -> list[tuple[str, str]]:
    """(place, place of the first equal example that is trained on) of every held-out example that has one."""
    import numpy as np

    asked = [(hash(example.content), example) for example in held_out]
    hashes = np.array([key for key, _ in asked], dtype=np.int64)
    trained = np.frombuffer(contents.hashes, dtype=np.int64)
    at = np.flatnonzero(np.isin(trained, hashes))
    # the first of equal ones comes last, and stays
    first = dict(zip(trained[at][::-1].tolist(), at[::-1].tolist(), strict=True))
    return [
        (example.place, facts.place(contents.numbers[first[key]]))
        for key, example in asked
        if key in first and facts.example(contents.numbers[first[key]]).content == example.content
    ]


def _finding(message: str, found: Sequence[tuple[str, str]]) -> Finding:
    return Finding(
        message,
        [place for place, _ in found],
        help="take them out of one of the two, or split the data again",
        details=[f"{held_out} is also {place}" for held_out, place in found],
    )


def near_leakage(facts: DataFacts, options: Options) -> Watch:
    """Evaluation items and validation examples whose prompt is nearly, or exactly, one that is trained on."""
    held_out = facts.held_out  # else there is nothing to compare with
    prompts = Texts()

    def see(part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        if part == "train" and held_out:
            for example in examples:
                if example.kept:
                    prompts.add(_asked(example))

    def findings(facts: DataFacts) -> list[Finding]:
        contents = contents_of(facts)
        places: set[str] = set()
        found = []
        for what, examples in (("evaluation items", facts.test), ("validation examples", facts.validation)):
            if not len(examples):
                continue
            known = _known(contents, examples)
            rest = [e for e in examples if e.kept and hash(e.content) not in known and e.place not in places]
            places |= {example.place for example in rest}
            texts = Texts()
            for example in rest:
                texts.add(_asked(example))
            pairs = similar(texts, float(options["similarity"]), prompts)
            if pairs:
                message = f"{len(pairs):,} of {len(examples):,} {what} ask nearly what the training data ask"
                details = [f"{rest[i].place} is nearly {facts.place(contents.numbers[other])}" for i, other in pairs]
                help = "look at them: if they are the same question, take them out of one of the two"
                found.append(Finding(message, [rest[i].place for i, _ in pairs], help=help, details=details))
        return found

    return Watch(see, findings)


def _known(contents: Contents, examples: Iterable[CheckedExample]) -> set[int]:
    """Those of the examples' hashes that are hashes of training examples."""
    import numpy as np

    asked = np.array([hash(example.content) for example in examples], dtype=np.int64)
    trained = np.frombuffer(contents.hashes, dtype=np.int64)
    return set(trained[np.isin(trained, asked)].tolist())


def _asked(example: CheckedExample) -> str:
    return example.prompt if example.answer else example.text


@hookimpl
def data_checks() -> list[DataCheck]:
    return [
        watching("leakage", leakage, "error", description="Held-out examples that are trained on."),
        watching(
            "near_leakage",
            near_leakage,
            options_schema=SIMILARITY,
            description="Held-out examples whose prompt is nearly one that is trained on.",
        ),
    ]
