from __future__ import annotations

import re
from pathlib import Path

from core.axolotl_page import main, page
from tests.core.axolotl_recipes import COMMON, LORA

PAGE = Path(__file__).parents[2] / "docs" / "axolotl.md"


def test_the_committed_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m core.axolotl_page docs/axolotl.md"


def test_every_key_of_recipes_has_its_row() -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \| .{10,} \|$", page(), flags=re.MULTILINE))
    assert len(rows) > 400
    assert {*COMMON, *LORA} - set(rows) == set()
    assert set(rows.values()) == {"acts", "no effect", "no effect in axolotl either", "not supported", "another job"}
    assert (rows["fsdp_config"], rows["qat"], rows["eta_min"]) == ("acts", "no effect", "no effect in axolotl either")
    assert (rows["relora"], rows["rl"]) == ("not supported", "another job")


def test_the_page_is_written_where_asked(tmp_path: Path) -> None:
    assert main([str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page()
