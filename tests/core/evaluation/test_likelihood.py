from __future__ import annotations

import math
from typing import Any

import pytest

from core.evaluation import batches
from core.evaluation.batches import Batching
from core.evaluation.generate import Decoding
from core.evaluation.greedy import make_decoder
from core.evaluation.likelihood import measure_choices

PROMPTS = [
    f"Answer the question with yes or no. Is {number * 37} even?{' Think.' * (number % 4)}\nAnswer: "
    for number in range(9)
]
CHOICES = [["yes", "no", "maybe, the fox says", "y"][: 2 + number % 3] for number in range(9)]


def decoding(size: int = 4) -> Decoding:
    return Decoding(frozenset({2}), 0, 8, size)


def test_choices_from_a_shared_prompt_are_as_likely_as_in_whole_rows(model: Any, tokenizer: Any) -> None:
    decoder = make_decoder(model)
    shared = measure_choices(decoder, tokenizer, PROMPTS, CHOICES, decoding())
    plain = measure_choices(decoder, tokenizer, PROMPTS, CHOICES, decoding(), shared=False)
    assert set(shared) == set(range(9))
    for index, listed in enumerate(CHOICES):
        assert set(shared[index]) == {f"{kind}:{number}" for kind in ("nll", "tokens") for number in range(len(listed))}
        for key, value in plain[index].items():
            assert shared[index][key] == pytest.approx(value, abs=1e-5), (index, key)
        assert all(value > 0 for value in shared[index].values()), "a token over the seam counts for the choice"


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
