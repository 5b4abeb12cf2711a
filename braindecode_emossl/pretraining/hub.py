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

    ``from_pretrained(repo_id)`` of the model's class then reads the encoder, and
    :func:`load_checkpoint` the objective, from the folder that
    :func:`huggingface_hub.snapshot_download` returns.

    Parameters
    ----------
    path : path
        Folder of a checkpoint.
    repo_id : str
        Repository, such as "user/name"; it is created if it does not exist.
    private : bool, default=True
        Whether a new repository is private. The licences of most emotion corpora do not
        allow derived data to be shared without consent.
    token : str or None
        Access token; by default that of the user who is logged in.

    Returns
    -------
    str
        URL of the upload.

    Raises
    ------
    CheckpointError
        If the folder is not a valid checkpoint. Nothing is uploaded then.
    """
    path = Path(path).expanduser()
    load_checkpoint(path)  # or raise
    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    uploaded = api.upload_folder(
        repo_id=repo_id, folder_path=path, allow_patterns=sorted(FILES)
    )
    return str(uploaded)
