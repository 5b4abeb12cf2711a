"""Publishing a checkpoint on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from braindecode_emossl.pretraining.checkpoints import FILES, load_checkpoint

__all__ = ["push_to_hub"]


def push_to_hub(
    path, repo_id: str, *, private: bool = True, token: str | None = None
) -> str:
    """Upload a checkpoint to the Hugging Face Hub, with its model card.

    Afterwards ``from_pretrained(repo_id)`` of the model's class reads the encoder; the
    objective is loaded from what :func:`huggingface_hub.snapshot_download` returns.

    Parameters
    ----------
    path : path
        Folder of a checkpoint.
    repo_id : str
        Repository, such as "user/name"; it is created if there is none.
    private : bool, default=True
        Whether a new repository is private, as the licences of most corpora of emotion
        forbid to hand on what is made from them without their makers' consent.
    token : str or None
        Access token; by default the one that the user has logged in with.

    Returns
    -------
    str
        Address of the upload.

    Raises
    ------
    CheckpointError
        If the folder is no sound checkpoint; nothing is uploaded then.
    """
    path = Path(path).expanduser()
    load_checkpoint(path)  # or raise
    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    uploaded = api.upload_folder(
        repo_id=repo_id, folder_path=path, allow_patterns=sorted(FILES)
    )
    return str(uploaded)
