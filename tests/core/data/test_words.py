"""Ids by words against the tokenizer's own, for every character and every pattern that is known."""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers

from core.data import words
from core.data.seams import settings_of
from core.data.tokenise import encode_texts
from core.data.words import word_encoder

BYTES = {"add_prefix_space": False}
KNOWN: dict[str, Any] = {
    "gpt2": lambda: pre_tokenizers.ByteLevel(**BYTES),
    "digits": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(**BYTES)]
    ),
} | {
    name: lambda pattern=pattern: pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(**BYTES, use_regex=False)]
    )
    for name, pattern in (("split", words.GPT2), ("llama3", words.LLAMA3), ("qwen2", words.QWEN2))
}
CHARACTERS = [chr(code) for code in chain(*words.RANGES)]
ODD = [
    *"aZs'tT09 \n\r\t\x0b\x0c\x00\x1c!<|_.\x7f",
    *"\x85\xa0éß²½ſ’“—…",
    "\u200b",
    "\u2028",
    "  ",
    "'re",
    "'LL",
    "<|im_end|>",
    "<|im_",
    "12345",
    "\r\n",
]


def set_to(tokenizer: Any, name: str) -> Any:
    tokenizer.backend_tokenizer.pre_tokenizer = KNOWN[name]()
    words._word_encoder.cache_clear()
    return tokenizer


def own(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)


def by_words(tokenizer: Any, text: str) -> list[int] | None:
    encode = word_encoder(tokenizer)
    assert encode is not None
    ids = encode(text)
    return None if ids is None else ids.tolist()


@pytest.mark.parametrize("name", KNOWN)
def test_words_end_where_the_tokenizer_ends_them(tokenizer: Any, name: str) -> None:
    """Every character of the known ranges, beside letters, digits, signs, spaces, itself, and at the ends."""
    backend = set_to(tokenizer, name).backend_tokenizer
    pattern = words._pattern(settings_of(backend.pre_tokenizer))
    assert pattern is not None
    find = re.compile(pattern).findall
    assert len(CHARACTERS) == 0x250 + 0x70
    for char in CHARACTERS:
        for text in (
            f"{char}a{char}1{char}!{char} {char}\n{char}{char}",
            f"a {char} b  {char}1 {char}'{char}s' {char}",
        ):
            pieces = [text[start:end] for _, (start, end) in backend.pre_tokenizer.pre_tokenize_str(text)]
            assert find(text) == pieces, repr(char)


@pytest.mark.parametrize("name", KNOWN)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.sampled_from(ODD), max_size=12))
def test_ids_are_those_of_the_tokenizer(tokenizer: Any, name: str, parts: list[str]) -> None:
    text = "".join(parts)
    assert by_words(set_to(tokenizer, name), text) == own(tokenizer, text)


def test_other_scripts_are_left_to_the_tokenizer(tokenizer: Any) -> None:
    texts = ["a\u0301", "\u212b", "你好 yes", "plain", "🙂", "", "naïve"]
    assert [by_words(tokenizer, text) is None for text in texts] == [True, True, True, False, True, False, False]
    assert [ids.tolist() for ids in encode_texts(texts, tokenizer)] == [own(tokenizer, text) for text in texts]


def test_a_composing_tokenizer_gets_texts_as_they_are(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens(["anew"], special_tokens=True)
    assert by_words(tokenizer, "é ñ") == own(tokenizer, "é ñ")


OTHERS: dict[str, Any] = {
    "spaces": lambda t: setattr(t.backend_tokenizer, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "pattern": lambda t: setattr(
        t.backend_tokenizer,
        "pre_tokenizer",
        pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(r"\w+|\W+"), "isolated"), pre_tokenizers.ByteLevel(**BYTES, use_regex=False)]
        ),
    ),
    "runs of digits": lambda t: setattr(
        t.backend_tokenizer,
        "pre_tokenizer",
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(**BYTES)]),
    ),
    "none": lambda t: setattr(t.backend_tokenizer, "pre_tokenizer", None),
    "lower case": lambda t: setattr(t.backend_tokenizer, "normalizer", normalizers.Lowercase()),
    "dropout": lambda t: setattr(t.backend_tokenizer.model, "dropout", 0.1),
    "added tokens that take spaces": lambda t: t.add_tokens([AddedToken("<x>", lstrip=True, normalized=False)]),
    "added tokens that are whole words": lambda t: t.add_tokens([AddedToken("x", single_word=True, normalized=False)]),
    "added tokens of two kinds": lambda t: t.add_tokens([AddedToken("fox fox", normalized=True)]),
    "marks that are text": lambda t: setattr(t.backend_tokenizer, "encode_special_tokens", True),
}


@pytest.mark.parametrize("name", OTHERS)
def test_tokenizers_that_are_not_known_are_asked(tokenizer: Any, name: str) -> None:
    assert word_encoder(tokenizer) is not None
    OTHERS[name](tokenizer)
    words._word_encoder.cache_clear()
    from core.data import seams

    seams._byte_lengths.cache_clear()
    assert word_encoder(tokenizer) is None


def test_added_tokens_are_found_first_and_the_longest_of_them(tokenizer: Any) -> None:
    tokenizer.add_tokens(["<a>", "<a><b>", "b c"], special_tokens=True)
    for text in ("x<a><b>y", "<a><a><b>", "ab cd", "b b c c", "<a", "<a><b"):
        assert by_words(tokenizer, text) == own(tokenizer, text), text
    assert by_words(tokenizer, "<a><b>") == [tokenizer.convert_tokens_to_ids("<a><b>")]


def test_what_is_kept_of_words_has_an_end(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MOST_WORDS", 10)
    known = words._Ids(tokenizer.backend_tokenizer)
    for number in range(100):
        text = "a" * (number + 1)
        assert len(known[text]) == 4 * len(own(tokenizer, text))
        assert len(known) <= 10
    assert "a" * 100 not in known
