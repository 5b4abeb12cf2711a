"""A directive for the table of evidence for the defaults of a class.

``.. evidence:: braindecode_emossl.models.SCMM`` reads the tags of the docstring, so
that table and docstring agree.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from importlib import import_module

from docutils import nodes
from docutils.statemachine import StringList
from numpydoc.docscrape import ClassDoc
from sphinx.util.docutils import SphinxDirective

__all__ = ["Evidence", "EvidenceTable", "collect_evidence", "setup"]

# Tag in the docstrings, and the colour of its badge.
TAGS = {"paper": "success", "official code": "primary", "inferred": "warning"}
_TAG = re.compile(rf"\[({'|'.join(TAGS)})\]")


@dataclass(frozen=True)
class Evidence:
    """The evidence for one argument or attribute in a docstring.

    Attributes
    ----------
    name : str
        Argument or attribute.
    default : str
        Source of its default, empty for an attribute.
    tags : tuple of str
        The evidence; empty if the docstring has no tag.
    remark : str
        The text after the tag; the whole description if there are several tags.
    """

    name: str
    default: str
    tags: tuple[str, ...]
    remark: str


def collect_evidence(cls: type) -> list[Evidence]:
    """Read the evidence for the arguments of a class and for its tagged attributes.

    Parameters
    ----------
    cls : type
        Class with a numpydoc docstring.

    Returns
    -------
    list of Evidence
        In the order of the docstring.
    """
    doc = ClassDoc(cls, config={"show_class_members": False})
    arguments = inspect.signature(cls).parameters
    rows = [
        _read(parameter, _show(arguments[parameter.name].default))
        for parameter in doc["Parameters"]
    ]
    attributes = [_read(attribute, "") for attribute in doc["Attributes"]]
    return rows + [row for row in attributes if row.tags]


def _read(parameter, default: str) -> Evidence:
    text = " ".join(parameter.desc).strip()
    tags = tuple(dict.fromkeys(_TAG.findall(text)))
    remark = text
    if len(tags) == 1:
        remark = _TAG.split(text)[-1].strip()
    return Evidence(parameter.name, default, tags, remark)


def _show(value) -> str:
    if value is inspect.Parameter.empty:
        return ""
    if inspect.isclass(value):
        return f"nn.{value.__name__}"
    return repr(value)


class EvidenceTable(SphinxDirective):
    """The table; its argument is the full name of the class."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        module, _, name = self.arguments[0].rpartition(".")
        cls = getattr(import_module(module), name)
        self.env.note_dependency(inspect.getsourcefile(cls))
        lines = [
            ".. list-table::",
            "   :header-rows: 1",
            "   :widths: 22 18 18 42",
            "   :class: evidence",
            "",
            *_row("argument", "default", "evidence", "remark"),
        ]
        for row in collect_evidence(cls):
            if row.tags:
                badges = " ".join(f":bdg-{TAGS[tag]}:`{tag}`" for tag in row.tags)
                default = f"``{row.default}``" if row.default else "*(a part)*"
                lines += _row(f"``{row.name}``", default, badges, row.remark)
        return self.parse_text_to_nodes(StringList(lines, source=self.arguments[0]))


def _row(*cells: str) -> list[str]:
    first, *others = cells
    return [f"   * - {first}", *(f"     - {cell}" for cell in others)]


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
    app.add_directive("evidence", EvidenceTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
