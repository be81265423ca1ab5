"""The layout of bins and its masks, against definitions that walk the paths one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.packing import attention_mask, collate_bins, lay_out_rows, pack_dataset, pack_step
from core.packing.prefixes import fill_bins, lay_out, stored_tokens
from core.packing.rows import outline, trace_row
from tests.core.packing.packing_cases import ragged_rows

prompts = st.lists(st.integers(0, 2), min_size=1, max_size=12)  # few words, so that prefixes meet by chance
answers = st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=6)


@st.composite
def rows(draw, most=8):
    found = []
    for _ in range(draw(st.integers(1, most))):
        prompt, answer = draw(prompts), draw(answers)
        ids = prompt + [word for word, _ in answer]
        found.append({"input_ids": ids, "labels": [-100] * len(prompt) + [w if on else -100 for w, on in answer]})
    return found


def needed(row):
    """(tokens to compute, how many of them precede the first trained token, [(predecessor, target)]) by definition."""
    targets = [(i - 1, row["labels"][i]) for i in range(1, len(row["labels"])) if row["labels"][i] != -100]
    if not targets:
        return [], 0, []
    return row["input_ids"][: targets[-1][0] + 1], targets[0][0] + 1, targets


def smallest_storage(found):
    """How many tokens a trie over the shareable tokens needs, plus what is each row's own."""
    prefixes, own = set(), 0
    for row in found:
        tokens, shareable, _ = needed(row)
        prefixes |= {tuple(tokens[: k + 1]) for k in range(shareable)}
        own += len(tokens) - shareable
    return len(prefixes) + own


@settings(deadline=None, max_examples=300)
@given(rows(), st.booleans(), st.integers(1, 6))
def test_every_place_sees_exactly_its_own_path(found, share, window):
    layout = lay_out_rows(found, share_prefixes=share)
    reach, positions = (torch.from_numpy(values)[None] for values in (layout.reach, layout.positions))
    full, windowed = attention_mask(reach, positions)[0, 0], attention_mask(reach, positions, window)[0, 0]
    start, on_a_path = 0, set()
    for row in found:
        tokens, shareable, targets = needed(row)
        places = layout.target_places[start : start + len(targets)].tolist()
        assert layout.target_ids[start : start + len(targets)].tolist() == [target for _, target in targets]
        start += len(targets)
        if not tokens:
            continue
        path = torch.nonzero(full[places[-1]]).flatten().tolist()
        assert layout.tokens[path].tolist() == tokens
        assert layout.positions[path].tolist() == list(range(len(tokens)))
        assert places == [path[predecessor] for predecessor, _ in targets]
        assert not share or not (set(path[shareable:]) & on_a_path)  # trained parts are never shared
        on_a_path |= set(path)
        for k, place in enumerate(path):
            assert torch.nonzero(full[place]).flatten().tolist() == path[: k + 1]
            assert torch.nonzero(windowed[place]).flatten().tolist() == path[max(0, k + 1 - window) : k + 1]
    assert start == len(layout.target_ids)
    assert on_a_path == set(range(len(layout)))
    apart = sum(len(needed(row)[0]) for row in found)
    assert layout.unshared_tokens == apart
    assert len(layout) == (smallest_storage(found) if share else apart)


@settings(deadline=None, max_examples=200)
@given(rows(most=20), st.booleans(), st.integers(18, 40), st.integers(1, 4))
def test_bins_hold_every_row_once_within_capacity(found, share, capacity, min_shared):
    traced = [trace_row(row) for row in found]
    bins = fill_bins(traced, capacity, share=share, min_shared=min_shared)
    assert sorted(i for members in bins for i in members) == [i for i, row in enumerate(found) if needed(row)[0]]
    for members in bins:
        assert 0 < len(lay_out(traced, members, share=share)) <= capacity
    assert bins == fill_bins(traced, capacity, share=share, min_shared=min_shared)
    # nothing more is needed of a row than its outline
    outlines = [outline(row, share=share) for row in found]
    assert bins == fill_bins(outlines, capacity, share=share, min_shared=min_shared)
    for members in bins if share else ():
        assert stored_tokens([outlines[i] for i in members]) == len(lay_out(traced, members))


@settings(deadline=None, max_examples=200)
@given(rows(most=20), st.booleans(), st.integers(18, 40))
def test_a_packing_holds_every_row_once_and_knows_its_bins(found, share, capacity):
    traced = [trace_row(row) for row in found]
    packing = pack_dataset(found, capacity, share_prefixes=share)
    assert sorted(i for members in packing.bins for i in members) == [
        i for i, row in enumerate(found) if needed(row)[0]
    ]
    assert list(packing.sizes) == [len(lay_out(traced, members, share=share)) for members in packing.bins]
    assert all(0 < size <= capacity for size in packing.sizes)
    assert packing.stored_tokens == sum(packing.sizes)
    assert packing.bins == pack_dataset(found, capacity, share_prefixes=share).bins


