"""The command ``emossl``."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json as json_module
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

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
    tabulate_demo,
    tabulate_inspections,
    tabulate_scores,
)

__all__ = ["app", "main"]

app = typer.Typer(
    help="Self-supervised EEG emotion recognition, from corpora to results.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


# -- arguments that several commands share -------------------------------------


def _list_corpora() -> list[str]:
    from braindecode_emossl.registration import DATASETS

    return sorted(cls.code_name for cls in DATASETS)


def _list_protocols() -> list[str]:
    from braindecode_emossl.evaluation.protocols import PROTOCOLS

    return list(PROTOCOLS)


def _list_models() -> list[str]:
    from braindecode_emossl.pretraining.registry import OBJECTIVES

    return sorted(OBJECTIVES)


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
        help="How windows are divided, such as within-session or cross-corpus.",
        autocompletion=_list_protocols,
    ),
]
_Target = Annotated[str, typer.Option(help="emotion, valence, arousal, ...")]
_NClasses = Annotated[int | None, typer.Option(help="2 or 3, for one dimension.")]
_Window = Annotated[float, typer.Option(help="Length of a window in seconds.")]
_Features = Annotated[
    str | None, typer.Option(help='"de" or "psd"; signals by default.')
]
_Subjects = Annotated[str | None, typer.Option(help="Such as 1-3,7; all by default.")]
_AllModalities = Annotated[
    bool,
    typer.Option(
        "--all-modalities",
        help="Beside EEG what else the corpus has, such as GSR or eye movements.",
    ),
]
_Option = Annotated[
    list[str] | None,
    typer.Option(help="Option of the protocol, such as n_splits=10."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
):
    """Take the options that all commands share."""


def _one_sentence_errors(command):
    """Let bad input end in one clear sentence and exit code 2, Ctrl-C in 130."""

    @functools.wraps(command)
    def run(context: typer.Context, **options):
        try:
            return command(context, **options)
        except KeyboardInterrupt:
            print_error(context.meta.get(_STOPPED, "Stopped."))
            raise typer.Exit(130) from None
        except BrokenPipeError:  # whoever reads the output has seen enough
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


# Where a command leaves what Ctrl-C is to say.
_STOPPED = "emossl.stopped"


# -- the commands --------------------------------------------------------------


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

    with make_progress() as progress:
        task = progress.add_task("starting", total=None)

        def on_step(what: str, n_steps: int) -> None:
            done = progress.tasks[task].total is not None
            progress.update(task, description=what, total=n_steps, advance=int(done))

        scores = run_demo(
            output, corpora, random_state=seed, device=device, on_step=on_step
        )
        progress.update(task, description="done", advance=1)
    Console().print(tabulate_demo(summarize(scores)))
    print_text(
        "Synthetic replicas: these numbers say nothing about emotion, and so few "
        "windows nothing about what pre-training is worth."
    )
    for name in ("scores.csv", "scores.png"):
        print_text(f"Saved {(output / name).absolute()}")


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

    found = [
        _inspect(corpus(on_error="warn"), read_signals=False) for corpus in DATASETS
    ]
    if json:
        print_json([inspection_to_dict(inspection) for inspection in found])
        return
    Console().print(tabulate_inspections(found))
    for inspection in found:
        print_problems(inspection)


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
    dataset = _find_corpus(corpus)(path=path, on_error="warn")
    inspection = _inspect(dataset, read_signals=True)
    if json:
        print_json(inspection_to_dict(inspection))
    else:
        Console().print(tabulate_inspections([inspection]))
        print_problems(inspection)
        print_text(f"Verdict: {inspection.verdict}.")
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

    with make_progress() as progress:
        progress.add_task(f"writing {corpus}", total=None)
        root = write_replica(
            corpus,
            path,
            subjects=list(range(1, subjects + 1)),
            seconds=seconds,
            seed=seed,
            effect_size=effect_size,
        )
    print_text(f"Wrote a replica of {corpus} to {root}")


@app.command()
@_one_sentence_errors
def pipelines(
    context: typer.Context,
    features: Annotated[
        str | None, typer.Option(help='"de" for windows in DE form.')
    ] = None,
    json: _Json = False,
):
    """Print the folder of the pipelines that ship with the package.

    With --json also their names, which is what tables of results call them.

    Example: python -m moabb.run -p $(emossl pipelines)

    Example: emossl pipelines --features de --json
    """
    from braindecode_emossl.evaluation import pipelines_folder

    folder = pipelines_folder(features)
    if not json:
        typer.echo(folder)
        return
    files = sorted(folder.glob("*.yml"))
    names = {yaml.safe_load(file.read_text())["name"]: file.name for file in files}
    print_json({"folder": str(folder), "pipelines": names})


@app.command()
@_one_sentence_errors
def pretrain(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="SCMM, MEMHACL, MoodReader or MaskedClusterTransformer.",
            autocompletion=_list_models,
        ),
    ],
    corpora: _Corpora,
    target: Annotated[
        str, typer.Option(help="Only trials with a label of it: emotion means all.")
    ] = "emotion",
    n_classes: _NClasses = None,
    window: _Window = 4.0,
    features: Annotated[
        str | None, typer.Option(help='"de", for SCMM; signals by default.')
    ] = None,
    subjects: _Subjects = None,
    leave_out: Annotated[
        str | None, typer.Option(help="Subjects to leave out, such as 1-3,7.")
    ] = None,
    all_modalities: _AllModalities = False,
    epochs: Annotated[int, typer.Option(min=0, help="Passes over the windows.")] = 100,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="256 by default; 16 groups of windows for MEMHACL."),
    ] = None,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 5e-4,
    schedule: Annotated[
        str | None, typer.Option(help='"cosine" lets the learning rate fall to zero.')
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder for the state and the trained checkpoint.")
    ] = Path("emossl-pretrained"),
    seed: Annotated[int, typer.Option(help="Same seed, same weights.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="Where to train, e.g. cuda.")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on with the state in the folder, if there is one.")
    ] = True,
    json: _Json = False,
):
    """Pre-train a model without labels and save a checkpoint.

    The checkpoint, in OUTPUT/trained, remembers which subjects it has seen, and
    SSLClassifier(checkpoint=...) refuses it where one of them may be tested: keep test
    subjects out with --subjects or --leave-out. Killed or stopped, the same command
    goes on after the last finished epoch. "accelerate launch -m braindecode_emossl.cli
    pretrain ..." or torchrun trains in several processes; each takes --batch-size
    windows a step.

    Example: emossl pretrain SCMM SEED --features de --window 1 --leave-out 1-3

    Example: emossl pretrain MEMHACL DEAP=/data/DEAP --window 1 --all-modalities
    """
    stopped = make_stopping_text("epoch", without="" if resume else "--no-resume")
    context.meta[_STOPPED] = stopped
    _check_model(model, features)
    _check_device(device)
    opened = _open_corpora(corpora, subjects, leave_out, all_modalities=all_modalities)
    with make_progress() as progress, calm():
        progress.add_task("loading", total=None)
        loaded = _load_windows(
            opened, _make_paradigm(target, n_classes, window, features)
        )
    with calm():
        pretrainer = _make_pretrainer(
            model,
            _make_model(model, features, loaded, seed),
            batch_size=batch_size,
            max_epochs=epochs,
            lr=lr,
            schedule=schedule,
            checkpoint_dir=output,
            resume=resume,
            random_state=seed,
            device=device,
        ).fit(loaded.X, metadata=loaded.metadata)
    if int(os.environ.get("RANK", 0)):
        return
    losses = {
        name.removeprefix("train_"): value
        for name, value in (pretrainer.history[-1] if epochs else {}).items()
        if name.startswith("train_") and isinstance(value, float)
    }
    trained = (output / "trained").absolute()
    if json:
        print_json(
            {
                "model": model,
                "n_windows": len(loaded.X),
                "epochs": len(pretrainer.history),
                "losses": losses,
                "checkpoint": str(trained),
                **pretrainer.provenance_,
            }
        )
        return
    print_text(
        f"{model}, {len(pretrainer.history)} epochs of {len(loaded.X)} windows: "
        + ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    )
    print_text(f"Saved {trained}")


@app.command()
@_one_sentence_errors
def evaluate(
    context: typer.Context,
    corpora: _Corpora,
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
    all_modalities: _AllModalities = False,
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

    The tables are scores-<CORPORA>-<PROTOCOL>-<TARGET>-<settings>.csv and .parquet,
    with the settings in .json beside; "emossl report" makes a page of them. Killed or
    stopped, the next call goes on after the last finished fold. A job of a cluster runs
    one share of the folds (--fold 3 --of 15); a last call without --fold gathers the
    table of all.

    Example: emossl evaluate SEED --features de --window 1 --jobs 4

    Example: emossl evaluate SEED DEAP --protocol cross-corpus --target valence
    """
    import braindecode_emossl.evaluation as evaluation

    if (fold is None) != (of is None):
        raise ValueError("--fold and --of go together, such as --fold 3 --of 15.")
    without = "--overwrite" if overwrite else "" if resume else "--no-resume"
    context.meta[_STOPPED] = make_stopping_text("fold", without=without)
    _check_device(device)
    pipelines = pipelines or evaluation.pipelines_folder(features)
    estimators, grids = evaluation.load_pipelines(pipelines, device=device)
    options = _parse_options(option)
    opened = _open_corpora(corpora, subjects, all_modalities=all_modalities)
    with make_progress() as progress, calm():
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
            **options,
        )
    if fold is not None:
        if json:
            print_json({"fold": fold, "of": of})
        else:
            print_text(f"Share {fold} of {of} is finished.")
        return
    settings = {
        "corpora": {dataset.code: str(dataset.find_root()) for dataset in opened},
        "protocol": protocol,
        "options": options,
        "target": target,
        "n_classes": n_classes,
        "window": window,
        "features": features,
        "subjects": subjects,
        "all_modalities": all_modalities,
        "seed": seed,
        "pipelines": str(Path(pipelines).absolute()),
    }
    files = _save_scores(table, results, settings)
    if json:
        print_json(table.to_dict(orient="records"))
        return
    Console().print(tabulate_scores(table, protocol))
    for file in files:
        print_text(f"Saved {file.absolute()}")


