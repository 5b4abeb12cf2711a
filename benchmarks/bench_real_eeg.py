"""Rest against mental arithmetic in real EEG, on subjects that were left out.

    python benchmarks/bench_real_eeg.py FOLDER
    python benchmarks/bench_real_eeg.py FOLDER --pipelines SCMM --n-labeled 1 all
    python benchmarks/bench_real_eeg.py FOLDER --pipelines SCMM --pretrain-steps 100
    python benchmarks/bench_real_eeg.py FOLDER --pipelines MoodReader --folds 3

FOLDER contains the EDF files of PhysioNet's "EEG During Mental Arithmetic Tasks" (Zyma
et al. 2019, https://doi.org/10.13026/C2JQ1P): 36 subjects at rest (SubjectNN_1.edf,
about three minutes) and subtracting numbers in their heads (SubjectNN_2.edf, about one
minute). A subset of the subjects suffices. The signals are real, but not emotional.

Each condition was recorded once per subject, so with whole recordings as trials there
would be no smaller number of labels than all. The script therefore divides each
recording into blocks of 20 s, which are the trials: --n-labeled counts blocks of each
condition and training subject. The other training blocks are given to the pipelines
without labels. No block is in both the training and the test set, as a whole subject is
tested.

The pipelines are those of the package. They are run by ``evaluate`` on the default
windows of ``Emotion``, together with the rows of ``with_baselines``. The logistic
regression of the baselines has scikit-learn's defaults and overfits so few subjects, so
there is one more row with stronger regularisation and balanced classes.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import edfio
import mne
import numpy as np
import pandas as pd
from learning_tables import (
    DE_BASELINE,
    add_folds,
    add_options,
    choose_protocol,
    describe_protocol,
    describe_updates,
    open_folder,
    parse_number,
    run_folds,
    set_lengths,
    tabulate_differences,
    tabulate_scores,
)
from rich.console import Console
from sklearn.base import clone

from braindecode_emossl.datasets.base import EmotionDataset, Trial
from braindecode_emossl.errors import CorpusFormatError, EmosslError
from braindecode_emossl.evaluation import (
    load_pipelines,
    pipelines_folder,
    with_baselines,
)
from braindecode_emossl.paradigms import Emotion

CH_NAMES = "Fp1 Fp2 F3 F4 F7 F8 T3 T4 C3 C4 T5 T6 P3 P4 O1 O2 Fz Cz Pz".split()
SFREQ = 500.0
CONDITIONS = ("rest", "arithmetic")  # of the files _1 and _2
BLOCK_SECONDS = 20

REGULARIZED = f"{DE_BASELINE}, C=0.01, balanced"
# MEMHACL groups windows by stimulus, but these recordings have no common stimulus.
UNSUITED = "MEMHACL"


# -- the data set --------------------------------------------------------------


class EEGMAT(EmotionDataset):
    """PhysioNet's EEG during mental arithmetic, in blocks of 20 s.

    The class of a block is the condition of its recording. The remainder of a recording
    belongs to its last block. The 19 EEG channels are re-referenced to their average.
    The files end in one or two seconds of constant values, which are removed.
    """

    code_name = "EEGMAT"
    path_key = "EEGMAT"
    all_subject_numbers = tuple(range(36))
    n_sessions_per_subject = 1
    n_trials_per_session = 12  # of most subjects
    classes = dict(zip(CONDITIONS, (1, 2), strict=True))  # noqa: RUF012
    common_interval = (0, BLOCK_SECONDS)
    doi_name = "10.13026/C2JQ1P"
    access_url = "https://doi.org/10.13026/C2JQ1P"
    expected_files = ("Subject00_1.edf", "Subject00_2.edf")

    def _find_recordings(self, root, subject):
        return {"0": find_pairs(root, [subject])[subject]}

    def _read_trials(self, file, session):
        return {run: trials for run, _, trials in self._read_runs_of(file)}

    def _read_recording(self, file, session):
        for run, data, trials in self._read_runs_of(file):
            types = ["eeg"] * len(CH_NAMES)
            yield run, self._make_raw(data, CH_NAMES, types, SFREQ, trials)

    def _read_runs_of(self, files) -> Iterator[tuple[str, np.ndarray, list[Trial]]]:
        """Yield run key, signals and blocks of the two recordings of a subject."""
        first = 0
        for run, (file, condition) in enumerate(zip(files, CONDITIONS, strict=True)):
            data = read_signals(file)
            seconds = data.shape[1] / SFREQ
            n_blocks = max(1, int(seconds // BLOCK_SECONDS))
            onsets = [number * BLOCK_SECONDS for number in range(n_blocks)]
            lengths = np.diff([*onsets, seconds])
            blocks = enumerate(zip(onsets, lengths.tolist(), strict=True))
            # No two blocks share a stimulus: a name for each condition would give the
            # labels to objectives that group windows by stimulus.
            trials = [
                Trial(first + k, f"{file.stem} block {k}", condition, length, onset)
                for k, (onset, length) in blocks
            ]
            first += n_blocks
            yield str(run), data, trials


def find_pairs(
    folder: Path, subjects: list[int] | None = None
) -> dict[int, tuple[Path, Path]]:
    """Return the files of rest and of arithmetic by subject, by default of all."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    found: dict[int, dict[str, Path]] = {}
    for file in sorted(folder.rglob("*.edf")):
        if match := re.fullmatch(r"Subject(\d\d)_([12])\.edf", file.name):
            files = found.setdefault(int(match[1]), {})
            if (other := files.setdefault(match[2], file)) != file:
                raise ValueError(
                    f"{other} and {file} have the same name. Remove one of them."
                )
    if not found:
        raise FileNotFoundError(
            f"{folder} has no files such as Subject00_1.edf and Subject00_2.edf. "
            f"Download them from {EEGMAT.access_url}."
        )
    pairs = {}
    for subject in sorted(found) if subjects is None else subjects:
        files = found.get(subject, {})
        if missing := {"1", "2"} - set(files):
            raise FileNotFoundError(
                f"{folder} lacks Subject{subject:02d}_{min(missing)}.edf. Download it, "
                "or choose other subjects with --subjects."
            )
        pairs[subject] = files["1"], files["2"]
    return pairs


