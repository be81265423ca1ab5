"""What loading a base model takes of main memory, beyond the weights that are held in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 2**20
LARGEST = 1024 * 2816  # numbers in the largest tensor of the model
QUANTISING = 16  # bytes that bitsandbytes takes on a processor for each number of the tensor it is packing


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    script = Path(__file__).with_name("load_memory.py")
    environment = {**os.environ, "PYTHONPATH": str(script.parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path_factory.mktemp("models"))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries keep freed memory as they like")
@pytest.mark.parametrize("approach", ["full", "lora", "qlora"])
def test_a_load_takes_little_more_than_the_weights(figures: dict[str, dict[str, float]], approach: str) -> None:
    figure = figures[approach]
    assert figure["shards"] > 3
    assert figure["files"] > 250 * MIB
    # one tensor at a time is there twice: as it is read and as it is held
    at_work = QUANTISING * LARGEST if approach == "qlora" else 0
    assert figure["peak"] <= 1.15 * figure["weights"] + at_work
    assert figure["kept"] <= 1.08 * figure["weights"]


def test_a_base_packed_in_4_bits_is_never_there_unpacked(figures: dict[str, dict[str, float]]) -> None:
    assert figures["qlora"]["weights"] < 0.2 * figures["qlora"]["files"]
    assert figures["qlora"]["peak"] < 0.35 * figures["qlora"]["files"]  # held in bfloat16 it would be half
