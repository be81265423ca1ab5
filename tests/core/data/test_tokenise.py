from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.data import encode_prompt, tokenize_example, tokenize_examples
from core.data.tokenise import encode_texts, leading_ids
from core.errors import RowError
from core.types import Example, Segment


def labelled(tokenizer: Any, tokens: Any) -> str:
    return str(tokenizer.decode([label for label in tokens.labels if label != -100]))


def test_labels_are_the_trained_text(tokenizer: Any) -> None:
    example = Example(
        [Segment("Question: 1+1\nAnswer:\n"), Segment("two", True, True), Segment("<|im_end|>", True), Segment("\n")]
    )
    tokens = tokenize_example(example, tokenizer)
    assert tokenizer.decode(tokens.input_ids) == "Question: 1+1\nAnswer:\ntwo<|im_end|>\n"
    assert labelled(tokenizer, tokens) == "two<|im_end|>"
    assert tokens.straddling == 0
    assert tokens.labels[-1] == -100


def test_ids_are_those_of_the_whole_text(tokenizer: Any) -> None:
    example = Example([Segment("the quick brown f"), Segment("ox jumps", True, True)])
    whole = tokenizer.encode("the quick brown fox jumps", add_special_tokens=False)
    assert tokenize_example(example, tokenizer).input_ids == whole


def test_a_token_over_the_seam_belongs_to_where_it_starts(tokenizer: Any) -> None:
    # " the" is one token of this vocabulary, so the space of the prompt and the answer's first word are one token
    assert len(tokenizer.encode(" the", add_special_tokens=False)) == 1
    tokens = tokenize_example(Example([Segment("Answer: "), Segment("the fox", True, True)]), tokenizer)
    assert tokens.straddling == 1
    assert labelled(tokenizer, tokens) == " fox"


def test_a_seam_at_a_trained_end_is_counted_too(tokenizer: Any) -> None:
    tokens = tokenize_example(Example([Segment("over ", True, True), Segment("the lazy dog")]), tokenizer)
    assert tokens.straddling == 1
    assert labelled(tokenizer, tokens) == "over the"


def test_characters_of_several_tokens_at_the_seam(tokenizer: Any) -> None:
    tokens = tokenize_example(Example([Segment("wörld 你"), Segment("好🙂", True, True), Segment("é")]), tokenizer)
    assert labelled(tokenizer, tokens) == "好🙂"
    assert tokens.straddling == 0


def test_bos_is_put_in_front_once(bos_tokenizer: Any) -> None:
    bos = bos_tokenizer.bos_token_id
    plain = tokenize_example(Example([Segment("Hello "), Segment("you", True, True)]), bos_tokenizer)
    written = tokenize_example(Example([Segment("<s>Hello "), Segment("you", True, True)]), bos_tokenizer)
    assert plain == written
    assert plain.input_ids.count(bos) == 1
    assert plain.labels[0] == -100
    for text in ("Hello ", "<s>Hello "):
        assert encode_prompt(text, bos_tokenizer).count(bos) == 1


def test_bos_is_not_put_in_front_by_a_tokenizer_that_has_none(tokenizer: Any) -> None:
    assert leading_ids(tokenizer) == []
    assert encode_prompt("yes", tokenizer) == tokenizer.encode("yes", add_special_tokens=False)


def test_prompt_ids_begin_the_training_ids(bos_tokenizer: Any) -> None:
    example = Example([Segment("Question: no\n"), Segment("maybe", True, True)])
    prompt = encode_prompt("Question: no\n", bos_tokenizer)
    assert tokenize_example(example, bos_tokenizer).input_ids[: len(prompt)] == prompt


def test_earlier_truncation_and_padding_are_undone(tokenizer: Any) -> None:
    tokenizer(["one", "a longer text"], truncation=True, max_length=2, padding="max_length")
    example = Example([Segment("the quick brown fox jumps over the lazy dog", True)])
    assert labelled(tokenizer, tokenize_example(example, tokenizer)) == "the quick brown fox jumps over the lazy dog"


def test_tokenised_rows_pass_through(tokenizer: Any) -> None:
    text = Example([Segment("yes", True)])
    given = Example(input_ids=[5, 6, 7], labels=[-100, 6, 7])
    whole = Example(input_ids=[5, 6])
    first, second, third = tokenize_examples([given, text, whole], tokenizer)
    assert (first.input_ids, first.labels) == ([5, 6, 7], [-100, 6, 7])
    assert labelled(tokenizer, second) == "yes"
    assert third.labels == [5, 6]
    with pytest.raises(RowError, match="input_ids has 2 entries, labels has 1"):
        tokenize_example(Example(input_ids=[5, 6], labels=[5]), tokenizer)


