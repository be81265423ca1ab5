"""The cache of prepared data: found again, made anew when anything differs, never half."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.audit import CheckPlan, DataCheck
from core.data import prepare
from core.data.cache import cache_entries, key, key_inputs, key_of, read_entry, remove_folder
from core.errors import DataError
from core.types import DatasetFormat, Plan
from tests.core.data.making import alpaca_rows, dataset, plan_of, write_lines

ROOT = Path(__file__).resolve().parents[3]
Change = Callable[[Path, Plan, Any], Plan]


@pytest.fixture
def plan(in_tmp_path: Path) -> Plan:
    """Training, validation and evaluation data, and one check."""
    files = [
        write_lines(in_tmp_path / f"{name}.jsonl", alpaca_rows(20, start=100 * n))
        for n, name in enumerate(("train", "val", "test"))
    ]
    return plan_of(
        in_tmp_path,
        dataset(files[0]),
        validation=[dataset(files[1], key=("test_datasets", 0))],
        evaluation=[dataset(files[2], key=("evaluation", "datasets", 0))],
        checks={"near_duplicates": "warn"},
        dataset_prepared_path=str(in_tmp_path / "prepared"),
    )


def key_now(plan: Plan, tokenizer: Any) -> str:
    inputs = key_inputs(plan, tokenizer)
    assert inputs is not None
    assert json.loads(json.dumps(inputs)) == inputs
    return key_of(inputs)


def recipe(**values: Any) -> Change:
    return lambda folder, plan, tokenizer: replace(
        plan, recipe=replace(plan.recipe, values={**plan.recipe.values, **values})
    )


def option(**values: Any) -> Change:
    def change(folder: Path, plan: Plan, tokenizer: Any) -> Plan:
        (first,) = plan.datasets
        return replace(plan, datasets=(replace(first, options={**first.options, **values}),))

    return change


def content(name: str) -> Change:
    def change(folder: Path, plan: Plan, tokenizer: Any) -> Plan:
        file = folder / f"{name}.jsonl"
        before = file.stat()
        file.write_text(file.read_text().replace("number", "numbex", 1))
        # of the same size and time, as after a copy that keeps them
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert file.stat().st_size == before.st_size
        clear_hashes()
        return plan

    return change


def clear_hashes() -> None:
    """What one process remembers of files, another does not."""
    from core.lock import hashes

    hashes._file_hash.cache_clear()


def tokens(folder: Path, plan: Plan, tokenizer: Any) -> Plan:
    tokenizer.add_tokens(["fox fox"])
    return plan


def special(folder: Path, plan: Plan, tokenizer: Any) -> Plan:
    tokenizer.pad_token = "<|im_start|>"
    return plan


def template(folder: Path, plan: Plan, tokenizer: Any) -> Plan:
    tokenizer.chat_template += " "
    return plan


def other_format(folder: Path, plan: Plan, tokenizer: Any) -> Plan:
    (first,) = plan.datasets
    return replace(plan, datasets=(replace(first, format=replace(first.format, name="other")),))


def other_path(folder: Path, plan: Plan, tokenizer: Any) -> Plan:
    (first,) = plan.datasets
    path = (folder / "train.jsonl").rename(folder / "renamed.jsonl")
    return replace(plan, datasets=(replace(first, path=str(path)),))


def check(**values: Any) -> Change:
    return lambda folder, plan, tokenizer: replace(plan, checks=(replace(plan.checks[0], **values),))


def more_data(folder: Path, plan: Plan, tokenizer: Any) -> Plan:
    return replace(plan, datasets=(*plan.datasets, replace(plan.datasets[0], key=("datasets", 1))))


CHANGES: dict[str, Change] = {
    "training data": content("train"),
    "validation data": content("val"),
    "evaluation data": content("test"),
    "one more data set": more_data,
    "the name of a file": other_path,
    "tokenizer": tokens,
    "special tokens": special,
    "chat template": template,
    "format": other_format,
    "option of the format": option(train_on_inputs=True),
    "field": option(field_output="input"),
    "level of a check": check(level="error"),
    "option of a check": check(options={"similarity": 0.8}),
    "no check": lambda folder, plan, tokenizer: replace(plan, checks=()),
    "sequence_len": recipe(sequence_len=100),
    "excess_length_strategy": recipe(excess_length_strategy="truncate"),
    "on_bad_row": recipe(on_bad_row="skip"),
    "max_bad_rows": recipe(max_bad_rows=0.5),
}
# these decide no row, but which of them are trained on and in which order
DIVIDES: dict[str, Change] = {
    "val_set_size": recipe(val_set_size=0.5),
    "seed": recipe(seed=7),
    "shuffle_merged_datasets": recipe(shuffle_merged_datasets=False),
    "weight": option(weight=1.5),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_input_alone_changes_the_key(name: str, plan: Plan, tokenizer: Any, in_tmp_path: Path) -> None:
    before = key_now(plan, tokenizer)
    assert key_now(plan, tokenizer) == before
    assert key_now(CHANGES[name](in_tmp_path, plan, tokenizer), tokenizer) != before


@pytest.mark.parametrize("name", DIVIDES)
def test_rows_are_divided_anew_without_being_tokenised_again(
    name: str, plan: Plan, tokenizer: Any, in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.data import collect

    plan = recipe(val_set_size=0.2)(in_tmp_path, replace(plan, validation=()), tokenizer)
    changed = DIVIDES[name](in_tmp_path, plan, tokenizer)
    assert key_now(changed, tokenizer) == key_now(plan, tokenizer)
    first = prepare(plan, tokenizer)
    fresh = prepare(
        recipe(dataset_prepared_path=str(in_tmp_path / "other"))(in_tmp_path, changed, tokenizer), tokenizer
    )
    monkeypatch.setattr(collect, "encode_texts", lambda *given: pytest.fail("rows were tokenised again"))
    second = prepare(changed, tokenizer)
    assert first.val is not None
    assert second.val is not None
    assert fresh.val is not None
    both = (first.train["place"], first.val["place"])
    assert (second.train["place"], second.val["place"]) != both
    assert (second.train.to_dict(), second.val.to_dict()) == (fresh.train.to_dict(), fresh.val.to_dict())
    assert second.stats == fresh.stats
    assert second.stats["train"] == {
        "examples": len(second.train),
        "tokens": sum(map(len, second.train["input_ids"])),
        "trained_tokens": sum(label != -100 for labels in second.train["labels"] for label in labels),
    }
    again = prepare(plan, tokenizer)
    assert again.val is not None
    assert (again.train["place"], again.val["place"]) == both
    assert len(cache_entries(in_tmp_path / "prepared")) == 1


def test_rows_that_cannot_be_divided_are_kept_all_the_same(plan: Plan, tokenizer: Any, in_tmp_path: Path) -> None:
    plan = replace(plan, validation=())
    for _ in range(2):
        with pytest.raises(DataError, match="none would be left to train on"):
            prepare(recipe(val_set_size=20)(in_tmp_path, plan, tokenizer), tokenizer)
    assert len(cache_entries(in_tmp_path / "prepared")) == 1
    assert len(prepare(plan, tokenizer).train) == 20


def test_every_key_of_the_recipe_has_its_test() -> None:
    assert set(key.RECIPE_KEYS) <= set(CHANGES)


def test_a_template_in_a_file_counts_by_its_content(plan: Plan, tokenizer: Any, in_tmp_path: Path) -> None:
    file = in_tmp_path / "chat.jinja"
    keys = set()
    for text in ("{{ messages }}", "{{ messages[0] }}"):
        file.write_text(text)
        keys.add(key_now(option(chat_template_jinja=str(file))(in_tmp_path, plan, tokenizer), tokenizer))
    assert len(keys) == 2


def test_the_code_of_a_format_and_of_a_check_counts(
    plan: Plan, tokenizer: Any, in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(in_tmp_path))
    (in_tmp_path / "my_plugin").mkdir()
    for name in ("__init__", "formats", "texts"):
        (in_tmp_path / "my_plugin" / f"{name}.py").write_text("def render(row, options, tokenizer):\n    return []\n")
    module = importlib.import_module("my_plugin.formats")
    (first,) = plan.datasets
    theirs = replace(plan, datasets=(replace(first, format=DatasetFormat("mine", module.render)),))
    checked = replace(plan, checks=(CheckPlan(DataCheck("mine", module.render), "warn"),))
    for changed in (theirs, checked):
        before = key_now(changed, tokenizer)
        # not the module itself, but one that it may use
        (in_tmp_path / "my_plugin" / "texts.py").write_text(f"# {changed is theirs}\n")
        assert key_now(changed, tokenizer) != before


@pytest.mark.parametrize("library", key.LIBRARIES)
def test_versions_count(plan: Plan, tokenizer: Any, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_now(plan, tokenizer)
    found = key._versions()
    assert library in found
    monkeypatch.setattr(key, "_versions", lambda: {**found, library: "0.0.1"})
    assert key_now(plan, tokenizer) != before


@pytest.mark.parametrize("package", key.OWN_CODE)
def test_our_own_code_counts(plan: Plan, tokenizer: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_now(plan, tokenizer)
    place = key._place(package)
    assert place is not None
    assert place.is_dir()
    hashed = key._code_hash
    monkeypatch.setattr(key, "_code_hash", lambda given: "other" if given == place else hashed(given))
    assert key_now(plan, tokenizer) != before


def test_what_decides_nothing_leaves_the_key(plan: Plan, tokenizer: Any, in_tmp_path: Path) -> None:
    before = key_now(plan, tokenizer)
    os.utime(in_tmp_path / "train.jsonl", (1, 1))
    clear_hashes()
    other = recipe(learning_rate=1.0, num_epochs=9, micro_batch_size=2)(in_tmp_path, plan, tokenizer)
    assert key_now(replace(other, output_dir=in_tmp_path / "elsewhere"), tokenizer) == before


def test_a_warm_start_says_and_gives_the_same_without_reading_a_row(
    plan: Plan, tokenizer: Any, in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = recipe(val_set_size=0.2)(in_tmp_path, replace(plan, validation=()), tokenizer)
    write_lines(in_tmp_path / "train.jsonl", [*alpaca_rows(20), *alpaca_rows(3)])
    cold = prepare(plan, tokenizer)
    first = capsys.readouterr().out.splitlines()
    from core.data import collect

    monkeypatch.setattr(collect, "encode_texts", lambda *given: pytest.fail("rows were tokenised again"))
    warm = prepare(plan, tokenizer)
    second = capsys.readouterr().out.splitlines()
    assert cold.train.to_dict() == warm.train.to_dict()
    assert cold.val is not None
    assert warm.val is not None
    assert cold.val.to_dict() == warm.val.to_dict()
    assert (cold.test, cold.stats, cold.pad_token_id) == (warm.test, warm.stats, warm.pad_token_id)
    assert len(warm.test) == 20
    assert any(line.startswith("warning: near_duplicates:") for line in first)
    assert [line for line in second if not line.startswith(("audit:", "prepared before"))] == [
        line for line in first if not line.startswith("audit:")
    ]
    assert "audit: 1 check of 43 examples (from the cache): 1 warning" in second


def test_refused_data_is_not_kept(plan: Plan, tokenizer: Any, in_tmp_path: Path) -> None:
    write_lines(in_tmp_path / "train.jsonl", ["{oops"])
    for _ in range(2):
        with pytest.raises(DataError, match=r"train\.jsonl:1"):
            prepare(plan, tokenizer)
    assert [file.name for file in (in_tmp_path / "prepared").iterdir() if not file.name.endswith(".lock")] == []


@pytest.mark.parametrize(
    ("module", "name"),
    [("core.data.cache.entries", "read_entry"), ("core.data.prepare", "read_rows"), ("core.data.prepare", "load_part")],
    ids=["found", "taken", "divided"],
)
def test_an_entry_that_is_cleared_before_it_is_open_is_made_anew(
    plan: Plan,
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: str,
    name: str,
) -> None:
    rows = prepare(plan, tokenizer).train.to_dict()
    there = importlib.import_module(module)
    real, cleared = getattr(there, name), []

    def clear(given: Any, *more: Any) -> Any:
        folder = given if name == "read_entry" else given.folder
        found = real(given, *more) if name == "read_entry" else None
        if not cleared:
            cleared.append(remove_folder(folder))
        return found or real(given, *more)

    monkeypatch.setattr(there, name, clear)
    capsys.readouterr()
    assert prepare(plan, tokenizer).train.to_dict() == rows
    assert cleared[0]
    said = capsys.readouterr().out
    assert ("it is made anew" in said) is (name != "read_entry")
    assert "prepared before" not in said.splitlines()[-1]


def test_a_file_that_is_missing_for_another_reason_stays_an_error(
    plan: Plan, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise FileNotFoundError("nothing to do with the cache")

    monkeypatch.setattr(importlib.import_module("core.data.prepare"), "load_part", fail)
    with pytest.raises(FileNotFoundError, match="nothing to do"):
        prepare(plan, tokenizer)


@pytest.mark.parametrize("harm", ["truncated", "missing", "meta"])
def test_a_damaged_entry_is_made_anew(plan: Plan, tokenizer: Any, in_tmp_path: Path, harm: str) -> None:
    rows = prepare(plan, tokenizer).train.to_dict()
    (entry,) = cache_entries(in_tmp_path / "prepared")
    file = entry.folder / ("prepared.json" if harm == "meta" else entry.meta["rows"]["training"][0])
    file.write_bytes(file.read_bytes()[:-8])
    if harm == "missing":
        file.unlink()
    assert read_entry(entry.folder) is None
    assert prepare(plan, tokenizer).train.to_dict() == rows
    assert read_entry(entry.folder) is not None


# ---------------------------------------------------------------- real processes

SCRIPT = """
import os, sys, time
from pathlib import Path
from transformers import AutoTokenizer
from core.data import collect, prepare
from tests.core.data.making import dataset, plan_of

