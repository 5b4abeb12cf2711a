"""Fixtures of the tests of corpora."""

from __future__ import annotations

import pytest

from braindecode_emossl.errors import CorpusFormatWarning


class FormatWarnings:
    """The messages of the corpora's warnings so far, each once."""

    def __init__(self, recorder):
        self._recorder = recorder

    @property
    def messages(self):
        found = (w.message for w in self._recorder)
        texts = [str(m) for m in found if isinstance(m, CorpusFormatWarning)]
        return list(dict.fromkeys(texts))

    @property
    def text(self):
        return "\n".join(self.messages)

    def clear(self):
        self._recorder.clear()


@pytest.fixture
def effect_alone():
    """Knobs of a replica that leave nothing but the effect of the classes."""
    return {"isc": 0, "continuity": 0, "subject_variance": 0, "artifacts": 0}


@pytest.fixture
def format_warnings(recwarn):
    return FormatWarnings(recwarn)
