"""CPU time to start: the command, the package, and the workers of an evaluation.

    python benchmarks/bench_start.py
    python benchmarks/bench_start.py --rounds 9 --parts commands

Tables, each from one run:

* commands: CPU time (user and system) of fresh processes, medians of interleaved
  rounds, against the import of the hosts, which any of them would take at least if it
  loaded them;
* workers: CPU time of two worker processes that run one tiny fold each, nearly all of
  which they take to start.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

PYTHON = [sys.executable, "-c"]
EMOSSL = [shutil.which("emossl", path=Path(sys.executable).parent) or "emossl"]


def complete(typed: str) -> dict[str, str]:
    """Return the environment in which a shell asks for completions."""
    return {
        "_EMOSSL_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split(" ")) - 1),
    }


# Name, arguments, and what the environment has besides.
COMMANDS = [
    ("`emossl --help`", [*EMOSSL, "--help"], {}),
    ("`emossl --version`", [*EMOSSL, "--version"], {}),
    ("`emossl evaluate --help`", [*EMOSSL, "evaluate", "--help"], {}),
    ("completion of commands", EMOSSL, complete("emossl pre")),
    ("completion of corpora", EMOSSL, complete("emossl evaluate ")),
    ("completion of protocols", EMOSSL, complete("emossl evaluate SEED --protocol ")),
    ("`import braindecode_emossl`", [*PYTHON, "import braindecode_emossl"], {}),
    ("Python alone", [*PYTHON, "pass"], {}),
    (
        "`import moabb, braindecode`",
        [*PYTHON, "import moabb.datasets, moabb.paradigms, braindecode"],
        {},
    ),
]

WORKERS = """
import resource, sys, warnings
import joblib, mne
from joblib.externals.loky import get_reusable_executor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from braindecode_emossl.datasets import SEED, write_replica
from braindecode_emossl.evaluation import evaluate
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.features import DifferentialEntropy
from braindecode_emossl.pretraining import SSLClassifier

mne.set_log_level("ERROR")
warnings.simplefilter("ignore")
pipelines = {
    "classical": make_pipeline(DifferentialEntropy(200.0), LogisticRegression()),
    "network": SSLClassifier("SCMM", objective=None, finetuner__max_steps=1),
}
root = write_replica(
    "SEED", sys.argv[2], subjects=[1, 2], sessions=[0], seconds=4, seed=0
)
with joblib.parallel_config("loky", n_jobs=2):
    table = evaluate(
        {"it": pipelines[sys.argv[1]]},
        [SEED([1, 2], path=root)],
        Emotion(window=1.0),
        "leave-one-subject-out",
        random_state=0,
    )
assert len(table) == 2
get_reusable_executor().shutdown(wait=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""


def measure(command: list[str], environment: dict[str, str]) -> float:
    """Return the seconds of CPU time of a process."""
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}.")
    return used.ru_utime + used.ru_stime


def compare_commands(n_rounds: int) -> Table:
    """Return the medians of the commands, and of the hosts' import."""
    found: dict[str, list[float]] = {name: [] for name, *_ in COMMANDS}
    for _ in range(n_rounds + 1):  # the first one reads the files into memory
        for name, command, environment in COMMANDS:
            found[name].append(measure(command, environment))
    table = Table("", "CPU time (s)", "hosts' import / this", box=MARKDOWN)
    medians = {name: statistics.median(values[1:]) for name, values in found.items()}
    hosts = medians["`import moabb, braindecode`"]
    for name, seconds in medians.items():
        table.add_row(name, f"{seconds:.2f}", f"{hosts / seconds:.1f}")
    return table


def measure_workers(n_rounds: int) -> Table:
    """Return the CPU time that workers take for two tiny folds."""
    found: dict[str, list[float]] = {"classical": [], "network": []}
    for _ in range(n_rounds):
        for kind, values in found.items():
            with tempfile.TemporaryDirectory() as folder:
                output = subprocess.check_output([*PYTHON, WORKERS, kind, folder])
            values.append(float(output.split()[-1]))
    table = Table("two workers, one fold each", "CPU time (s)", box=MARKDOWN)
    names = {"classical": "DE + logistic regression", "network": "SCMM"}
    for kind, values in found.items():
        table.add_row(names[kind], f"{statistics.median(values):.1f}")
    return table


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument(
        "--parts",
        nargs="+",
        default=["commands", "workers"],
        choices=["commands", "workers"],
    )
    options = parser.parse_args()
    parts = {"commands": compare_commands, "workers": measure_workers}
    for part in options.parts:
        Console(width=120).print(parts[part](options.rounds))


if __name__ == "__main__":
    main()