def read_signals(file: Path) -> np.ndarray:
    """Return the EEG (n_chans, n_times) in volts, in average reference."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a truncated file
            signals = {
                s.label.removeprefix("EEG "): s for s in edfio.read_edf(file).signals
            }
    except Exception as error:  # of the reader, whatever it raises
        raise CorpusFormatError(
            f"{file} cannot be read ({error}). Download it again."
        ) from error
    if missing := [name for name in CH_NAMES if name not in signals]:
        raise CorpusFormatError(
            f"{file} must have the channels {CH_NAMES}, but lacks {missing}."
        )
    chosen = [signals[name] for name in CH_NAMES]
    found = {(s.sampling_frequency, s.physical_dimension) for s in chosen}
    if found != {(SFREQ, "uV")}:
        raise CorpusFormatError(
            f"{file} must have channels of {SFREQ:g} Hz in uV, but has {found}."
        )
    data = 1e-6 * np.array([s.data for s in chosen])
    moves = np.flatnonzero(np.diff(data).any(axis=0))
    if not len(moves):
        raise CorpusFormatError(f"{file} is constant. Download it again.")
    data = data[:, : moves[-1] + 2]
    return data - data.mean(axis=0)


# -- the evaluation ------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    """Run the evaluation and print the tables."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        run(options)
    except (EmosslError, OSError, ValueError) as error:
        parser.exit(2, f"Error: {error}\n")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of the EDF files")
    parser.add_argument(
        "--pipelines",
        nargs="+",
        metavar="NAME",
        default=[],
        help="pipelines of the package to evaluate, such as SCMM or MoodReader, with "
        "their baselines (default: the baselines alone)",
    )
    parser.add_argument(
        "--n-labeled",
        nargs="+",
        metavar="K",
        type=parse_number,
        default=[None],
        help="numbers of labelled blocks of each condition and training subject, or "
        "all (default)",
    )
    parser.add_argument(
        "--subjects", nargs="+", type=int, help="subjects (default: all in FOLDER)"
    )
    parser.add_argument(
        "--standardize",
        choices=["recording"],
        help="standardise each channel within each subject, which uses the signals of "
        "the test subject (default: no)",
    )
    add_folds(parser)
    add_options(parser)
    return parser


