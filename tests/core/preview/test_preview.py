from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core import DataCheck, DataFacts, Finding, UserError
from core.audit import AuditReport, CheckPlan, audit
from core.host import load_host
from core.preview.choose import choose, private_places
from core.preview.dump import write_dump
from core.preview.histogram import histogram
from core.preview.page import data_page
from core.preview.pieces import pieces_of, special_texts
from core.preview.propose import propose_recipe
from core.preview.terminal import head_of, painted
from core.testing.data import make_facts
from core.testing.tiny import make_tiny_tokenizer

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
ROWS = [{"instruction": f"Say {n} in Köln 🙂.", "input": "", "output": f"number\t{n}\nwas said"} for n in range(40)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    make_tiny_tokenizer(folder)
    return AutoTokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def facts(tokenizer: Any) -> DataFacts:
    return make_facts(ROWS, tokenizer=tokenizer, format=load_host().formats["alpaca"])


def test_pieces_join_to_the_text(facts: DataFacts, tokenizer: Any) -> None:
    pieces = pieces_of(facts.train[3], tokenizer, special_texts(tokenizer))
    assert "".join(piece.text for piece in pieces) == facts.train[3].text
    assert "".join(piece.text for piece in pieces if piece.trained) == "number\t3\nwas said<|im_end|>"
    assert [piece.text for piece in pieces if piece.special] == ["<|im_end|>"]


def test_without_colour_trained_text_is_bracketed(facts: DataFacts, tokenizer: Any) -> None:
    pieces = pieces_of(facts.train[3], tokenizer, special_texts(tokenizer))
    assert painted(pieces, colour=False).endswith("### Response:\n⟦number→\t3\nwas said<|im_end|>⟧")
    coloured = painted(pieces, colour=True)
    assert re.sub(r"\x1b\[\d*m", "", coloured).endswith("number→\t3↵\nwas said<|im_end|>")
    assert "\x1b[32m\x1b[7m<|im_end|>\x1b[0m" in coloured


def test_what_moves_the_cursor_is_made_visible(tokenizer: Any) -> None:
    rows = [{"instruction": "a\x1b[2Jb", "output": "c\u202ed"}]
    example = make_facts(rows, tokenizer=tokenizer, format=load_host().formats["alpaca"]).train[0]
    text = painted(pieces_of(example, tokenizer, special_texts(tokenizer)), colour=False)
    assert "a\\x1b[2Jb" in text
    assert "c\\u202ed" in text


def test_choosing(facts: DataFacts) -> None:
    rows = facts.train
    assert [example.number for example in choose(rows, row="7")] == [7]
    assert [example.number for example in choose(rows, row="train.jsonl:7")] == [7]
    elsewhere = [replace(example, place=f"data/{example.place}") for example in rows]
    assert [example.number for example in choose(elsewhere, row="train.jsonl:7")] == [7]
    assert [example.number for example in choose(elsewhere, row="./data/train.jsonl:7")] == [7]
    with pytest.raises(UserError, match="there is no row 'in"):
        choose(elsewhere, row="in.jsonl:7")
    assert [example.number for example in choose(rows, grep="SAY 12 ")] == [13]
    assert choose(rows, longest=True, samples=1)[0].length == max(example.length for example in rows)
    assert [example.number for example in choose(rows)] == [1, 14, 27]
    with pytest.raises(UserError, match="there is no row '41'"):
        choose(rows, row="41")
    with pytest.raises(UserError, match="no example holds 'xyz'"):
        choose(rows, grep="xyz")


def test_the_dump_is_in_the_order_of_the_file(facts: DataFacts, tmp_path: Path) -> None:
    assert write_dump(tmp_path / "out.jsonl", facts.train) == 40
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(record["file"], record["row"]) for record in records] == [("train.jsonl", n) for n in range(1, 41)]
    assert records[0]["input_ids"] == facts.train[0].input_ids.tolist()
    assert len(records[0]["labels"]) == len(records[0]["input_ids"])
    assert list(tmp_path.iterdir()) == [tmp_path / "out.jsonl"]


