"""The check of languages: it tells what is clearly another language, and keeps still about everything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core import Finding
from core.audit import CheckPlan, audit, audit_lines
from core.host import load_host
from core.preview.page import data_page
from core.testing.data import make_facts
from plugins.checks.languages import language_of
from tests.plugins.checks.test_checks import WORDS, row, sentence

Run = Callable[..., list[Finding]]
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
GERMAN = "Der Arzt sagt, dass die Patientin nach der Operation noch zwei Wochen im Krankenhaus bleiben soll."
FRENCH = "Le médecin dit que la patiente doit rester encore deux semaines à l'hôpital après l'opération."


def english(n: int) -> str:
    """An answer in English that no other number gives."""
    first, second, third = (WORDS[(n * k + k) % len(WORDS)] for k in (1, 3, 5))
    return (
        f"When they came back from the {first} in the evening, there was a {second} beside the {third}, and {n} more."
    )


ENGLISH = [row(sentence(n), english(n)) for n in range(100)]


def test_a_few_in_other_languages(run: Run) -> None:
    rows = [*ENGLISH[:30], row("Say it.", GERMAN), *ENGLISH[30:], row("Say it again.", FRENCH)]
    (found,) = run("language", rows)
    assert found.message == "2 of 102 examples are not in English like the others (German 1, French 1)"
    assert found.places == ["train.jsonl:31", "train.jsonl:102"]


def test_short_answers_leave_it_to_the_question(run: Run) -> None:
    rows = [row(english(n), ("yes", "no")[n % 2]) for n in range(60)] + [row(GERMAN, "yes")]
    (found,) = run("language", rows)
    assert (found.number, found.places) == (1, ["train.jsonl:61"])


def test_answers_of_json_leave_it_to_the_question(run: Run) -> None:
    said = json.dumps({"wort": GERMAN})
    assert run("language", [row(english(n), said if n == 7 else json.dumps({"n": n})) for n in range(60)]) == []


@pytest.mark.parametrize(
    "rows",
    [
        ENGLISH,
        [*ENGLISH[:20], row("Say it.", GERMAN)],
        [*ENGLISH, *[row(f"Say it {n} times.", f"{GERMAN} {n}") for n in range(20)]],
        [{"text": f"{n} " * 60} for n in range(60)],
    ],
    ids=["one language", "too few", "two languages", "no language"],
)
def test_nothing_to_remark(run: Run, rows: list[Any]) -> None:
    assert run("language", rows, type="completion" if "text" in rows[0] else "alpaca") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GERMAN, "de"),
        (FRENCH, "fr"),
        ("Врач говорит, что пациентка должна остаться в больнице еще на две недели после операции.", "ru"),
        # what is hardly told apart is one
        ("Liječnik kaže da pacijentica nakon operacije treba ostati u bolnici još dva tjedna i otići kući.", "hr"),
        ("Лекар каже да пацијенткиња после операције треба да остане у болници још две недеље.", "hr"),
        ("Doktor mengatakan bahwa pasien harus tinggal di rumah sakit selama dua minggu lagi.", "id"),
        ("医生说病人手术后还要在医院住两个星期，然后才能回家休息。", "zh"),
        ("Paris, Rome, London, Madrid, Vienna, Berlin, Prague, Warsaw, Budapest, Lisbon, Oslo, Dublin", ""),
        ("SELECT name, count(*) FROM users WHERE age > 30 GROUP BY name ORDER BY count(*) DESC LIMIT 10;", ""),
        ("The Japanese translation of 'Thank you very much' is 'どうもありがとうございます' (arigatōgozaimasu).", ""),
    ],
)
def test_languages_are_told_where_it_is_sure(text: str, expected: str) -> None:
    assert language_of(text) == expected


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets are not here")
def test_english_is_no_other_language(run: Run) -> None:
    rows = json.loads((SHARED / "rasbt_instruct" / "instruction-data.json").read_text(encoding="utf-8"))
    assert run("language", rows) == []


def test_several_languages_are_no_finding_but_are_told(tokenizer: Any) -> None:
    rows = [
        *ENGLISH,
        *[row(f"Say it {n} times.", f"{GERMAN} {n}") for n in range(20)],
        row("Was?", "Это совсем другой язык"),
    ]
    host = load_host()
    facts = make_facts(rows, tokenizer=tokenizer, format=host.formats["alpaca"])
    report = audit([CheckPlan(host.data_checks[name], "warn") for name in ("language", "script")], facts)
    assert [entry.check for entry in report.entries] == ["script"]
    said = audit_lines(report)
    assert "note: training examples by language: English 100 (83%), German 20 (17%)" in said
    # what is a finding is said once
    assert not any(line.startswith("note: training examples by script") for line in said)
    assert report.as_json()["spreads"] == {
        "language": {"English": 100, "German": 20},
        "script": {"Latin": 120, "Cyrillic": 1},
    }
    page = data_page(facts, report, "recipe.yml", tokenizer)
    assert "<dt>by language</dt><dd>English 100 (83%), German 20 (17%)</dd>" in page


def test_one_language_is_not_worth_a_word(tokenizer: Any) -> None:
    host = load_host()
    facts = make_facts(ENGLISH, tokenizer=tokenizer, format=host.formats["alpaca"])
    report = audit([CheckPlan(host.data_checks["language"], "warn")], facts)
    assert len(audit_lines(report)) == 1
    assert report.spreads == {"language": {"English": 100}}
