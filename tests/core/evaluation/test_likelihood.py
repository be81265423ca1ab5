"""Log-likelihoods are those of a computation in double precision."""

from __future__ import annotations

import pytest
import torch

from core.evaluation.likelihood import IGNORED, _summed


def test_a_large_vocabulary_is_summed_exactly_enough() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 50_000) * 4
    labels = torch.tensor([[1, 2, 3], [4, IGNORED, 6]])
    nll, counts = _summed(logits, labels)
    exact = -logits.double().log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0] * (labels != IGNORED)
    assert nll == pytest.approx(exact.sum(1).tolist(), abs=2e-5)
    assert counts == [3, 2]
