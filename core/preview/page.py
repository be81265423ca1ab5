"""A self-contained page about prepared data: what the audit found, how lengths are spread, and the tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence, Set
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from core.audit import AuditReport, CheckedExample, DataFacts
from core.audit.report import several, spread_of
from core.data.tokenise import IGNORED
from core.preview.choose import facts_by_part, private_places
from core.preview.histogram import histogram
from core.preview.pieces import pieces_of, special_texts
from core.preview.terminal import head_of

if TYPE_CHECKING:
    from core.types import Tokenizer

TOKENS = 1_000_000  # on the page, about 10 MB: examples with problems first, the rest from everywhere
LINKED = 20  # places linked per finding
PLAIN, TRAINED, SPECIAL = 0, 1, 2


def data_page(
    facts: DataFacts, report: AuditReport, title: str, tokenizer: Tokenizer, remarks: Sequence[str] = ()
) -> str:
    """The page as text. It loads nothing from anywhere: style, script and data are inside.

    remarks: lines about the data as a whole, such as that these are the first rows of what is streamed.
    """
    import jinja2

    problems: dict[str, list[str]] = {}
    hidden = private_places(report)
    for entry in report.entries:
        for place in entry.finding.places[:LINKED]:
            problems.setdefault(place, []).append(entry.check)
    chosen = _chosen(facts, problems, hidden)
    special = special_texts(tokenizer)
    known: dict[int, str] = {}
    rows = [_row(part, example, problems, tokenizer, special, known) for part, example in chosen]
    on_page = {example.place: index for index, (_, example) in reversed(list(enumerate(chosen)))}
    parts = {name: len(examples) for name, examples in facts_by_part(facts).items() if examples}
    lengths = [float(example.length) for example in facts.train]
    shares = [float((e.labels != IGNORED).mean()) for e in facts.train if len(e.labels)]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_source("data.html.j2")).render(
        title=title,
        remarks=remarks,
        hidden=len(hidden),
        style=_source("data.css"),
        script=_source("data.js"),
        findings=[
            {
                "check": entry.check,
                "level": {"warn": "warning"}.get(entry.level, entry.level),
                "message": entry.finding.message,
                "help": entry.finding.help or "",
                "links": [(place, on_page.get(place)) for place in entry.finding.places[:LINKED]],
                "more": max(0, len(entry.finding.places) - LINKED),
            }
            for entry in report.entries
        ],
        checks=len(report.checks or {}),
        examples=sum(map(len, (facts.train, facts.validation, facts.test))),
        figures=[*_figures(facts), *((f"by {name}", spread_of(kinds)) for name, kinds in several(report).items())],
        lengths=histogram(lengths, title="tokens per training example"),
        shares=histogram(shares, title="share of tokens that are trained", form="{:.0%}", top=1.0),
        parts=list(parts),
        embedded=_embedded({"rows": rows, "totals": parts}),
    )


def _chosen(facts: DataFacts, problems: Iterable[str], hidden: Set[str]) -> list[tuple[str, CheckedExample]]:
    """(part, example) of what is on the page: all that there is room for, in the order of the data, problems first."""
    wanted = set(problems) - hidden
    odd, lengths = [], []
    for name, examples in facts_by_part(facts).items():
        for example in examples:
            if example.place in wanted:
                odd.append((name, example))
            elif example.place not in hidden:
                lengths.append(len(example.input_ids))
    room = TOKENS - sum(len(example.input_ids) for _, example in odd)
    step = max(1, -(-sum(lengths) // room)) if room > 0 else len(lengths) + 1
    rest, number = [], 0
    for name, examples in facts_by_part(facts).items():
        for example in examples:
            if example.place in wanted | hidden:
                continue
            if number % step == 0 and step <= len(lengths):
                rest.append((name, example))
            number += 1
    return odd + rest


def _row(
    part: str,
    example: CheckedExample,
    problems: dict[str, list[str]],
    tokenizer: Tokenizer,
    special: Any,
    known: dict[int, str],
) -> dict[str, Any]:
    pieces = pieces_of(example, tokenizer, special, known)
    return {
        "part": part,
        "place": example.place,
        "head": head_of(example),
        "problems": problems.get(example.place, []),
        "texts": [piece.text for piece in pieces],
        "marks": "".join(str(TRAINED * piece.trained + SPECIAL * piece.special) for piece in pieces),
    }


def _figures(facts: DataFacts) -> list[tuple[str, str]]:
    kept = [example for example in facts.train if example.kept]
    tokens = sum(len(example.input_ids) for example in kept)
    trained = sum(int((example.labels != IGNORED).sum()) for example in kept)
    figures = [
        ("training examples", f"{len(kept):,} of {len(facts.train):,}"),
        ("tokens", f"{tokens:,}, of which {trained / max(1, tokens):.1%} are trained"),
    ]
    if kept:
        ordered = sorted(len(example.input_ids) for example in kept)
        half, most = ordered[len(ordered) // 2], ordered[int(0.99 * (len(ordered) - 1))]
        figures.append(
            ("their lengths", f"half up to {half:,} tokens, 99 % up to {most:,}, the longest {ordered[-1]:,}")
        )
    answers = [example.answer for example in kept if example.answer]
    if answers:
        counts = {
            "JSON": sum(map(_is_json, answers)),
            "one word": sum(len(answer.split()) == 1 for answer in answers),
            "several lines": sum("\n" in answer.strip() for answer in answers),
        }
        said = ", ".join(f"{count / len(answers):.0%} {name}" for name, count in counts.items() if count)
        figures.append(
            ("answers", f"{len(answers):,}, {len(set(answers)):,} different" + (f": {said}" if said else ""))
        )
    for name, examples in (("validation examples", facts.validation), ("evaluation items", facts.test)):
        if examples:
            figures.append((name, f"{len(examples):,}"))
    return figures


def _is_json(text: str) -> bool:
    """Whether `text` is a JSON object or array."""
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return False
    return True


def _source(name: str) -> str:
    return files("core.preview").joinpath("templates", name).read_text(encoding="utf-8")


def _embedded(value: Any) -> str:
    """JSON that is safe inside a script element: no character sequence can end the element or start a comment."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
