"""The command ``emossl``."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console

from braindecode_emossl import __version__
from braindecode_emossl.downloads import download_missing
from braindecode_emossl.errors import EmosslError
from braindecode_emossl.terminal import (
    calm,
    inspection_to_dict,
    make_progress,
    make_stopping_text,
    print_error,
    print_json,
    print_problems,
    print_text,
    tabulate_controls,
    tabulate_inspections,
    tabulate_scores,
)

if TYPE_CHECKING:
    from braindecode_emossl.datasets.base import EmotionDataset

__all__ = ["app", "main"]

app = typer.Typer(
    help="Self-supervised EEG emotion recognition, from corpora to results.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


# -- arguments that several commands share -------------------------------------


# They complete what is typed, so they import neither torch nor the hosts.


def _list_corpora() -> list[str]:
    from braindecode_emossl import datasets

    # MOABB demands that a class is called like the code of its corpus.
    return [name.replace("_", "-") for name in dir(datasets) if name.isupper()]


def _list_protocols() -> list[str]:
    from braindecode_emossl.evaluation.protocols import PROTOCOLS

    return list(PROTOCOLS)


def _list_controls() -> list[str]:
    from braindecode_emossl.evaluation.controls import list_controls

    return ["all", *list_controls()]


def _list_models() -> list[str]:
    from braindecode_emossl import models

    return dir(models)


def _list_targets() -> list[str]:
    from braindecode_emossl.paradigms.labels import TARGETS

    return list(TARGETS)


_Corpus = Annotated[
    str,
    typer.Argument(
        help="Code of the corpus, such as SEED.", autocompletion=_list_corpora
    ),
]
_Corpora = Annotated[
    list[str],
    typer.Argument(
        help="Codes of corpora, each as CODE or CODE=FOLDER.",
        autocompletion=_list_corpora,
    ),
]
_Protocol = Annotated[
    str,
    typer.Option(
        help="How trials are divided into training and test sets, such as "
        "within-session or cross-corpus.",
        autocompletion=_list_protocols,
    ),
]
_Target = Annotated[
    str,
    typer.Option(
        help="What the labels describe: emotion, valence, arousal, ...",
        autocompletion=_list_targets,
    ),
]
_NClasses = Annotated[
    int | None,
    typer.Option(help="Number of classes of a single dimension: 2 or 3."),
]
_Threshold = Annotated[
    str | None,
    typer.Option(
        help='Where ratings are cut: a number, or "median" of the subject. Default: '
        "the scale's midpoint."
    ),
]
_Ties = Annotated[
    str, typer.Option(help="Label of a rating at the threshold: low, high, drop.")
]
_Margin = Annotated[
    float,
    typer.Option(help="Ratings within this distance of the threshold have no label."),
]
_LabelSource = Annotated[
    str | None,
    typer.Option(
        help='"self-report" or "stimulus". Default: what the corpus has.',
        autocompletion=lambda: ["self-report", "stimulus"],
    ),
]
_Window = Annotated[float, typer.Option(help="Length of the windows in seconds.")]
_Last = Annotated[
    float | None,
    typer.Option(help="Use only the last seconds of each trial, such as 30."),
]
_Features = Annotated[
    str | None,
    typer.Option(
        help='"de" or "psd" of each window, or "released:NAME". Default: signals.'
    ),
]
_Standardize = Annotated[
    str | None,
    typer.Option(
        help='"recording" scales each channel or feature within each recording.'
    ),
]
_Subjects = Annotated[
    str | None, typer.Option(help="Subjects to use, such as 1-3,7. Default: all.")
]
_Yes = Annotated[
    bool,
    typer.Option("--yes", help="Download what is missing of FACED without asking."),
]
_AllModalities = Annotated[
    bool,
    typer.Option(
        "--all-modalities",
        help="Use all channels of the corpus, such as GSR or eye movements, not only "
        "EEG.",
    ),
]
_Option = Annotated[
    list[str] | None,
    typer.Option(
        help="Option of the protocol, such as n_splits=10 or adapt=unlabeled. May be "
        "repeated."
    ),
]
_Seed = Annotated[
    int, typer.Option("--seed", "--random-state", help="Seed of all random numbers.")
]
_Results = Annotated[
    Path,
    typer.Option(
        "--results", "--results-dir", help="Folder for finished folds and tables."
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"emossl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
):
    """Read the options that all commands share."""


def _one_sentence_errors(command):
    """Turn errors into one sentence and exit code 2, and Ctrl-C into 130."""

    @functools.wraps(command)
    def run(context: typer.Context, **options):
        for name, value in options.items():
            if isinstance(value, Path):  # a shell leaves --output=~/x as it is
                options[name] = value.expanduser()
        try:
            return command(context, **options)
        except KeyboardInterrupt:
            print_error(context.meta.get(_STOPPED, "Stopped."))
            raise typer.Exit(130) from None
        except BrokenPipeError:  # the reader of the output has closed it
            raise
        except (
            EmosslError,
            OSError,
            ValueError,
            ImportError,
            ArithmeticError,
        ) as error:
            if context.find_root().params["debug"]:
                raise
            print_error(f"Error: {error}")
            raise typer.Exit(2) from error

    return run


# Key under which a command keeps the message for Ctrl-C.
_STOPPED = "emossl.stopped"


# -- the commands --------------------------------------------------------------


def _command(function):
    """Register a command; the terminal wraps the paragraphs of its help."""
    paragraphs = inspect.cleandoc(function.__doc__).split("\n\n")
    text = "\n\n".join(" ".join(lines.split()) for lines in paragraphs)
    return app.command(help=text)(_one_sentence_errors(function))


@_command
def demo(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option(help="Folder for the table (CSV) and the figure (PNG).")
    ] = Path("emossl-demo"),
    corpora: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the replicas, which are kept. Default: a temporary folder."
        ),
    ] = None,
    seed: _Seed = 0,
    device: Annotated[str, typer.Option(help="Device to train on.")] = "auto",
):
    """Evaluate SCMM and its baselines on miniature corpora, and print tables.

    The corpora are synthetic replicas of SEED and DEAP in the real file formats. A
    second table shows the scores of a leaky split for comparison.
    The results show that the software works. They say nothing about emotion.
    The demo takes about two minutes.

    Example: emossl demo --output results --seed 1
    """
    from braindecode_emossl.demo import LEAKY_SPLIT, PROTOCOL, run_demo

    _check_device(device)
    with make_progress() as progress:
        task = progress.add_task("starting", total=None)
        scores = run_demo(
            output,
            corpora,
            random_state=seed,
            device=device,
            on_fold=_update(progress, task),
        )
    for protocol in (PROTOCOL, LEAKY_SPLIT):
        rows = scores[scores["protocol"] == protocol]
        Console().print(tabulate_scores(rows, protocol))
    print_text(
        f"Under {PROTOCOL}, the test subject is not in the training set. In the second "
        "table, windows were shuffled before they were split, so that windows of a "
        "trial are in both the training and the test set. Such a score says nothing "
        "about new subjects: compare it with the same pipeline in the first table."
    )
    print_text(
        "The labels are emotions (SEED) and low or high valence (DEAP). labels is the "
        "number of labelled trials per class and training subject."
    )
    print_text(
        "The replicas are synthetic and small, with stronger effects than real "
        "corpora, and the networks are trained briefly. These scores say nothing "
        "about emotion, nor about what pre-training is worth."
    )
    for name in ("scores.csv", "scores.png"):
        print_text(f"Saved {(output / name).absolute()}")


@_command
def datasets(
    context: typer.Context,
    json: _Json = False,
):
    """List the corpora on disk, their missing parts, and where to request them.

    The folder of a corpus is that of the setting MNE_DATASETS_<CORPUS>_PATH or a
    folder below MNE_DATA.

    Example: MNE_DATASETS_SEED_PATH=/data/SEED emossl datasets
    """
    from braindecode_emossl.registration import DATASETS

    found = [
        _inspect(corpus(on_error="warn"), read_signals=False) for corpus in DATASETS
    ]
    if json:
        print_json([inspection_to_dict(inspection) for inspection in found])
        return
    Console().print(tabulate_inspections(found))
    for inspection in found:
        print_problems(inspection)


@_command
def check(
    context: typer.Context,
    corpus: _Corpus,
    path: Annotated[Path, typer.Argument(help="Folder of the corpus.")],
    json: _Json = False,
):
    """Read a whole corpus and check each file against the published layout.

    The check covers recordings, labels, ratings and features, counts the trials of
    each session, and reports leftovers of downloads.

    The exit code is 0 if all files that were found are intact, 1 if any is broken, and
    2 if none was found.

    Example: emossl check SEED /data/SEED
    """
    dataset = _find_corpus(corpus)(path=path, on_error="warn")
    inspection = _inspect(dataset, read_signals=True)
    if json:
        print_json(inspection_to_dict(inspection))
    else:
        Console().print(tabulate_inspections([inspection]))
        print_problems(inspection)
        print_text(f"Verdict: {inspection.verdict}.")
    if inspection.verdict == "not found":
        dataset.data_path(dataset.subject_list[0])  # raises an error with the details
    if inspection.verdict == "broken":
        raise typer.Exit(1)


@_command
def labels(
    context: typer.Context,
    corpus: _Corpus,
    path: Annotated[Path, typer.Argument(help="Folder of the corpus.")],
    target: _Target = "emotion",
    n_classes: _NClasses = None,
    threshold: _Threshold = None,
    ties: _Ties = "low",
    margin: _Margin = 0.0,
    near: Annotated[
        float,
        typer.Option(help="Count the ratings within this distance of the threshold."),
    ] = 1.0,
    subjects: _Subjects = None,
    json: _Json = False,
):
    """Describe the labels of a corpus without reading signals.

    Counts the trials by class and subject, and prints the majority baseline at several
    thresholds of the ratings, the ratings near them, Krippendorff's alpha between
    subjects with its level of measurement, and how often the label of the stimulus
    differs from self-report. --threshold, --ties and --margin need a rating or quadrant
    as --target.

    Example: emossl labels DEAP /data/DEAP --target valence --ties high
    """
    from braindecode_emossl.evaluation import describe_labels

    paradigm = _make_paradigm(
        target=target,
        n_classes=n_classes,
        threshold=threshold,
        ties=ties,
        margin=margin,
    )
    dataset = _find_corpus(corpus)(_parse_numbers("--subjects", subjects), path=path)
    with make_progress() as progress, calm():
        progress.add_task(f"reading {corpus}", total=None)
        found = describe_labels(paradigm, dataset, near=near)
    if json:
        print_json(found.to_dict())
    else:
        print_text(str(found))


@_command
def replica(
    context: typer.Context,
    corpus: _Corpus,
    path: Annotated[Path, typer.Argument(help="Folder to write to.")],
    n_subjects: Annotated[int, typer.Option(min=1, help="Number of subjects.")] = 3,
    seconds: Annotated[float, typer.Option(help="Length of a trial.")] = 10.0,
    seed: _Seed = 0,
    effect_size: Annotated[
        float,
        typer.Option(
            min=0,
            help="Strength of the class effects: 0 for none, 1 for that of the corpus.",
        ),
    ] = 1.0,
    isc: Annotated[
        float, typer.Option(min=0, help="Strength of the response that viewers share.")
    ] = 1.0,
    continuity: Annotated[
        float, typer.Option(min=0, help="Strength of slow changes within a trial.")
    ] = 1.0,
    subject_variance: Annotated[
        float, typer.Option(min=0, help="Strength of differences between subjects.")
    ] = 1.0,
    artifacts: Annotated[
        float, typer.Option(min=0, help="Amount of blinks, muscle and line noise.")
    ] = 1.0,
):
    """Write a miniature synthetic copy of a corpus in its real file format.

    Example: emossl replica DEAP deap-replica --n-subjects 2 --effect-size 2
    """
    from braindecode_emossl.datasets import write_replica

    known = _find_corpus(corpus).all_subject_numbers
    if n_subjects > len(known):
        raise ValueError(
            f"--n-subjects must be at most {len(known)} for {corpus}, but got "
            f"{n_subjects}."
        )
    with make_progress() as progress:
        progress.add_task(f"writing {corpus}", total=None)
        root = write_replica(
            corpus,
            path,
            subjects=list(known[:n_subjects]),
            seconds=seconds,
            seed=seed,
            effect_size=effect_size,
            isc=isc,
            continuity=continuity,
            subject_variance=subject_variance,
            artifacts=artifacts,
        )
    print_text(f"The replica of {corpus} is in {root}")


@_command
def pipelines(
    context: typer.Context,
    features: Annotated[
        str | None,
        typer.Option(
            help='"de" for windows of differential entropy. Default: signals.'
        ),
    ] = None,
    json: _Json = False,
):
    """Print the folder of the pipelines that ship with the package.

    With --json, also print their names, which are those of the tables of results.

    Example: emossl pipelines --features de --json

    Example: mkdir mine && cp $(emossl pipelines)/de_*.yml mine
    """
    from braindecode_emossl.evaluation import pipelines_folder

    folder = pipelines_folder(features)
    if not json:
        typer.echo(folder)
        return
    files = sorted(folder.glob("*.yml"))
    names = {yaml.safe_load(file.read_text())["name"]: file.name for file in files}
    print_json({"folder": str(folder), "pipelines": names})


@_command
def pretrain(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(help="Name of the model.", autocompletion=_list_models),
    ],
    corpora: _Corpora,
    target: Annotated[
        str,
        typer.Option(
            help="Use only trials that have a label for it; emotion uses all.",
            autocompletion=_list_targets,
        ),
    ] = "emotion",
    n_classes: _NClasses = None,
    threshold: _Threshold = None,
    ties: _Ties = "low",
    margin: _Margin = 0.0,
    label_source: _LabelSource = None,
    window: _Window = 4.0,
    last: _Last = None,
    features: Annotated[
        str | None,
        typer.Option(help='"de" for models that take it. Default: signals.'),
    ] = None,
    standardize: _Standardize = None,
    subjects: _Subjects = None,
    leave_out: Annotated[
        str | None, typer.Option(help="Subjects to leave out, such as 1-3,7.")
    ] = None,
    all_modalities: _AllModalities = False,
    steps: Annotated[
        int | None, typer.Option(min=0, help="Number of updates. Default: 2000.")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=0, help="Passes over the windows, in place of --steps."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Windows per update, or groups of windows if the model contrasts "
            "groups. Default: that of the model's objective.",
        ),
    ] = None,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 5e-4,
    schedule: Annotated[
        str | None, typer.Option(help='"cosine" lowers the learning rate to zero.')
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder for the training state and the checkpoint.")
    ] = Path("emossl-pretrained"),
    seed: _Seed = 0,
    device: Annotated[
        str, typer.Option(help="Device to train on. auto: a GPU if there is one.")
    ] = "auto",
    resume: Annotated[
        bool,
        typer.Option(
            help="Resume the training in the output folder. With --no-resume, an "
            "earlier training there is an error."
        ),
    ] = True,
    yes: _Yes = False,
    json: _Json = False,
):
    """Pre-train a model without labels and save a checkpoint.

    The checkpoint, OUTPUT/trained, records its training subjects.
    SSLClassifier(pretrained=...) refuses it where one of them is tested, so exclude
    test subjects with --subjects or --leave-out. If training is interrupted, run the
    same command again to resume it. To train in several processes, run "accelerate
    launch -m braindecode_emossl.cli pretrain ..." or torchrun; --batch-size is that of
    each process.

    Example: emossl pretrain SCMM SEED --features de --window 1 --leave-out 1-3

    Example: emossl pretrain MEMHACL DEAP=/data/DEAP --window 1 --all-modalities
    """
    stopped = make_stopping_text("epoch", without="" if resume else "--no-resume")
    context.meta[_STOPPED] = stopped
    _check_model(model, features)
    _check_device(device)
    if steps is not None and epochs is not None:
        raise ValueError(
            f"--steps and --epochs exclude each other, but got {steps} and {epochs}."
        )
    paradigm = _make_paradigm(
        target=target,
        n_classes=n_classes,
        threshold=threshold,
        ties=ties,
        margin=margin,
        label_source=label_source,
        window=window,
        last=last,
        features=features,
        standardize=standardize,
    )
    opened = _open_corpora(corpora, subjects, leave_out, all_modalities=all_modalities)
    download_missing(opened, yes)
    with make_progress() as progress, calm():
        progress.add_task("loading", total=None)
        loaded = _load_windows(opened, paradigm)
    with calm():
        pretrainer = _make_pretrainer(
            _make_objective(model, features, loaded, seed),
            max_steps=steps,
            max_epochs=epochs,
            batch_size=batch_size or "auto",
            lr=lr,
            schedule=schedule,
            checkpoint_dir=output,
            resume=resume,
            random_state=seed,
            device=device,
        ).fit(loaded.X, metadata=loaded.metadata)
    if not int(os.environ.get("RANK", 0)):
        _print_pretraining(pretrainer, model, len(loaded.X), output, json)


@_command
def evaluate(
    context: typer.Context,
    corpora: _Corpora,
    protocol: _Protocol = "leave-one-subject-out",
    pipelines: Annotated[
        Path | None,
        typer.Option(
            help="YAML file in MOABB's format, or a folder of them. They are code: the "
            "classes that they name are imported and called. Default: those of the "
            "package."
        ),
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(
            help="Also evaluate networks from random weights, frozen features, "
            "differential entropy with logistic regression, and guessing."
        ),
    ] = True,
    target: _Target = "emotion",
    n_classes: _NClasses = None,
    threshold: _Threshold = None,
    ties: _Ties = "low",
    margin: _Margin = 0.0,
    label_source: _LabelSource = None,
    window: _Window = 4.0,
    last: _Last = None,
    features: _Features = None,
    standardize: _Standardize = None,
    subjects: _Subjects = None,
    all_modalities: _AllModalities = False,
    n_labeled: Annotated[
        str | None,
        typer.Option(
            help="Numbers of labelled trials per class and training subject, such as "
            "1,2,5,all."
        ),
    ] = None,
    unlabeled: Annotated[
        list[str] | None,
        typer.Option(
            help="A further corpus to pre-train on without its labels, as CODE or "
            "CODE=FOLDER. May be repeated.",
            autocompletion=_list_corpora,
        ),
    ] = None,
    unlabeled_subjects: Annotated[
        str | None,
        typer.Option(help="Subjects of the unlabelled corpora. Default: all."),
    ] = None,
    option: _Option = None,
    controls: Annotated[
        list[str] | None,
        typer.Option(
            help="A control such as permuted-labels, with options as in "
            "permuted-labels:n_permutations=100, or all. May be repeated.",
            autocompletion=_list_controls,
        ),
    ] = None,
    probes: Annotated[
        bool,
        typer.Option(
            "--probes",
            help="Measure how well a linear probe reads subject, session, stimulus and "
            "label from the features.",
        ),
    ] = False,
    results: _Results = Path("emossl-results"),
    seed: Annotated[
        int,
        typer.Option(
            "--seed", "--random-state", help="Seed of folds and labelled trials."
        ),
    ] = 0,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Seeds to run each pipeline with, such as 0,1,2. Default: the "
            "pipelines' own."
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "--n-jobs", help="Folds to run in parallel.")
    ] = 1,
    device: Annotated[
        str | None,
        typer.Option(
            help="Device to train networks on. Default: that of the pipeline files."
        ),
    ] = None,
    on_error: Annotated[
        str,
        typer.Option(
            help='"raise" stops at the first pipeline that fails; "warn" leaves out '
            "those that fail.",
            autocompletion=lambda: ["raise", "warn"],
        ),
    ] = "raise",
    resume: Annotated[
        bool, typer.Option(help="Reuse finished folds in the folder of results.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option(help="Delete finished folds of this evaluation first.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(help="Run shard K of N of the folds, with K counted from 0."),
    ] = None,
    yes: _Yes = False,
    json: _Json = False,
):
    """Evaluate pipelines under a protocol that is checked for leaks, and save tables.

    The tables are scores-<CORPORA>-<PROTOCOL>-<TARGET>-<ID>.csv and .parquet; the .json
    file of the same name records the settings. "emossl report" makes a page of them.
    If an evaluation is interrupted, run the same command again to resume from the last
    finished fold. On a cluster, each job runs one shard of the folds (--shard 3/15); a
    final call without --shard then collects the results.

    Subjects of FACED that are not on disk are downloaded, after a prompt that states
    the size.

    Example: emossl evaluate FACED --subjects 37-46 --features de --last 30

    Example: emossl evaluate SEED --features de --window 1 --n-labeled 1,5,all

    Example: emossl evaluate SEED DEAP --protocol cross-corpus --target valence
    """
    import braindecode_emossl.evaluation as evaluation

    part = _parse_shard(shard)
    without = "--overwrite" if overwrite else "" if resume else "--no-resume"
    context.meta[_STOPPED] = make_stopping_text("fold", without=without)
    _check_device(device)
    labels_and_windows: dict[str, Any] = {
        "target": target,
        "n_classes": n_classes,
        "threshold": threshold,
        "ties": ties,
        "margin": margin,
        "label_source": label_source,
        "window": window,
        "last": last,
        "features": features,
        "standardize": standardize,
    }
    chosen: dict[str, Any] = {
        "protocol": protocol,
        "options": _parse_protocol_options(option, protocol),
        **labels_and_windows,
        "subjects": subjects,
        "all_modalities": all_modalities,
        "n_labeled_trials": _parse_numbers_of_trials(n_labeled),
        "unlabeled_subjects": unlabeled_subjects,
        "random_state": seed,
        "seeds": _parse_numbers("--seeds", seeds),
        "on_error": on_error,
        "baselines": baselines,
        "controls": _parse_controls(controls),
        "probes": probes,
    }
    paradigm = _make_paradigm(**labels_and_windows)
    loaded, grids = _load_pipelines(pipelines, features, device)
    estimators = _keep_suited(loaded, paradigm, labels_and_windows, pipelines)
    if baselines:
        estimators, grids = _add_baselines(estimators, grids)
    opened = _open_corpora(corpora, subjects, all_modalities=all_modalities)
    if unlabeled_subjects is not None and not unlabeled:
        raise ValueError(
            "--unlabeled-subjects chooses subjects of the corpora of --unlabeled, but "
            "got none. Pass --unlabeled, or leave it out."
        )
    extra = _open_corpora(
        unlabeled or [],
        unlabeled_subjects,
        option="--unlabeled-subjects",
        all_modalities=all_modalities,
    )
    download_missing([*opened, *extra], yes)
    with make_progress() as progress, calm():
        task = progress.add_task("loading", total=None)
        table = evaluation.evaluate(
            estimators,
            opened,
            paradigm,
            protocol,
            random_state=seed,
            seeds=chosen["seeds"],
            n_labeled_trials=chosen["n_labeled_trials"],
            unlabeled=extra or None,
            on_error=on_error,
            n_jobs=jobs,
            results_dir=results,
            resume=resume,
            overwrite=overwrite,
            param_grid=grids,
            controls=chosen["controls"],
            probes=probes,
            shard=part,
            on_fold=_update(progress, task),
            **chosen["options"],
        )
    if part is not None:
        _print_shard(part, json)
        return
    if not len(table):
        raise ValueError(
            "No fold was finished, so there is no table: see the warnings."
        )
    files = _save_scores(table, results, chosen, opened, extra, pipelines)
    if json:
        print_json(table.to_dict(orient="records"))
        return
    Console().print(tabulate_scores(table, protocol))
    if (table["control"] != "").any():
        Console().print(tabulate_controls(table))
    for file in files:
        print_text(f"Saved {file.absolute()}")


@_command
def audit(
    context: typer.Context,
    corpora: _Corpora,
    protocol: _Protocol = "leave-one-subject-out",
    target: _Target = "emotion",
    n_classes: _NClasses = None,
    threshold: _Threshold = None,
    ties: _Ties = "low",
    margin: _Margin = 0.0,
    label_source: _LabelSource = None,
    window: _Window = 4.0,
    last: _Last = None,
    features: _Features = None,
    standardize: _Standardize = None,
    subjects: _Subjects = None,
    all_modalities: _AllModalities = False,
    option: _Option = None,
    seed: _Seed = 0,
    json: _Json = False,
):
    """Check that a protocol does not leak, on signals independent of the labels.

    The exit code is 0 if the protocol passes, and 1 if it leaks.

    Example: emossl audit SEED --protocol within-session --subjects 1-3
    """
    import braindecode_emossl.evaluation as evaluation

    with make_progress() as progress, calm():
        progress.add_task("auditing", total=None)
        found = evaluation.audit(
            _make_paradigm(
                target=target,
                n_classes=n_classes,
                threshold=threshold,
                ties=ties,
                margin=margin,
                label_source=label_source,
                window=window,
                last=last,
                features=features,
                standardize=standardize,
            ),
            _open_corpora(corpora, subjects, all_modalities=all_modalities),
            protocol,
            random_state=seed,
            **_parse_protocol_options(option, protocol),
        )
    if json:
        print_json({**dataclasses.asdict(found), "passed": found.passed})
    else:
        print_text(str(found))
    if not found.passed:
        raise typer.Exit(1)


@_command
def report(
    context: typer.Context,
    results: Annotated[
        Path, typer.Argument(help='Folder of results of "emossl evaluate".')
    ] = Path("emossl-results"),
    output: Annotated[
        Path | None, typer.Option(help="HTML file. Default: RESULTS/report.html.")
    ] = None,
):
    """Write one HTML page about all evaluations in a folder, and their reporting card.

    The page contains tables, plots, statistics, the environment and the source of the
    results. It is a single file that loads nothing from the network. Next to it,
    card.md and card.json state the choices on which the numbers depend, from
    preprocessing to target access.

    Example: emossl report emossl-results --output seed.html
    """
    from braindecode_emossl.report import write_report

    output = output or results / "report.html"
    with make_progress() as progress:
        task = progress.add_task("reading", total=None)
        files = write_report(
            results,
            output,
            on_evaluation=lambda name, n_done, n_all: progress.update(
                task, description=name, completed=n_done, total=n_all
            ),
        )
    for file in files:
        print_text(f"Saved {file.absolute()}")


# -- corpora -------------------------------------------------------------------


def _find_corpus(code: str) -> type[EmotionDataset]:
    from braindecode_emossl.registration import DATASETS

    known = {cls.code_name: cls for cls in DATASETS}
    if code not in known:
        close = difflib.get_close_matches(code.upper(), known, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ValueError(
            f"A corpus must be one of {sorted(known)}, but got {code!r}.{hint}"
        )
    return known[code]


def _open_corpora(
    named: list[str],
    subjects: str | None,
    leave_out: str | None = None,
    *,
    option: str = "--subjects",
    all_modalities: bool,
) -> list:
    """Return the corpora that are written CODE or CODE=FOLDER."""
    numbers = _parse_numbers(option, subjects)
    without = _parse_numbers("--leave-out", leave_out) or []
    opened, unknown = [], set(without)
    for text in named:
        code, _, path = text.partition("=")
        make = functools.partial(
            _find_corpus(code),
            path=path or None,
            return_all_modalities=all_modalities,
        )
        dataset = make(numbers)
        if without:
            everyone = dataset.subject_list
            unknown -= set(everyone)
            numbers_left = [s for s in everyone if s not in without]
            if not numbers_left:
                raise ValueError(
                    f"--leave-out {leave_out} leaves no subject of {code}."
                )
            dataset = make(numbers_left)
        opened.append(dataset)
    if unknown:
        raise ValueError(
            "--leave-out must name subjects that would be used otherwise, but got "
            f"{sorted(unknown)}."
        )
    return opened


def _make_paradigm(*, threshold: str | None, **settings):
    """Return the paradigm of a command; the threshold is still text."""
    from braindecode_emossl.paradigms import Emotion

    return Emotion(threshold=_parse_threshold(threshold), **settings)


def _inspect(dataset, read_signals: bool):
    from braindecode_emossl.datasets.inspection import inspect_corpus

    with make_progress() as progress:
        task = progress.add_task(dataset.code, total=len(dataset.subject_list))
        return inspect_corpus(
            dataset,
            read_signals=read_signals,
            on_subject=lambda subject: progress.update(
                task, description=f"{dataset.code}: subject {subject}", advance=1
            ),
        )


# -- values of options ---------------------------------------------------------


def _parse_numbers(option: str, text: str | None) -> list[int] | None:
    """Return [1, 2, 3, 7] for "1-3,7"."""
    if text is None:
        return None
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        found = match and range(int(match[1]), int(match[2] or match[1]) + 1)
        if not found:
            raise ValueError(f"{option} must be such as 1-3,7, but got {text!r}.")
        numbers += found
    return numbers


def _parse_numbers_of_trials(text: str | None) -> list[int | None] | None:
    """Return [1, 2, None] for "1,2,all"."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"all|0*[1-9]\d*", part, re.ASCII) for part in parts):
        raise ValueError(f"--n-labeled must be such as 1,2,5,all, but got {text!r}.")
    return [None if part == "all" else int(part) for part in parts]


