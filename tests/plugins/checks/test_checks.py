"""Every built-in check: it finds what it is for, names the places, and keeps still on good data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core import Finding
from core.host import load_host
from plugins.checks.private import KINDS, luhn
from plugins.checks.similarity import near_pairs

Run = Callable[..., list[Finding]]
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
WORDS = [
    *("river", "stone", "cloud", "ember", "forest", "harbour", "candle"),
    *("meadow", "copper", "violin", "anchor", "lantern", "marble", "thunder"),
]


def row(question: str, answer: str, context: str = "") -> dict[str, str]:
    return {"instruction": question, "input": context, "output": answer}


def sentence(n: int) -> str:
    """A sentence that no other number gives, of words in an order of its own."""
    picked = [WORDS[(n * k + k * k) % len(WORDS)] for k in range(1, 9)]
    return f"What about {' and '.join(picked)} number {n * 7919 % 10007}?"


GOOD = [row(sentence(n), f"{WORDS[n % 14]} {WORDS[n * 3 % 14]} {n * 31 % 997}") for n in range(150)]


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


@pytest.mark.parametrize("name", sorted(load_host().data_checks))
def test_good_data_is_met_with_silence(run: Run, name: str) -> None:
    held_out = [row(f"Tell of {n} {WORDS[n]}s far away", f"{WORDS[n]} {n}") for n in range(10)]
    assert run(name, GOOD, test=held_out) == []


def test_nothing_to_train(run: Run) -> None:
    chats = [{"messages": [{"role": "user", "content": "a"}]}, {"messages": [{"role": "assistant", "content": "b"}]}]
    found = only(run("nothing_to_train", chats, type="chat_template"))
    assert (found.message, found.places) == ("1 of 2 examples have no token that is trained", ["train.jsonl:1"])


def test_end_of_turn(run: Run) -> None:
    rows = [
        {"segments": [{"label": False, "text": "q\n"}, {"label": True, "text": text}]} for text in ("a", "a<|im_end|>")
    ]
    found = only(run("end_of_turn", rows, type="input_output"))
    assert found.places == ["train.jsonl:1"]
    assert found.message.startswith("1 of 2 examples end their trained text without an end-of-turn token")


@pytest.mark.parametrize(("strategy", "word"), [("drop", "dropped"), ("truncate", "cut")])
def test_too_long(run: Run, strategy: str, word: str) -> None:
    rows = [*GOOD[:3], row("a", "long " * 400)]
    found = only(run("too_long", rows, sequence_len=300, strategy=strategy))
    assert found.message == f"{word} 1 example of 4 longer than sequence_len 300"
    assert found.places == ["train.jsonl:4"]
    assert "would fit 99 %" in str(found.help)
    found = only(run("too_long", [*GOOD, row("a", "long " * 400)], sequence_len=300, strategy=strategy))
    assert str(found.help).endswith(" tokens, sequence_len 300 fits 99 %")


def test_too_few(run: Run) -> None:
    assert only(run("too_few", GOOD[:12])).message.startswith("only 12 examples to train on")
    assert run("too_few", GOOD[:12], given={"least": 10}) == []


def test_length_spread(run: Run) -> None:
    found = only(run("length_spread", [*GOOD, *[row("a", "long " * 350)] * 2]))
    assert found.places == ["train.jsonl:151"]
    assert found.message.startswith("the longest 1 % of the examples hold ")


def test_special_tokens(run: Run) -> None:
    rows = [*GOOD, row("a", "b<|im_end|>c")]
    assert only(run("special_tokens", rows)).message.startswith("special tokens stand in the text of 1 example (<|im_e")
    written_out = [{"segments": [{"label": True, "text": "a<|im_end|>"}]}] * 3
    assert run("special_tokens", written_out, type="input_output") == []


def test_prompts_that_are_tokenised_otherwise(run: Run, tokenizer: Any) -> None:
    # "the" after a space is one token, so the prompt alone ends in a token that the whole does not have
    rows = [{"segments": [{"label": False, "text": "Answer: "}, {"label": True, "text": "the fox", "answer": True}]}]
    found = run("straddling", rows, type="input_output")
    assert only(found).message == "1 token over the seam of trained and untrained text, in 1 example"


def test_the_generation_prompt(run: Run) -> None:
    jinja = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    chats = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
    found = only(run("round_trip", chats, type="chat_template", options={"chat_template_jinja": jinja}))
    assert found.message == "the prompts of 1 example do not end as the chat template asks for an answer"
    assert run("round_trip", chats, type="chat_template") == []


def test_text_that_tokens_do_not_give_back(run: Run, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from plugins.checks import templates

    decode = templates._decode
    monkeypatch.setattr(templates, "_decode", lambda *given: [text.replace(b"b", b"?") for text in decode(*given)])
    found = run("round_trip", [row("a", "b"), row("a", "c")])
    assert found[0].message.startswith("the tokens of ")


def test_copies(run: Run) -> None:
    rows = [*GOOD, GOOD[3], GOOD[3], row(GOOD[4]["instruction"], "another answer")]
    found = only(run("duplicates", rows))
    assert (found.message, found.places) == (
        "2 of 153 examples are copies of an earlier one",
        ["train.jsonl:151", "train.jsonl:152"],
    )
    found = only(run("conflicting_answers", rows))
    assert (found.number, found.places) == (1, ["train.jsonl:5", "train.jsonl:153"])
    assert found.message == "1 prompt of 150 has different answers"


def test_near_copies(run: Run) -> None:
    changed = row(GOOD[3]["instruction"].replace("What about", "what about "), GOOD[3]["output"].upper() + "!")
    found = only(run("near_duplicates", [*GOOD, changed, GOOD[5]]))
    assert found.places == ["train.jsonl:151"]
    assert found.details == ["train.jsonl:151 is nearly train.jsonl:4"]


def test_boilerplate_does_not_make_texts_alike() -> None:
    long = "Read the following report with care and name the one place that it speaks of, in one word. " * 3
    assert near_pairs([f"{long}{sentence(n)}" for n in range(200)], 0.9) == []
    assert near_pairs([f"{long}{sentence(n % 100)}" for n in range(200)], 0.9) == [(n + 100, n) for n in range(100)]


def test_near_pairs_of_odd_texts() -> None:
    assert near_pairs([], 0.9) == []
    assert near_pairs(["", "", "a", "?!", "\ud800"], 0.9, ["", "\U0001f600"]) == []
    assert near_pairs(["A b"], 0.9, ["a, b!"]) == [(0, 0)]


def test_leakage(run: Run) -> None:
    found = run("leakage", GOOD, test=[GOOD[2], row("x", "y")], validation=[GOOD[7]])
    assert [finding.message for finding in found] == [
        "1 of 2 evaluation items are in the training data too, so their score would mean nothing",
        "1 of 1 validation examples are in the training data too, so the validation loss would flatter",
    ]
    assert found[0].details == ["test.jsonl:1 is also train.jsonl:3"]


def test_near_leakage(run: Run) -> None:
    asked = row(GOOD[2]["instruction"].upper(), "quite another answer")
    found = only(run("near_leakage", GOOD, test=[asked, GOOD[3]]))
    assert found.message == "1 of 2 evaluation items ask nearly what the training data ask"
    assert found.details == ["test.jsonl:1 is nearly train.jsonl:3"]


def test_answers_that_are_no_json(run: Run) -> None:
    rows = [row(sentence(n), json.dumps({"place": f"{WORDS[n % 14]} {n}"})) for n in range(30)]
    assert run("answer_format", rows) == []
    rows += [row("a", '{"place":'), row("b", '{"location": "x"}')]
    broken, other = run("answer_format", rows)
    assert (broken.places, other.places) == (["train.jsonl:31"], ["train.jsonl:32"])
    assert other.message == "1 answer has other JSON keys than the usual place"


def test_labels_in_several_spellings(run: Run) -> None:
    rows = [row(sentence(n), ("yes", "no")[n % 2]) for n in range(60)] + [row("a", "Yes."), row("b", "no ")]
    space, spelling = run("answer_format", rows)
    assert space.places == ["train.jsonl:62"]
    assert (spelling.message, spelling.places) == (
        "1 label is spelt in more than one way: 'yes' and 'Yes.'",
        ["train.jsonl:61"],
    )


def test_label_balance(run: Run) -> None:
    rows = [row(sentence(n), "yes" if n % 10 else "no") for n in range(60)]
    assert only(run("label_balance", rows)).message == (
        "54 of 60 answers are 'yes' ('no' 6): saying so every time is right in 90%"
    )
    assert run("label_balance", [row(sentence(n), ("yes", "no")[n % 2]) for n in range(60)]) == []
    assert only(run("label_balance", [row(sentence(n), "yes") for n in range(60)])).message.startswith("all 60 answers")


def test_label_outliers(run: Run) -> None:
    labels = ("yes", "no", "maybe")
    rows = [row(sentence(n), labels[n % 3]) for n in range(90)]
    assert run("label_outliers", rows) == []
    rows[17], rows[60] = row(sentence(17), "perhaps"), row(sentence(60), "I would say that it is so. " * 20)
    found = only(run("label_outliers", rows))
    assert found.message == "2 of 90 answers are none of the 3 labels of the others ('no', 'yes', 'maybe')"
    assert found.places == ["train.jsonl:18", "train.jsonl:61"]
    # another spelling is none of its own, free text has no labels, and many odd ones are no outliers
    assert run("label_outliers", [*rows[:17], row("Is it?", " Yes."), *rows[18:60]]) == []
    assert run("label_outliers", [row(sentence(n), sentence(n)) for n in range(90)]) == []
    assert (
        run(
            "label_outliers",
            [row(sentence(n), f"label {n}" if n % 10 == 0 else ["yes", "no"][n % 2]) for n in range(90)],
        )
        == []
    )


def test_edge_cases(run: Run) -> None:
    train = [row(sentence(n), ("yes", "no")[n % 2], "given") for n in range(60)]
    test = [row("Is it?", "maybe", "given"), row("a" * 3000, "yes", ""), row("b", "no", "given")]
    labels, lengths, empty = run("edge_cases", train, test=test)
    assert labels.message.endswith("hardly in the training data (how often): 'maybe' (0)")
    assert labels.places == ["test.jsonl:1"]
    assert lengths.places == empty.places == ["test.jsonl:2"]
    assert empty.message == "'input' is empty in 1 test row, and in 0 of the training data"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("characters", "a\x07b", "control 1"),
        ("characters", "cafÃ©", "mojibake 1"),
        ("characters", "itâ€™s", "mojibake 1"),
        ("characters", "a\ufffdb", "replacement 1"),
        ("characters", "a\u200bb", "invisible 1"),
        ("html", "one<br/>two", "1 example"),
        ("html", "this &amp; that", "1 example"),
        ("placeholders", "N/A", "1 of 151 answers"),
        ("script", "Это совсем другой язык", "Cyrillic 1"),
        ("script", "我们在这里写中文字的答案吧", "Han 1"),
    ],
)
def test_texts(run: Run, name: str, text: str, said: str) -> None:
    found = only(run(name, [*GOOD, row("a question", text)]))
    assert said in found.message
    assert found.places == ["train.jsonl:151"]


@pytest.mark.parametrize(
    "text", ["2 < 3 and 4 > 1", "if a<b then c", "R&D", "naïve façade", "한국어", "👩‍👩‍👧", "tabs\tand\nlines"]
)
def test_texts_that_are_fine(run: Run, text: str) -> None:
    assert [run(name, [row("a", text)]) for name in ("characters", "html")] == [[], []]


PRIVATE = [
    ("e-mail", "write to jane.roe@uni-koeln.de today", True),
    ("e-mail", "write to jane@example.com or a @ b", False),
    ("phone", "call +49 221 470 1234", True),
    ("phone", "call (212) 864-9921", True),
    ("phone", "from 2019-2021 there were 1,234,567 of 10 000 000", False),
    ("phone", "+1 202 555 0143", False),
    ("card", "card 4111 1111 1111 1111", True),
    ("card", "card 4111 1111 1111 1112", False),
    ("card", "0000 0000 0000 0000", False),
    ("key", "AKIA" + "ABCDEFGHIJKLMNOP", True),
    ("key", "-----BEGIN RSA " + "PRIVATE KEY-----", True),
    ("key", "ask-me-anything-about-sk-learn", False),
]


@pytest.mark.parametrize(("kind", "text", "expected"), PRIVATE)
def test_private_data_is_told_apart(kind: str, text: str, expected: bool) -> None:
    assert [name for name, seems in KINDS.items() if seems(text)] == ([kind] if expected else [])


def test_private_data_is_located_and_never_shown(run: Run) -> None:
    found = only(run("private_data", [*GOOD, row("a", "write to jane.roe@uni-koeln.de")]))
    assert found.message == "what looks like personal data or secrets in 1 example (e-mail 1)"
    assert found.places == ["train.jsonl:151"]
    assert found.private
    assert "jane" not in repr(found)


def test_luhn() -> None:
    assert luhn("79927398713")
    assert not luhn("79927398710")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets are not here")
def test_known_facts_of_real_data(run: Run) -> None:
    rows = json.loads((SHARED / "rasbt_instruct" / "instruction-data.json").read_text(encoding="utf-8"))
    assert only(run("conflicting_answers", rows)).number == 20
    pubmed = json.loads((SHARED / "pubmedqa" / "ori_pqal.json").read_text(encoding="utf-8"))
    answers = [row(entry["QUESTION"], entry["final_decision"]) for entry in pubmed.values()]
    assert only(run("label_balance", answers)).message.startswith("552 of 1,000 answers are 'yes' ('no' 338, 'maybe' 1")
