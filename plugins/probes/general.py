"""`default`: general text, and instructions whose form of answer can be verified; nothing is downloaded.

Checking the form and not the content is the idea of Zhou et al., "Instruction-Following Evaluation for Large Language
Models" (2023); the instructions here are our own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from core import Instruction, Probe, hookimpl

Check = Callable[[str], bool]
TOPICS = ("the sea", "a good breakfast", "trains", "winter")


def _lines(answer: str) -> list[str]:
    return [line.strip() for line in answer.strip().splitlines() if line.strip()]


def capitals(answer: str) -> bool:
    """Letters are there, and all of them are capitals."""
    return any(character.isalpha() for character in answer) and answer == answer.upper()


def small_letters(answer: str) -> bool:
    """Letters are there, and none of them is a capital."""
    return any(character.isalpha() for character in answer) and answer == answer.lower()


def bullets(count: int) -> Check:
    """Exactly `count` lines, each a bullet point."""
    return lambda answer: len(_lines(answer)) == count and all(re.match(r"[-*•] ?\S", line) for line in _lines(answer))


def numbered(count: int) -> Check:
    """Exactly `count` lines, numbered from 1."""
    return lambda answer: [line.partition(".")[0] for line in _lines(answer)] == [str(n + 1) for n in range(count)]


def words(at_most: int) -> Check:
    """At least one word, and at most so many."""
    return lambda answer: 0 < len(answer.split()) <= at_most


def one_word_of(*allowed: str) -> Check:
    """One of the allowed words, whatever its case and a full stop after it."""
    return lambda answer: answer.strip().rstrip(".").strip().casefold() in allowed


def number(answer: str) -> bool:
    """A number in digits and nothing else."""
    return re.fullmatch(r"\s*-?\d[\d,]*(\.\d+)?\s*", answer) is not None


def json_with(*keys: str) -> Check:
    """One JSON object with exactly these keys."""

    def check(answer: str) -> bool:
        value = _json(answer)
        return isinstance(value, dict) and set(value) == set(keys)

    return check


def json_list(count: int) -> Check:
    """One JSON array of `count` strings."""

    def check(answer: str) -> bool:
        value = _json(answer)
        return isinstance(value, list) and len(value) == count and all(isinstance(entry, str) for entry in value)

    return check


def _json(answer: str) -> Any:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return None


def ends_with(text: str) -> Check:
    """The last thing in the answer is `text`, and it is not all there is."""
    return lambda answer: answer.strip().endswith(text) and len(answer.strip()) > len(text)


def starts_with(text: str) -> Check:
    """The first thing in the answer is `text`, and it is not all there is."""
    return lambda answer: answer.strip().startswith(text) and len(answer.strip()) > len(text)


def without(letter_or_word: str) -> Check:
    """An answer of three words or more, in which this does not occur."""
    return lambda answer: len(answer.split()) >= 3 and letter_or_word.casefold() not in answer.casefold()


def with_words(*wanted: str) -> Check:
    """Every one of these occurs in the answer."""
    return lambda answer: all(word.casefold() in answer.casefold() for word in wanted)


def sentences(count: int) -> Check:
    """Exactly `count` sentences, by their final marks."""
    return lambda answer: len(re.findall(r"[.!?](?=\s|$)", answer.strip())) == count


def quoted(answer: str) -> bool:
    """The whole answer stands in double quotation marks."""
    text = answer.strip()
    return len(text) > 2 and text[0] == text[-1] == '"'


def separated(count: int) -> Check:
    """`count` entries on one line, separated by commas."""
    return lambda answer: (
        len(_lines(answer)) == 1 and len([part for part in answer.split(",") if part.strip()]) == count
    )


def instructions() -> Sequence[Instruction]:
    """What is asked, in a fixed order."""
    made: list[Instruction] = []
    for topic in TOPICS:
        made += [
            Instruction("capitals", f"Write one sentence about {topic}. Use capital letters only.", capitals),
            Instruction("bullets", f"Give exactly three bullet points about {topic}. Write nothing else.", bullets(3)),
            Instruction("words", f"Describe {topic} in at most ten words.", words(10)),
            Instruction("sentences", f"Write exactly two sentences about {topic}.", sentences(2)),
            Instruction(
                "json_keys",
                f'Write about {topic} as a JSON object with the keys "title" and "text". Answer with the JSON alone.',
                json_with("title", "text"),
            ),
            Instruction(
                "with_words", f'Write a sentence about {topic} with the word "always" in it.', with_words("always")
            ),
            Instruction(
                "ending", f'Write a sentence about {topic}. End your answer with the word "Done."', ends_with("Done.")
            ),
        ]
    return [
        *made,
        Instruction("small_letters", "Name a colour that you like and say why. Use no capital letters.", small_letters),
        Instruction(
            "numbered", "List four animals as a numbered list, from 1. to 4., and write nothing else.", numbered(4)
        ),
        Instruction("numbered", "List two rivers as a numbered list, 1. and 2., and write nothing else.", numbered(2)),
        Instruction("one_word", "Is Paris a city? Answer with yes or no only.", one_word_of("yes", "no")),
        Instruction("one_word", "Is a stone alive? Answer with yes or no only.", one_word_of("yes", "no")),
        Instruction("one_word", "Is fire hot or cold? Answer with one word.", one_word_of("hot", "cold")),
        Instruction("number", "How many days has a week? Answer with a number in digits and nothing else.", number),
        Instruction("number", "What is 12 plus 5? Answer with a number in digits and nothing else.", number),
        Instruction(
            "json_list", "Give three fruits as a JSON array of strings. Answer with the JSON alone.", json_list(3)
        ),
        Instruction(
            "json_list", "Give two colours as a JSON array of strings. Answer with the JSON alone.", json_list(2)
        ),
        Instruction("quoted", "Write a short greeting. Put the whole answer in double quotation marks.", quoted),
        Instruction("separated", "Name five vegetables, separated by commas, on one line.", separated(5)),
        Instruction("starting", 'Explain what rain is. Begin your answer with "In short:".', starts_with("In short:")),
        Instruction("without", "Describe a dog in one sentence without the letter z.", without("z")),
        Instruction("without", 'Describe snow in one sentence without the word "white".', without("white")),
    ]


def texts() -> Sequence[str]:
    """General text of many kinds."""
    from plugins.probes.passages import passages

    return passages()


@hookimpl
def probes() -> list[Probe]:
    description = "Perplexity on general text, and instructions whose form of answer can be verified."
    return [Probe("default", texts, instructions, description=description)]
