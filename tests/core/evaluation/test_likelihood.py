from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from core.data.tokenise import Tokenized
from core.evaluation import batches, likelihood
from core.evaluation.batches import Batching
from core.evaluation.generate import Decoding
from core.evaluation.greedy import make_decoder
from core.evaluation.likelihood import measure_choices, measure_rows
from tests.core.packing.packing_cases import WINDOW, make_model

PROMPTS = [
    f"Answer the question with yes or no. Is {number * 37} even?{' Think.' * (number % 4)}\nAnswer: "
    for number in range(9)
]
CHOICES = [["yes", "no", "maybe, the fox says", "y"][: 2 + number % 3] for number in range(9)]


def decoding(size: int = 4) -> Decoding:
    return Decoding(frozenset({2}), 0, 8, size)


def test_choices_packed_together_are_as_likely_as_in_whole_rows(model: Any, tokenizer: Any) -> None:
    decoder = make_decoder(model)
    with computed_tokens(model) as tokens:
        packed = measure_choices(decoder, tokenizer, PROMPTS, CHOICES, decoding())
    with computed_tokens(model) as padded_tokens:
        plain = measure_choices(decoder, tokenizer, PROMPTS, CHOICES, decoding(), packed=False)
    assert set(packed) == set(range(9))
    for index, listed in enumerate(CHOICES):
        assert set(packed[index]) == {f"{kind}:{number}" for kind in ("nll", "tokens") for number in range(len(listed))}
        for key, value in plain[index].items():
            assert packed[index][key] == pytest.approx(value, abs=1e-5), (index, key)
        assert all(value > 0 for value in packed[index].values()), "a token over the seam counts for the choice"
    assert sum(tokens) < 0.4 * sum(padded_tokens)


@pytest.mark.parametrize("bin_tokens", [1, 30, 2048])
def test_rows_in_any_number_of_bins_are_as_likely_as_by_themselves(
    bin_tokens: int, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "BIN_TOKENS", bin_tokens)
    draw = random.Random(7)
    stem = [draw.randrange(5, 60) for _ in range(9)]
    ids = [stem[: draw.randrange(10)] + [draw.randrange(5, 60) for _ in range(draw.randrange(1, 7))] for _ in range(12)]
    ids += [stem, stem]  # the same row twice, and a beginning of others
    rows = []
    for one in ids:
        ignored = draw.randrange(len(one))
        rows.append(Tokenized(one, [-100] * ignored + one[ignored:], 0))
    rows.append(Tokenized([7, 8, 9], [-100, -100, -100], 0))
    decoder = make_decoder(model)
    packed, plain = (measure_rows(decoder, rows, decoding(8), packed=packed) for packed in (True, False))
    assert packed[len(rows) - 1] == plain[len(rows) - 1] == {"nll": 0.0, "tokens": 0.0}
    for index in range(len(rows)):
        assert packed[index]["tokens"] == plain[index]["tokens"]
        assert packed[index]["nll"] == pytest.approx(plain[index]["nll"], abs=2e-5)


@pytest.mark.parametrize("kind", ["mistral", "qwen2-windowed", "gemma2", "gemma3"])
def test_rows_of_models_with_sliding_windows_are_packed_too(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    windowed = make_model(kind, "eager" if kind == "gemma2" else "sdpa", torch.float32).eval()
    draw = random.Random(11)
    stem = [draw.randrange(5, 60) for _ in range(2 * WINDOW)]
    rows = []
    for number in range(8):
        ids = stem + [draw.randrange(5, 60) for _ in range(number + 2 * WINDOW)]
        rows.append(Tokenized(ids, [-100] * len(stem) + ids[len(stem) :], 0))
    decoder = make_decoder(windowed)
    assert not decoder.shareable, "its cache does not keep all"
    plain = measure_rows(decoder, rows, decoding(8), packed=False)
    monkeypatch.setattr(likelihood, "padded_nll", lambda *_: pytest.fail("the rows were not packed"))
    packed = measure_rows(decoder, rows, decoding(8))
    assert [packed[index]["tokens"] for index in range(8)] == [plain[index]["tokens"] for index in range(8)]
    for index in range(8):
        assert packed[index]["nll"] == pytest.approx(plain[index]["nll"], rel=1e-5)


def test_a_model_that_cannot_keep_rows_apart_gets_them_one_by_one(
    model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = make_decoder(model)
    expected = measure_choices(decoder, tokenizer, PROMPTS, CHOICES, decoding())
    monkeypatch.setattr("core.packing.probe_isolated_attention", lambda model: (False, "the rows see each other"))
    with computed_tokens(model) as tokens:
        found = measure_choices(decoder, tokenizer, PROMPTS, CHOICES, decoding())
    whole_prompts = sum(
        len(tokenizer(text).input_ids) * len(listed) for text, listed in zip(PROMPTS, CHOICES, strict=True)
    )
    assert sum(tokens) > whole_prompts
    for index in found:
        assert found[index] == pytest.approx(expected[index], abs=1e-5)


@contextmanager
def computed_tokens(model: Any) -> Iterator[list[int]]:
    """The tokens of each call of `model`."""
    counts: list[int] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        counts.append(kwargs["input_ids"].numel())

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield counts
    finally:
        handle.remove()


def test_the_likelihood_is_that_of_the_models_own_loss(model: Any, tokenizer: Any) -> None:
    import torch

    prompt, choice = "Answer:\n", "the quick brown fox"
    ids = tokenizer(prompt + choice, add_special_tokens=False).input_ids
    begun = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    labels = torch.tensor([[-100] * begun + ids[begun:]])
    loss = float(model(input_ids=torch.tensor([ids]), labels=labels).loss)
    found = measure_choices(make_decoder(model), tokenizer, [prompt], [[choice, "no"]], decoding())[0]
    assert found["tokens:0"] == len(ids) - begun
    assert found["nll:0"] == pytest.approx(loss * (len(ids) - begun), rel=1e-5)


def test_memory_that_runs_out_halves_the_batch(model: Any) -> None:
    sizes: list[int] = []

    def work(indices: Any) -> list[int]:
        if len(indices) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        sizes.append(len(indices))
        return [index * 10 for index in indices]

    batching = Batching(asked=10)
    found = batches.dealt(make_decoder(model), [5] * 20, batching, work)
    assert found == {index: index * 10 for index in range(20)}
    assert (batching.largest, batching.used, max(sizes)) == (3, 3, 3)
    assert batching.start(5, "cpu") == 3, "what the memory did not hold is not tried again"


def test_a_single_row_that_does_not_fit_is_an_error_with_advice(model: Any) -> None:
    def work(indices: Any) -> list[int]:
        raise RuntimeError("can't allocate memory")

    with pytest.raises(batches.UserError, match="not hold a single row") as caught:
        batches.dealt(make_decoder(model), [5] * 4, Batching(), work)
    assert "max_new_tokens" in (caught.value.help or "")


def test_other_errors_are_no_lack_of_memory(model: Any) -> None:
    def work(indices: Any) -> list[int]:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        batches.dealt(make_decoder(model), [5] * 4, Batching(), work)


def test_the_batch_size_follows_the_length_alone() -> None:
    assert Batching().start(100, "cpu") == 64
    assert Batching().start(4096, "cpu") == 4
    assert Batching().start(10**6, "cpu") == 1
    assert Batching().start(100, "cuda") == 128
    assert Batching(asked=5).start(10**6, "cuda") == 5
    assert math.isclose(Batching().start(4096, "cuda"), 32)