def _parse_threshold(text: str | None) -> float | str | None:
    """Return 4.5 for "4.5"; anything that is not a number is left to the paradigm."""
    try:
        return text if text is None else float(text)
    except ValueError:
        return text


def _parse_shard(text: str | None) -> tuple[int, int] | None:
    """Return (3, 15) for "3/15"."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError(
            "--shard must be K/N with K from 0 to N - 1, such as 0/2 and 1/2, but got "
            f"{text!r}."
        )
    return int(match[1]), int(match[2])


def _parse_options(
    options: list[str] | None, option: str = "--option"
) -> dict[str, Any]:
    """Return {"n_splits": 10} for ["n_splits=10"]."""
    pairs = [text.partition("=") for text in options or []]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ValueError(f"{option} must be NAME=VALUE, but got {wrong}.")
    try:
        return {
            name.replace("-", "_"): yaml.safe_load(value) for name, _, value in pairs
        }
    except yaml.YAMLError as error:
        raise ValueError(
            f"{option} must be NAME=VALUE with a number, a word or a list such as "
            f"[1, 2], but got {options}."
        ) from error


def _parse_protocol_options(options: list[str] | None, protocol: str) -> dict[str, Any]:
    """Return the options of a protocol, none of which is another argument."""
    from braindecode_emossl.evaluation import PROTOCOLS

    chosen = _parse_options(options)
    if protocol in PROTOCOLS:
        PROTOCOLS[protocol].complete(chosen)
    return chosen


def _parse_controls(controls: list[str] | None) -> list[str | tuple] | str | None:
    """Return [("injected-signal", {"snr": 0.2})] for ["injected-signal:snr=0.2"]."""
    if not controls:
        return None
    if "all" in controls:
        if len(controls) > 1:
            raise ValueError(f"--controls all stands alone, but got {controls}.")
        return "all"
    parsed: list[str | tuple] = []
    for text in controls:
        name, colon, options = text.partition(":")
        given = (
            _parse_options(options.split(","), f"--controls {name}:") if colon else {}
        )
        parsed.append((name, given) if given else name)
    return parsed


def _check_device(device: str | None) -> None:
    import torch

    try:
        torch.empty(0, device=None if device == "auto" else device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"--device {device} is not available on this machine: {reason}"
        ) from error


def _update(progress, task):
    """Return a function that shows the number of finished folds."""

    def update(corpus: str, n_done: int, n_folds: int) -> None:
        progress.update(task, description=corpus, completed=n_done, total=n_folds)

    return update


# -- pre-training --------------------------------------------------------------


@dataclasses.dataclass
class _Loaded:
    """Windows of corpora, their metadata and their channels."""

    X: Any
    y: Any
    metadata: Any
    info: Any


def _load_windows(corpora: list, paradigm) -> _Loaded:
    from braindecode_emossl.pretraining.windows import join_corpora

    if len(corpora) > 1:
        paradigm.match_all(corpora)
    X, y, metadata = join_corpora([paradigm.get_data(corpus) for corpus in corpora])
    return _Loaded(X, y, metadata, paradigm.get_info(corpora[0]))


def _check_model(name: str, features: str | None) -> None:
    """Refuse an unknown model, and features that it does not take."""
    from braindecode_emossl.evaluation.pipelines import are_entropy
    from braindecode_emossl.pretraining.model_factory import find_model_class
    from braindecode_emossl.pretraining.registry import OBJECTIVES

    if name not in OBJECTIVES:
        raise ValueError(f"MODEL must be one of {_list_models()}, but got {name!r}.")
    arguments = inspect.signature(find_model_class(name)).parameters
    takes_entropy = "input_domain" in arguments
    if features is not None and not (takes_entropy and are_entropy(features)):
        taken = "de, released:de... or left out" if takes_entropy else "left out"
        raise ValueError(
            f"--features must be {taken} for {name}, but got {features!r}."
        )


def _make_objective(name: str, features: str | None, loaded: _Loaded, seed: int):
    """Return a pre-training objective with its model, from random weights."""
    import numpy as np

    from braindecode_emossl.pretraining.model_factory import find_model_class
    from braindecode_emossl.pretraining.pretrainer import seeded
    from braindecode_emossl.pretraining.registry import OBJECTIVES

    with seeded(seed, "cpu"):
        model = find_model_class(name)(
            n_outputs=len(np.unique(loaded.y)),
            n_chans=loaded.X.shape[1],
            n_times=loaded.X.shape[2],
            sfreq=loaded.info["sfreq"],
            chs_info=loaded.info["chs"],
            **({"input_domain": "de"} if features else {}),
        )
        return OBJECTIVES[name](model)


def _make_pretrainer(objective, **settings):
    """Return the trainer for one process, or for one of several."""
    from braindecode_emossl.pretraining import SSLPretrainer

    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        from braindecode_emossl.pretraining.distributed import DistributedPretrainer

        return DistributedPretrainer(objective, progress=True, **settings)
    return SSLPretrainer(objective, progress=True, **settings)


def _print_pretraining(pretrainer, model, n_windows, output: Path, json) -> None:
    """Print the length of a training, its last losses and the checkpoint."""
    last = pretrainer.history[-1] if len(pretrainer.history) else {}
    losses = {
        name.removeprefix("train_"): value
        for name, value in last.items()
        if name.startswith("train_") and isinstance(value, float)
    }
    n_steps, n_epochs = pretrainer.n_steps_, len(pretrainer.history)
    trained = (output / "trained").absolute()
    if json:
        print_json(
            {
                "model": model,
                "n_windows": n_windows,
                "steps": n_steps,
                "epochs": n_epochs,
                "losses": losses,
                "checkpoint": str(trained),
                **pretrainer.provenance_,
            }
        )
        return
    print_text(
        f"{model}, {n_steps} steps in {n_epochs} epochs of {n_windows} windows: "
        + ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    )
    print_text(f"Saved {trained}")


# -- evaluation ----------------------------------------------------------------


def _load_pipelines(path: Path | None, features, device):
    """Return pipelines and grids: those of a path, or those of the package."""
    import braindecode_emossl.evaluation as evaluation

    ours = path is None
    return evaluation.load_pipelines(
        evaluation.pipelines_folder(features) if ours else path,
        device=device,
        keep_sfreq=not ours,  # their rate is only for stock evaluations
    )


def _keep_suited(pipelines, paradigm, options, path: Path | None) -> dict:
    """Return the pipelines that the paradigm suits.

    Those of a path that it does not suit are an error. Those of the package, which
    nobody has named, are left out with a warning.
    """
    from braindecode_emossl.evaluation.pipelines import describe_unmet_need

    kept = {}
    for name, pipeline in pipelines.items():
        need = describe_unmet_need(name, pipeline, paradigm, options)
        if need and path is not None:
            raise ValueError(need)
        if need:
            print_error(f"Warning: left out: {need}")
        else:
            kept[name] = pipeline
    return kept


def _add_baselines(pipelines, grids):
    """Return the pipelines with their baselines, and the grids of all."""
    from braindecode_emossl.evaluation import with_baselines

    rows, all_grids = with_baselines(pipelines), dict(grids)
    # Random weights and the frozen probe get the same search, but for what they fix.
    fixed = {
        "random weights": ("objective", "pretrained"),
        "frozen": ("finetune",),
    }
    for name, grid in grids.items():
        for kind, names in fixed.items():
            row = f"{name}, {kind}"
            if row in rows and row not in pipelines:
                all_grids[row] = _drop_names(grid, names)
    return rows, all_grids


def _drop_names(grid, names: tuple[str, ...]):
    """Return a grid without parameters of some names, at any depth."""
    if not isinstance(grid, dict):
        return [_drop_names(part, names) for part in grid]
    return {k: v for k, v in grid.items() if k.rpartition("__")[2] not in names}


def _print_shard(part: tuple[int, int], json: bool) -> None:
    if json:
        print_json({"shard": part})
    else:
        print_text(f"Shard {part[0]}/{part[1]} is finished.")


def _save_scores(table, folder: Path, chosen, corpora, extra, pipelines) -> list[Path]:
    """Write a table under a name that depends on the settings, but not on places."""
    from braindecode_emossl.report import save_scores
    from braindecode_emossl.storage import hash_json

    file = pipelines.absolute() if pipelines else None
    identity = {
        **chosen,
        "corpora": [dataset.fingerprint() for dataset in corpora],
        "unlabeled": [dataset.fingerprint() for dataset in extra],
        "pipelines": _digest_pipelines(file),
    }
    settings = {
        **chosen,
        "corpora": {dataset.code: str(dataset.find_root()) for dataset in corpora},
        "unlabeled": {dataset.code: str(dataset.find_root()) for dataset in extra},
        "pipelines": str(file or "shipped"),
    }
    codes = "+".join(settings["corpora"])
    name = f"scores-{codes}-{chosen['protocol']}-{chosen['target']}"
    stem = folder / f"{name}-{hash_json(identity)[:8]}"
    command = shlex.join(["emossl", *sys.argv[1:]])
    return save_scores(table, stem, {"command": command, "settings": settings})


def _digest_pipelines(path: Path | None) -> list[str]:
    """Return the digests of the files of pipelines, none for those of the package."""
    from braindecode_emossl.evaluation.pipelines import list_files
    from braindecode_emossl.storage import digest_files

    return [] if path is None else digest_files(list_files(path))


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
