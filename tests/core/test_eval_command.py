"""`tunesmith eval` on a real run of the tiny model: the same figures, what broke off finished, nothing overwritten."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from core.claim import CLAIM_FILE
from core.cli import main
from core.errors import UserError
from core.rescore import find_target, output_for, refuse_results
from core.schema_files import load_fragment
from core.testing.recipes import write_tiny_recipe
from tests.core.plans import make_test_plan

HELD_OUT = [
    {"instruction": "Answer with yes or no.", "input": f"Is {n} even?", "output": "no" if n % 2 else "yes"}
    for n in range(100, 112)
]
EVALUATION: dict[str, Any] = {
    "metrics": [{"type": "accuracy"}, {"type": "perplexity"}],
    "compare": ["base", {"prompted": {"shots": 2}}, "tuned"],
    "max_new_tokens": 6,
    "batch_size": 4,
}


def write(folder: Path, model: Path, evaluation: dict[str, Any] | None = None, **values: Any) -> Path:
    scored = {"datasets": [{"path": str(folder / "test.jsonl"), "type": "alpaca"}], **EVALUATION, **(evaluation or {})}
    return write_tiny_recipe(folder, model, {"adapter": "lora", "evaluation": scored, **values}, held_out=HELD_OUT)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The folder of a finished run's recipe; do not write into it."""
    folder = tmp_path_factory.mktemp("finished")
    assert main(["run", str(write(folder, tiny_model, learning_rate=0.05))]) == 0
    return folder


@pytest.fixture
def run_dir(finished: Path) -> Any:
    """run_dir() -> the output folder of a finished run, put back as it was afterwards."""
    kept = finished / "kept"
    shutil.copytree(finished / "out", kept)
    yield finished / "out"
    shutil.rmtree(finished / "out")
    kept.rename(finished / "out")


def values_of(folder: Path) -> dict[str, Any]:
    values = json.loads((folder / "run.json").read_text())
    jsonschema.validate(values, load_fragment("run"))
    return dict(values)


