"""Activations kept in host memory while a model trains: nothing changes but the place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch.autograd.graph import save_on_cpu

from core.packing import collate_bins, lay_out_rows, move_batch, target_logits
from tests.core.packing.packing_cases import gradients, make_model, plain_loss, ragged_rows


class Watched(save_on_cpu):
    """What is handed to it, and taken back from it. Memory can be pinned only where there is an accelerator."""

    kept: list[torch.Tensor]
    taken: list[torch.Tensor]

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        assert pin_memory
        super().__init__(torch.accelerator.is_available(), device_type)
        pack: Any = self.pack_hook
        unpack: Any = self.unpack_hook

        def packed(tensor: torch.Tensor) -> Any:
            device, copy = pack(tensor)
            self.kept.append(copy)
            return device, copy

        def unpacked(found: Any) -> torch.Tensor:
            self.taken.append(found[1])
            tensor: torch.Tensor = unpack(found)
            return tensor

        self.pack_hook, self.unpack_hook = packed, unpacked


def shared_loss(model: Any, rows: Any) -> torch.Tensor:
    batch = move_batch(collate_bins([lay_out_rows(rows)], model.config), model.device)
    return torch.nn.functional.cross_entropy(target_logits(model, batch), batch["target_ids"])


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@pytest.mark.parametrize("loss_of", [plain_loss, shared_loss])
def test_loss_and_gradients_are_the_same_and_a_layer_keeps_its_input_in_host_memory(
    kind: str, loss_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, model = ragged_rows(4), make_model(kind, "sdpa", torch.float32)
    expected = loss_of(model, rows)
    expected_gradients = gradients(model, expected)
    monkeypatch.setattr(Watched, "kept", [], raising=False)
    monkeypatch.setattr(Watched, "taken", [], raising=False)
    monkeypatch.setattr(transformers.modeling_utils, "save_on_cpu", Watched)
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False}, offload=True)
    loss = loss_of(model, rows)
    layers, width = model.config.num_hidden_layers, model.config.hidden_size
    assert sum(copy.dim() == 3 and copy.shape[-1] == width for copy in Watched.kept) >= layers
    assert {copy.device.type for copy in Watched.kept} == {"cpu"}
    assert not Watched.taken
    found = gradients(model, loss)
    assert {id(copy) for copy in Watched.taken} == {id(copy) for copy in Watched.kept}
    assert float(loss) == float(expected)
    assert found.keys() == expected_gradients.keys()
    assert all(torch.equal(found[name], expected_gradients[name]) for name in found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU whose memory could be spared")
def test_a_gpu_holds_less() -> None:
    shape = {"vocab_size": 61, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 8}
    config = transformers.LlamaConfig(**shape, num_attention_heads=4, pad_token_id=0)
    held = []
    for offload in (False, True):
        model: Any = transformers.AutoModelForCausalLM.from_config(config).cuda().train()
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False}, offload=offload)
        before = torch.cuda.memory_allocated()
        loss = model(input_ids=torch.ones(8, 512, dtype=torch.int64, device="cuda"), use_cache=False).logits.sum()
        held.append(torch.cuda.memory_allocated() - before)
        loss.backward()
    assert held[0] - held[1] >= 0.9 * 8 * 8 * 512 * 256 * 4
