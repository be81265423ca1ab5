"""report.html in a real headless browser, opened from disk: filters, list, keys, differences, no console error."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from core.report.page import report_page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium")


def dom_after(page: str, folder: Path, script: str, *, width: int = 1200) -> str:
    """The page's DOM after `script`; fails on anything in the console."""
    path = folder / "report.html"
    path.write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--dump-dom"]
    flags += [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900"]
    result = subprocess.run(
        [str(BROWSER), *flags, path.as_uri()], capture_output=True, text=True, timeout=300, check=True
    )
    assert "CONSOLE" not in result.stderr, result.stderr
    return result.stdout


def rows(dom: str) -> list[int]:
    """The positions of the rows that exist in the list."""
    return [int(number) for number in re.findall(r'id="row-(\d+)"', dom)]


def chosen(dom: str) -> str:
    """The item that is shown."""
    found = re.search(r'<div id="item".*?</article>', dom, re.S)
    assert found is not None
    return found.group(0)


@pytest.mark.parametrize(
    ("width", "filter_name", "expected", "untuned"),
    [(1200, "all", 4, "base"), (400, "fixed", 1, "base"), (800, "broken", 1, "prompted"), (800, "wrong", 2, "base")],
)
def test_filters(
    tmp_path: Path,
    values: dict[str, Any],
    predictions: list[dict[str, Any]],
    width: int,
    filter_name: str,
    expected: int,
    untuned: str,
) -> None:
    for named in (values["evaluation"], values["columns"], *(line["answers"] for line in predictions)):
        renamed = {untuned if name == "base" else name: value for name, value in named.items()}
        named.clear()
        named.update(renamed)
    click = f"document.querySelector('[data-filter={filter_name}]').click()"
    dom = dom_after(report_page(values, predictions), tmp_path, click, width=width)
    assert rows(dom) == list(range(expected))
    assert f">{expected} of 4 items<" in dom
    assert re.search(rf'data-filter="{filter_name}"[^>]*aria-pressed="true"[^>]*>[a-z ]+ {expected}<', dom)


def test_search_format_failures_and_the_column_to_compare_with(
    tmp_path: Path, values: dict[str, Any], predictions: list[dict[str, Any]]
) -> None:
    values["metrics"]["format_compliance"] = {"unit": "share", "higher_is_better": True}
    for named in (values["evaluation"], values["columns"]):
        named["prompted"] = copy.deepcopy(named["base"])
    for line in predictions:
        line["answers"]["prompted"] = copy.deepcopy(line["answers"]["tuned"])
        line["answers"]["tuned"]["scores"]["format_compliance"] = float(line["index"] != 2)
    page = report_page(values, predictions)
    assert rows(dom_after(page, tmp_path, "document.querySelector('[data-filter=format]').click()")) == [0]
    script = """
      const search = document.getElementById("search");
      search.value = "QUESTION 3"; search.dispatchEvent(new Event("input"));
    """
    dom = dom_after(page, tmp_path, script)
    assert rows(dom) == [0]
    assert "item 4 · test.jsonl:4" in chosen(dom)
    script = """
      const against = document.getElementById("against");
      against.value = "prompted"; against.dispatchEvent(new Event("change"));
      document.querySelector("[data-filter=fixed]").click();
    """
    dom = dom_after(page, tmp_path, script)
    assert ">0 of 4 items<" in dom
    assert "No item is left" in dom


def test_keys_move_through_the_list_and_the_item_chosen_is_shown(
    tmp_path: Path, values: dict[str, Any], predictions: list[dict[str, Any]]
) -> None:
    press = """
      const list = document.getElementById("items");
      const press = (key) => list.dispatchEvent(new KeyboardEvent("keydown", {key}));
    """
    dom = dom_after(report_page(values, predictions), tmp_path, press + "press('ArrowDown'); press('ArrowDown');")
    assert "item 3 · test.jsonl:3" in chosen(dom)
    assert 'aria-activedescendant="row-2"' in dom
    dom = dom_after(
        report_page(values, predictions), tmp_path, press + "press('End'); press('ArrowDown'); press('Home');"
    )
    assert "item 1 · test.jsonl:1" in chosen(dom)


def test_of_ten_thousand_items_only_those_in_view_exist(
    tmp_path: Path, values: dict[str, Any], predictions: list[dict[str, Any]]
) -> None:
    many = [{**copy.deepcopy(predictions[index % 4]), "index": index} for index in range(10_000)]
    press = "document.getElementById('items').dispatchEvent(new KeyboardEvent('keydown', {key: 'End'}))"
    dom = dom_after(report_page(values, many), tmp_path, press)
    found = rows(dom)
    assert found[-1] == 9_999
    assert len(found) < 60
    assert "item 10000 ·" in chosen(dom)
    assert ">10000 of 10000 items<" in dom


def test_differences_are_marked_character_by_character(
    tmp_path: Path, values: dict[str, Any], predictions: list[dict[str, Any]]
) -> None:
    item = predictions[0]
    item["references"] = ['{"a": "colour 🙂"}']
    item["answers"]["tuned"]["text"] = '{"a": "color 🙂!"}'
    item["answers"]["base"]["text"] = "something else altogether"
    page = report_page(values, [item])
    shown = chosen(dom_after(page, tmp_path, ""))
    assert '{"a": "colo<del>u</del>r 🙂<ins>!</ins>"}' in shown
    assert "<pre>something else altogether</pre>" in shown

    # as many letters in common as any two texts have, but hardly two in a row
    other = '{"a": "Meningococcal haemorrhagic disease"}'
    item["references"] = ['{"a": "Certain infectious and parasitic diseases"}']
    item["answers"]["base"]["text"] = other
    shown = chosen(dom_after(report_page(values, [item]), tmp_path, ""))
    assert f"<pre>{other}</pre>" in shown
    item["references"], item["answers"]["base"]["text"] = ["cat"], "cart"
    assert "ca<ins>r</ins>t" in chosen(dom_after(report_page(values, [item]), tmp_path, ""))
    shown = chosen(dom_after(page, tmp_path, "document.getElementById('diff').click()"))
    assert "<del>" not in shown


def test_answers_stay_text(tmp_path: Path, values: dict[str, Any], predictions: list[dict[str, Any]]) -> None:
    predictions[0]["answers"]["tuned"]["text"] = "<img src=x onerror=\"document.title='run'\"><script>1</script>"
    dom = dom_after(report_page(values, predictions), tmp_path, "")
    assert "&lt;img src=x" in chosen(dom)
    assert "<title>org/model" in dom