def test_why_an_example_is_left_out(tokenizer: Any) -> None:
    made = make_facts(ROWS[:1], tokenizer=tokenizer, format=load_host().formats["alpaca"], sequence_len=9)
    assert head_of(made.train[0]).endswith("left out: too long")


def test_histogram() -> None:
    drawn = histogram([1, 2, 2, 100], title="tokens <b>")
    assert drawn.count("<rect") == 30
    assert "<b>" not in drawn
    assert "half of them at 2 or less" in drawn
    assert histogram([], title="nothing") == ""
    assert histogram([0, 0], title="nothing but 0").count("<rect") == 30


def report_on(facts: DataFacts) -> AuditReport:
    odd = Finding("2 rows are odd & <b>bold</b>", ["train.jsonl:5", "train.jsonl:30"], help="look")
    private = Finding("1 row is private", ["train.jsonl:9"], private=True)
    return audit([CheckPlan(DataCheck("odd", lambda facts, options: [odd, private]), "warn")], facts)


def test_the_page_is_self_contained_and_its_data_cannot_break_out(tokenizer: Any) -> None:
    rows = [*ROWS[:8], {"instruction": "secret-word", "output": "b"}, {"instruction": "</script><b>", "output": "b"}]
    facts = make_facts(rows, tokenizer=tokenizer, format=load_host().formats["alpaca"])
    page = data_page(facts, report_on(facts), "recipe.yml", tokenizer)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#row-)|url\(|@import|https?://""", page.split('id="data"')[0])
    assert "<b>bold</b>" not in page
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert embedded is not None
    shown = json.loads(embedded.group(1))["rows"]
    assert [row["place"] for row in shown][:1] == ["train.jsonl:5"]
    # what a check marks as private is counted, and not put on the page
    assert "secret-word" not in page
    assert len(shown) == 9


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
@pytest.mark.parametrize(
    ("width", "hash", "click", "expected"), [(1200, "", "all", 25), (400, "", "problems", 2), (400, "#row-38", "", 14)]
)
def test_the_page_works_in_a_browser(
    tmp_path: Path, facts: DataFacts, tokenizer: Any, width: int, hash: str, click: str, expected: int
) -> None:
    page = data_page(facts, report_on(facts), "recipe.yml", tokenizer)
    script = f"document.querySelector('[data-filter={click}]').click()" if click else ""
    dom = in_browser(tmp_path, page, script, width=width, hash=hash)
    assert dom.count("<article") == expected
    assert 'class="piece t s"' in dom
    assert ('id="row-38"' in dom) == (hash == "#row-38")
    # whoever follows a link by the keyboard is at the row
    assert ('id="row-38" tabindex="-1"' in dom) == (hash == "#row-38")


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_thousands_of_examples_are_turned_over_page_by_page(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"instruction": f"Say {n}.", "input": "", "output": f"number {n}"} for n in range(3000)]
    format = load_host().formats["alpaca"]
    facts = make_facts(rows, tokenizer=tokenizer, format=format, test=rows[:30])
    page = data_page(facts, report_on(facts), "recipe.yml", tokenizer)
    turn = "document.querySelector(\"[data-step='1']\").click();"
    dom = in_browser(tmp_path, page, 2 * turn)
    assert dom.count("<article") == 25
    assert "page 3 of 122" in dom
    assert "3,029 of the 3,029 examples on this page; 3,000 in train, 30 in evaluation" in dom
    assert 'id="row-50"' in dom
    dom = in_browser(tmp_path, page, "document.querySelector('[data-filter=evaluation]').click();" + turn)
    assert dom.count("<article") == 5
    assert "page 2 of 2" in dom
    assert "test.jsonl:30 (row 30)" in dom