folder, tokenizer, pause = Path(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[2]), float(sys.argv[3])
processes = int(sys.argv[4])
collect.BATCH = 4
encode = collect.encode_texts

def slowly(texts, tokenizer):
    with (folder / "chunks").open("a") as chunks:
        chunks.write("one\\n")
    time.sleep(pause)
    return encode(texts, tokenizer)

collect.encode_texts = slowly
plan = plan_of(folder, dataset(folder / "train.jsonl"), dataset_prepared_path=str(folder / "prepared"))
(folder / f"ready-{os.getpid()}").touch()
while len(list(folder.glob("ready-*"))) < processes:
    time.sleep(0.02)  # importing takes one longer than the other
data = prepare(plan, tokenizer)
print("rows", len(data.train), flush=True)
"""


def start(folder: Path, tokenizer_folder: Path, pause: float, processes: int = 1) -> subprocess.Popen[str]:
    """A process that prepares the data with a pause in each chunk, once `processes` of them are ready to."""
    command = [sys.executable, "-c", SCRIPT, str(folder), str(tokenizer_folder), str(pause), str(processes)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def chunks(folder: Path) -> int:
    return len((folder / "chunks").read_text().splitlines()) if (folder / "chunks").exists() else 0


@pytest.mark.slow
def test_a_killed_process_leaves_nothing_that_is_read(
    in_tmp_path: Path, tokenizer_folder: Path, tokenizer: Any
) -> None:
    write_lines(in_tmp_path / "train.jsonl", alpaca_rows(20))
    process = start(in_tmp_path, tokenizer_folder, 0.5)
    deadline = time.monotonic() + 240
    root = in_tmp_path / "prepared"
    while time.monotonic() < deadline and not any(file.stat().st_size for file in root.glob(".partial-*/**/*.arrow")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = root.glob(".partial-*")
    assert any(file.stat().st_size for file in left.rglob("*.arrow"))  # it was in the middle of writing
    assert cache_entries(root) == []
    plan = plan_of(in_tmp_path, dataset(in_tmp_path / "train.jsonl"), dataset_prepared_path=str(root))
    assert len(prepare(plan, tokenizer).train) == 20
    assert list(root.glob(".partial-*")) == []
    assert len(cache_entries(root)) == 1


@pytest.mark.slow
def test_two_processes_at_once_do_the_work_once(in_tmp_path: Path, tokenizer_folder: Path) -> None:
    write_lines(in_tmp_path / "train.jsonl", alpaca_rows(20))
    processes = [start(in_tmp_path, tokenizer_folder, 1.0, processes=2) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [output.splitlines()[-1] for output in outputs] == ["rows 20", "rows 20"]
    assert chunks(in_tmp_path) == 5  # 20 rows in chunks of 4
    assert sum("waiting for it" in output for output in outputs) == 1
