from __future__ import annotations

from pathlib import Path

import pytest

from core.reference import COMPONENTS, main, pages

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", ["recipe.md", "hooks.md"])
def test_the_committed_page_is_what_the_code_says(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == pages()[name], (
        "run: python -m core.reference docs/reference"
    )


def test_nothing_is_left_without_an_explanation() -> None:
    rows = [line for line in pages()["recipe.md"].splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert [row for row in rows if row.endswith("|  |") and "[]" not in row] == []


def test_every_component_can_be_imported_from_core() -> None:
    import core

    assert len(COMPONENTS) >= 10
    assert [kind.__name__ for kind in COMPONENTS if kind.__name__ not in core.__all__] == []


def test_pages_are_written_where_asked(tmp_path: Path) -> None:
    assert main([str(tmp_path / "reference")]) == 0
    assert sorted(path.name for path in (tmp_path / "reference").iterdir()) == sorted(pages())
