"""Rules between core's own keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.keys import check_recipe
from core.recipe import Recipe


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"flash_attention": True}, []),
        ({"flash_attention": True, "eager_attention": False}, []),
        ({"flash_attention": True, "attn_implementation": "flash_attention_2"}, []),
        ({"flash_attention": True, "eager_attention": True}, [("eager_attention", "error")]),
        ({"flash_attention": True, "attn_implementation": "sdpa"}, [("flash_attention", "warning")]),
        (
            {"sdp_attention": True, "flex_attention": True, "attn_implementation": "sdpa"},
            [("flex_attention", "warning")],
        ),
    ],
)
def test_older_names_of_the_attention_may_not_say_two_things(
    values: dict[str, Any], refused: list[tuple[str, str]]
) -> None:
    problems = check_recipe(Recipe(path=Path("recipe.yml"), text="", values={"datasets": [], **values}))
    assert [(problem.key[0], problem.severity) for problem in problems] == refused
    assert all("attn_implementation" in problem.message for problem in problems)
