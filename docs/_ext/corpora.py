"""A directive for tables of the corpora, made from the attributes of their classes.

``.. corpora:: release`` says what each release holds, ``.. corpora:: labels`` from what
its labels derive. A new corpus of the package is in both without an entry here.
"""

from __future__ import annotations

import inspect
from collections import Counter
from fractions import Fraction

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxDirective

from braindecode_emossl.registration import DATASETS

__all__ = ["CorpusTable", "describe_labels", "describe_release", "setup"]

# Classes are listed up to this number.
_MOST_CLASSES = 7


def describe_release(cls: type) -> dict[str, str]:
    """Return the contents of the release of a corpus.

    Parameters
    ----------
    cls : type
        Class of the corpus.

    Returns
    -------
    dict of str to str
        Text by column.
    """
    acquisition = cls.METADATA.acquisition
    n_all = len(cls.all_subject_numbers)
    n_released = n_all - len(cls.unreleased_subjects)
    channels = Counter(acquisition.channel_types)
    others = sum(channels.values()) - channels["eeg"]
    signals = f"{channels['eeg']} EEG" + (f", {others} other" if others else "")
    classes = list(cls.classes)
    return {
        "subjects": str(n_all) if n_released == n_all else f"{n_released} of {n_all}",
        "sessions": str(cls.n_sessions_per_subject),
        "trials": str(cls.summary_table["Total_trials"]),
        "channels": f"{signals}; {acquisition.sampling_rate:g} Hz",
        "classes": ", ".join(classes)
        if len(classes) <= _MOST_CLASSES
        else f"{len(classes)}: {', '.join(classes[:2])}, ...",
        "ratings": ", ".join(cls.ratings) or "none",
        "how to get it": "download"
        if cls.is_open
        else cls.access_terms.removesuffix(" is needed"),
    }


def describe_labels(cls: type) -> dict[str, str]:
    """Return from what the labels of a corpus derive.

    Parameters
    ----------
    cls : type
        Class of the corpus.

    Returns
    -------
    dict of str to str
        Text by column.
    """
    low, high = cls.passband or (None, None)
    cuts = " and ".join(str(Fraction(k).limit_denominator(9)) for k in cls.rating_cuts)
    by_class = bool(cls.valence_of_class)
    return {
        "classes of the": {"stimulus": "stimulus", "self-report": "subject's report"}[
            cls.class_source
        ],
        "valence": "of the class" if by_class else "rating",
        "midpoint": "" if cls.rating_midpoint is None else f"{cls.rating_midpoint:g}",
        "three classes": cuts if cls.ratings else "",
        "band in Hz": "unknown" if low is None else f"{low:g} to {high:g}",
    }


_KINDS = {"release": describe_release, "labels": describe_labels}


class CorpusTable(SphinxDirective):
    """The table; its argument is a key of ``_KINDS``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = []
        for cls in DATASETS:
            self.env.note_dependency(inspect.getsourcefile(cls))
            rows.append((cls, _KINDS[self.arguments[0]](cls)))
        names = ["corpus", *rows[0][1]]
        group = nodes.tgroup(cols=len(names))
        group += [nodes.colspec(colwidth=1) for _ in names]
        group += nodes.thead("", _row([nodes.Text(name) for name in names]))
        body = nodes.tbody()
        for cls, cells in rows:
            texts = [nodes.Text(text) for text in cells.values()]
            body += _row([self._link(cls), *texts])
        group += body
        return [nodes.table("", group, classes=["corpora"])]

    def _link(self, cls: type) -> nodes.Node:
        """Return a link to the page of a corpus."""
        return pending_xref(
            "",
            nodes.inline("", cls.code_name),
            refdomain="std",
            reftype="doc",
            reftarget=f"/corpora/{cls.__name__.lower()}",
            refdoc=self.env.docname,
            refexplicit=True,
            refwarn=True,
        )


def _row(cells: list[nodes.Node]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        row += nodes.entry("", nodes.paragraph("", "", cell))
    return row


def setup(app) -> dict:
    """Add the directive to Sphinx.

    Parameters
    ----------
    app : Sphinx
        The application.

    Returns
    -------
    dict
        Whether the extension supports parallel builds.
    """
    app.add_directive("corpora", CorpusTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
