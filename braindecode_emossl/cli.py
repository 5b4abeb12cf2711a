"""The command ``emossl``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer
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
        # RuntimeError: torch's answer to a device that is not there.
        except (EmosslError, OSError, ValueError, RuntimeError) as error:
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
    console.print("Synthetic replicas: these numbers say nothing about emotion.")
    for name in ("scores.csv", "scores.png"):
        console.print(f"Saved {(output / name).absolute()}", soft_wrap=True)


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