def answers_of(folder: Path) -> list[Any]:
    return [json.loads(line)["answers"] for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_a_run_scored_again_gives_its_figures_and_keeps_what_was_there(run_dir: Path) -> None:
    before = {path: path.read_bytes() for path in run_dir.iterdir() if path.is_file()}
    assert main(["eval", str(run_dir), "--fresh"]) == 0
    assert {path: path.read_bytes() for path in before} == before
    again = run_dir / "evaluations" / "1"
    values, first = values_of(again), values_of(run_dir)
    assert values["scored"] == {"target": str(run_dir), "kind": "run", "trained_here": True}
    assert values["train"]["losses"] == first["train"]["losses"]
    assert values["parameters"] == first["parameters"]
    assert values["columns"]["tuned"]["model"] == f"as saved in {run_dir}"
    for was, is_ in zip(answers_of(run_dir), answers_of(again), strict=True):
        for column in ("base", "prompted", "tuned"):
            assert is_[column]["text"] == was[column]["text"]
            assert is_[column]["scores"]["perplexity"] == pytest.approx(was[column]["scores"]["perplexity"], rel=1e-4)
    assert not (again / "README.md").exists(), "the model is not there, nor is its card"
    assert main(["eval", str(run_dir)]) == 0
    assert (run_dir / "evaluations" / "2" / "run.json").is_file()


def test_other_metrics_need_no_model(run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import core.evaluation.answerers as answerers

    monkeypatch.setattr(answerers, "load_saved", lambda *_: pytest.fail("a model was loaded"))
    monkeypatch.setattr("core.models.load_untouched_base", lambda *_: pytest.fail("the base was loaded"))
    code = main(["eval", str(run_dir), "--set", "evaluation.metrics=[{type: token_f1}]"])
    assert code == 0
    assert "tuned: 12 answers taken from" in capsys.readouterr().out
    values = values_of(run_dir / "evaluations" / "1")
    assert values["columns"]["tuned"]["model"] == "as trained, adapter not merged", "as those answers came about"
    assert set(values["evaluation"]["base"]) == {"token_f1"}


def test_other_questions_are_asked_anew(run_dir: Path, capsys: Any) -> None:
    assert main(["eval", str(run_dir), "--set", "evaluation.max_new_tokens=3", "--set", "evaluation.limit=5"]) == 0
    said = capsys.readouterr().out
    assert "taken from" not in said
    assert "tuned: 5 answers in" in said


def test_what_chose_a_checkpoint_need_not_be_among_the_metrics_of_a_scoring(
    tmp_path: Path, tiny_model: Path, run_dir: Path
) -> None:
    lock = run_dir / "recipe.lock.yml"
    choosing = "  metric_for_best_model: accuracy\n  generation_evals_per_epoch: 1\n  val_set_size: 0.3\n"
    lock.write_text(lock.read_text().replace("recipe:\n", f"recipe:\n{choosing}", 1))
    assert main(["eval", str(run_dir), "--set", "evaluation.metrics=[{type: token_f1}]"]) == 0
    assert list(values_of(run_dir / "evaluations" / "1")["metrics"]) == ["token_f1"]


def test_gates_decide_the_exit_code(run_dir: Path, capsys: Any) -> None:
    high, low = "{accuracy: {at_least: 1.0}}", "{accuracy: {at_least: 0.0}, perplexity: {at_most: 1000000}}"
    assert main(["eval", str(run_dir), "--set", f"evaluation.gates={high}"]) == 3
    assert "gate: accuracy: failed" in capsys.readouterr().out
    assert main(["eval", str(run_dir), "--set", f"evaluation.gates={low}"]) == 0
    assert [gate["passed"] for gate in values_of(run_dir / "evaluations" / "1")["gates"]] == [False]
    assert [gate["passed"] for gate in values_of(run_dir / "evaluations" / "2")["gates"]] == [True, True]


def test_more_forgetting_than_allowed_decides_the_exit_code(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from core.evaluation import probing
    from core.results import ProbeReport

    followed = iter([38, 4, 38, 37])  # of 40: base and tuned, twice

    def probed(*args: Any) -> ProbeReport:
        count = next(followed)
        return ProbeReport({"instructions": [{"followed": float(index < count)} for index in range(40)]}, [])

    monkeypatch.setattr(probing, "probe_model", probed)
    asked = ["eval", str(run_dir), "--set", "evaluation.forgetting={probe: default, max_drop: 0.02}"]
    assert main(asked) == 3
    assert "forgetting shown, more than the 2 % allowed" in " ".join(capsys.readouterr().out.split())
    assert values_of(run_dir / "evaluations" / "1")["forgetting"]["passed"] is False
    assert main(asked) == 0, "one item fewer shows nothing"


def test_scoring_that_broke_off_is_finished_where_it_stopped(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from core.evaluation import generate

    path, real, batches = write(tmp_path, tiny_model), generate.greedy, []

    def broken(*args: Any, **options: Any) -> Any:
        batches.append(1)
        if len(batches) == 8:  # three batches for each column: in the middle of the tuned one
            raise RuntimeError("the machine went down")
        return real(*args, **options)

    monkeypatch.setattr(generate, "greedy", broken)
    with pytest.raises(RuntimeError, match="went down"):
        main(["run", str(path)])
    said = capsys.readouterr().err
    assert f"the tuned model is saved in {tmp_path / 'out'}" in said
    assert f"tunesmith eval {tmp_path / 'out'}" in said
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "out" / "run.json").exists()

    calls: list[int] = []

    def counted(decoder: Any, rows: Any, **options: Any) -> Any:
        calls.append(len(rows))
        return real(decoder, rows, **options)

    monkeypatch.setattr(generate, "greedy", counted)
    assert main(["eval", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert calls == [4, 4], "the first batch was there already"
    assert "base: 12 answers taken from" in said
    assert "tuned: 12 answers in" in said
    assert "4 of them from an earlier attempt" in said
    values = values_of(tmp_path / "out")
    assert len(values["train"]["losses"]) == 3
    assert (tmp_path / "out" / "README.md").is_file()

    monkeypatch.setattr(generate, "greedy", real)
    assert main(["eval", str(tmp_path / "out"), "--fresh"]) == 0
    again = answers_of(tmp_path / "out" / "evaluations" / "1")
    assert [answer["tuned"]["text"] for answer in again] == [
        answer["tuned"]["text"] for answer in answers_of(tmp_path / "out")
    ]


def test_a_metric_that_fails_after_training_names_the_way_on(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from core.evaluation.metrics import score_column

    calls: list[int] = []

    def broken(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise UserError("the metric 'accuracy' failed", help="look at the row")
        return score_column(*args, **options)

    # the package has a function of the module's name
    monkeypatch.setattr(sys.modules["core.evaluation.evaluate"], "score_column", broken)
    assert main(["run", str(write(tmp_path, tiny_model))]) == 2
    said = capsys.readouterr().err
    assert "look at the row" in said
    assert f"score it, going on from here, with `tunesmith eval {tmp_path / 'out'}`" in said
    assert main(["eval", str(tmp_path / "out")]) == 0


def test_items_that_no_metric_can_score_are_refused_before_weights_are_read(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import core.run

    def too_late(*_: Any) -> Any:
        raise AssertionError("the model is being built")

    monkeypatch.setattr(core.run, "_train_and_score", too_late)
    scored = {"metrics": [{"type": "json_field", "field": "chapter"}]}
    assert main(["run", str(write(tmp_path, tiny_model, scored))]) == 2
    said = capsys.readouterr().err
    assert "the metric 'json_field' cannot score 12 of 12 items" in said
    assert "test.jsonl:1: the reference 'no' is not JSON" in said or "the reference 'yes' is not JSON" in said


def test_an_adapter_folder_needs_a_recipe(run_dir: Path, finished: Path, tmp_path: Path, capsys: Any) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(run_dir / name, adapter / name)
    assert main(["eval", str(adapter)]) == 2
    assert "add --recipe RECIPE" in capsys.readouterr().err
    assert main(["eval", "outputs/mistyped"]) == 2
    assert "there is no folder 'outputs/mistyped' here" in capsys.readouterr().err
    recipe = str(finished / "recipe.yml")
    assert main(["eval", str(adapter), "--recipe", recipe, "--output", str(tmp_path / "results")]) == 0
    values = values_of(tmp_path / "results")
    assert values["scored"] == {"target": str(adapter), "kind": "adapter", "trained_here": False}
    assert values["train"]["steps"] == 0
    for was, is_ in zip(answers_of(run_dir), answers_of(tmp_path / "results"), strict=True):
        assert is_["tuned"]["text"] == was["tuned"]["text"]
    assert main(["eval", str(adapter), "--recipe", recipe, "--output", str(tmp_path / "results")]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_a_merged_folder_is_a_model_of_its_own(run_dir: Path, finished: Path, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    merged = tmp_path / "merged"
    AutoPeftModelForCausalLM.from_pretrained(str(run_dir)).merge_and_unload().save_pretrained(str(merged))
    AutoTokenizer.from_pretrained(str(run_dir)).save_pretrained(str(merged))
    overrides = ["--set", "evaluation.compare=[base, tuned]"]
    assert main(["eval", str(merged), "--recipe", str(finished / "recipe.yml"), *overrides]) == 0
    values = values_of(merged / "evaluations" / "1")
    assert values["scored"]["kind"] == "model"
    first = values_of(run_dir)["evaluation"]
    for column in ("base", "tuned"):
        found = values["evaluation"][column]["perplexity"]["value"]
        assert found == pytest.approx(first[column]["perplexity"]["value"], rel=1e-4)


def test_training_data_that_is_gone_matters_only_for_examples(
    run_dir: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    away = finished / "away.jsonl"
    (finished / "train.jsonl").rename(away)
    try:
        assert main(["eval", str(run_dir), "--set", "evaluation.compare=[base, tuned]"]) == 0
        assert values_of(run_dir / "evaluations" / "1")["data"]["datasets"], "what the run knew of its data"
        assert main(["eval", str(run_dir)]) == 2
        assert "train.jsonl" in capsys.readouterr().err
    finally:
        away.rename(finished / "train.jsonl")


def test_rows_that_were_trained_on_are_no_held_out_rows(run_dir: Path, finished: Path, capsys: Any) -> None:
    rows = (finished / "train.jsonl").read_text().splitlines()
    mixed = finished / "mixed.jsonl"
    mixed.write_text("\n".join([*(finished / "test.jsonl").read_text().splitlines(), rows[3], rows[7]]) + "\n")
    datasets = f"evaluation.datasets=[{{path: {mixed}, type: alpaca}}]"
    asked = ["eval", str(run_dir), "--set", "evaluation.compare=[tuned]", "--set", datasets]
    assert main(asked) == 2
    said = capsys.readouterr().err
    assert "2 of 14 evaluation items are in the training data too" in said
    assert f"{mixed}:13 is also {finished / 'train.jsonl'}:4" in said
    assert "where it is meant, set data_checks: {leakage: warn}" in said
    assert not (run_dir / "evaluations").exists()
    assert main([*asked, "--set", "data_checks={leakage: warn}"]) == 0
    assert "warning: leakage: 2 of 14 evaluation items" in capsys.readouterr().out


def test_held_out_data_that_changed_is_told(run_dir: Path, finished: Path, capsys: Any) -> None:
    path = finished / "test.jsonl"
    text = path.read_text()
    path.write_text("".join(text.splitlines(keepends=True)[:6]))
    try:
        assert main(["eval", str(run_dir)]) == 0
    finally:
        path.write_text(text)
    assert "test.jsonl' is not what the run used" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_end_with_the_code_of_the_gates(tmp_path: Path, tiny_model: Path) -> None:
    recipe = write(tmp_path, tiny_model, {"gates": {"accuracy": {"at_least": 1.0}}}, learning_rate=0.05)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    environment |= {"TUNESMITH_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}

    def start(*command: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", *command]
        return subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)

    launched = start("core", "launch", str(recipe), "--cpu", "--num_processes", "2")
    assert launched.returncode == 3, launched.stdout + launched.stderr
    assert "gate: accuracy: failed" in launched.stdout
    assert "Traceback" not in launched.stderr


@pytest.mark.slow
def test_two_processes_finish_what_a_crash_stopped(run_dir: Path, tmp_path: Path) -> None:
    alone = answers_of(run_dir)
    # as a machine that went down during the tuned column leaves it
    kept = next((run_dir / "answers").glob("tuned-*.jsonl"))
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join([*lines[:5], '{"item": 3, "tok']))
    for name in ("run.json", "predictions.jsonl", "report.html"):
        (run_dir / name).unlink()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    environment |= {"TUNESMITH_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, "-m", "core", "eval", str(run_dir)],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tuned: 12 answers in" in done.stdout
    assert "4 of them from an earlier attempt" in done.stdout
    assert values_of(run_dir)["evaluation"]["tuned"]["accuracy"]["n"] == 12
    texts = [[answer["text"] for answer in answers.values()] for answers in answers_of(run_dir)]
    assert texts == [[answer["text"] for answer in answers.values()] for answers in alone]
    assert not (run_dir / CLAIM_FILE).exists()


def test_a_folder_that_another_process_writes_into_is_refused(run_dir: Path, capsys: Any) -> None:
    held = run_dir / "evaluations" / "1"
    code = (
        "import sys; from pathlib import Path; from core.claim import _take; _take(Path(sys.argv[1]));"
        "print('held', flush=True); sys.stdin.read()"
    )
    held.mkdir(parents=True)
    command = [sys.executable, "-c", code, str(held)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        assert main(["eval", str(run_dir)]) == 2
        assert (
            f"another run is writing into output_dir {str(held)!r}: process {owner.pid} on" in capsys.readouterr().err
        )
        owner.kill()
    assert main(["eval", str(run_dir)]) == 0
    assert sorted(entry.name for entry in held.parent.iterdir()) == ["1"]
    with pytest.raises(UserError, match="holds results already"):
        refuse_results(make_test_plan(run_dir, run_dir, output_dir=str(held)))


def test_scorings_side_by_side_do_not_mix_their_answers(run_dir: Path, tmp_path: Path, capsys: Any) -> None:
    code = (
        "import sys; from pathlib import Path; from core.claim import _take; _take(Path(sys.argv[1]));"
        "print('held', flush=True); sys.stdin.read()"
    )
    before = {path: path.read_bytes() for path in (run_dir / "answers").iterdir()}
    asked = ["eval", str(run_dir), "--set", "evaluation.compare=[tuned]", "--set", "evaluation.max_new_tokens=3"]
    command = [sys.executable, "-c", code, str(run_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        assert main([*asked, "--output", str(tmp_path / "mine")]) == 0
        owner.kill()
    assert f"another process is writing into {run_dir}" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (run_dir / "answers").iterdir()} == before
    assert len(list((tmp_path / "mine" / "answers").iterdir())) == 1
    (run_dir / CLAIM_FILE).unlink()
    assert main([*asked, "--output", str(tmp_path / "next")]) == 0
    assert len(list((run_dir / "answers").iterdir())) == len(before) + 1, "kept with the run, which nobody holds"
    assert not (tmp_path / "next" / "answers").exists()
    assert not (run_dir / CLAIM_FILE).exists()


def test_an_adapter_that_saves_files_of_its_own_is_not_taken_for_its_older_self(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import core.evaluation.answerers as answerers

    asked = ["eval", str(run_dir), "--set", "evaluation.compare=[tuned]"]
    (run_dir / "adapter.npz").write_bytes(b"first")
    assert main(asked) == 0
    assert "taken from" not in capsys.readouterr().out
    (run_dir / "train.log").write_text("no part of the model")
    assert main(asked) == 0
    assert "tuned: 12 answers taken from" in capsys.readouterr().out
    (run_dir / "adapter.npz").write_bytes(b"other")
    loaded: list[Any] = []
    load = answerers.load_saved

    def counted(*args: Any) -> Any:
        loaded.append(args)
        return load(*args)

    monkeypatch.setattr(answerers, "load_saved", counted)
    assert main(asked) == 0
    assert len(loaded) == 1, "other weights are asked anew"


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, *files: str) -> Path:
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text("{}")
        return tmp_path / name

    return make


def test_targets_are_told_apart(folder: Callable[..., Path], tmp_path: Path) -> None:
    kinds = {
        "run": ("recipe.lock.yml", "adapter_config.json", "run.json"),
        "run/checkpoint-3": ("adapter_config.json",),
        "adapter": ("adapter_config.json",),
        "whole": ("config.json",),
    }
    found = {name: find_target(str(folder(name, *files))) for name, files in kinds.items()}
    assert [target.kind for target in found.values()] == ["run", "run", "adapter", "model"]
    assert found["run/checkpoint-3"].lock == tmp_path / "run" / "recipe.lock.yml"
    assert find_target("org/model").kind == "model"
    for name, files in {"empty": ("other.txt",), "training": ("recipe.lock.yml",)}.items():
        with pytest.raises(UserError, match="holds no model"):
            find_target(str(folder(name, *files)))
    with pytest.raises(UserError, match=r"target './nowhere' does not exist"):
        find_target("./nowhere")


def test_results_get_a_folder_of_their_own(folder: Callable[..., Path], tmp_path: Path) -> None:
    run = folder("run", "recipe.lock.yml", "training.json", "config.json")
    assert output_for(find_target(str(run)), None) == run, "its scoring broke off"
    (run / "run.json").write_text("{}")
    assert output_for(find_target(str(run)), None) == run / "evaluations" / "1"
    folder("run/evaluations/4", "run.json")
    assert output_for(find_target(str(run)), None) == run / "evaluations" / "5"
    folder("run/evaluations/7", "predictions.jsonl")
    assert output_for(find_target(str(run)), None) == run / "evaluations" / "7", "left unfinished"
    assert output_for(find_target(str(run)), tmp_path / "new") == tmp_path / "new"