def run(options: argparse.Namespace) -> None:
    """Evaluate the pipelines and print the tables."""
    dataset = open_dataset(options.folder, options.subjects)
    paradigm = Emotion(standardize=options.standardize)
    with open_folder(options.results) as folder:
        pipelines, grids = make_pipelines(options, folder / "memory")
        protocol, settings = choose_protocol(options)
        results = run_folds(
            pipelines,
            dataset,
            paradigm,
            folder,
            options,
            protocol,
            param_grid=grids,
            **settings,
        )
    console = Console(width=140)
    console.print(describe(dataset, paradigm, results, options), highlight=False)
    console.print(tabulate_scores(results))
    learned = [name for name in options.pipelines if f"{name}, frozen" in pipelines]
    if learned:
        others = ["{}, random weights", DE_BASELINE, REGULARIZED]
        pairs = [(name, other.format(name)) for name in learned for other in others]
        console.print(tabulate_differences(results, pairs))


def open_dataset(folder: Path, subjects: list[int] | None) -> EEGMAT:
    """Return the data set of some subjects, by default all in the folder."""
    found = find_pairs(folder, subjects)
    return EEGMAT(sorted(found), path=folder)


def make_pipelines(options: argparse.Namespace, memory: Path) -> tuple[dict, dict]:
    """Return the pipelines with their baselines, and the grids of their searches."""
    shipped, grids = load_pipelines(pipelines_folder(), keep_sfreq=False)
    del shipped[UNSUITED]
    if unknown := [name for name in options.pipelines if name not in shipped]:
        raise ValueError(
            f"--pipelines must be among {[*shipped]}, but got {unknown}. {UNSUITED} "
            "is not, as it needs subjects that perceived the same stimuli."
        )
    chosen = {name: shipped[name] for name in options.pipelines}
    for pipeline in chosen.values():
        set_lengths(pipeline, options, memory)
    rows = with_baselines(chosen)
    rows[REGULARIZED] = clone(rows[DE_BASELINE]).set_params(
        logisticregression__C=0.01, logisticregression__class_weight="balanced"
    )
    return rows, {name: grid for name, grid in grids.items() if name in chosen}


# -- the report ----------------------------------------------------------------


def describe(dataset, paradigm, results: pd.DataFrame, options) -> str:
    """Return the data and the settings in words."""
    trials = paradigm.label_trials(dataset)
    info = paradigm.get_info(dataset)
    first = results[results["pipeline"] == DE_BASELINE].drop_duplicates("subject")
    lines = [
        f"{len(first)} subjects {dataset.subject_list}, {describe_protocol(options)}"
    ]
    for name, part in trials.groupby("label", sort=False):
        lines.append(f"{name}: {part['length'].sum():.0f} s in {len(part)} blocks")
    lines += [
        f"{first['samples_test'].sum():.0f} windows of {paradigm.window:g} s",
        f"trials are blocks of {BLOCK_SECONDS} s or more, not recordings",
        f"{len(info['ch_names'])} EEG channels in average reference, "
        f"{paradigm.fmin:g}-{paradigm.fmax:g} Hz, {info['sfreq']:g} Hz",
        f"standardize={paradigm.standardize!r}",
        describe_updates(options),
        f"access to the test subject: {', '.join(results['target_access'].unique())}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    mne.set_log_level("ERROR")
    main()
