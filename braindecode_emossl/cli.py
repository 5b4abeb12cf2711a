"""The command ``emossl``."""

from __future__ import annotations

import dataclasses
import functools
import json as json_module
import re
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from braindecode_emossl.errors import EmosslError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Self-supervised EEG emotion recognition, from corpora to results.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


_Corpus = Annotated[str, typer.Argument(help="Code of the corpus, such as SEED.")]
_Protocol = Annotated[str, typer.Option(help="How windows are divided.")]
_Target = Annotated[str, typer.Option(help="emotion, valence, arousal, ...")]
_NClasses = Annotated[int | None, typer.Option(help="2 or 3, for one dimension.")]
_Window = Annotated[float, typer.Option(help="Length of a window in seconds.")]
_Features = Annotated[
    str | None, typer.Option(help='"de" or "psd"; signals by default.')
]
_Subjects = Annotated[str | None, typer.Option(help="Such as 1-3,7; all by default.")]
_Option = Annotated[
    list[str] | None,
    typer.Option(help="Option of the protocol, such as n_splits=10."),
]
_Json = Annotated[bool, typer.Option(help="Print JSON instead of a table.")]


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option(help="Show the traceback of an error.")
    ] = False,
):
    """Take the options that all commands share."""


def _one_sentence_errors(command):
    """Let bad input end in one clear sentence and exit code 2."""

    @functools.wraps(command)
    def run(context: typer.Context, **options):
        try:
            return command(context, **options)
        except typer.Exit:
            raise
        except (EmosslError, OSError, ValueError) as error:
            if context.find_root().params["debug"]:
                raise
            Console(stderr=True).print(f"Error: {error}", style="red", markup=False)
            raise typer.Exit(2) from error

    return run


@app.command()
@_one_sentence_errors
def demo(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option(help="Folder for the table (CSV) and the figure (PNG).")
    ] = Path("emossl-demo"),
    corpora: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the replicas, kept. By default one that is removed."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same numbers.")] = 0,
    device: Annotated[str, typer.Option(help="Where to train, e.g. cuda.")] = "cpu",
):
    """Load miniature corpora, pre-train, evaluate leave-one-subject-out, print a table.

    The corpora are synthetic replicas of SEED and DEAP in the real file formats.
    The numbers show that the software works and say nothing about emotion.
    It takes one to two minutes.

    Example: emossl demo --output results --seed 1
    """
    from braindecode_emossl.demo import run_demo, summarize

    console = Console()
    with _progress(console) as progress:
        task = progress.add_task("starting", total=None)

        def on_step(what: str, n_steps: int) -> None:
            done = progress.tasks[task].total is not None
            progress.update(task, description=what, total=n_steps, advance=int(done))

        scores = run_demo(
            output, corpora, random_state=seed, device=device, on_step=on_step
        )
        progress.update(task, description="done", advance=1)
    console.print(_table(summarize(scores)))
    console.print(
        "Synthetic replicas: these numbers say nothing about emotion, and so few "
        "windows nothing about what pre-training is worth."
    )
    for name in ("scores.csv", "scores.png"):
        console.print(f"Saved {(output / name).absolute()}", soft_wrap=True)


@app.command()
@_one_sentence_errors
def datasets(
    context: typer.Context,
    json: _Json = False,
):
    """Say which corpora are on disk, what of them is missing and where to ask for it.

    They are looked for where the settings MNE_DATASETS_<CORPUS>_PATH point, else below
    MNE_DATA.

    Example: MNE_DATASETS_SEED_PATH=/data/SEED emossl datasets
    """
    from braindecode_emossl.registration import DATASETS

    console = Console()
    found = [
        _inspect(console, corpus(on_error="warn"), read_signals=False)
        for corpus in DATASETS
    ]
    if json:
        _print_json([_as_json(inspection) for inspection in found])
        return
    console.print(_inspection_table(found))
    for inspection in found:
        _print_problems(console, inspection)


