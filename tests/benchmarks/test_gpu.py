"""The benchmark of a GPU, in tiny sizes on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/gpu.sh"


@pytest.mark.slow
def test_the_script_runs():
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", SCRIPT, "--smoke"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for table in ("leave one subject out", "SCMM side by side", "objectives on cpu"):
        assert table in done.stdout
    assert "MoodReader" in done.stdout
