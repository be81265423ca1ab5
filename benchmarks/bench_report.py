"""How report.html behaves with many items, in a real headless browser: frames while scrolling, filters, search.

    python benchmarks/bench_report.py [--items 10000] [--json FILE] [--axe axe.min.js]

Scrolls the list of items from top to bottom and back with the wheel, and goes through it with the keys, and takes the
time between frames as the browser counts them (requestAnimationFrame), together with what it calls long tasks (over
50 ms). --axe: check the page with axe-core (npm pack axe-core) in light and dark, on a desk and on a phone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from browser import DRAWN, Page, opened

from core.report.page import report_page

WORDS = ("acute", "chronic", "fever", "heart", "lung", "injury", "of", "the", "left", "right", "closed", "fracture")
RECORD = """
  window.spans = []; window.long = []; window.going = true;
  new PerformanceObserver((list) => { for (const one of list.getEntries()) window.long.push(one.duration); })
    .observe({type: "longtask"});
  { let before = null;
    const tick = (now) => { if (before !== null) window.spans.push(now - before); before = now;
      if (window.going) requestAnimationFrame(tick); };
    requestAnimationFrame(tick); }
"""
PLACE = """(() => { const box = document.getElementById("items").getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2]; })()"""


def made_up(items: int) -> str:
    """The page of a run with so many items, of the length of real ones; about half are right."""
    draw = random.Random(1)
    metric = {"value": 0.5, "interval": [0.49, 0.51], "n": items, "summary": {}}
    columns = ("base", "prompted", "tuned")
    values: dict[str, Any] = {
        "base_model": "made up", "adapter": "lora", "finished": "", "tunesmith": "", "environment": {},
        "recipe": {"values": {}, "defaults": {}}, "data": {}, "parameters": {"trained": 1, "total": 2},
        "train": {"losses": [2.0, 1.0], "steps": 2, "seconds": 1.0, "tokens": 1, "history": []},
        "memory": {"peak_bytes": 1}, "items": items, "baselines": None, "seconds": 1.0,
        "metrics": {name: {"unit": "share", "higher_is_better": True} for name in ("accuracy", "format_compliance")},
        "evaluation": {name: {"accuracy": metric, "format_compliance": metric} for name in columns},
        "columns": {name: {"tokens_per_answer": 12.0} for name in columns},
        "verdict": {"words": "Made up.", "outcome": "better", "metric": "accuracy"},
    }  # fmt: skip

    def said(words: int) -> str:
        return " ".join(draw.choices(WORDS, k=words))

    def answer() -> dict[str, Any]:
        text = json.dumps({"chapter": said(6)})
        scores = {"accuracy": float(draw.random() < 0.5), "format_compliance": float(draw.random() < 0.9)}
        return {"text": text, "tokens": 14, "stopped": draw.random() < 0.95, "scores": scores}

    lines = [
        {
            "index": index,
            "place": f"test.jsonl:{index + 1}",
            "prompt": f"### Instruction:\n{said(40)}\n\n### Input:\n{said(8)}",
            "references": [json.dumps({"chapter": said(6)})],
            "answers": {name: answer() for name in columns},
        }
        for index in range(items)
    ]
    return report_page(values, lines)


async def frames(page: Page, act: Any) -> dict[str, float]:
    """The time between frames in milliseconds while `act` goes on, and the long tasks."""
    await page.run(RECORD)
    await act()
    await page.run(DRAWN)
    spans, long = await page.run("(window.going = false, [window.spans, window.long])")
    ordered = sorted(spans)

    def at(share: float) -> float:
        return float(round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1))

    return {
        "frames": len(spans),
        "median": at(0.5),
        "p95": at(0.95),
        "p99": at(0.99),
        "worst": at(1.0),
        "over_50_ms": sum(span > 50 for span in spans),
        "long_tasks": len(long),
        "longest_task": round(max(long, default=0.0), 1),
    }


async def scrolling(page: Page) -> dict[str, Any]:
    x, y = await page.run(PLACE)
    high = await page.run(
        "(({scrollHeight, clientHeight}) => scrollHeight - clientHeight)(document.getElementById('items'))"
    )

    async def by_wheel() -> None:
        for step in (700, -700):
            for _ in range(int(high / 700) + 2):
                await page.wheel(x, y, step)

    async def by_key(key: str, times: int) -> None:
        await page.run("document.getElementById('items').focus()")
        for _ in range(times):
            await page.press(key)

    found = {"wheel": await frames(page, by_wheel)}
    found["page keys"] = await frames(page, lambda: by_key("PageDown", 150))
    found["arrow keys"] = await frames(page, lambda: by_key("ArrowDown", 150))
    found["end and home"] = await frames(page, lambda: _both(by_key))
    return found


async def _both(by_key: Any) -> None:
    for _ in range(10):
        await by_key("End", 1)
        await by_key("Home", 1)


TIMED = f"""async (act) => {{
  const begun = performance.now(); act(); await {DRAWN}; return performance.now() - begun; }}"""
TYPE = """() => {{ const one = document.getElementById("search");
  one.value = {text}; one.dispatchEvent(new Event("input")); }}"""
CLICK = "() => document.querySelector('[data-filter={name}]').click()"
CHANGE = """() => { const one = document.getElementById("against");
  one.selectedIndex = 1; one.dispatchEvent(new Event("change")); }"""


async def answering(page: Page) -> dict[str, float]:
    """Milliseconds from a letter or a click to the frame that shows what is left, the longest of each kind."""
    texts = ("f", "fe", "fev", "feve", "fever", "fever h", "zzz", "")
    kinds = {
        "search": [TYPE.format(text=json.dumps(text)) for text in texts],
        "filter": [CLICK.format(name=name) for name in ("fixed", "broken", "wrong", "format", "cut", "all")],
        "against": [CHANGE],
    }
    return {kind: round(max([await page.run(f"({TIMED})({act})") for act in acts]), 1) for kind, acts in kinds.items()}


async def violations(page: Page, axe: Path) -> dict[str, list[str]]:
    """What axe-core finds in light and in dark, on a desk and on a phone."""
    await page.run(axe.read_text(encoding="utf-8") + "; 0")
    found = {}
    for scheme in ("light", "dark"):
        await page.media(prefers_color_scheme=scheme)
        for width in (1200, 375):
            await page.size(width, 900, phone=width < 500)
            await page.run(DRAWN)
            result = await page.run("axe.run().then((found) => found.violations)")
            nodes = [(one["id"], node) for one in result for node in one["nodes"]]
            found[f"{scheme}, {width} px"] = [f"{name}: {node['html'][:160]}" for name, node in nodes]
    return found


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "report.html"
        path.write_text(made_up(arguments.items), encoding="utf-8")
        async with opened(path) as page:
            loaded = await page.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
            found: dict[str, Any] = {"items": arguments.items, "bytes": path.stat().st_size, "load_ms": round(loaded)}
            await page.run("document.getElementById('items').scrollIntoView()")
            found["scrolling"] = await scrolling(page)
            found["milliseconds"] = await answering(page)
            if arguments.axe:
                found["axe"] = await violations(page, arguments.axe)
            found["complaints"] = page.complaints
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--axe", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments))
    text = json.dumps(found, indent=1, ensure_ascii=False)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
