"""Checks of the text itself: characters that should not be there, markup left over, placeholders, odd scripts."""

from __future__ import annotations

import re
from collections import Counter

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.types import Options
from plugins.checks.answers import answered
from plugins.checks.learning import counted

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


def characters(facts: DataFacts, options: Options) -> list[Finding]:
    """Control and invisible characters, and text that went through a wrong encoding."""
    found: dict[str, list[str]] = {}
    for example in facts.every():
        text = example.text
        if text.isascii() and text.isprintable():
            continue
        for kind, pattern in CHARACTERS.items():
            if pattern.search(text):
                found.setdefault(kind, []).append(example.place)
    if not found:
        return []
    places = list(dict.fromkeys(place for listed in found.values() for place in listed))
    kinds = ", ".join(f"{kind} {len(listed):,}" for kind, listed in found.items())
    message = f"odd characters in {counted(len(places))} ({kinds})"
    return [Finding(message, places, help="read the source again as UTF-8, or clean these rows")]


def html(facts: DataFacts, options: Options) -> list[Finding]:
    """Tags and entities of HTML."""
    found = [e.place for e in facts.every() if ("<" in (text := e.text) or "&" in text) and HTML.search(text)]
    if not found:
        return []
    message = f"HTML tags or entities in {counted(len(found))}"
    return [Finding(message, found, help="turn them into plain text, unless the model is to write HTML")]


def placeholders(facts: DataFacts, options: Options) -> list[Finding]:
    """Answers that stand for no answer, where that is rare."""
    rows = answered([*facts.train, *facts.test])
    found = [example.place for example in rows if example.answer.strip().casefold() in PLACEHOLDERS]
    if not found or len(found) > RARE_SHARE * len(rows):
        return []
    message = f"{len(found):,} of {counted(len(rows), 'answer')} stand for none, such as 'n/a' or 'null'"
    return [Finding(message, found, help="fill them in or take them out")]


def script(facts: DataFacts, options: Options) -> list[Finding]:
    """Answers in another script than nearly all others."""
    scripts = [(example, _script(example)) for example in facts.train if example.kept]
    counts = Counter(name for _, name in scripts if name)
    if len(counts) < 2:
        return []
    (usual, _), *others = counts.most_common()
    odd = [example.place for example, name in scripts if name not in (usual, "")]
    if len(odd) > RARE_SHARE * counts.total():
        return []
    kinds = ", ".join(f"{name} {count:,}" for name, count in others)
    message = f"{len(odd):,} of {counted(counts.total())} are not in {usual} script like the others ({kinds})"
    return [Finding(message, odd, help="take them out, or add more of them")]


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
        DataCheck("characters", characters, description="Control characters, invisible ones, wrongly decoded text."),
        DataCheck("html", html, description="Tags and entities left over from web pages."),
        DataCheck("placeholders", placeholders, description="Answers such as n/a that stand for none."),
        DataCheck("script", script, description="Examples in another script than nearly all others."),
    ]
