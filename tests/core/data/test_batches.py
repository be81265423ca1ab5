from __future__ import annotations

from datasets import Dataset

from core.data.batches import padded_batches


def test_padded_on_the_right() -> None:
    rows = {"input_ids": [[5, 6, 7], [8], [9, 10]], "labels": [[-100, 6, 7], [8], [-100, 10]]}
    first, second = padded_batches(Dataset.from_dict(rows), 2, pad_token_id=3)
    assert first["input_ids"].tolist() == [[5, 6, 7], [8, 3, 3]]
    assert first["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert first["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]
    assert second["input_ids"].tolist() == [[9, 10]]
