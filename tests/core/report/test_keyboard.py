"""report.html by the keyboard alone, with real keys: the order of Tab, what has the focus, and what is told of it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from core.report.page import report_page

ROOT = Path(__file__).parents[3]
AXE = os.environ.get("AXE_CORE", "")  # axe.min.js of the npm package axe-core
pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") or shutil.which("google-chrome")), reason="needs chromium"
)
# what has the focus: its id, filter or first words; and whether that can be seen
FOCUS = """(() => { const node = document.activeElement, style = getComputedStyle(node);
  const name = node.id || node.dataset.filter || node.className || node.textContent.trim();
  return [name, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2]; })()"""
ITEM = "document.querySelector('#item h3')?.textContent ?? document.querySelector('#item').textContent"
# whether the row that the list names as its active one is the chosen one
TOLD = """document.getElementById(
  document.getElementById("items").getAttribute("aria-activedescendant")).ariaSelected"""
SETTLED = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"


@pytest.fixture(scope="module")
def browser() -> ModuleType:
    spec = importlib.util.spec_from_file_location("browser", ROOT / "benchmarks" / "browser.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(values: dict[str, Any], predictions: list[dict[str, Any]], folder: Path) -> Path:
    path = folder / "report.html"
    path.write_text(report_page(values, predictions), encoding="utf-8")
    return path


def test_everything_is_reached_and_worked_with_keys(
    browser: ModuleType, tmp_path: Path, values: dict[str, Any], predictions: list[dict[str, Any]]
) -> None:
    async def walk() -> None:
        async with browser.opened(written(values, predictions, tmp_path)) as page:

            async def tab(times: int = 1, *, back: bool = False) -> str:
                for _ in range(times):
                    await page.press("Tab", shift=back)
                name, seen = await page.run(FOCUS)
                assert seen, f"the focus on {name!r} cannot be seen"
                return str(name)

            async def item() -> str:
                await page.run(SETTLED)
                return str(await page.run(ITEM))

            assert [await tab() for _ in range(5)] == ["all", "fixed", "broken", "wrong", "cut"]
            await page.press(" ")
            assert "0 of 4 items" in await page.run("document.getElementById('count').textContent")
            assert "No item is left" in await item()
            assert await tab(3, back=True) == "fixed"
            await page.press("Enter")
            assert await item() == "item 1 · test.jsonl:1"
            assert await tab(1, back=True) == "all"
            await page.press("Enter")
            assert await tab(5) == "search"
            await page.write("Question 3")
            assert await item() == "item 4 · test.jsonl:4"
            await page.press("Escape")  # a search field empties itself
            assert "4 of 4 items" in await page.run("document.getElementById('count').textContent")
            assert await tab() == "items"
            for key, shown in (("ArrowDown", 2), ("End", 4), ("ArrowUp", 3), ("PageUp", 1), ("PageDown", 4)):
                await page.press(key)
                assert await item() == f"item {shown} · test.jsonl:{shown}", key
                assert await page.run(TOLD) == "true"
            assert await tab() == "diff"
            await page.press(" ")
            assert await page.run("document.getElementById('diff').ariaPressed") == "false"
            opened = await tab()
            assert opened == "Recipe"
            await page.press("Enter")
            assert await page.run("document.activeElement.parentElement.open") is True
            assert page.complaints == []

    asyncio.run(walk())


def test_rows_that_stay_in_view_stay_the_same_and_in_order(
    browser: ModuleType, tmp_path: Path, values: dict[str, Any], predictions: list[dict[str, Any]]
) -> None:
    many = [{**predictions[index % 4], "index": index} for index in range(2_000)]
    order = "Array.from(document.querySelectorAll('#room .row'), (row) => Number(row.id.slice(4)))"

    async def scroll() -> None:
        async with browser.opened(written(values, many, tmp_path)) as page:
            await page.run("document.querySelector('#row-3').marked = true; 0")
            for top in (60, 9_000, 8_900, 1e9, 30, 0):
                await page.run(f"document.getElementById('items').scrollTop = {top}; 0")
                await page.run(SETTLED)
                found = await page.run(order)
                assert found == list(range(found[0], found[-1] + 1)), top
                place = await page.run("document.getElementById('items').scrollTop")
                assert found[0] <= place / 30 <= found[-1]
                if top == 60:
                    assert await page.run("document.querySelector('#row-3').marked") is True
            assert await page.run("document.querySelectorAll('#room [aria-selected=true]').length") == 1
            assert page.complaints == []

    asyncio.run(scroll())


def test_bars_of_all_columns_have_one_scale_and_a_phone_shows_the_whole_width(
    browser: ModuleType, tmp_path: Path, values: dict[str, Any], predictions: list[dict[str, Any]]
) -> None:
    figure = {"accuracy": {"value": 0.5, "interval": [0.4, 0.6], "n": 3}}
    both = {"base": figure, "tuned": figure}
    row = {"value": "a long value of the field", "items": 3, "columns": both, "comparisons": []}
    values["slices"] = {"kind": [row]}
    values["columns"]["base"]["label"] = "a column whose name is far longer than the other's"
    widths = "Array.from(document.querySelectorAll('.bar'), (bar) => bar.clientWidth)"
    predictions[0]["prompt"] = "a prompt that is long enough to be cut off on a phone " * 12
    hidden = """Array.from(document.querySelectorAll(".scroll, .prompt"))
      .filter((node) => node.scrollWidth > node.clientWidth || node.scrollHeight > node.clientHeight)
      .filter((node) => node.tabIndex !== 0).length"""
    reached = "Array.from(document.querySelectorAll('.prompt[tabindex]')).length"

    async def look() -> None:
        async with browser.opened(written(values, predictions, tmp_path)) as page:
            for width in (1200, 375):
                await page.size(width, 800, phone=width < 500)
                await page.run(SETTLED)
                first, second = await page.run(widths)
                assert first == second > 0
                assert await page.run("document.documentElement.scrollWidth") <= width
                assert await page.run(hidden) == 0, "what is cut off can be reached"
                assert await page.run(reached) == (width < 500)
            assert page.complaints == []

    asyncio.run(look())


@pytest.mark.skipif(not Path(AXE).is_file(), reason="AXE_CORE names no axe.min.js (npm pack axe-core)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_core_finds_nothing(
    browser: ModuleType, tmp_path: Path, values: dict[str, Any], predictions: list[dict[str, Any]], scheme: str
) -> None:
    async def look() -> list[str]:
        async with browser.opened(written(values, predictions, tmp_path)) as page:
            await page.media(prefers_color_scheme=scheme)
            await page.run(Path(AXE).read_text(encoding="utf-8") + "; 0")
            found = []
            for width in (1200, 375):
                await page.size(width, 800, phone=width < 500)
                await page.run(SETTLED)
                for one in await page.run("axe.run().then((found) => found.violations)"):
                    found += [f"{one['id']}: {node['html'][:200]}" for node in one["nodes"]]
            return found

    assert asyncio.run(look()) == []