@app.command()
@_one_sentence_errors
def check(
    context: typer.Context,
    corpus: _Corpus,
    path: Annotated[Path, typer.Argument(help="Folder of the corpus.")],
    json: _Json = False,
):
    """Read a whole corpus and check each file against the published layout.

    Besides the recordings, it checks the files of labels and ratings and the features,
    counts the trials of each session, and remarks on what downloads left behind.

    The exit code is 0 if all that is there is sound, 1 if something is broken, 2 if
    nothing is there.

    Example: emossl check SEED /data/SEED
    """
    from braindecode_emossl.registration import DATASETS

    known = {cls.code_name: cls for cls in DATASETS}
    if corpus not in known:
        raise ValueError(f"CORPUS must be one of {sorted(known)}, but got {corpus!r}.")
    console = Console()
    dataset = known[corpus](path=path, on_error="warn")
    inspection = _inspect(console, dataset, read_signals=True)
    if json:
        _print_json(_as_json(inspection))
    else:
        console.print(_inspection_table([inspection]))
        _print_problems(console, inspection)
        console.print(f"Verdict: {inspection.verdict}.")
    if inspection.verdict == "not found":
        dataset.data_path(dataset.subject_list[0])  # raises, with all there is to say
    if inspection.verdict == "broken":
        raise typer.Exit(1)