def test_a_page_has_room_for_some_of_very_many(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.preview.page.TOKENS", 2_000)
    facts = make_facts(ROWS, tokenizer=tokenizer, format=load_host().formats["alpaca"])
    page = data_page(facts, report_on(facts), "recipe.yml", tokenizer)
    embedded = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert embedded is not None
    shown = json.loads(embedded.group(1))
    assert 2 <= len(shown["rows"]) < 40
    assert shown["totals"] == {"train": 40}
    assert [row["place"] for row in shown["rows"]][:2] == ["train.jsonl:5", "train.jsonl:30"]


def in_browser(tmp_path: Path, page: str, script: str, *, width: int = 1200, hash: str = "") -> str:
    """The page as the browser has it after `script`; nothing may be complained of."""
    path = tmp_path / "data.html"
    path.write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--dump-dom"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    result = subprocess.run(
        [str(BROWSER), *flags, path.as_uri() + hash], capture_output=True, text=True, timeout=300, check=True
    )
    assert "CONSOLE" not in result.stderr, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"question": "a", "answer": "b"}], ["    field_instruction: question", "    field_output: answer"]),
        ([{"conversations": [{"from": "human", "value": "a"}]}], ["    field_messages: conversations"]),
        ([{"text": "a"}], ["    type: completion"]),
        ([{"input_ids": [1, 2], "labels": [1, 2]}], ["    type: pretokenised"]),
        ([{"instruction": "a", "output": "b", "chosen": "c", "rejected": "d"}], ["the rows also hold chosen and"]),
        ([{"x": "a", "y": "b"}], ["no format is plain to see: choose the type that fits these fields"]),
        ([{"text": "a"}] * 3 + [{"messages": [{"role": "user", "content": "a"}]}], ["this fits 3 of the 4 rows"]),
    ],
)
def test_a_proposal_for_a_bare_file(tmp_path: Path, rows: list[Any], expected: list[str]) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = propose_recipe(path)
    for start in expected:
        assert any(line.startswith(start) for line in lines), lines


def test_private_rows_are_shown_only_where_they_are_asked_for(facts: DataFacts) -> None:
    private = private_places(report_on(facts))
    assert private == {"train.jsonl:9"}
    shown = [
        choose(facts.train, samples=40, private=private),
        choose(facts.train, longest=True, samples=40, private=private),
    ]
    assert [len(examples) for examples in shown] == [39, 39]
    assert all(example.place not in private for examples in shown for example in examples)
    assert [example.number for example in choose(facts.train, row="9", private=private)] == [9]
    assert [example.number for example in choose(facts.train, grep="say 8 ", private=private)] == [9]


def test_the_page_says_what_is_to_be_known_of_all_data(facts: DataFacts, tokenizer: Any) -> None:
    remarks = [
        "warning: big.jsonl: it is read while training; counts and audit are of its first 40 rows",
        "  b.jsonl:7: <b>",
    ]
    page = data_page(facts, report_on(facts), "recipe.yml", tokenizer, remarks)
    assert '<li class="warning">warning: big.jsonl: it is read while training; counts and audit' in page
    assert '<li class="more">b.jsonl:7: &lt;b&gt;</li>' in page
    assert '<ul class="remarks">' not in data_page(facts, report_on(facts), "recipe.yml", tokenizer)
    assert "1 left out that may hold personal data" in page


def test_the_page_says_how_lengths_and_answers_are_spread(tokenizer: Any) -> None:
    rows = [{"instruction": f"Say {n}.", "output": ('{"a": 1}', "yes", "one\ntwo", "{no")[n % 4]} for n in range(40)]
    facts = make_facts(rows, tokenizer=tokenizer, format=load_host().formats["alpaca"])
    page = data_page(facts, report_on(facts), "recipe.yml", tokenizer)
    longest = max(example.length for example in facts.train)
    assert re.search(rf"half up to \d+ tokens, 99 % up to \d+, the longest {longest}<", page)
    assert "<dd>40, 4 different: 25% JSON, 50% one word, 25% several lines</dd>" in page
