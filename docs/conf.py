"""Settings of the documentation.

``sphinx-build -W --keep-going docs docs/_build/html`` builds it offline. With
``EMOSSL_DOCS_LINKS=1``, the names of other libraries link to their documentation, whose
inventories are downloaded. With ``-D plot_gallery=0``, the examples are not run.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as get_version
from pathlib import Path

from braindecode_emossl.pretraining.registry import OBJECTIVES

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

# -- project -------------------------------------------------------------------

project = "braindecode-emossl"
author = "The braindecode-emossl developers"
project_copyright = author
version = release = get_version("braindecode-emossl")

extensions = [
    "command_line",
    "corpora",
    "evidence",
    "mathml",
    "myst_parser",
    "numpydoc",
    "reference",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "generated/cli.md"]
templates_path = ["_templates"]
# Keep quotes and dashes in code unchanged.
smartquotes = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# -- API reference -------------------------------------------------------------

autosummary_generate = True
# Names in __all__ are public, wherever they are defined.
autosummary_ignore_module_all = False
autosummary_imported_members = True
# Classes with a page in models/, which are not repeated on other pages.
autosummary_context = {
    "with_a_page": [*OBJECTIVES, *(cls.__name__ for cls in OBJECTIVES.values())]
}
# A function and a Transform whose names are equal on some file systems.
_MEIOSIS = "braindecode_emossl.augmentation.meiosis"
autosummary_filename_map = {_MEIOSIS: f"{_MEIOSIS}-function"}
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
# A broken reference to this package is an error.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!braindecode_emossl).*")]

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
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("braindecode_emossl",),
    "remove_config_comments": True,
}

# -- HTML ----------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = project
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": project},
    "header_links_before_dropdown": 8,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version", "theme-version"],
}
# Pages without a sidebar.
html_sidebars = {page: [] for page in ("index", "start", "results")}