@app.command()
@_one_sentence_errors
def replica(
    context: typer.Context,
    corpus: _Corpus,
    path: Annotated[Path, typer.Argument(help="Folder to write to.")],
    subjects: Annotated[int, typer.Option(help="How many subjects.")] = 3,
    seconds: Annotated[float, typer.Option(help="Length of a trial.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 0,
    effect_size: Annotated[float, typer.Option(help="0: no class effects.")] = 1.0,
):
    """Write a miniature copy of a corpus in its real file format, to try things on.

    Example: emossl replica DEAP deap-replica --subjects 2
    """
    from braindecode_emossl.datasets import write_replica

    root = write_replica(
        corpus,
        path,
        subjects=list(range(1, subjects + 1)),
        seconds=seconds,
        seed=seed,
        effect_size=effect_size,
    )
    Console().print(f"Wrote a replica of {corpus} to {root}", soft_wrap=True)


@app.command()
@_one_sentence_errors
def pipelines(
    context: typer.Context,
    features: Annotated[
        str | None, typer.Option(help='"de" for windows in DE form.')
    ] = None,
):
    """Print the folder of the pipelines that ship with the package.

    Example: python -m moabb.run -p $(emossl pipelines)
    """
    from braindecode_emossl.evaluation import pipelines_folder

    typer.echo(pipelines_folder(features))


@app.command()
@_one_sentence_errors
def evaluate(
    context: typer.Context,
    corpora: Annotated[
        list[str],
        typer.Argument(help="Codes of corpora, each as CODE or CODE=FOLDER."),
    ],
    protocol: _Protocol = "leave-one-subject-out",
    pipelines: Annotated[
        Path | None,
        typer.Option(help="A .yml file of MOABB's kind, or a folder of them."),
    ] = None,
    target: _Target = "emotion",
    n_classes: _NClasses = None,
    window: _Window = 4.0,
    features: _Features = None,
    subjects: _Subjects = None,
    option: _Option = None,
    results: Annotated[
        Path, typer.Option(help="Folder that keeps finished folds and the tables.")
    ] = Path("emossl-results"),
    seed: Annotated[int, typer.Option(help="Same seed, same folds.")] = 0,
    jobs: Annotated[int, typer.Option(help="Folds to run at a time.")] = 1,
    device: Annotated[
        str | None, typer.Option(help="Where networks train, e.g. cuda.")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Take finished folds from the folder of results.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option(help="Delete finished folds of this evaluation first.")
    ] = False,
    fold: Annotated[
        int | None, typer.Option(help="Run one share of the folds only, from 0.")
    ] = None,
    of: Annotated[int | None, typer.Option(help="How many shares there are.")] = None,
    json: _Json = False,
):
    """Evaluate pipelines under a protocol that cannot leak; write CSV and parquet.

    The tables are scores-<CORPORA>-<PROTOCOL>.csv and .parquet. Killed or
    stopped, the next call goes on after the last finished fold. A job of a
    cluster runs one share of the folds (--fold 3 --of 15); a last call without --fold
    gathers the table of all.

    Example: emossl evaluate SEED --features de --window 1 --jobs 4

    Example: emossl evaluate SEED DEAP --protocol cross-corpus --target valence
    """
    import braindecode_emossl.evaluation as evaluation

    if (fold is None) != (of is None):
        raise ValueError("--fold and --of go together, such as --fold 3 --of 15.")
    estimators, grids = evaluation.load_pipelines(
        pipelines or evaluation.pipelines_folder(features), device=device
    )
    console = Console()
    opened = _open_corpora(corpora, subjects)
    with _stoppable(), _progress(Console(stderr=True)) as progress, _calm():
        task = progress.add_task("loading", total=None)
        table = evaluation.evaluate(
            estimators,
            opened,
            _make_paradigm(target, n_classes, window, features),
            protocol,
            random_state=seed,
            n_jobs=jobs,
            results_dir=results,
            resume=resume,
            overwrite=overwrite,
            param_grid=grids,
            share=None if fold is None else (fold, of),
            on_fold=lambda corpus, n_done, n_folds: progress.update(
                task, description=corpus, completed=n_done, total=n_folds
            ),
            **_parse_options(option),
        )
    if fold is not None:
        console.print(f"Share {fold} of {of} is finished.")
        return
    name = f"scores-{'+'.join(corpus.code for corpus in opened)}-{protocol}"
    table.to_csv(results / f"{name}.csv", index=False)
    table.to_parquet(results / f"{name}.parquet")
    if json:
        _print_json(json_module.loads(table.to_json(orient="records")))
        return
    console.print(_scores_table(table, protocol))
    for suffix in ("csv", "parquet"):
        path = (results / f"{name}.{suffix}").absolute()
        console.print(f"Saved {path}", soft_wrap=True)


@app.command()
@_one_sentence_errors
def audit(
    context: typer.Context,
    corpora: Annotated[
        list[str],
        typer.Argument(help="Codes of corpora, each as CODE or CODE=FOLDER."),
    ],
    protocol: _Protocol = "leave-one-subject-out",
    target: _Target = "emotion",
    n_classes: _NClasses = None,
    window: _Window = 4.0,
    features: _Features = None,
    subjects: _Subjects = None,
    option: _Option = None,
    seed: Annotated[int, typer.Option(help="Same seed, same signals.")] = 0,
    json: _Json = False,
):
    """Check on label-free signals that a protocol does not leak.

    The exit code is 0 if it passes and 1 if it leaks.

    Example: emossl audit SEED --protocol within-session --subjects 1-3
    """
    import braindecode_emossl.evaluation as evaluation

    with Console(stderr=True).status("auditing"), _calm():
        report = evaluation.audit(
            _make_paradigm(target, n_classes, window, features),
            _open_corpora(corpora, subjects),
            protocol,
            random_state=seed,
            **_parse_options(option),
        )
    if json:
        _print_json({**dataclasses.asdict(report), "passed": report.passed})
    else:
        Console().print(str(report), soft_wrap=True)
    if not report.passed:
        raise typer.Exit(1)


def _open_corpora(named: list[str], subjects: str | None) -> list:
    from braindecode_emossl.registration import DATASETS

    known = {cls.code_name: cls for cls in DATASETS}
    opened = []
    for text in named:
        code, _, path = text.partition("=")
        if code not in known:
            raise ValueError(
                f"A corpus must be one of {sorted(known)}, or CODE=FOLDER, but got "
                f"{text!r}."
            )
        opened.append(known[code](_parse_numbers(subjects), path=path or None))
    return opened


def _parse_numbers(text: str | None) -> list[int] | None:
    """Return [1, 2, 3, 7] of "1-3,7"."""
    if text is None:
        return None
    numbers = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        found = match and range(int(match[1]), int(match[2] or match[1]) + 1)
        if not found:
            raise ValueError(f"--subjects must be such as 1-3,7, but got {text!r}.")
        numbers += found
    return numbers


def _parse_options(options: list[str] | None) -> dict:
    """Return {"n_splits": 10} of ["n_splits=10"]."""
    pairs = [text.partition("=") for text in options or []]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ValueError(f"--option must be NAME=VALUE, but got {wrong}.")
    return {name.replace("-", "_"): yaml.safe_load(value) for name, _, value in pairs}


def _make_paradigm(target, n_classes, window, features):
    from braindecode_emossl.paradigms import Emotion

    return Emotion(target, n_classes, window=window, features=features)


@contextmanager
def _stoppable():
    """Let Ctrl-C end in one line and the exit code that shells have for it."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(
            "Stopped. The same command goes on after the last finished fold.", err=True
        )
        raise typer.Exit(130) from None


@contextmanager
def _calm():
    """Keep the remarks of the hosts from the progress bar."""
    import mne

    with mne.utils.use_log_level("ERROR"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"moabb\.|sklearn\.")
        yield


def _scores_table(scores, protocol: str) -> Table:
    from braindecode_emossl.evaluation import summarize_results

    table = Table(title=f"Accuracy, {protocol}, mean ± sd over subjects")
    for name in ("corpus", "pipeline", "subjects"):
        table.add_column(name)
    for name in ("windows", "trials (vote)"):
        table.add_column(name, justify="right", no_wrap=True)
    windows = summarize_results(scores, "accuracy")
    trials = summarize_results(scores, "score_trial")
    for row, voted in zip(windows.itertuples(), trials.itertuples(), strict=True):
        table.add_row(
            row.dataset,
            row.pipeline,
            str(row.n_subjects),
            f"{row.mean:.3f} ± {row.sd:.3f}",
            f"{voted.mean:.3f} ± {voted.sd:.3f}",
        )
    return table


def _inspect(console: Console, dataset, read_signals: bool):
    from braindecode_emossl.datasets.inspection import inspect_corpus

    # The bar goes to the error stream, so that a script can read the output.
    with _progress(Console(stderr=True)) as progress:
        task = progress.add_task(dataset.code, total=len(dataset.subject_list))
        return inspect_corpus(
            dataset,
            read_signals=read_signals,
            on_subject=lambda subject: progress.update(
                task, description=f"{dataset.code}: subject {subject}", advance=1
            ),
        )


def _inspection_table(inspections) -> Table:
    table = Table(title="Corpora")
    for name in ("corpus", "subjects", "sessions", "trials", "verdict", "where"):
        table.add_column(name, overflow="fold")
    for found in inspections:
        counts = [
            f"{getattr(found, f'n_{name}')} of {getattr(found, f'expected_{name}')}"
            for name in ("subjects", "sessions", "trials")
        ]
        where = found.root or f"ask for it at {found.access_url}"
        table.add_row(found.corpus, *counts, found.verdict, where)
    return table


def _print_problems(console: Console, inspection) -> None:
    if inspection.n_subjects and inspection.missing_subjects:
        console.print(
            f"{inspection.corpus}: no files of subjects {inspection.missing_subjects}."
        )
    for missing in inspection.missing_sessions:
        console.print(missing, markup=False, soft_wrap=True)
    for missing in inspection.missing_trials:
        console.print(missing, markup=False, soft_wrap=True)
    for remark in inspection.remarks:
        console.print(f"Remark: {remark}", markup=False, soft_wrap=True)
    for problem in inspection.problems:
        console.print(problem, style="red", markup=False, soft_wrap=True)


def _as_json(inspection) -> dict:
    return {**dataclasses.asdict(inspection), "verdict": inspection.verdict}


def _print_json(content) -> None:
    typer.echo(json_module.dumps(content, indent=2))


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _table(summary) -> Table:
    table = Table(title="Accuracy, leave one subject out")
    for name in ("corpus", "target", "pipeline"):
        table.add_column(name)
    table.add_column("mean ± sd over subjects", justify="right")
    for row in summary.itertuples():
        score = f"{row.mean:.3f} ± {row.std:.3f}"
        table.add_row(row.dataset, row.target, row.pipeline, score)
    return table


def main() -> None:
    """Run the command."""
    app()
