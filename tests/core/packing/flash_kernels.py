"""Flash attention without a GPU: its functions in plain PyTorch, in their place in transformers."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from transformers import modeling_flash_attention_utils as flash


class Kernels:
    """In place of flash attention's functions: the same in plain PyTorch, in any dtype. calls: lengths by call."""

    def __init__(self):
        self.calls = []

    def varlen(self, q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, **kwargs):
        """q [places, heads, d], k and v [places, kv heads, d], rows one behind the other."""
        assert torch.equal(cu_seqlens_q, cu_seqlens_k)
        assert cu_seqlens_q.dtype == torch.int32
        assert type(max_seqlen_q) is int
        bounds = cu_seqlens_q.tolist()
        assert bounds[0] == 0
        assert bounds[-1] == len(q)
        assert max_seqlen_q == max_seqlen_k == max(end - start for start, end in pairwise(bounds))
        self.calls.append(bounds)
        pieces = [slice(start, end) for start, end in pairwise(bounds)]
        return torch.cat([self.plain(*(states[None, cut] for states in (q, k, v)), **kwargs)[0] for cut in pieces])

    def plain(self, q, k, v, causal=True, softmax_scale=None, window_size=(-1, -1), softcap=0.0, **kwargs):
        """q [lines, length, heads, d] to the same."""
        assert causal
        q, k, v = (states.transpose(1, 2) for states in (q, k, v))
        k, v = (states.repeat_interleave(q.shape[1] // states.shape[1], 1) for states in (k, v))
        scores = q @ k.transpose(2, 3) * softmax_scale
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        places = torch.arange(q.shape[2])
        seen = places[:, None] >= places
        if window_size[0] >= 0:
            seen &= places[:, None] - places <= window_size[0]
        return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v).transpose(1, 2)


def in_place_of_flash(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """Everything of transformers' path to flash attention but the kernel itself."""
    made = Kernels()
    supported = dict.fromkeys(
        ("dropout_p", "deterministic", "s_aux", "learnable_sink", "block_table", "page_table"), False
    )
    supported |= dict.fromkeys(("window_size", "softcap", "max_seqlen_q", "max_seqlen_k"), True)
    supported |= {"cache_seqlens": False}

    def process(**kwargs):
        return flash._process_flash_attention_kwargs(supports_mapping=supported, **kwargs)

    def imported(*args, **kwargs):
        return (made.plain, made.varlen, None, flash._pad_input, flash._unpad_input), (process, None)

    monkeypatch.setattr(flash, "lazy_import_flash_attention", imported)
    return made