@app.command()
@_one_sentence_errors
def audit(
    context: typer.Context,
    corpora: _Corpora,
    protocol: _Protocol = "leave-one-subject-out",
    target: _Target = "emotion",
    n_classes: _NClasses = None,
    window: _Window = 4.0,
    features: _Features = None,
    subjects: _Subjects = None,
    all_modalities: _AllModalities = False,
    option: _Option = None,
    seed: Annotated[int, typer.Option(help="Same seed, same signals.")] = 0,
    json: _Json = False,
):
    """Check on label-free signals that a protocol does not leak.

    The exit code is 0 if it passes and 1 if it leaks.

    Example: emossl audit SEED --protocol within-session --subjects 1-3
    """
    import braindecode_emossl.evaluation as evaluation

    with make_progress() as progress, calm():
        progress.add_task("auditing", total=None)
        found = evaluation.audit(
            _make_paradigm(target, n_classes, window, features),
            _open_corpora(corpora, subjects, all_modalities=all_modalities),
            protocol,
            random_state=seed,
            **_parse_options(option),
        )
    if json:
        print_json({**dataclasses.asdict(found), "passed": found.passed})
    else:
        print_text(str(found))
    if not found.passed:
        raise typer.Exit(1)


@app.command()
@_one_sentence_errors
def report(
    context: typer.Context,
    results: Annotated[
        Path, typer.Argument(help='Folder that "emossl evaluate" was given.')
    ] = Path("emossl-results"),
    output: Annotated[
        Path | None, typer.Option(help="The page; RESULTS/report.html by default.")
    ] = None,
):
    """Write one HTML page of all evaluations in a folder, to read, print or send.

    Tables, plots, statistics, environment and where the numbers come from. The page
    holds all that it shows and asks for nothing on the network.

    Example: emossl report emossl-results --output seed.html
    """
    from braindecode_emossl.report import write_report

    output = output or results / "report.html"
    with make_progress() as progress:
        task = progress.add_task("reading", total=None)
        write_report(
            results,
            output,
            on_evaluation=lambda name, n_done, n_all: progress.update(
                task, description=name, completed=n_done, total=n_all
            ),
        )
    print_text(f"Saved {output.absolute()}")


