"""Packing: several rows in one sequence, their common untrained prefixes stored and computed once, all of it exact.

Rows are mappings with `input_ids` and `labels` (-100 = not trained), as in `Data.train`. Two ways to use it:

Packing within the step, which changes speed only (`share_prefixes` with `sample_packing: false`)::

    bins = pack_step(rows, sequence_len, pair_cost=pair_cost_of(model.config))[0]   # [rank] with ranks=world_size
    batch = collate_bins(bins, model.config)

Packing the data set, where a bin takes the place of a sample (`sample_packing: true`, as in axolotl)::

    packing = pack_dataset(data.train, sequence_len, share_prefixes=True)       # .efficiency, .computed_share
    for i in epoch_order(len(packing.bins), seed=seed, epoch=epoch):
        bin = lay_out_rows([data.train[row] for row in packing.bins[i]], share_prefixes=True)

Each attention is told in its own way that rows do not see each other: sdpa by a mask (`batch`) or by segments
(`segments`), flex attention by a function with the blocks it holds in (`block_masks`), flash attention by cumulative
lengths (`lengths`).

Ask `supports_isolated_attention(config)` (and, of the loaded model, `probe_isolated_attention(model)`) first. The loss
is `cross_entropy(target_logits(model, batch).float(), batch["target_ids"], reduction="sum")`, divided once by the
number of targets of the whole step; or, never holding all logits (if `probe_chunked_head(model)` allows),
`trained_token_loss(target_hidden(model, batch), head, batch["target_ids"], scale=..., softcap=...)`.

Importing this package imports neither torch nor numpy.
"""

from __future__ import annotations

from core.packing.attention import drops_attention, mask_windows, probe_isolated_attention, supports_isolated_attention
from core.packing.batch import attention_mask, collate_bins, move_batch
from core.packing.bins import epoch_order, first_fit_decreasing
from core.packing.block_masks import BLOCK as FLEX_BLOCK
from core.packing.block_masks import NAME as FLEX
from core.packing.block_masks import computed_pairs
from core.packing.head import (
    kept_positions,
    logit_transform,
    probe_chunked_head,
    target_hidden,
    target_logits,
    trained_token_loss,
    unwrapped,
)
from core.packing.inputs import model_inputs
from core.packing.lengths import SHARED, goes_by_lengths
from core.packing.pack import PASS_TOKENS, Packing, lay_out_rows, pack_dataset, pack_step, pair_cost_of
from core.packing.rows import Bin, blank_bin
from core.packing.segments import register as register_segments

__all__ = [
    "FLEX",
    "FLEX_BLOCK",
    "PASS_TOKENS",
    "SHARED",
    "Bin",
    "Packing",
    "attention_mask",
    "blank_bin",
    "collate_bins",
    "computed_pairs",
    "drops_attention",
    "epoch_order",
    "first_fit_decreasing",
    "goes_by_lengths",
    "kept_positions",
    "lay_out_rows",
    "logit_transform",
    "mask_windows",
    "model_inputs",
    "move_batch",
    "pack_dataset",
    "pack_step",
    "pair_cost_of",
    "probe_chunked_head",
    "probe_isolated_attention",
    "register_segments",
    "supports_isolated_attention",
    "target_hidden",
    "target_logits",
    "trained_token_loss",
    "unwrapped",
]
