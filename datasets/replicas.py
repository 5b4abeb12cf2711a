"""Synthetic copies of the corpora, in the byte format of the real releases."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from braindecode_emossl.checks import is_count, is_number
from braindecode_emossl.datasets.base import EmotionDataset, check_numbers
from braindecode_emossl.storage import (
    lock,
    read_json,
    remove_leftovers,
    scratch_folder,
    write_json,
)

__all__ = ["write_replica"]

_KNOBS = ("effect_size", "isc", "continuity", "subject_variance", "artifacts")


def write_replica(
    corpus,
    root,
    *,
    subjects,
    seconds,
    seed,
    effect_size=1.0,
    isc=1.0,
    continuity=1.0,
    subject_variance=1.0,
    artifacts=1.0,
    sessions=None,
    variant=None,
):
    """Write a synthetic copy of a corpus in its real on-disk format.

    The signals are synthetic, but carry the structure that the methods of this field
    use; see Notes. They show that a method works as intended; they say nothing about
    emotion.

    Parameters
    ----------
    corpus : str
        Code of one of the corpora, such as ``"SEED-IV"``.
    root : str or Path
        Folder to write to; made where missing. Nothing that is there is overwritten.
        If another process writes the same replica there, the call waits for it.
    subjects : sequence of int
        Subjects to write, by their numbers in the corpus.
    seconds : float or None
        Length of every trial, in seconds, at least 1; None for the lengths of the
        release. See Notes.
    seed : int
        Seed of the signals. The files of a subject depend on it and not on which other
        subjects are written.
    effect_size : float
        Strength of the class effects. At 1, differential entropy with logistic
        regression scores about as on the real corpus; use 2 to compare methods; at
        0 the signals do not depend on the labels, and every honest protocol scores
        chance.
    isc : float
        Strength of what all viewers of a stimulus share beyond its label
        (inter-subject correlation): a course locked to the stimulus, of mean 0 over
        a trial, and a pattern of the stimulus, which also scales with `effect_size`.
    continuity : float
        Strength of the slow fluctuations within a trial.
    subject_variance : float
        Strength of the differences between subjects.
    artifacts : float
        Rate of blinks, muscle bursts and bad electrodes, and strength of line noise.
    sessions : sequence of int or None
        Recording sessions to write, from 0; all by default.
    variant : str or None
        Which form of the release: of SEED the ``"new"`` (default) or ``"old"`` tree, or
        the new one with the makers' features of 62 channels (``"features"``); of
        SEED-IV the EEG and the smoothed eye features (``"mat"``, the default) or also
        the makers' features of the EEG and the raw eye tracking (``"full"``); of SEED-V
        the ``"cnt"`` files and of SEED-VII the ``"mat"`` files, both with the makers'
        features; of DEAP the ``"dat"`` (default), ``"mat"`` or original ``"bdf"``
        files; of MAHNOB-HCI the ``"bdf"`` files; of FACED the ``"bids"`` release
        (default) or the makers' processed ``"pkl"`` files; of DREAMER the ``"mat"``
        file.

    Returns
    -------
    Path
        The folder ``root``, ready for the dataset's ``path``.

    Raises
    ------
    ValueError
        If an argument is not as described, or the receipt of the replica in the
        folder, ``replica-<corpus>.json``, is damaged.
    FileExistsError
        If the folder holds such files already, other than this very replica of this
        version of the package.

    Notes
    -----
    EEG comes from cortical sources beneath the sites of the 10-10 system, in MNE's
    sphere model of the head. A source has a spectrum that falls with frequency and an
    alpha rhythm at the subject's own frequency. The log amplitude of each band of a
    region of the cortex is a sum: levels of the subject, the session and the trial, a
    slow fluctuation, the locked course of the stimulus (with the subject's own gain
    and lag), and the effect of the emotion, which takes a while to arise. Positive
    valence raises temporal beta and gamma and right over left frontal alpha, and
    lowers posterior delta and prefrontal gamma; arousal raises frontal beta and
    midline theta and lowers posterior alpha [1]_ [2]_. Each subject also has their
    own response. Skin resistance, respiration, pulse, temperature and pupils
    follow the same course, each with its own delay. Subjects differ in positions and
    orientations of the sources, conductivity of the skull, alpha rhythm, slope of the
    spectrum, noise of the electrodes and response.

    The lengths of the releases: 185 to 265 s by film (SEED), 42 to 259 s by clip
    (SEED-IV, of whose second and third session only the number of windows of 4 s is
    known), 52 to 297 s by clip (SEED-V), 120 to 300 s by clip, drawn as they are not
    known (SEED-VII), 60 s after a baseline of 3 s (DEAP), and 34 to 116 s by clip,
    rounded to seconds (MAHNOB-HCI). A subject then takes 1 GB (SEED), 1 GB (SEED-IV),
    2.5 GB (SEED-V), 1.7 GB (SEED-VII), 0.1 GB (DEAP, 0.2 GB as ``"bdf"``), 0.1 GB
    (MAHNOB-HCI), 0.05 GB (FACED at 250 Hz with short pauses, 0.2 GB at 1000 Hz; 34 to
    129 s by film) or 0.05 GB (DREAMER, 65 to 393 s by film, a guess). In memory there
    is one recording at a time, of the SEED corpora one trial or two, of DREAMER all
    subjects.

    A trial reads back as long as asked, to the nearest sample. The formats leave two
    exceptions. The files of SEED and SEED-IV have a sample over a whole number of
    seconds, so that a length of one sample (5 ms) over reads back without it. A video
    of DEAP's original recordings reads back as 60 s at most.

    The tree of MAHNOB-HCI has the irregular sessions of the real one: neutral clips
    and tagging, which are not trials; trials that participants 3, 9 and 16 lack;
    sessions without physiology of participants 12, 15 and 16; two idle values of the
    status channel. The BIDS release of FACED has its four kinds of recordings, which
    differ in rate, names of electrodes, other channels and stated unit.

    References
    ----------
    .. [1] Zheng, W.-L. and Lu, B.-L. (2015). Investigating critical frequency bands
       and channels for EEG-based emotion recognition with deep neural networks. IEEE
       Transactions on Autonomous Mental Development, 7(3), 162-175.
    .. [2] Koelstra, S. et al. (2012). DEAP: a database for emotion analysis using
       physiological signals. IEEE Transactions on Affective Computing, 3(1), 18-31.

    Examples
    --------
    >>> root = write_replica("DEAP", "deap-replica", subjects=[1], seconds=4, seed=0)
    >>> raw = DEAP(subjects=[1], path=root).get_data()[1]["0"]["00"]
    """
    known = _find_corpora()
    if corpus not in known:
        raise ValueError(f"corpus must be one of {sorted(known)}, but got {corpus!r}.")
    cls = known[corpus]
    settings = {
        "corpus": corpus,
        "subjects": check_numbers("subjects", subjects),
        "seconds": seconds,
        "seed": seed,
        "effect_size": effect_size,
        "isc": isc,
        "continuity": continuity,
        "subject_variance": subject_variance,
        "artifacts": artifacts,
        "sessions": list(range(cls.n_sessions_per_subject))
        if sessions is None
        else check_numbers("sessions", sessions),
        "variant": cls.replica_variants[0] if variant is None else variant,
    }
    settings = _check_settings(cls, settings) | {
        "effect": cls.replica_effect,
        "version": version("braindecode-emossl"),
    }
    root = Path(root).expanduser().absolute()
    receipt = root / f"replica-{corpus}.json"
    folders, present = _find_replica(receipt, settings)
    if folders and present == folders:
        return root  # also where nothing can be written
    with lock(root / f".replica-{corpus}.lock"):
        remove_leftovers(root)
        folders, present = _find_replica(receipt, settings)
        if not folders or present != folders:
            with scratch_folder(receipt) as scratch:
                _find_writer(cls)(scratch, settings)
                _move_beside(receipt, scratch, settings, present)
    return root


def _find_corpora() -> dict[str, type[EmotionDataset]]:
    """Return the corpora of the package by code."""
    package = import_module(__package__)
    found = [getattr(package, name) for name in package.__all__]
    classes = [cls for cls in found if isinstance(cls, type)]
    return {
        cls.code_name: cls
        for cls in classes
        if issubclass(cls, EmotionDataset) and not inspect.isabstract(cls)
    }


def _find_writer(cls: type) -> Callable[[Path, Mapping], None]:
    """Return ``write_seed`` of ``replica_seed`` for the corpus of ``seed``."""
    package, _, name = cls.__module__.rpartition(".")
    return getattr(import_module(f"{package}.replica_{name}"), f"write_{name}")


def _check_settings(cls: type[EmotionDataset], settings: Mapping) -> dict:
    """Return the settings as plain numbers, or raise a ValueError."""
    allowed = {
        "subjects": (settings["subjects"], cls.all_subject_numbers),
        "sessions": (settings["sessions"], range(cls.n_sessions_per_subject)),
        "variant": ([settings["variant"]], cls.replica_variants),
    }
    for name, (values, known) in allowed.items():
        if not values or not set(values) <= set(known):
            raise ValueError(f"{name} must be among {list(known)}, but got {values}.")
    seconds, seed = settings["seconds"], settings["seed"]
    if seconds is not None and not (is_number(seconds) and seconds >= 1):
        raise ValueError(f"seconds must be at least 1, but got {seconds!r}.")
    if not is_count(seed, 0):
        raise ValueError(f"seed must be an integer from 0 on, but got {seed!r}.")
    for name in _KNOBS:
        value = settings[name]
        if not is_number(value) or value < 0:
            rule = "not be negative" if is_number(value) else "be a number"
            raise ValueError(f"{name} must {rule}, but got {value!r}.")
    return dict(settings) | {
        "seconds": None if seconds is None else float(seconds),
        "seed": int(seed),
        **{name: float(settings[name]) for name in _KNOBS},
    }


def _find_replica(receipt: Path, settings: Mapping) -> tuple[list, list]:
    """Return the folders that a receipt lists, and those of them that are there."""
    if not receipt.is_file():
        return [], []
    known = read_json(
        receipt,
        {"folders": list},
        remedy="Remove it and the replica that it describes, or name an empty folder.",
    )
    folders = known.pop("folders")
    present = [name for name in folders if (receipt.parent / name).exists()]
    if present and known != settings:
        differ = [name for name in settings if known.get(name) != settings[name]]
        raise FileExistsError(
            f"{receipt.parent} already holds a replica of {settings['corpus']} with "
            f"other settings ({', '.join(differ)}; see {receipt.name}): name an empty "
            "folder."
        )
    return folders, present


def _move_beside(
    receipt: Path, scratch: Path, settings: Mapping, present: list
) -> None:
    """Move the finished folders; one that is there may be of a real corpus."""
    root = receipt.parent
    folders = sorted(folder.name for folder in scratch.iterdir())
    missing = [name for name in folders if name not in present]
    for name in missing:
        if (root / name).exists():
            raise FileExistsError(
                f"{root} already holds {name} and is not this very replica. A "
                "replica never overwrites or joins files, which may be a real corpus: "
                "name an empty folder."
            )
    # First the receipt: if the process ends here, the next call moves the rest.
    write_json(receipt, {**settings, "folders": folders})
    for name in missing:
        (scratch / name).replace(root / name)
