"""The samples of docs/plugins.md are run, and they are the example package, letter for letter."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

from core import hookspecs
from core.testing.conformance import check_plugin

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "tests" / "example_plugin"
BLOCKS = {kind: re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for kind in ("python", "toml")}
SAMPLES = {"medqa": 0, "norm_tuning": 1, "plain_sgd": 2, "first_word": 3, "one_rationale": 4}
ROW = {"question": "Is 2 even?", "rationale": "2 leaves 0.", "answer": "yes"}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_keeps_what_every_plugin_has_to(
    name: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"plugin_sample_{name}"
    (tmp_path / f"{module}.py").write_text(BLOCKS["python"][SAMPLES[name]], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    checked = check_plugin(import_module(module), model=tiny_model, folder=tmp_path / "runs", rows={"medqa": ROW})
    assert any(name in what for what in checked)


def test_the_samples_are_the_example_package() -> None:
    sources = [(PACKAGE / "tunesmith_example" / f"{name}.py").read_text(encoding="utf-8") for name in SAMPLES]
    assert BLOCKS["python"][: len(sources)] == sources
    assert BLOCKS["toml"] == [(PACKAGE / "pyproject.toml").read_text(encoding="utf-8")]


def test_the_sample_tests_pass(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PACKAGE))
    names: dict[str, object] = {}
    exec(BLOCKS["python"][len(SAMPLES)], names)
    tests = {name: function for name, function in names.items() if name.startswith("test_")}
    assert len(tests) == 2
    for name, function in tests.items():
        (tmp_path / name).mkdir()
        function(tiny_model, tmp_path / name)  # type: ignore[operator]
    for name in [name for name in sys.modules if name.split(".")[0] == "tunesmith_example"]:
        monkeypatch.delitem(sys.modules, name)


def test_every_hook_is_in_the_table() -> None:
    hooks = [name for name, value in vars(hookspecs).items() if hasattr(value, "tunesmith_spec")]
    assert len(hooks) >= 7
    assert [hook for hook in hooks if f"| `{hook}` |" not in PAGE] == []


def test_everything_core_offers_to_authors_is_light_to_import() -> None:
    from core.testing.conformance import check_import

    check_import("core")
