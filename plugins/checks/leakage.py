"""Checks that what is trained on is not also what the model is tested on."""

from __future__ import annotations

from collections.abc import Sequence

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.types import Options
from plugins.checks.repeats import SIMILARITY
from plugins.checks.similarity import near_pairs


def leakage(facts: DataFacts, options: Options) -> list[Finding]:
    """Evaluation items and validation examples that are training examples, prompt and answer alike."""
    trained = {example.content: example.place for example in reversed(facts.train) if example.kept}
    findings = []
    found = [(e.place, trained[e.content]) for e in facts.test if e.content in trained]
    if found:
        message = f"{len(found):,} of {len(facts.test):,} evaluation items are in the training data too"
        findings.append(_finding(f"{message}, so their score would mean nothing", found))
    tested = {example.place for example in facts.test}
    validation = [e for e in facts.validation if e.kept and e.place not in tested]
    found = [(e.place, trained[e.content]) for e in validation if e.content in trained]
    if found:
        message = f"{len(found):,} of {len(validation):,} validation examples are in the training data too"
        findings.append(_finding(f"{message}, so the validation loss would flatter", found))
    return findings


def _finding(message: str, found: Sequence[tuple[str, str]]) -> Finding:
    return Finding(
        message,
        [place for place, _ in found],
        help="take them out of one of the two, or split the data again",
        details=[f"{held_out} is also {place}" for held_out, place in found],
    )


def near_leakage(facts: DataFacts, options: Options) -> list[Finding]:
    """Evaluation items and validation examples whose prompt is nearly, or exactly, one that is trained on."""
    trained = [example for example in facts.train if example.kept]
    contents = {example.content for example in trained}
    places: set[str] = set()
    findings = []
    for what, examples in (("evaluation items", facts.test), ("validation examples", facts.validation)):
        rest = [e for e in examples if e.kept and e.content not in contents and e.place not in places]
        places |= {example.place for example in rest}
        pairs = near_pairs([_asked(e) for e in rest], float(options["similarity"]), [_asked(e) for e in trained])
        if pairs:
            message = f"{len(pairs):,} of {len(examples):,} {what} ask nearly what the training data ask"
            details = [f"{rest[index].place} is nearly {trained[other].place}" for index, other in pairs]
            help = "look at them: if they are the same question, take them out of one of the two"
            findings.append(Finding(message, [rest[i].place for i, _ in pairs], help=help, details=details))
    return findings


def _asked(example: CheckedExample) -> str:
    return example.prompt if example.answer else example.text


@hookimpl
def data_checks() -> list[DataCheck]:
    return [
        DataCheck("leakage", leakage, "error", description="Held-out examples that are trained on."),
        DataCheck(
            "near_leakage",
            near_leakage,
            options_schema=SIMILARITY,
            description="Held-out examples whose prompt is nearly one that is trained on.",
        ),
    ]
