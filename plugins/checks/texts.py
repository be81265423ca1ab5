"""Checks of the text itself: characters that should not be there, markup left over, placeholders, odd scripts."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.audit import Watch
from core.audit.watching import ALL, Marks, Numbers, each_once, marking, sorting
from core.types import Options
from plugins.checks.answers import answers_something
from plugins.checks.learning import counted, watching

CHARACTERS = {
    "control": re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]"),
    "replacement": re.compile("\ufffd"),
    "invisible": re.compile("[\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069]"),
    # UTF-8 that was read as Latin-1 or Windows-1252
    "mojibake": re.compile(
        "Ã[\x80-\xbf\u0192\u201a\u2030]|â€[\u0153\u2122\u02dc\u201c\u201d\u00a6\x80-\x9f]|Â[\xa0-\xbf]|ðŸ|ï»¿"
    ),
}
HTML = re.compile(
    r"</?(?:p|br|div|span|a|li|ul|ol|tr|td|th|table|b|i|em|strong|font|img|h[1-6]|script|style)(?:\s[^<>]{0,200})?/?>"
    r"|&(?:nbsp|amp|lt|gt|quot|apos|#\d{2,5}|#x[0-9a-f]{2,4});",
    re.IGNORECASE,
)
PLACEHOLDERS = frozenset({"n/a", "na", "nan", "none", "null", "undefined", "todo", "tbd", "?", "-", "--", "...", "…"})
LONGEST_PLACEHOLDER = max(map(len, PLACEHOLDERS))
RARE_SHARE = 0.05
SCRIPTS = {
    "Latin": re.compile("[A-Za-z\u00c0-\u024f]"),
    "Greek": re.compile("[\u0370-\u03ff]"),
    "Cyrillic": re.compile("[\u0400-\u052f]"),
    "Hebrew": re.compile("[\u0590-\u05ff]"),
    "Arabic": re.compile("[\u0600-\u06ff]"),
    "Indic": re.compile("[\u0900-\u0dff]"),
    "Thai": re.compile("[\u0e00-\u0e7f]"),
    "Hangul": re.compile("[\u1100-\u11ff\uac00-\ud7af]"),
    "kana": re.compile("[\u3040-\u30ff]"),
    "Han": re.compile("[\u3400-\u9fff]"),
}
LOOKED_AT = 2_000  # characters of an answer
LEAST_LETTERS = 10


def characters(facts: DataFacts, options: Options) -> Watch:
    """Control and invisible characters, and text that went through a wrong encoding."""

    def kinds_of(example: CheckedExample) -> list[str]:
        text = example.text
        if text.isascii():
            return ["control"] if CHARACTERS["control"].search(text) else []
        return [kind for kind, pattern in CHARACTERS.items() if pattern.search(text)]

    def say(facts: DataFacts, kinds: dict[str, Marks]) -> list[Finding]:
        if not kinds:
            return []
        places = each_once(facts, kinds)
        listed = ", ".join(f"{kind} {len(kinds[kind]):,}" for kind in kinds)
        message = f"odd characters in {counted(len(places))} ({listed})"
        help = "read the source again as UTF-8, or clean these rows"
        return [Finding(message, places, help=help)]

    return sorting(kinds_of, say)


def html(facts: DataFacts, options: Options) -> Watch:
    """Tags and entities of HTML."""

    def mark(example: CheckedExample) -> bool:
        text = example.text
        return ("<" in text or "&" in text) and HTML.search(text) is not None

    def say(facts: DataFacts, marks: Marks) -> list[Finding]:
        if not len(marks):
            return []
        message = f"HTML tags or entities in {counted(len(marks))}"
        help = "turn them into plain text, unless the model is to write HTML"
        return [Finding(message, facts.places(marks.numbers), help=help)]

    return marking(mark, say, parts=ALL)


def placeholders(facts: DataFacts, options: Options) -> Watch:
    """Answers that stand for no answer, where that is rare."""

    def mark(example: CheckedExample) -> bool:
        answer = example.answer.strip()
        return len(answer) <= LONGEST_PLACEHOLDER and answer.casefold() in PLACEHOLDERS

    def say(facts: DataFacts, marks: Marks) -> list[Finding]:
        if not len(marks) or len(marks) > RARE_SHARE * marks.seen:
            return []
        message = f"{len(marks):,} of {counted(marks.seen, 'answer')} stand for none, such as 'n/a' or 'null'"
        return [Finding(message, facts.places(marks.numbers), help="fill them in or take them out")]

    return marking(mark, say, parts=("train", "test"), among=answers_something)


def script(facts: DataFacts, options: Options) -> Watch:
    """Answers in another script than nearly all others."""
    kinds = {"": 0, **{name: number for number, name in enumerate(SCRIPTS, 1)}}
    names = list(kinds)
    codes, numbers = array("B"), Numbers()

    def see(part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        if part == "train":
            kept = [(number, example) for number, example in enumerate(examples, first) if example.kept]
            codes.extend([kinds[_script(example)] for _, example in kept])
            numbers.extend([number for number, _ in kept])

    def findings(facts: DataFacts) -> list[Finding]:
        import numpy as np

        seen = np.frombuffer(codes, dtype=np.uint8)
        counts = Counter({names[code]: int(count) for code, count in enumerate(np.bincount(seen)) if code and count})
        if len(counts) < 2:
            return []
        # of equally frequent ones, the first in the data
        order = {name: int(np.argmax(seen == kinds[name])) for name in counts}
        (usual, _), *others = sorted(counts.items(), key=lambda pair: (-pair[1], order[pair[0]]))
        odd = np.flatnonzero((seen != kinds[usual]) & (seen != 0))
        if len(odd) > RARE_SHARE * counts.total():
            return []
        listed = ", ".join(f"{name} {count:,}" for name, count in others)
        message = f"{len(odd):,} of {counted(counts.total())} are not in {usual} script like the others ({listed})"
        places = facts.places([numbers[index] for index in odd.tolist()])
        return [Finding(message, places, help="take them out, or add more of them")]

    def spread() -> dict[str, int]:
        return {names[code]: count for code, count in Counter(codes).most_common() if code}

    return Watch(see, findings, spread)


def _script(example: CheckedExample) -> str:
    """The script of most letters of the answer (of the whole text without one); empty for too few letters."""
    text = (example.answer or example.text)[:LOOKED_AT]
    if text.isascii():
        return "Latin" if len(text) > LEAST_LETTERS else ""
    counts = {name: len(pattern.findall(text)) for name, pattern in SCRIPTS.items()}
    name, count = max(counts.items(), key=lambda pair: pair[1])
    return name if count >= LEAST_LETTERS else ""


@hookimpl
def data_checks() -> list[DataCheck]:
    return [
        watching("characters", characters, description="Control characters, invisible ones, wrongly decoded text."),
        watching("html", html, description="Tags and entities left over from web pages."),
        watching("placeholders", placeholders, description="Answers such as n/a that stand for none."),
        watching("script", script, description="Examples in another script than nearly all others."),
    ]
