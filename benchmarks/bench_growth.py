"""Growth of time and memory with the number of windows and of corpora.

    python benchmarks/bench_growth.py
    python benchmarks/bench_growth.py --windows 1000 4000 --corpora 2 3

Corpora of noise, made as they are read, of 20 trials a subject with 50 windows of 1 s
(8 channels, 128 Hz), more subjects the more windows there are. Each number has a fresh
process, which first does all the work on a tiny corpus, so that nothing is imported
while it is measured:

* loading: differential entropy with the default filter;
* pre-training: SCMM on these windows, one epoch;
* evaluate: standardisation and naive Bayes, five folds of subjects, loading included;
* audit: of that protocol;
* report: the page and the card of these results.

With several corpora, each of the least number of windows, one of them is tested and
the others train; loading and pre-training take all together.

Time is CPU time. Memory is the peak of resident memory beyond that before the work. The
exponent is the slope of a straight line through the logarithms over those of the number
of windows: 1 is linear. Less than 0.1 s counts as 0.1 s, less than 10 MiB as 10 MiB,
as all sizes need so much alike.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import mne
import numpy as np
from mne.decoding import Vectorizer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braindecode_emossl.datasets.base import EmotionDataset, Trial
from braindecode_emossl.evaluation import audit, evaluate
from braindecode_emossl.models import SCMM
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import SCMMPretraining, SSLPretrainer
from braindecode_emossl.pretraining.windows import join_corpora
from braindecode_emossl.report import write_report

CH_NAMES = ("Fp1", "Fp2", "C3", "C4", "P7", "P8", "O1", "O2")
SFREQ = 128.0
N_TRIALS, SECONDS = 20, 50
ROWS = ("loading", "pre-training", "evaluate", "audit", "report")


class Noise(EmotionDataset):
    """A corpus of any number of subjects, whose signals are noise."""

    code_name = "Noise"
    path_key = "NOISE"
    all_subject_numbers = tuple(range(1, 100_000))
    n_sessions_per_subject = 1
    n_trials_per_session = N_TRIALS
    classes = {"calm": 1, "wild": 2}  # noqa: RUF012
    common_interval = (0, SECONDS)
    doi_name = ""
    access_url = "https://example.org"
    expected_files = ("1.eeg",)
    ratings = ("valence",)
    rating_midpoint = 5.0

    def _find_recordings(self, root, subject):
        return {"0": root / f"{subject}.eeg"}

    def source_files(self, subject):
        """Return no file, as none is on disk."""
        return []

    def _read_trials(self, file, session):
        kinds = ("calm", 3.0), ("wild", 7.0)
        return {
            f"{number:02d}": [
                Trial(
                    number,
                    f"film{number}",
                    kinds[number % 2][0],
                    float(SECONDS),
                    ratings={"valence": kinds[number % 2][1]},
                )
            ]
            for number in range(N_TRIALS)
        }

    def _read_recording(self, file, session):
        rng = np.random.default_rng(int(file.stem))
        for run, trials in self._read_trials(file, session).items():
            data = 1e-5 * rng.normal(size=(len(CH_NAMES), int(SECONDS * SFREQ)))
            types = ["eeg"] * len(CH_NAMES)
            yield run, self._make_raw(data, CH_NAMES, types, SFREQ, trials)


class NoiseB(Noise):
    """Another corpus."""

    code_name, path_key = "NoiseB", "NOISEB"


class NoiseC(Noise):
    """Another corpus."""

    code_name, path_key = "NoiseC", "NOISEC"


class NoiseD(Noise):
    """Another corpus."""

    code_name, path_key = "NoiseD", "NOISED"


CORPORA = (Noise, NoiseB, NoiseC, NoiseD)


class Measured:
    """CPU time and peak memory of a block."""

    def __enter__(self):
        """Start."""
        # Linux: the peak starts again from what is resident now.
        Path("/proc/self/clear_refs").write_text("5")
        self.before, self.start = _read_status("VmRSS"), time.process_time()
        return self

    def __exit__(self, *error):
        """Stop."""
        self.seconds = time.process_time() - self.start
        self.mib = (_read_status("VmHWM") - self.before) / 1024


def _read_status(name: str) -> int:
    """Return an entry of this process in KiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0])