# -- what the commands share ---------------------------------------------------


def _find_corpus(code: str) -> type:
    from braindecode_emossl.registration import DATASETS

    known = {cls.code_name: cls for cls in DATASETS}
    if code not in known:
        raise ValueError(
            f"A corpus must be one of {sorted(known)}, but got {code!r}. Write a "
            "folder as CODE=FOLDER where several corpora may be named."
        )
    return known[code]


def _open_corpora(
    named: list[str],
    subjects: str | None,
    leave_out: str | None = None,
    *,
    all_modalities: bool,
) -> list:
    numbers = _parse_numbers("--subjects", subjects)
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
                raise ValueError(f"--leave-out {leave_out} leaves nobody of {code}.")
            dataset = make(numbers_left)
        opened.append(dataset)
    if unknown:
        raise ValueError(
            f"--leave-out must name subjects that are there otherwise, but got "
            f"{sorted(unknown)}."
        )
    return opened


def _parse_numbers(option: str, text: str | None) -> list[int] | None:
    """Return [1, 2, 3, 7] of "1-3,7"."""
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


def _parse_options(options: list[str] | None) -> dict:
    """Return {"n_splits": 10} of ["n_splits=10"]."""
    pairs = [text.partition("=") for text in options or []]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ValueError(f"--option must be NAME=VALUE, but got {wrong}.")
    return {name.replace("-", "_"): yaml.safe_load(value) for name, _, value in pairs}


