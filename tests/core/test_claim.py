"""Two runs at once never write into one folder; a run that died stands in nobody's way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.claim import CLAIM_FILE, held_output_dir, refuse_live_run
from core.cli import main
from core.errors import UserError
from core.run import run
from core.testing.recipes import write_tiny_recipe
from tests.core.lock.conftest import tunesmith
from tests.core.plans import make_test_plan

HOLD = """
import sys
from pathlib import Path
from core.claim import held_output_dir
from tests.core.plans import make_test_plan
with held_output_dir(make_test_plan(Path(sys.argv[1]), Path("."), output_dir=sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `tmp_path / "out"`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path), str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_is_held_and_left_as_it_was(tmp_path: Path) -> None:
    plan = make_test_plan(tmp_path, tmp_path, output_dir=str(tmp_path / "a" / "b"))
    with held_output_dir(plan):
        owner = json.loads((plan.output_dir / CLAIM_FILE).read_text())
        assert owner["process"] == os.getpid()
    assert not (tmp_path / "a").exists(), "nothing was written, so nothing stays"
    (tmp_path / "a" / "b").mkdir(parents=True)
    with held_output_dir(plan):
        (plan.output_dir / "run.json").write_text("{}")
    assert [entry.name for entry in plan.output_dir.iterdir()] == ["run.json"]
    with pytest.raises(UserError, match="already holds a run"), held_output_dir(plan):
        pytest.fail("a run that finished in between is not overwritten")


def test_a_held_folder_is_refused_until_its_owner_ends(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    plan = make_test_plan(tmp_path, tmp_path, output_dir=str(tmp_path / "out"))
    said = f"another run is writing into .*: process {holder.pid} on "
    with pytest.raises(UserError, match=said) as raised, held_output_dir(plan):
        pytest.fail("it is not ours")
    assert "choose another output_dir" in (raised.value.help or "")
    assert (plan.output_dir / CLAIM_FILE).exists(), "the claim of the other stays"
    assert holder.stdin is not None
    holder.stdin.close()
    assert holder.wait() == 0
    with held_output_dir(plan):
        assert json.loads((plan.output_dir / CLAIM_FILE).read_text())["process"] == os.getpid()


@pytest.mark.parametrize("options", [[], ["--overwrite"], ["--resume"]])
def test_a_live_run_is_told_of_before_anything_is_read(
    tiny_model: Path,
    tmp_path: Path,
    holder: subprocess.Popen[str],
    options: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = write_tiny_recipe(tmp_path, tiny_model)
    (tmp_path / "out" / "metrics.jsonl").write_text("{}")
    monkeypatch.setattr("core.plan.make_plan", lambda *_, **__: pytest.fail("a plan was made"))
    for _ in range(2):  # looking takes nothing from its owner
        assert main(["run", str(recipe), *options]) == 2
        error = capsys.readouterr().err
        assert error.startswith(
            f"error: another run is writing into output_dir '{tmp_path / 'out'}': process {holder.pid}"
        )
        assert "since 20" in error
        assert "already holds" not in error
    with pytest.raises(UserError, match=f"process {holder.pid} on"):
        run(make_test_plan(tmp_path, tmp_path, output_dir=str(tmp_path / "out")))
    assert (tmp_path / "out" / CLAIM_FILE).exists()


def test_no_live_run_is_seen_where_none_is(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    refuse_live_run(tmp_path / "nowhere")
    refuse_live_run(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "out" / CLAIM_FILE).exists()
    refuse_live_run(tmp_path / "out")


def test_a_rank_that_comes_late_does_not_take_its_own_run_for_another(
    tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="another run is writing"):
        refuse_live_run(tmp_path / "out")
    monkeypatch.setenv("WORLD_SIZE", "2")
    refuse_live_run(tmp_path / "out")


def test_the_claim_of_a_process_that_was_killed_is_stale(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    plan = make_test_plan(tmp_path, tmp_path, output_dir=str(tmp_path / "out"))
    assert json.loads((plan.output_dir / CLAIM_FILE).read_text())["process"] == holder.pid
    with held_output_dir(plan):
        assert json.loads((plan.output_dir / CLAIM_FILE).read_text())["process"] == os.getpid()
    assert not (plan.output_dir / CLAIM_FILE).exists()


def test_a_child_does_not_keep_the_claim(tmp_path: Path) -> None:
    plan = make_test_plan(tmp_path, tmp_path, output_dir=str(tmp_path / "out"))
    with held_output_dir(plan):
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        command = [sys.executable, "-c", HOLD, str(tmp_path), str(tmp_path / "out")]
        after = subprocess.run(command, input="", capture_output=True, text=True)
        assert (after.returncode, after.stdout) == (0, "held\n"), after.stderr
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_file_system_without_locks_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import errno
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with held_output_dir(make_test_plan(tmp_path, tmp_path, output_dir=str(tmp_path / "out"))):
        pass
    assert "knows no locks" in capsys.readouterr().out


@pytest.mark.slow
def test_of_two_runs_at_once_one_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_tiny_recipe(tmp_path, tiny_model)
    command = [sys.executable, "-m", "core", "run", str(recipe)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [(process.communicate(), process.returncode) for process in both]
    assert sorted(code for _, code in ends) == [0, 2], ends
    (refused,) = [texts[1] for texts, code in ends if code == 2]
    assert "another run is writing into output_dir" in refused or "already holds a run" in refused
    assert "Traceback" not in refused
    assert (tmp_path / "out" / "run.json").is_file()
    assert not (tmp_path / "out" / CLAIM_FILE).exists()


@pytest.mark.slow
def test_a_run_of_two_processes_is_refused_once(
    tiny_model: Path, tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    recipe = write_tiny_recipe(tmp_path, tiny_model)
    run = tunesmith("launch", recipe, "--cpu", "--num_processes", "2")
    assert run.returncode == 2, run.stderr
    assert run.stderr.count("another run is writing into output_dir") == 1, run.stderr
    assert "Traceback" not in run.stderr
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == [CLAIM_FILE]
