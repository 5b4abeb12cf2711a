"""Adjustments of autodoc for the API reference."""

from __future__ import annotations

import inspect
import re
import sys

from sphinx.errors import ExtensionError
from sphinx.ext.autodoc.preserve_defaults import update_defvalue
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.inspect import signature as get_signature
from sphinx.util.inspect import stringify_signature

import braindecode_emossl

__all__ = ["setup"]

# braindecode adds this to the docstring of every model, with a wrong import.
_NOT_OURS = ".. rubric:: Hugging Face Hub integration"


def setup(app) -> dict:
    """Connect the functions below to the build.

    Parameters
    ----------
    app : Sphinx
        The application.

    Returns
    -------
    dict
        Whether the extension supports parallel builds.
    """
    # Before numpydoc, which has the usual priority of 500.
    app.connect("autodoc-process-docstring", _edit_docstring, priority=400)
    app.connect("autodoc-process-signature", _show_signature)
    app.connect("autodoc-skip-member", _skip_requests)
    app.connect("missing-reference", _resolve_short_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _edit_docstring(app, what, name, obj, options, lines) -> None:
    if what == "data":
        lines[:] = _find_comment(name)
    if _NOT_OURS in lines:
        del lines[lines.index(_NOT_OURS) :]
    lines[:] = [line.replace(" -- ", " \N{EN DASH} ") for line in lines]


def _find_comment(name: str) -> list[str]:
    """Return the ``#:`` lines above a constant, in the module that defines it."""
    package, _, constant = name.rpartition(".")
    for module in [other for other in sys.modules if other.startswith(package)]:
        comments = ModuleAnalyzer.for_module(module).find_attr_docs()
        if ("", constant) in comments:
            return list(comments["", constant])
    raise ExtensionError(f"{name} must have a comment that starts with '#:'.")


def _show_signature(app, what, name, obj, options, signature, annotation):
    """Return the signature of ``__init__`` if a metaclass or ``__new__`` hides it."""
    if what != "class" or signature != "(*args, **kwargs)":
        return None
    update_defvalue(app, obj.__init__, True)
    shown = get_signature(obj.__init__, bound_method=True)
    return stringify_signature(shown, show_annotation=False), annotation


def _skip_requests(app, what, name, obj, skip, options):
    """Skip the ``set_..._request`` methods that scikit-learn adds to estimators."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def _resolve_short_name(app, env, node, content):
    """Link ``braindecode_emossl.SEED`` to the reference of its own module."""
    package, _, name = node.get("reftarget", "").rpartition(".")
    if package != "braindecode_emossl":
        return None
    public = [getattr(braindecode_emossl, each) for each in braindecode_emossl.__all__]
    for module in filter(inspect.ismodule, public):
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
