"""Rows are tokenised as one text; a trainer that tokenises prompt and answer apart gets other ids for some of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import seams
from tests.core.data.making import SHARED

ROWS = 300


@pytest.fixture(scope="module", params=["tiny", "SmolLM2"])
def either(request: pytest.FixtureRequest, tokenizer_folder: Path) -> Any:
    folders = [tokenizer_folder] if request.param == "tiny" else []
    found = next(seams.tokenizers(folders), None)
    if found is None:
        pytest.skip("no model has been converted into the cache yet")
    return found[1]


@pytest.mark.parametrize("case", seams.CASES)
def test_no_row_of_the_real_data_has_other_ids_than_its_whole_text(either: Any, case: str) -> None:
    if not SHARED.is_dir():
        pytest.skip("the real data sets are not beside this checkout")
    read, type, options = seams.CASES[case]
    rows = read(SHARED)[:ROWS]
    found = seams.measured(rows, type, options, either)
    assert found["rows"] == min(ROWS, len(rows)) >= 200
    assert found["not_whole"] == 0


def test_a_prompt_that_ends_in_a_space_is_where_the_two_differ(tokenizer: Any) -> None:
    rows = [{"instruction": "Which animal?", "input": "", "output": "the fox"}] * 2
    found = seams.measured(rows, "user_defined", seams.WRITTEN_OUT, tokenizer)
    assert found == {"rows": 2, "not_whole": 0, "apart": 2, "straddling": 2}
    assert seams.measured(rows, "alpaca", {}, tokenizer) == {"rows": 2, "not_whole": 0, "apart": 0, "straddling": 0}
