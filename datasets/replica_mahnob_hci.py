"""Replica of MAHNOB-HCI: a folder with XML and BDF for each session."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import edfio
import numpy as np

from braindecode_emossl.datasets import mahnob_hci
from braindecode_emossl.datasets.replica_head import Head
from braindecode_emossl.datasets.replica_peripherals import make_peripherals
from braindecode_emossl.datasets.replica_signals import (
    make_eeg,
    make_generator,
    make_stimulus,
    make_subject,
    make_trial,
)

__all__ = ["write_bdf", "write_mahnob_hci"]

# Channels of the files, in their order.
FILE_NAMES = (
    *mahnob_hci.EEG_NAMES,
    *(f"EXG{number}" for number in range(1, 9)),
    *("GSR1", "GSR2", "Erg1", "Erg2", "Resp", "Temp", "Status"),
)

# The clips: what the makers chose them for, and their rough length in seconds.
_CLIPS = {
    "69.avi": ("disgust", 58),
    "55.avi": ("sadness", 76),
    "58.avi": ("amusement", 58),
    "earworm_f.avi": ("disgust", 53),
    "53.avi": ("amusement", 104),
    "80.avi": ("joy", 96),
    "52.avi": ("amusement", 96),
    "79.avi": ("joy", 42),
    "73.avi": ("fear", 71),
    "90.avi": ("joy", 85),
    "107.avi": ("fear", 34),
    "146.avi": ("sadness", 87),
    "30.avi": ("fear", 70),
    "138.avi": ("sadness", 116),
    "newyork_f.avi": ("neutral", 89),
    "111.avi": ("sadness", 113),
    "detroit_f.avi": ("neutral", 89),
    "cats_f.avi": ("joy", 98),
    "dallas_f.avi": ("neutral", 89),
    "funny_f.avi": ("joy", 87),
}

# Valence and arousal of what was felt, for the emotions that published counts have.
_STATES = {
    "neutral": (0.0, -1.0),
    "anger": (-1.0, 0.8),
    "disgust": (-1.0, 0.3),
    "fear": (-1.0, 1.0),
    "joy": (1.0, 0.5),
    "sadness": (-1.0, -0.7),
    "surprise": (0.3, 1.0),
    "amusement": (1.0, -0.2),
    "anxiety": (-0.7, 0.8),
}

_NEUTRAL_CLIP, _NEUTRAL_SECONDS = "waves_Final.avi", 20

# Trials that have a folder, of participants who lack some.
_TRIALS = {3: range(1, 18), 9: range(1, 15), 15: (17,), 16: range(1, 18)}

# Before and after the clip: this many seconds, again and again.
_REST_SECONDS = 10
_PULSE_CODE, _PULSE_SAMPLES = 16, 6


def write_mahnob_hci(folder: Path, settings: Mapping) -> None:
    """Write the release into an empty folder; ``settings`` as of `write_replica`."""
    folder = folder / "hci-tagging-database"
    (folder / "Sessions").mkdir(parents=True)
    (folder / "Subjects").mkdir()
    head = Head.of(mahnob_hci.EEG_NAMES, {})
    for subject in settings["subjects"]:
        element = ElementTree.Element("subject", id=str(subject))
        _write_xml(folder / "Subjects" / f"subject{subject}.xml", element)
        _write_subject(folder / "Sessions", settings, subject, head)


def _write_subject(folder, settings, subject, head):
    """Write the stimuli, one neutral clip and one session of tagging."""
    rng = make_generator(settings, subject)
    viewer = make_subject(head, settings, subject)
    for number, clip in enumerate(rng.permutation(list(_CLIPS)).tolist(), start=1):
        if number not in _TRIALS.get(subject, range(1, 21)):
            continue
        rng = make_generator(settings, subject, number)
        emotion, seconds = _CLIPS[clip]
        seconds = settings["seconds"] or seconds
        if rng.random() < 0.2:  # not all feel what was meant
            emotion = str(rng.choice(list(_STATES)))
        mood = np.array([*_STATES[emotion], *rng.normal(size=2)])
        ratings = np.clip(np.rint(5 + 2.5 * mood + rng.normal(0, 0.7, 4)), 1, 9)
        state = settings["effect_size"] * np.clip((ratings[:2] - 5) / 2, -1, 1)
        felt = dict(zip(mahnob_hci.RATINGS.values(), ratings.astype(int), strict=True))
        _write_session(
            folder,
            settings,
            (subject, number),
            kind="S",
            seconds=seconds,
            attributes={
                "mediaFile": " 53.AVI " if clip == "53.avi" else clip,
                "feltEmo": mahnob_hci.EMOTIONS.index(emotion),
                **felt,
            },
            make_signals=partial(
                _make_signals,
                viewer,
                make_stimulus(settings, seconds, list(_CLIPS).index(clip) + 1),
                state,
                seconds,
            ),
        )
    seconds = settings["seconds"] or _NEUTRAL_SECONDS
    _write_session(
        folder,
        settings,
        (subject, 1),
        kind="N",
        seconds=seconds,
        attributes={"mediaFile": _NEUTRAL_CLIP},
        make_signals=partial(_make_signals, viewer, None, np.zeros(2), seconds),
    )
    if subject == 15:
        return
    _write_session(
        folder,
        settings,
        (subject, 1),
        kind="tagging",
        seconds=2,
        attributes={"mediaFile": "im001.jpg", "tagValid": 1},
        make_signals=lambda rng: rng.normal(0, 20, (len(FILE_NAMES) - 1, 512)),
    )


def _write_session(
    folder, settings, subject_and_number, kind, seconds, attributes, make_signals
):
    """Write the folder of one session, without BDF where there is no physiology."""
    subject, number = subject_and_number
    # In the block of the participant neutral clips have the odd numbers.
    place = {"S": 2 * number, "N": 2 * number - 1, "tagging": 41 + number}[kind]
    session = 130 * (subject - 1) + place
    task = "taggingImages1" if kind == "tagging" else "emotion"
    infix = "" if kind == "tagging" else f"{kind}_"
    bdf = f"Part_{subject}_{infix}Trial{number}_{task}.bdf"
    guide_cut = f"P{subject}-Rec1-Guide-Cut.tsv"
    gaze = f"P{subject}-Rec1-All-Data-New_Section_{place}.tsv"
    attributes = {
        "sessionId": session,
        "date": "2009.07.09",
        "experimentType": "image tagging 1" if infix == "" else "emotion elicitation",
        "isStim": int(kind != "N"),
        "cutNr": number,
        "cutLenSec": seconds,
        **attributes,
    }
    rng = make_generator(settings, subject, place, 1)
    names = rng.permutation(list(attributes)).tolist()  # no reader may count on it
    element = ElementTree.Element("session", {n: str(attributes[n]) for n in names})
    ElementTree.SubElement(element, "subject", id=str(subject))
    track = ElementTree.SubElement(
        element, "track", type="Physiological", filename=bdf, color="0"
    )
    for what, name in (("GuideCut", guide_cut), ("Gaze", gaze)):
        ElementTree.SubElement(track, "annotation", type=what, filename=name)
    folder = folder / str(session)
    folder.mkdir()
    _write_xml(folder / "session.xml", element)
    (folder / guide_cut).write_text("Number\tEvent\tData\n1\tKeyPress\t4\n")
    (folder / gaze).write_text("Timestamp\tGazePointX\tGazePointY\n")
    if subject not in (12, 15) and (subject, kind, number) != (16, "S", 17):
        # Idle is not the same number in all files, only its lower eight bits.
        idle = 0 if subject % 2 else 0x18FF00
        signals = make_signals(rng)
        margin = mahnob_hci.MARGIN_SECONDS * mahnob_hci.SFREQ
        pulses = () if kind == "tagging" else (margin, signals.shape[1] - margin)
        write_bdf(folder / bdf, signals, make_status(signals.shape[1], pulses, idle))


def _make_signals(viewer, stimulus, state, seconds, rng):
    """Return rest, clip and rest (46 channels, n_times).

    In microvolts, ohm and degrees, as the files have them.
    """
    sfreq = mahnob_hci.SFREQ
    parts = []
    for n_times, seen, felt in (
        (_REST_SECONDS * sfreq, None, np.zeros(2)),
        (round(seconds * sfreq), stimulus, state),
    ):
        trial = make_trial(viewer, seen, felt, n_times / sfreq, rng)
        eeg = make_eeg(viewer, trial, sfreq, n_times, (0.5, 100), rng)
        parts.append(np.vstack([eeg, _make_peripherals(viewer, trial, n_times, rng)]))
    rest, clip = parts
    n_rests = mahnob_hci.MARGIN_SECONDS // _REST_SECONDS
    signals = np.hstack([*[rest] * n_rests, clip, *[rest] * n_rests])
    n_eeg = len(mahnob_hci.EEG_NAMES)
    signals[:n_eeg] += rng.normal(-4000, 1000, (n_eeg, 1))
    return signals


def _make_peripherals(viewer, trial, n_times, rng):
    """Return EXG1 to Temp (14, n_times)."""
    signals = rng.normal(0, 1, (14, n_times))
    slow = make_peripherals(viewer, trial, n_times, mahnob_hci.SFREQ, rng)
    beats = 800 * np.exp(-(((slow["heart"] % 1 - 0.5) / 0.03) ** 2))
    signals[:3] += np.array([[0.3], [-0.4], [0.8]]) * beats
    signals[8] += slow["skin"] / 4
    signals[12] += 500 * np.sin(2 * np.pi * slow["breath"])
    signals[13] = slow["warmth"] + 0.02 * signals[13]
    return signals


def make_status(n_times, pulses, idle=0):
    """Return a status channel (n_times) with a pulse at each of these samples."""
    status = np.full(n_times, idle)
    for start in pulses:
        status[start : start + _PULSE_SAMPLES] |= _PULSE_CODE
    return status


def write_bdf(file, signals, status, sfreq=mahnob_hci.SFREQ, dimensions=None):
    """Write one recording; ``signals`` (46, n_times), ``status`` (n_times).

    ``dimensions`` overrules the microvolts of channels by name.
    """
    dimensions = dict.fromkeys(FILE_NAMES, "uV") | (dimensions or {})
    missing = -signals.shape[1] % sfreq  # of the last record of one second
    signals = np.pad(signals, ((0, 0), (0, missing)), mode="edge")
    status = np.pad(status, (0, missing), mode="edge")
    channels = [
        edfio.BdfSignal(
            row,
            sfreq,
            label=name,
            physical_dimension=dimensions[name],
            physical_range=(-262144, 262143),
        )
        for name, row in zip(FILE_NAMES, signals, strict=False)
    ]
    digital = (-8388608, 8388607)
    channels.append(
        edfio.BdfSignal(
            status.astype(float),
            sfreq,
            label="Status",
            physical_dimension="Boolean",
            physical_range=digital,
            digital_range=digital,
        )
    )
    edfio.Bdf(
        channels,
        recording=edfio.Recording(startdate=datetime.date(2009, 7, 9)),
        starttime=datetime.time(0),
        data_record_duration=1,
    ).write(file)


def _write_xml(file, element):
    ElementTree.ElementTree(element).write(file, "utf-8", xml_declaration=True)