def _make_paradigm(target, n_classes, window, features):
    from braindecode_emossl.paradigms import Emotion

    return Emotion(target, n_classes, window=window, features=features)


@dataclasses.dataclass
class _Loaded:
    """Windows of corpora, and what is known of their signal."""

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
    if name not in _list_models():
        raise ValueError(f"MODEL must be one of {_list_models()}, but got {name!r}.")
    taken = (None, "de") if name == "SCMM" else (None,)
    if features not in taken:
        raise ValueError(
            f"--features must be {'left out or de' if 'de' in taken else 'left out'} "
            f"for {name}, but got {features!r}."
        )


def _make_model(name: str, features: str | None, loaded: _Loaded, seed: int):
    """Return a pre-training objective with its model, of random weights."""
    import numpy as np

    from braindecode_emossl import models
    from braindecode_emossl.pretraining.pretrainer import seeded
    from braindecode_emossl.pretraining.registry import OBJECTIVES

    with seeded(seed, "cpu"):
        model = getattr(models, name)(
            n_outputs=len(np.unique(loaded.y)),
            n_chans=loaded.X.shape[1],
            n_times=loaded.X.shape[2],
            sfreq=loaded.info["sfreq"],
            chs_info=loaded.info["chs"],
            **({"input_domain": features} if features else {}),
        )
        return OBJECTIVES[name](model)


def _make_pretrainer(name: str, objective, *, batch_size, device, **settings):
    """Return the trainer of a model, for one process or as one of several."""
    from braindecode_emossl.pretraining import SSLPretrainer
    from braindecode_emossl.samplers import StimulusGroupSampler

    defaults = {"batch_size": 256}
    if name == "MEMHACL":  # contrasts groups of subjects who see the same
        defaults = {"batch_size": 16, "sampler": StimulusGroupSampler}
    settings |= defaults | ({"batch_size": batch_size} if batch_size else {})
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        from braindecode_emossl.pretraining.distributed import DistributedPretrainer

        return DistributedPretrainer(
            objective, device=device or "auto", progress=True, **settings
        )
    return SSLPretrainer(objective, device=device or "cpu", progress=True, **settings)


def _check_device(device: str | None) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"--device {device} is not to be had on this machine: {reason}"
        ) from error


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


def _save_scores(table, folder: Path, settings: dict) -> list[Path]:
    """Write a table under a name that tells it from those of other settings."""
    from braindecode_emossl.report import save_scores

    text = json_module.dumps(settings, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    parts = ["+".join(settings["corpora"]), settings["protocol"], settings["target"]]
    stem = folder / "-".join(["scores", *parts, digest])
    command = shlex.join(["emossl", *sys.argv[1:]])
    return save_scores(table, stem, {"command": command, "settings": settings})


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
