"""The launchers, for real: accelerate's own, and `tunesmith launch` around it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from core import launched
from core.commands import launch
from core.errors import UserError
from core.launched import exit_code, leave_exit_code, note_start, rank_of, started_processes, under_bare_launcher
from core.testing.recipes import ALPACA_ROWS, write_tiny_recipe

OURS = (sys.executable, "-P", "-m", "core", "launch")
BARE = (sys.executable, "-m", "accelerate.commands.launch", "-m", "core")
HELD_OUT = [{**row, "input": f"Now: {row['input']}"} for row in ALPACA_ROWS[:5]]
EVALUATION = {
    "datasets": [{"path": "test.jsonl", "type": "alpaca"}],
    "metrics": [{"type": "accuracy"}],
    "compare": ["base", "tuned"],
    "max_new_tokens": 3,
    "batch_size": 2,
}


def environment() -> dict[str, str]:
    """This process's, without what a launcher would leave in it; one thread a process."""
    drop = ("RANK", "LOCAL_RANK", "WORLD_SIZE", launched.FOLDER_VARIABLE, "PYTHONSAFEPATH")
    return {**{key: value for key, value in os.environ.items() if key not in drop}, "OMP_NUM_THREADS": "1"}


def run(*command: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=environment(), capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def decoy(tmp_path: Path) -> Path:
    """A working folder with a `core` package of its own."""
    folder = tmp_path / "decoy"
    (folder / "core").mkdir(parents=True)
    (folder / "core" / "__init__.py").write_text("raise RuntimeError('the decoy was imported')\n")
    return folder


@pytest.fixture
def bad_data(tiny_model: Path, tmp_path: Path) -> Path:
    """A recipe without a mistake, on data with a row that is no JSON: found only when the run reads it."""
    recipe = write_tiny_recipe(tmp_path, tiny_model)
    with (tmp_path / "train.jsonl").open("a") as data:
        data.write('{"instruction": \n')
    return recipe


def test_a_mistake_in_the_recipe_starts_no_launcher(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_tiny_recipe(tmp_path, tiny_model, {"max_stepz": 3})
    program = (
        "import sys\nfrom core.cli import main\n"
        f"code = main(['launch', {str(recipe)!r}, '--num_processes', '2'])\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else code)"
    )
    done = run(sys.executable, "-c", program, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("unknown key 'max_stepz'") == 1
    assert "accelerate" not in done.stderr


def test_our_launcher_passes_the_code_on_and_adds_no_traceback_beside_a_decoy(bad_data: Path, decoy: Path) -> None:
    done = run(*OURS, bad_data, folder=decoy)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("train.jsonl:13") == 1
    for noise in ("Traceback", "decoy", "launcher's traceback"):
        assert noise not in done.stderr


def test_a_bare_launcher_s_traceback_is_explained(bad_data: Path, tmp_path: Path) -> None:
    done = run(*BARE, bad_data, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("train.jsonl:13") == 1
    before, _, after = done.stderr.partition("note: the launcher's traceback below is not the cause\n")
    assert "Traceback" not in before
    assert after.startswith("help: `tunesmith launch RECIPE`")
    assert "Traceback" in after


@pytest.mark.slow
def test_two_processes_run_a_recipe_beside_a_decoy(tiny_model: Path, tmp_path: Path, decoy: Path) -> None:
    recipe = write_tiny_recipe(tmp_path, tiny_model, {"evaluation": EVALUATION}, held_out=HELD_OUT)
    done = run(*OURS, recipe, "--num_processes", "2", folder=decoy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" thread, 2 processes, ") == 1
    report = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert len(report["train"]["losses"]) == 3
    assert len((tmp_path / "out" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()) == len(HELD_OUT)


@pytest.mark.slow
def test_two_processes_say_what_is_wrong_once(bad_data: Path, tmp_path: Path) -> None:
    config = tmp_path / "accelerate.yml"
    config.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_CPU\nuse_cpu: true\nnum_processes: 2\n"
        "num_machines: 1\nmachine_rank: 0\nmixed_precision: 'no'\n"
    )
    done = run(*OURS, bad_data, "--config_file", config, folder=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout.count(" thread, 2 processes, ") == 1
    assert done.stderr.count("train.jsonl:13") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_reaches_the_run_once_and_leaves_a_checkpoint(
    number: signal.Signals, tiny_model: Path, tmp_path: Path
) -> None:
    recipe = write_tiny_recipe(tmp_path, tiny_model, {"max_steps": 100_000, "save_strategy": "no"})
    process = subprocess.Popen(
        [*OURS, str(recipe)],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    metrics = tmp_path / "out" / "metrics.jsonl"
    try:
        deadline = time.monotonic() + 240
        while (
            not (metrics.exists() and metrics.stat().st_size) and process.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.2)
        process.send_signal(number)
        out, error = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, out + error
    assert error.count("interrupted") == 1
    assert "--resume" in error
    assert "Traceback" not in error
    assert len(list((tmp_path / "out").glob("checkpoint-*"))) == 1


def test_a_process_that_the_system_ends_is_told_from_a_mistake(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os, signal, sys\nif sys.argv[-1:] != [''] and 'core' in sys.orig_argv and 'run' in sys.orig_argv[:5]:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    recipe = write_tiny_recipe(tmp_path, tiny_model)
    variables = {**environment(), "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([*OURS, str(recipe)], env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 128 + signal.SIGKILL, done.stderr
    assert "ended by SIGKILL" in done.stderr
    assert "memory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "variables", "threads"),
    [
        ([], {}, None),
        ([], {"OMP_NUM_THREADS": "1"}, "1"),
        ([], {"OMP_NUM_THREADS": "1", "TUNESMITH_NUM_THREADS": "3"}, "3"),
        (["--num_cpu_threads_per_process", "1", "--num_processes", "2"], {"OMP_NUM_THREADS": "4"}, "1"),
        (["--num-cpu-threads-per-process=5"], {"TUNESMITH_NUM_THREADS": "3"}, "5"),
    ],
)
def test_a_thread_count_that_was_chosen_is_told_from_a_launchers_own(
    flags: list[str], variables: dict[str, str], threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "TUNESMITH_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launch._threads_chosen(flags).get("TUNESMITH_NUM_THREADS") == threads


@pytest.mark.parametrize(
    ("flags", "message", "help"),
    [
        (["--num_proceses", "2"], "unknown argument '--num_proceses'", "--num_processes"),
        (["--multi_gpu", "2"], "cannot place '2'", "each with its value"),
    ],
)
def test_flags_that_accelerate_does_not_know(flags: list[str], message: str, help: str) -> None:
    from accelerate.commands.launch import launch_command_parser

    from core.launcher import launch_arguments

    with pytest.raises(UserError) as error:
        launch_arguments(launch_command_parser(), [*flags, "-m", "core", "run", "recipe.yml"])
    assert message in error.value.message
    assert help in (error.value.help or "")


@pytest.mark.parametrize("flag", ["--num_processes=2", "--num-processes=2"])
def test_flags_stand_before_the_program_and_the_recipe_behind_it(flag: str) -> None:
    from accelerate.commands.launch import launch_command_parser

    from core.launcher import launch_arguments

    args = launch_arguments(launch_command_parser(), [flag, "-m", "core", "run", "r.yml", "--set", "a=b"])
    assert args.num_processes == 2
    assert args.training_script_args == ["run", "r.yml", "--set", "a=b"]


@pytest.fixture
def signals_as_before() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_as_before")
@pytest.mark.parametrize("started", [False, True])
def test_a_signal_to_the_launcher_ends_what_has_not_started_and_waits_for_what_has(
    started: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from core import launcher

    seconds = 0.5 if started else 600
    children: list[subprocess.Popen[bytes]] = []

    def signalled(argv: list[str]) -> int:
        assert (tmp_path / "launcher.ready").is_file()
        children.append(subprocess.Popen([sys.executable, "-S", "-c", f"import time; time.sleep({seconds})"]))
        if started:
            (tmp_path / "17.started").touch()
            (tmp_path / "0.exit").write_text("130")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        return 0

    monkeypatch.setenv("TUNESMITH_LAUNCH_FOLDER", str(tmp_path))
    monkeypatch.setattr(launcher, "main", signalled)
    # this process has children that are none of the test's
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: [psutil.Process(children[0].pid)])
    assert launcher.main_or_interrupted([]) == 130
    assert children[0].wait(timeout=240) == (0 if started else -signal.SIGKILL)
    assert capsys.readouterr().err == ("" if started else "interrupted before the run had started\n")


@pytest.mark.parametrize("ready", [False, True])
def test_a_signal_before_anything_has_started_ends_the_launcher(ready: bool, tmp_path: Path) -> None:
    from core.commands.launch import _forwarding
    from core.launched import early_signal

    if ready:
        (tmp_path / "launcher.ready").touch()
    with _forwarding(tmp_path) as started:
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], process_group=0)
        started.append(child.pid)
        os.kill(os.getpid(), signal.SIGINT)
        assert child.wait(timeout=240) == -(signal.SIGTERM if ready else signal.SIGKILL)
    assert early_signal(tmp_path) == signal.SIGINT


@pytest.mark.parametrize(
    ("flags", "config", "port"),
    [
        ([], "", 0),
        (["--main_process_port", "29511"], "", 29511),
        (["--num_machines", "2"], "", None),
        ([], "main_process_port: 29512\n", None),
        ([], "num_machines: 2\nmain_process_ip: 10.0.0.1\n", None),
        (["--mpirun_hostfile", "hosts"], "", None),
    ],
)
def test_a_port_is_asked_of_the_system_where_nobody_names_one(
    flags: list[str], config: str, port: int | None, tmp_path: Path
) -> None:
    from accelerate.commands.launch import launch_command_parser

    from core.launcher import launch_arguments, let_the_system_choose_a_port

    file = tmp_path / "accelerate.yml"
    file.write_text(f"distributed_type: MULTI_GPU\nnum_processes: 2\n{config}")
    given = ["--config_file", str(file), *flags, "-m", "core", "run", "r.yml"]
    args = launch_arguments(launch_command_parser(), given)
    let_the_system_choose_a_port(args)
    assert args.main_process_port == port
    assert getattr(args, "standalone", False) is (port == 0)


@pytest.mark.parametrize(
    ("variables", "rank"),
    [({}, 0), ({"RANK": "3"}, 3), ({"OMPI_COMM_WORLD_RANK": "2"}, 2), ({"RANK": "", "PMI_RANK": "1"}, 1)],
)
def test_the_rank_is_read_from_whichever_launcher(variables: dict[str, str], rank: int) -> None:
    assert rank_of(variables) == rank


@pytest.mark.parametrize(
    ("variables", "bare"),
    [
        ({}, False),
        ({"ACCELERATE_DYNAMO_BACKEND": "NO"}, True),
        ({"TORCHELASTIC_RUN_ID": "none"}, True),
        ({"ACCELERATE_DYNAMO_BACKEND": "NO", launched.FOLDER_VARIABLE: "/tmp/x"}, False),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, False),
    ],
)
def test_who_waits_for_this_process(variables: dict[str, str], bare: bool) -> None:
    assert under_bare_launcher(variables) == bare


def test_codes_and_processes_are_left_for_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exit_code(tmp_path) is None
    monkeypatch.setenv(launched.FOLDER_VARIABLE, str(tmp_path))
    for rank, code in (("10", 1), ("0", 0), ("2", 3)):
        monkeypatch.setenv("RANK", rank)
        note_start()
        leave_exit_code(code)
    assert exit_code(tmp_path) == 3  # of the lowest rank that failed, not the first by name
    assert started_processes(tmp_path) == [os.getpid()]


def test_outside_a_launcher_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(launched.FOLDER_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    note_start()
    leave_exit_code(2)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_before_anything_is_saved_says_so(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_tiny_recipe(tmp_path, tiny_model)
    code = (
        "import sys, core.run\n"
        "def run(plan): raise KeyboardInterrupt\n"
        "core.run.run = run\n"
        "from core.cli import main\n"
        f"sys.exit(main(['run', {str(recipe)!r}]))\n"
    )
    done = run(sys.executable, "-c", code, folder=tmp_path)
    assert done.returncode == 130
    assert done.stderr.endswith("interrupted: no step had been saved, and nothing is left to go on with\n"), done.stderr
    (tmp_path / "out" / "checkpoint-2").mkdir(parents=True)
    again = code.replace(f"{str(recipe)!r}]", f"{str(recipe)!r}, '--overwrite']")
    done = run(sys.executable, "-c", again, folder=tmp_path)
    assert "go on from the last with --resume" in done.stderr


def test_a_count_that_is_none_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_tiny_recipe(tmp_path, tiny_model)
    done = subprocess.run(
        [*OURS, str(recipe), "--num_processes", "-3"], capture_output=True, text=True, cwd=tmp_path, env=environment()
    )
    assert done.returncode == 2
    assert "error: --num_processes is -3, expected 1 or more\nhelp: leave --num_processes out" in done.stderr
