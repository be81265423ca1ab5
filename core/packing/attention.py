"""Which models keep packed rows apart: what their configuration tells, and a probe of the model itself."""

from __future__ import annotations

import sys
from typing import Any

from core.packing import lengths, segments

MASKED = ("sdpa", "eager", "flex_attention", segments.NAME)
DROPOUTS = ("attention_dropout", "attn_pdrop")  # under which names configurations hold attention's dropout
LAYER_KINDS = ("full_attention", "sliding_attention")
MASK_BUILDERS = ("create_causal_mask", "create_sliding_window_causal_mask", "create_masks_for_generate")
# Attention that does not come from the mask and the position ids alone.
OWN_POSITIONS = {
    "bloom": "its position bias follows the storage order",
    "mpt": "its position bias follows the storage order",
    "gpt_neo": "its local layers use a window over the storage order",
    "doge": "its attention adds a mask of its own",
    "blt": "it groups bytes into patches by storage order",
}


def text_config(config: Any) -> Any:
    """The configuration of the language model inside `config`."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def drops_attention(config: Any) -> bool:
    """Whether a model's configuration asks for attention dropout."""
    return any(getattr(text_config(config), name, None) for name in DROPOUTS)


def mask_windows(config: Any) -> dict[str, int | None]:
    """The masks a model takes: the sliding window, in tokens, by layer kind; None where attention is not windowed.

    One entry named "" means that the model takes a single mask.
    """
    config = text_config(config)
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if "sliding_attention" not in kinds:
        return {"": None if kinds else window}
    return {kind: window if kind == "sliding_attention" else None for kind in sorted(kinds)}


def supports_isolated_attention(
    config: Any, attn_implementation: str | None = None, *, share: bool = True
) -> tuple[bool, str]:
    """Whether the model of `config` can compute several rows in one sequence without one seeing another, and why not.

    attn_implementation: the one that will be used; default: the one set in `config`. share: whether rows are to share
    their prefixes as well. Reads the configuration and the model's module only; `probe_isolated_attention` asks the
    model itself.
    """
    text = text_config(config)
    kind = getattr(text, "model_type", "")
    attention = attn_implementation or getattr(config, "_attn_implementation", None) or "sdpa"
    if lengths.goes_by_lengths(attention):
        if share:
            return False, f"attention implementation '{attention}' {lengths.SHARED}; 'sdpa' can"
    elif attention not in MASKED:
        return False, f"attention implementation '{attention}' takes no mask of ours; 'sdpa' does"
    if attention == "flex_attention" and drops_attention(config):
        return False, "flex attention has no dropout, which the model's configuration asks for"
    if kind in OWN_POSITIONS:
        return False, f"model type '{kind}': {OWN_POSITIONS[kind]}"
    if getattr(text, "alibi", False):
        return False, f"model type '{kind}' with alibi: its position bias follows the storage order"
    if getattr(text, "is_encoder_decoder", False):
        return False, f"model type '{kind}' has an encoder"
    foreign = sorted(set(getattr(text, "layer_types", None) or ()) - set(LAYER_KINDS))
    if foreign:
        return (
            False,
            f"model type '{kind}' has layers of kind '{foreign[0]}', which carry state or choose tokens themselves",
        )
    return _model_takes_masks(config, kind)


def _model_takes_masks(config: Any, kind: str) -> tuple[bool, str]:
    from transformers import AutoModelForCausalLM

    for known in (config, text_config(config)):
        model_class = AutoModelForCausalLM._model_mapping.get(type(known), None)
        if model_class is not None:
            break
    else:
        return False, f"model type '{kind}' is not one of transformers' own causal language models"
    if getattr(model_class, "_is_stateful", False):
        return False, f"model type '{kind}' carries state from token to token"
    names = vars(sys.modules[model_class.__module__])
    if not any(name in names for name in MASK_BUILDERS):
        return False, f"model type '{kind}' does not build its mask with transformers' mask functions"
    return True, ""


def probe_isolated_attention(model: Any, *, share: bool = True) -> tuple[bool, str]:
    """Compute three short rows alone, and packed (with a shared prefix if `share`), and compare the logits; (False,
    reason) if they differ by more than the dtype explains.

    Costs two forward passes of about 60 tokens. All ranks of a sharded model must call it together. Rows are shorter
    than any sliding window: windows are what `mask_windows` reads from the configuration.
    """
    import torch

    from core.packing.batch import collate_bins, move_batch
    from core.packing.inputs import model_inputs
    from core.packing.prefixes import lay_out
    from core.packing.rows import trace_row

    device = next(model.parameters()).device
    vocabulary = min(text_config(model.config).vocab_size, 1000)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary // 2, vocabulary, (3, 20), generator=draw)
    ids[1, :8] = ids[0, :8]
    rows = [{"input_ids": row.tolist(), "labels": [-100] * 8 + row[8:].tolist()} for row in ids]
    packed = collate_bins([lay_out([trace_row(row) for row in rows], share=share)], model.config)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            apart = model(input_ids=ids[:, :-1].to(device)).logits[:, 7:].flatten(0, 1).float()
            batch = move_batch(packed, device)
            inputs = model_inputs(model.config, batch)
            together = model(**inputs).logits.flatten(0, 1)[batch["target_positions"]].float()
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        return (
            False,
            f"the model refuses a packed row: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        )
    finally:
        model.train(training)
    difference = float((apart - together).norm() / apart.norm())
    limit = 1e-3 if next(model.parameters()).dtype in (torch.float32, torch.float64) else 5e-2
    if difference <= limit:
        return True, ""
    return False, f"packed rows change the logits by {difference:.1e} of their size"
