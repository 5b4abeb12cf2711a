"""Settings of the documentation: ``sphinx-build -W --keep-going docs docs/_build/html``.

It builds offline. With ``EMOSSL_DOCS_LINKS=1`` the names of other libraries link to
their documentation, whose inventories are then fetched. ``-D plot_gallery=0`` leaves
out the running of the examples.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from importlib.metadata import version as get_version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

# -- project -------------------------------------------------------------------

project = "braindecode-emossl"
author = "The braindecode-emossl developers"
project_copyright = author
version = release = get_version("braindecode-emossl")

extensions = [
    "evidence",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "generated/cli.md"]
templates_path = ["_templates"]
# Quotes and dashes of code are part of it.
smartquotes = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# -- API reference -------------------------------------------------------------

autosummary_generate = True
# Some file systems cannot tell them apart: a function, and the Transform after it.
_MEIOSIS = "braindecode_emossl.augmentation.meiosis"
autosummary_filename_map = {_MEIOSIS: f"{_MEIOSIS}-function"}
# Public is what __all__ names, wherever it is defined.
autosummary_ignore_module_all = False
autodoc_inherit_docstrings = False
autodoc_typehints = "none"
numpydoc_show_class_members = False
# A reference to this package that leads nowhere is an error.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!braindecode_emossl).*")]


def _find_model_classes() -> list[str]:
    """Return the classes with a page in ``models/``, which no other page repeats."""
    from braindecode_emossl.pretraining.registry import OBJECTIVES

    return [*OBJECTIVES, *(cls.__name__ for cls in OBJECTIVES.values())]


autosummary_context = {"with_a_page": _find_model_classes()}

if os.environ.get("EMOSSL_DOCS_LINKS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "braindecode": ("https://braindecode.org/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
        "mne": ("https://mne.tools/stable", None),
        "moabb": ("https://moabb.neurotechx.com/docs", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "python": ("https://docs.python.org/3", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "skorch": ("https://skorch.readthedocs.io/en/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }

# -- gallery -------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("braindecode_emossl",),
    "remove_config_comments": True,
    "show_memory": False,
}

# -- HTML ----------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": project},
    "header_links_before_dropdown": 7,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version", "theme-version"],
}
html_sidebars = {
    page: [] for page in ("index", "start", "results")
}


# -- what is made at build time ------------------------------------------------


def _write_command_line(app) -> None:
    """Write the help of ``emossl`` to ``generated/cli.md``, which a page includes."""
    import typer
    from typer.cli import get_docs_for_click

    from braindecode_emossl.cli import app as emossl

    command = typer.main.get_command(emossl)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="emossl")
    text = re.sub(r"\*\*Commands\*\*:\n\n(\* .+\n)+\n", "", text)  # cut-off sentences
    text = re.sub(r"^Example: (.+)$", r"Example: `\1`", text, flags=re.MULTILINE)
    text = re.sub(r"(?<!\S)([^\s`]*<[A-Z]+>[^\s`]*)", r"`\1`", text)  # no HTML
    file = Path(app.srcdir, "generated", "cli.md")
    file.parent.mkdir(exist_ok=True)
    file.write_text(text.partition("\n")[2])  # the page has a title of its own


def _edit_docstring(app, what, name, obj, options, lines) -> None:
    # braindecode adds it to every model, with an import that is not ours.
    if (start := ".. rubric:: Hugging Face Hub integration") in lines:
        del lines[lines.index(start) :]
    lines[:] = [line.replace(" -- ", " \N{EN DASH} ") for line in lines]


def _resolve_short_name(app, env, node, content):
    """Link ``braindecode_emossl.SEED`` to the module whose reference it is in."""
    import braindecode_emossl

    package, _, name = node.get("reftarget", "").rpartition(".")
    if package != "braindecode_emossl":
        return None
    for module in filter(inspect.ismodule, vars(braindecode_emossl).values()):
        if name in getattr(module, "__all__", ()):
            return env.domains["py"].resolve_xref(
                env,
                node["refdoc"],
                app.builder,
                node["reftype"],
                f"{module.__name__}.{name}",
                node,
                content,
            )
    return None


def _skip_requests(app, what, name, obj, skip, options):
    """Leave out the ``set_..._request`` that scikit-learn adds to estimators."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app) -> None:
    """Connect the above to the build."""
    app.connect("builder-inited", _write_command_line)
    # Before numpydoc, which has the usual priority of 500.
    app.connect("autodoc-process-docstring", _edit_docstring, priority=400)
    app.connect("autodoc-skip-member", _skip_requests)
    app.connect("missing-reference", _resolve_short_name)