class Slow:
    """A tokenizer that gives no offsets."""

    def __init__(self, tokenizer: Any) -> None:
        self.encode = tokenizer.encode


@pytest.mark.parametrize("seam", range(1, 30))
def test_a_tokenizer_without_offsets_gives_the_same(tokenizer: Any, seam: int) -> None:
    text = "Answer: the quick brown fox 42"
    example = Example([Segment(text[:seam]), Segment(text[seam:], True, True)])
    slow: Any = Slow(tokenizer)
    fast_result, slow_result = tokenize_example(example, tokenizer), tokenize_example(example, slow)
    assert slow_result.input_ids == fast_result.input_ids
    if not fast_result.straddling:
        assert slow_result == fast_result


TEXTS = [
    "",
    "plain words",
    "  two  spaces ",
    "caf\u00e9 \U0001f600 \u65e5\u672c",
    "e\u0301 not composed",
    "<|im_end|> inside",
    "a\n\n\tb 12345",
]


@pytest.mark.parametrize("split", [(0, 4), (1, 5), (2, 3), (5, 6), (3, 3), (4, 6)])
def test_seams_by_bytes_are_those_of_the_offsets(
    tokenizer: Any, split: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pairs of texts, in one call, against the tokenizer's offsets, one character after the other."""
    from core.data import seams

    texts = [TEXTS[split[0]] + text + TEXTS[split[1]] for text in TEXTS]
    places = [list(range(len(text) + 1)) for text in texts]
    encodings = encode_texts(texts, tokenizer)
    ids = encodings
    known = seams.byte_lengths(tokenizer)
    assert known is not None
    by_bytes = seams.by_bytes(texts, ids, places, *known)
    with_offsets = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    assert [encoding.ids for encoding in with_offsets] == [made.tolist() for made in ids]
    by_offsets = [
        [seams.by_offsets(encoding, len(text), place) for place in given]
        for encoding, text, given in zip(with_offsets, texts, places, strict=True)
    ]
    assert by_bytes == by_offsets
    composed = seams.by_bytes(texts, ids, places, known[0], True)
    assert [found is None for found in composed] == ["e\u0301" in text for text in texts]
    wrong = seams.by_bytes(texts, ids, places, known[0] * 2, False)
    assert all(found is None for found, text in zip(wrong, texts, strict=True) if text)
    assert seams.find_seams(texts, encodings, ids, places, tokenizer) == by_offsets
    # texts whose bytes do not tell are asked for, one by one
    monkeypatch.setattr(seams, "byte_lengths", lambda tokenizer: (known[0] * 2, False))
    assert seams.find_seams(texts, encodings, ids, places, tokenizer) == by_offsets


def test_a_vocabulary_that_is_not_byte_level_is_asked_for_offsets(tokenizer: Any) -> None:
    from tokenizers import pre_tokenizers

    from core.data import seams

    assert seams.byte_lengths(tokenizer) is not None
    for number, other in enumerate((pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Metaspace())):
        tokenizer.backend_tokenizer.pre_tokenizer = other
        tokenizer.add_tokens([f"new {number}"])
        assert seams.byte_lengths(tokenizer) is None


def test_ids_alone_give_the_same_labels_as_encodings(tokenizer: Any) -> None:
    from core.data.tokenise import label_examples

    examples = [Example([Segment(text), Segment(f" answer {text}", True, True)]) for text in TEXTS]
    texts = [text + f" answer {text}" for text in TEXTS]
    alone = encode_texts(texts, tokenizer)
    assert {type(ids) for ids in alone} == {np.ndarray}
    encodings = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    made = [
        [
            (one.input_ids.tolist(), one.labels.tolist(), one.straddling)
            for one in label_examples(examples, got, tokenizer)
        ]
        for got in (alone, encodings)
    ]
    assert made[0] == made[1]


def test_bytes_of_tokens_are_what_the_tokenizer_decodes(tokenizer: Any) -> None:
    from tokenizers import decoders

    from core.data import seams

    tokenizer.add_tokens(["<\u00e9 \u0120>"], special_tokens=True)
    known = seams.token_bytes(tokenizer)
    assert known is not None
    backend = tokenizer.backend_tokenizer
    decoded = backend.decode_batch([[index] for index in range(len(known))], skip_special_tokens=False)
    assert [made.decode(errors="replace") for made in known] == decoded
    assert sum(b"\x80" <= made[:1] < b"\xc0" for made in known) >= 64  # bytes that are no text by themselves
    for text in [*TEXTS, "<\u00e9 \u0120>"]:
        assert b"".join(known[index] for index in backend.encode(text).ids) == text.encode()
    backend.decoder = decoders.Metaspace()
    tokenizer.add_tokens(["<new>"], special_tokens=True)
    assert seams.token_bytes(tokenizer) is None
