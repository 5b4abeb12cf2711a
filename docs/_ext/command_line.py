"""The help of the command ``emossl``, as a file that a page includes."""

from __future__ import annotations

import re
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from braindecode_emossl.cli import app as emossl

__all__ = ["setup"]


def setup(app) -> dict:
    """Write ``generated/cli.md`` before pages are read.

    Parameters
    ----------
    app : Sphinx
        The application.

    Returns
    -------
    dict
        Whether the extension supports parallel builds.
    """
    app.connect("builder-inited", _write_help)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _write_help(app) -> None:
    command = typer.main.get_command(emossl)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="emossl")
    _, _, text = text.partition("\n")  # the page has its own title
    # The list of commands has truncated sentences.
    text = re.sub(r"\*\*Commands\*\*:\n\n(\* .+\n)+\n", "", text)
    text = re.sub(r"^Example: (.+)$", r"Example: `\1`", text, flags=re.MULTILINE)
    # Text in angle brackets would be taken for HTML.
    text = re.sub(r"(?<!\S)([^\s`]*<[A-Z]+>[^\s`,]*)", r"`\1`", text)
    file = Path(app.srcdir, "generated", "cli.md")
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
