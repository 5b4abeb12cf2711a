"""The model card of a checkpoint."""

from __future__ import annotations

import json
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

__all__ = ["make_model_card"]

_CARD = """\
---
{{ card_data }}
---

# {{ model }}, pre-trained by {{ objective }}

The weights of an EEG model that braindecode-emossl pre-trained without labels. The
classification head is not trained.

## Data

{{ data }}

## Licence

{{ licence }}

## Settings

```json
{{ settings }}
```

## Use

```python
import braindecode_emossl
from braindecode_emossl.models import {{ model }}
from braindecode_emossl.pretraining import load_checkpoint

model = {{ model }}.from_pretrained(folder_or_repository, n_outputs=3)
objective = load_checkpoint(folder)  # with the parts that only pre-training needs
```

Do not test on the subjects listed above: the model was trained on them.
"""


def make_model_card(config: dict[str, Any]) -> str:
    """Return the README of a checkpoint.

    Parameters
    ----------
    config : dict
        Content of ``config.json``.

    Returns
    -------
    str
        Markdown with the metadata of the Hugging Face Hub.
    """
    ours = config["emossl"]
    provenance = ours["provenance"]
    corpora = sorted(provenance["corpora"])
    card_data = ModelCardData(
        library_name="braindecode",
        license="other",
        license_name="see-the-corpora",
        tags=["braindecode", "braindecode-emossl", "eeg", ours["model"]],
        datasets=corpora or None,
    )
    shown = {
        "model": {k: v for k, v in config.items() if k not in ("emossl", "chs_info")},
        "objective": ours["settings"],
        "provenance": {
            k: v for k, v in provenance.items() if k not in ("corpora", "complete")
        },
    }
    card = ModelCard.from_template(
        card_data,
        template_str=_CARD,
        model=ours["model"],
        objective=ours["objective"],
        data=_describe_data(provenance),
        licence=_describe_licence(corpora),
        settings=json.dumps(shown, indent=2),
    )
    return str(card)


def _describe_data(provenance: dict[str, Any]) -> str:
    lines = []
    for corpus, entry in sorted(provenance["corpora"].items()):
        sessions = ", ".join(map(str, entry.get("sessions") or ["not stated"]))
        subjects = ", ".join(map(str, entry["subjects"])) or "none"
        lines.append(f"- {corpus}: subjects {subjects}; sessions {sessions}")
    if not provenance["complete"]:
        lines.append("- Unknown: the model may have seen any other data.")
    return "\n".join(lines) or "None: the weights are random."


def _describe_licence(corpora: list[str]) -> str:
    if not corpora:
        return "The licence of the data is unknown."
    return (
        f"The weights are derived from {', '.join(corpora)}. The licences of such "
        "corpora may restrict the use and publication of derived data: check them "
        "before you use or share the weights."
    )