def work(folder: Path, n_windows: int, n_corpora: int) -> dict[str, tuple]:
    """Return time and memory of each row."""
    n_subjects = max(5, round(n_windows / (N_TRIALS * SECONDS)))
    subjects = list(range(1, n_subjects + 1))
    corpora = [kind(subjects, path=folder) for kind in CORPORA[:n_corpora]]
    paradigm = Emotion("valence", window=1.0, resample=None, features="de")
    protocol, options = "subject-kfold", {"n_splits": 5}
    if n_corpora > 1:
        protocol, options = "cross-corpus", {"test_corpora": corpora[0].code}
    found = {}

    def measure(name, function):
        with Measured() as measured:
            result = function()
        found[name] = measured.seconds, measured.mib
        return result

    X, _, _ = measure(
        "loading", lambda: join_corpora([paradigm.get_data(c) for c in corpora])
    )
    model = SCMM(n_outputs=2, n_chans=len(CH_NAMES), n_times=5, input_domain="de")
    pretrainer = SSLPretrainer(
        SCMMPretraining(model), sampler=None, max_epochs=1, batch_size=256
    )
    measure("pre-training", lambda: pretrainer.fit(X))
    pipeline = make_pipeline(Vectorizer(), StandardScaler(), GaussianNB())
    how = {"random_state": 0, **options}
    with tempfile.TemporaryDirectory() as results:
        measure(
            "evaluate",
            lambda: evaluate(
                {"NB": pipeline},
                corpora,
                paradigm,
                protocol,
                results_dir=results,
                **how,
            ),
        )
        measure("audit", lambda: audit(paradigm, corpora, protocol, **how))
        measure("report", lambda: write_report(results, Path(results, "page.html")))
    return found


def run(folder: Path, n_windows: int, n_corpora: int) -> dict[str, tuple]:
    """Return time and memory after a first try on a tiny corpus."""
    mne.set_log_level("ERROR")
    warnings.simplefilter("ignore")
    work(folder, 1, n_corpora)
    return work(folder, n_windows, n_corpora)


def in_fresh_process(function, *arguments):
    """Call a function where nothing has been in memory before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def tabulate(title: str, sizes: dict[str, int], results: list[dict]) -> Table:
    """Return time and memory of each row, with the exponents of their growth."""
    table = Table(title, *sizes, "exponent", box=MARKDOWN)
    logs = np.log([*sizes.values()])
    for name in ROWS:
        for place, (unit, least) in enumerate((("CPU s", 0.1), ("MiB", 10))):
            values = [result[name][place] for result in results]
            slope = np.polyfit(logs, np.log(np.maximum(values, least)), 1)[0]
            cells = [f"{value:.1f}" for value in values]
            table.add_row(f"{name}, {unit}", *cells, f"{slope:.2f}")
    return table


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--windows", type=int, nargs="+", default=[10_000, 40_000, 160_000]
    )
    parser.add_argument("--corpora", type=int, nargs="+", default=[1, 2, 3, 4])
    options = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder:
        measure = partial(in_fresh_process, run, Path(folder))
        if len(options.windows) > 1:
            sizes = {f"{n:,} windows": n for n in options.windows}
            results = [measure(n, 1) for n in options.windows]
            console.print(tabulate("one corpus", sizes, results))
        if len(options.corpora) > 1:
            least = min(options.windows)
            sizes = {f"{k} corpora": k for k in options.corpora}
            results = [measure(least, k) for k in options.corpora]
            console.print(tabulate(f"{least:,} windows each", sizes, results))


if __name__ == "__main__":
    main()