@pytest.mark.parametrize("share", [False, True])
def test_a_few_bins_are_made_alike_in_size(share):
    found = [{"input_ids": [k, 7, 8, 9, 5], "labels": [-100, -100, -100, -100, 5]} for k in range(60)]
    packing = pack_dataset(found, 200, share_prefixes=share)
    assert sorted(packing.sizes) == [120, 120]  # first-fit alone: 200 and 40
    assert packing.capacity == 200
    assert sorted(row for members in packing.bins for row in members) == list(range(60))


def test_bins_are_not_made_alike_where_that_takes_more_of_them():
    found = [{"input_ids": [k] * 61, "labels": [-100] * 60 + [k]} for k in range(5)]
    # two bins of 150 would do for the tokens, and no row is cut
    assert sorted(pack_dataset(found, 190).sizes) == [120, 180]


def test_a_row_longer_than_a_bin_is_named():
    row = {"input_ids": list(range(12)), "labels": list(range(12))}
    for pack in (pack_dataset, pack_step):
        with pytest.raises(ValueError, match="row 1 needs 11 tokens, more than the 10 of a bin"):
            pack([{"input_ids": [1, 2], "labels": [1, 2]}, row], 10)


def test_ragged_labels_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        pack_dataset([{"input_ids": [1, 2], "labels": [1]}], 10)


def test_one_instruction_for_all_is_stored_once_a_bin():
    instruction = list(range(100, 300))
    found = [{"input_ids": [*instruction, k, 7], "labels": [-100] * 201 + [7]} for k in range(32)]
    packing = pack_dataset(found, 216)
    assert [len(members) for members in packing.bins] == [16, 16]
    assert packing.stored_tokens == 2 * 216
    assert packing.efficiency == 1
    assert packing.computed_share == pytest.approx(2 * 216 / (32 * 201))
    apart = pack_dataset(found, 216, share_prefixes=False)
    assert (len(apart.bins), apart.computed_share) == (32, 1)


def test_groups_with_instructions_of_their_own_go_together():
    found = [
        {"input_ids": [group] * 50 + [k, 9], "labels": [-100] * 51 + [9]} for k in range(10) for group in range(1, 5)
    ]
    packing = pack_dataset(found, 60)
    assert sorted(sorted({found[i]["input_ids"][0] for i in members}) for members in packing.bins) == [
        [1],
        [2],
        [3],
        [4],
    ]


def test_rows_that_train_nothing_are_counted_and_left_out():
    packing = pack_dataset([{"input_ids": [1, 2, 3], "labels": [1, -100, -100]}] * 2 + ragged_rows(0), 200)
    assert packing.idle_rows >= 3
    assert packing.idle_rows + sum(map(len, packing.bins)) == 2 + len(ragged_rows(0))


def test_a_step_costs_no_more_than_one_bin_and_is_dealt_evenly():
    found = ragged_rows(3, count=24)
    one_bin = len(lay_out_rows(found))
    for ranks in (1, 2, 3):
        dealt = pack_step(found, 512, pair_cost=0.05, ranks=ranks)
        assert len({len(bins) for bins in dealt}) == 1
        assert len(dealt) == ranks
        longest = [max(len(b) for b in bins) for bins in dealt]
        cost = max(len(bins) * (n + 0.05 * n * n) for bins, n in zip(dealt, longest, strict=True))
        assert cost < one_bin + 0.05 * one_bin**2
        seen = sorted(i for bins in dealt for b in bins for i in b.rows)
        assert seen == [i for i, row in enumerate(found) if needed(row)[0]]


def test_a_step_without_rows_gives_every_rank_a_blank_bin():
    dealt = pack_step([], 64, ranks=2)
    assert [[len(b.target_ids) for b in bins] for bins in dealt] == [[0], [0]]


def test_padding_sees_itself_and_is_seen_by_nobody():
    bins = [lay_out_rows(ragged_rows(0)), lay_out_rows(ragged_rows(1)[:3])]

    class Config:
        sliding_window = None

    batch = collate_bins(bins, Config(), pad_to_multiple_of=8, pad_token_id=5)
    mask, length = batch["attention_mask"], batch["input_ids"].shape[1]
    assert length % 8 == 0
    assert mask.shape == (2, 1, length, length)
    for k, layout in enumerate(bins):
        n = len(layout)
        assert torch.equal(mask[k, 0, n:], torch.eye(length, dtype=torch.bool)[n:])
        assert not mask[k, 0, :n, n:].any()
        assert (batch["input_ids"][k, n:] == 5).all()
    assert np.array_equal(batch["input_ids"].flatten()[batch["target_positions"]][: len(bins[0].target_ids)],
                          bins[0].tokens[bins[0].target_places])  # fmt: skip


def test_plain_rows_need_no_mask_of_their_own():
    row = {"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, 4]}
    batch = collate_bins([lay_out_rows([row]), lay_out_rows([row | {"labels": [-100, 2, -100, -100]}])], object())
    assert batch["attention_mask"].tolist() == [[1, 1, 1]] * 2
    assert batch["position_ids"].tolist() == [[0, 1, 2]] * 2
    assert batch["target_positions"].tolist() == [1, 2, 3]
    assert batch["target_ids"].tolist() == [3, 4, 2]
