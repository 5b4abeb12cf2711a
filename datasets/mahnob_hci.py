"""MAHNOB-HCI: 30 subjects, 20 film clips, felt emotion and four ratings of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from xml.etree.ElementTree import ParseError

import defusedxml.ElementTree
import mne
import numpy as np
from defusedxml import DefusedXmlException
from moabb.datasets.metadata.schema import (
    AcquisitionMetadata,
    DatasetMetadata,
    DocumentationMetadata,
    ExperimentMetadata,
    ParticipantMetadata,
)

from braindecode_emossl.datasets.base import EmotionDataset, Trial, find_files
from braindecode_emossl.datasets.bdf_files import (
    MNE_UNITS,
    BdfHeader,
    read_bdf_header,
)
from braindecode_emossl.datasets.quality import RecordingQuality
from braindecode_emossl.errors import (
    CorpusFormatError,
    CorpusFormatWarning,
    CorpusNotFoundError,
    warn_of_format,
)

__all__ = ["MAHNOB_HCI"]

SFREQ = 256
N_SUBJECTS = 30
N_CLIPS = 20
# The files begin this long before the clip and end this long after it.
MARGIN_SECONDS = 30

# Participants of whom there is no physiology: 26 has it in some downloads.
WITHOUT_PHYSIOLOGY = (12, 15, 26)

# Without a filter or a reference, electrodes drift by more than EEG.
_IMPLAUSIBLE_VOLTS = 0.05

# Trials of the participants who lack some.
_N_TRIALS = {3: 17, 9: 14, 16: 16}

# Channels of the files that are read, in their order.
EEG_NAMES = (
    "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz Fp2 AF4 Fz F4 F8 FC6 "
    "FC2 Cz C4 T8 CP6 CP2 P4 P8 PO4 O2"
).split()
ECG_NAMES = ("EXG1", "EXG2", "EXG3")
OTHER_TYPES = {"GSR1": "gsr", "Resp": "resp", "Temp": "temperature"}
STATUS = "Status"
STATUS_MASK = 0xFF

# All channels of the files, in their order, and those without a sensor.
FILE_NAMES = (
    *EEG_NAMES,
    *(f"EXG{number}" for number in range(1, 9)),
    *("GSR1", "GSR2", "Erg1", "Erg2", "Resp", "Temp", STATUS),
)
UNUSED_NAMES = ("EXG4", "EXG5", "EXG6", "EXG7", "EXG8", "GSR2", "Erg1", "Erg2")

# Channels of the raws; ECG is EXG2 against EXG3.
CH_NAMES = (*EEG_NAMES, *ECG_NAMES, "ECG", *OTHER_TYPES)
SENSORS = dict.fromkeys((*ECG_NAMES, "ECG"), "ecg") | OTHER_TYPES
CH_TYPES = ("eeg",) * len(EEG_NAMES) + tuple(SENSORS.values())

# Felt emotions by the makers' code, 0 to 12.
EMOTIONS = (
    "neutral anger disgust fear joy sadness surprise scream bored sleepy unknown "
    "amusement anxiety"
).split()

# Attribute of session.xml by rating.
RATINGS = {
    "valence": "feltVlnc",
    "arousal": "feltArsl",
    "dominance": "feltCtrl",
    "predictability": "feltPred",
}

# What MNE makes of the physical dimension of a channel.
_VOLTS = {**MNE_UNITS, "V": 1.0}

# Sessions of a participant are numbered within a block of this size: neutral clips
# by the odd, the 20 stimuli by the even numbers up to 40, tagging by those above.
_SESSION_BLOCK = 130

# A session.xml is a list of the few files beside it.
_MAX_XML_BYTES = 2**18

_BDF_NAME = re.compile(
    r"Part_(?P<subject>\d+)_(?:(?P<kind>[SN])_)?Trial(?P<number>\d+)_(?P<task>\w+)\.bdf",
    re.IGNORECASE,
)


class MAHNOB_HCI(EmotionDataset):
    """MAHNOB-HCI, the implicit-tagging corpus of Imperial College and Geneva.

    Thirty participants watched 20 film clips (34 to 117 s) and named the emotion they
    felt, with ratings of valence, arousal, dominance and predictability (1 to 9, whole
    numbers). The loader reads the folders with a ``session.xml`` and a ``.bdf`` file
    (256 Hz, no reference, not filtered), at any depth below the corpus folder. The
    neutral clips between the stimuli and the sessions of image and video tagging are
    not trials and are skipped.

    There is one session, ``"0"``; a run is one clip (``"00"`` to ``"19"``) in the order
    of presentation, which differs from participant to participant. ``stimulus`` is the
    name of the clip's file in small letters, such as ``"53.avi"``. The 30 s before the
    clip are kept, so that ``Emotion(baseline=(-3, 0))`` can use them, and those after.

    Parameters
    ----------
    subjects : list of int or None
        Participants to use, 1 to 30; by default all that have physiology.
    sessions : list of int or None
        Sessions to use; there is only 0.
    path : str, Path or None
        Folder of the corpus. By default the MNE setting
        ``MNE_DATASETS_MAHNOBHCI_PATH`` (configuration or environment), else
        ``<MNE_DATA>/MNE-MAHNOB-HCI-data``.
    on_error : {"raise", "warn"}
        Whether a broken trial or recording raises an error, or is left out with a
        `CorpusFormatWarning`.
    return_all_modalities : bool or dict
        ``False`` keeps the 32 EEG channels; ``True`` adds the three leads of the ECG
        and ``ECG``, which is ``EXG2`` minus ``EXG3`` (V), skin resistance,
        respiration and skin temperature.
    mark_bads : bool
        Whether channels without contact, whose signal is flat, and electrodes that a
        file lacks, which are filled with zeros, are listed in ``raw.info["bads"]``. A
        warning names them in either case.

    Raises
    ------
    CorpusNotFoundError
        If data are requested and the files are missing. Participants 12 and 15 have
        no physiology, and 26 is missing from some downloads: ``subject_list``
        includes only those of them that have recordings below the corpus folder.
        Requesting one of the others by number raises an error.
    CorpusFormatError
        If a file is not in the published layout, or if an XML file defines entities,
        in which case nothing of it is used.

    Notes
    -----
    Verified on byte-format replicas, not on the licensed files. Of the real corpus, the
    names of all sessions were compared.

    The classes are the keywords of the felt emotion. All 13 of the makers' list are
    known; ``scream``, ``bored``, ``sleepy`` and ``unknown`` do not occur in published
    counts. Participants 3, 9 and 16 have 17, 14 and 16 trials, the others 20: 527 in
    all, 547 with participant 26.

    A clip starts and ends with a pulse on the status channel, measured against the
    most common value of its lower eight bits (two pulses: inferred from three loaders
    that agree). If a pulse is missing, the clip is assumed to fill all but the first
    and the last 30 s of the recording, with a warning. The order of
    presentation is that of the trial numbers in the names of the ``.bdf`` files, else
    of the session numbers (participant ``P``, trial ``k``: ``130 (P - 1) + 2 k``,
    inferred from a published list of all sessions, without exception).

    ``GSR1`` is skin resistance in ohm, although MNE's type ``gsr`` means siemens, and
    ``Temp`` is in degrees Celsius, both as in the files. ``Resp`` comes in units of the
    amplifier, which are assumed to be microvolts (inferred) and converted to volts. The
    EEG has offsets of millivolts: filter it before use, as `Emotion` does.
    ``interval`` ends at 34 s, the length of the shortest clip.

    References
    ----------
    .. [1] Soleymani, M., Lichtenauer, J., Pun, T., & Pantic, M. (2012). A multimodal
       database for affect recognition and implicit tagging. IEEE Transactions on
       Affective Computing, 3(1), 42-55. https://doi.org/10.1109/T-AFFC.2011.25
    """

    code_name = "MAHNOB-HCI"
    path_key = "MAHNOBHCI"
    all_subject_numbers = tuple(range(1, N_SUBJECTS + 1))
    n_sessions_per_subject = 1
    n_trials_per_session = N_CLIPS
    unreleased_subjects = WITHOUT_PHYSIOLOGY
    classes = {name: code + 1 for code, name in enumerate(EMOTIONS)}  # noqa: RUF012
    common_interval = (0, 34)
    doi_name = "10.1109/T-AFFC.2011.25"
    access_url = "https://mahnob-db.eu/hci-tagging/"
    expected_files = (
        "Sessions/2/session.xml",
        "Sessions/2/Part_1_S_Trial1_emotion.bdf",
    )
    ratings = tuple(RATINGS)
    rating_midpoint = 5.0
    class_source = "self-report"
    replica_variants = ("bdf",)
    replica_effect = 0.05
    passband = (0.0, SFREQ / 2)  # not filtered

    METADATA = DatasetMetadata(
        acquisition=AcquisitionMetadata(
            sampling_rate=float(SFREQ),
            channel_types={"eeg": 32, "ecg": 4, "gsr": 1, "resp": 1, "temperature": 1},
            sensors=list(CH_NAMES),
            hardware="BioSemi ActiveTwo",
        ),
        participants=ParticipantMetadata(n_subjects=N_SUBJECTS),
        experiment=ExperimentMetadata(
            paradigm="emotion",
            events={name: code + 1 for code, name in enumerate(EMOTIONS)},
            n_classes=len(EMOTIONS),
            class_labels=list(EMOTIONS),
            stimulus_type="film clips",
            stimulus_modalities=["visual", "auditory"],
            primary_modality="multisensory",
            synchronicity="asynchronous",
            mode="offline",
        ),
        documentation=DocumentationMetadata(
            doi="10.1109/T-AFFC.2011.25",
            description="EEG and peripheral signals during self-assessed film clips.",
            investigators=["Mohammad Soleymani", "Jeroen Lichtenauer", "Thierry Pun"],
            senior_author="Maja Pantic",
            institution="Imperial College London",
            country="GB",
            data_url="https://mahnob-db.eu/hci-tagging/",
            license="On request, academic use only, signed agreement",
            publication_year=2012,
        ),
        sessions_per_subject=1,
        runs_per_session=N_CLIPS,
        data_processed=False,
        file_format="BDF",
    )
    summary_table = {  # noqa: RUF012
        "#Subj": N_SUBJECTS,
        "#Chan": 32,
        "#Classes": 13,
        "#Trials / class": "varies",
        "Trials length (s)": "34-117",
        "Freq (Hz)": SFREQ,
        "#Sessions": 1,
        "#Runs": N_CLIPS,
        "Total_trials": 527,
    }

    # -- where the files are ---------------------------------------------------

    def _not_found(self, root, reason):
        note = " The address may have moved since."
        return CorpusNotFoundError(f"{super()._not_found(root, reason)}{note}")

    def _find_recordings(self, root, subject):
        self._report_bare_recordings(root, subject)
        found, without = self._find_sessions(root, subject)
        if not found:
            self._raise_without_physiology(root, subject, without)
            return {}
        if without:
            warn_of_format(
                f"MAHNOB-HCI: {_describe_sessions(without)} of participant {subject} "
                f"below {root} have no physiology (.bdf file) and are left out."
            )
        return {"0": tuple(found[number].bdfs[0] for number in sorted(found))}

    def _find_sessions(
        self, root: Path, subject: int
    ) -> tuple[dict[int, _Session], list[Path]]:
        """Return the stimulus sessions by trial number, and folders without a BDF."""
        found: dict[int, _Session] = {}
        without = []
        for file, _ in find_files(root, r"(?i:session\.xml)"):
            session = _read_session(file)
            if session.subject not in (subject, None):
                continue
            self._refuse_attack(session)
            if not session.is_stimulus:
                continue
            if session.subject is None:
                self._broken(
                    f"MAHNOB-HCI: {file} must name its participant, but cannot be "
                    f"read ({session.problem}), and no file name beside it does."
                )
            elif not session.bdfs:
                without.append(file.parent)
            elif session.number is None or not 1 <= session.number <= N_CLIPS:
                self._broken(
                    f"MAHNOB-HCI: the trial number of {session.bdfs[0]} must lie "
                    f"between 1 and {N_CLIPS}, but is {session.number}."
                )
            elif len(session.bdfs) > 1 or session.number in found:
                others = found.get(session.number, session).bdfs
                bdfs = sorted({*others, *session.bdfs})
                raise CorpusFormatError(
                    f"MAHNOB-HCI: {root} holds trial {session.number} of participant "
                    f"{subject} more than once ({', '.join(map(str, bdfs))}). Let the "
                    "path name one of them, or remove the others."
                )
            else:
                found[session.number] = session
        return found, without

    def _report_bare_recordings(self, root, subject) -> None:
        for bdf, match in find_files(root, _BDF_NAME):
            if int(match["subject"]) != subject or match["kind"] not in ("S", "s"):
                continue
            if "session.xml" not in {
                file.name.lower() for file in bdf.parent.iterdir() if not file.is_dir()
            }:
                self._broken(
                    f"MAHNOB-HCI: {bdf} must have a session.xml beside it, which says "
                    f"what was felt in trial {match['number']}, but has none."
                )

    def _raise_without_physiology(self, root, subject, sessions) -> None:
        reason = f"No physiology (.bdf file) of participant {subject} lies below it"
        if sessions:
            reason += f", though {_describe_sessions(sessions)} do"
        if subject in WITHOUT_PHYSIOLOGY:
            raise self._not_found(
                root,
                f"{reason}. This is known: there is none of the participants 12 and "
                "15, and 26 is missing from some downloads. Leave it out by subjects.",
            )
        if sessions:
            raise self._not_found(root, f"{reason}.")

    def _refuse_attack(self, session: _Session) -> None:
        # An attack is never left out silently.
        if isinstance(session.problem, DefusedXmlException):
            raise CorpusFormatError(
                f"MAHNOB-HCI: {session.file} must be plain XML, but defines or asks "
                f"for entities ({session.problem}). Nothing of it was used. Fetch the "
                "file again from the makers."
            ) from session.problem

    def _count_published_trials(self, subject):
        return _N_TRIALS.get(subject, N_CLIPS)

    # -- files that are not read for the trials --------------------------------

    def _other_checks(self, root):
        for file, _ in find_files(root, r"(?i:session|subject\d+)\.(?i:xml)"):
            yield partial(self._check_xml, file)
        for subject in self.all_subjects:
            yield partial(self._check_physiology, root, subject)
        for file, match in find_files(root, _BDF_NAME):
            if match["kind"] not in ("S", "s"):
                yield partial(self._check_other_bdf, file)

    def _check_physiology(self, root: Path, subject: int) -> None:
        """Name the stimulus sessions of a participant who has no physiology."""
        found, without = self._find_sessions(root, subject)
        if without and not found:
            warn_of_format(
                f"MAHNOB-HCI: {_describe_sessions(without)} of participant {subject} "
                f"below {root} have no physiology (.bdf file), as all of that "
                "participant."
            )

    def _check_xml(self, file: Path) -> None:
        if file.name.lower() == "session.xml":
            session = _read_session(file)
            problem = None if session.is_stimulus else session.problem
        else:
            problem = _problem_of_xml(file)
        if problem is not None:
            self._broken(f"MAHNOB-HCI: {file} cannot be read ({problem}).", problem)

    def _check_other_bdf(self, file: Path) -> None:
        try:
            _check_header(file)
        except (_BrokenTrialError, OSError) as error:
            self._broken(f"MAHNOB-HCI: {file} is broken: {error}", error)

    # -- trials ----------------------------------------------------------------

    def _read_recording(self, file, session):
        quality = RecordingQuality(
            f"MAHNOB-HCI: session {session} in {file[0].parents[1]} ({file[0].name} to "
            f"{file[-1].name})",
            EEG_NAMES,
            SFREQ,
            sensors=SENSORS,
            implausible=_IMPLAUSIBLE_VOLTS,
        )
        for bdf in file:
            if found := self._read_trial(bdf, CH_NAMES, quality):
                trial, signals = found
                bads = quality.bads(trial.trial + 1)
                raw = self._make_raw(
                    signals, CH_NAMES, CH_TYPES, SFREQ, [trial], bads=bads
                )
                yield f"{trial.trial:02d}", raw
        quality.warn(self.mark_bads)

    def _read_trials(self, file, session):
        found = [self._read_trial(bdf, ()) for bdf in file]
        return {f"{trial.trial:02d}": [trial] for trial, _ in filter(None, found)}

    def _read_trial(
        self,
        bdf: Path,
        ch_names: Sequence[str],
        quality: RecordingQuality | None = None,
    ) -> tuple[Trial, np.ndarray] | None:
        """Return the trial of a file and its signals, None if left out as broken."""
        try:
            # The name may be in any case.
            names = {file.name.lower(): file for file in bdf.parent.iterdir()}
            session = _read_session(names["session.xml"])
            self._refuse_attack(session)
            description = _describe(session)
            signals, status, absent = _read_bdf(bdf, ch_names)
            onset, length = _find_clip(status, bdf)
            if quality is not None:
                clip = slice(round(onset * SFREQ), round((onset + length) * SFREQ))
                if flaw := quality.inspect(
                    description["trial"] + 1, signals[:, clip], absent=absent
                ):
                    raise _BrokenTrialError(f"it {flaw}.")
        except (CorpusFormatError, CorpusFormatWarning):
            raise
        except Exception as error:  # MNE raises whatever its reader meets
            what = error if isinstance(error, _BrokenTrialError) else repr(error)
            self._broken(
                f"MAHNOB-HCI: the trial of {bdf} cannot be used: {what}", error
            )
            return None
        return Trial(onset=onset, length=length, **description), signals


class _BrokenTrialError(ValueError):
    """A trial differs from the published ones; the message is a sentence."""


# -- session.xml ---------------------------------------------------------------


@dataclass(frozen=True)
class _Session:
    """One folder with a session.xml; ``number`` counts the stimuli from 1."""

    file: Path
    bdfs: tuple[Path, ...]
    subject: int | None
    number: int | None
    is_stimulus: bool
    attributes: Mapping[str, str] = field(default_factory=dict)
    problem: Exception | None = None


def _read_session(file: Path) -> _Session:
    """Return the contents of a session.xml and of the file names next to it."""
    bdfs = tuple(
        sorted(
            bdf
            for bdf in file.parent.iterdir()
            if bdf.suffix.lower() == ".bdf" and not bdf.name.startswith(".")
        )
    )
    match = _BDF_NAME.fullmatch(bdfs[0].name) if bdfs else None
    attributes: Mapping[str, str] = {}
    subject, problem = None, None
    try:
        stat = file.stat()
        attributes, subject = _parse(file, stat.st_mtime_ns, stat.st_size)
    except (ParseError, ValueError, LookupError, OSError) as error:
        problem = error
    by_id = _by_id(attributes.get("sessionId", "" if match else file.parent.name))
    if match:
        kind = (match["kind"] or match["task"]).lower()
        named, number = int(match["subject"]), int(match["number"])
    else:
        kind, named, number = by_id
        if problem is None and kind != "s":
            kind = ""  # what it was, its attributes tell better
        if subject not in (named, None):
            number = None  # of another participant, so it tells nothing
    if match and problem is None:
        told = f"participant {subject}" if subject != named else None
        if kind == "s" and by_id[1] is not None and by_id != (kind, named, number):
            told = told or f"session {attributes['sessionId']}, which is another trial"
        if told:
            problem = _BrokenTrialError(
                f"it names {told}, but {bdfs[0].name} lies beside it"
            )
            subject = named
    is_stimulus, contradiction = _is_stimulus(kind, attributes, bool(bdfs))
    if problem is None and contradiction:
        problem = _BrokenTrialError(contradiction)
    return _Session(
        file=file,
        bdfs=bdfs,
        subject=named if subject is None else subject,
        number=number,
        is_stimulus=is_stimulus,
        attributes=attributes,
        problem=problem,
    )


def _describe_sessions(folders: Sequence[Path]) -> str:
    """Return the numbers of sessions without physiology, and what they have."""
    names = []
    for folder in folders:
        has_gaze = any(
            re.search(r"(?i)all-data.*\.tsv$", file.name) for file in folder.iterdir()
        )
        names.append(folder.name + (" (eye tracking alone)" if has_gaze else ""))
    return f"the stimulus sessions {', '.join(names)}"


def _refuse_large(file: Path) -> None:
    if (size := file.stat().st_size) > _MAX_XML_BYTES:
        raise _BrokenTrialError(
            f"it has {size} bytes, but a file of the makers has a few thousand"
        )


def _problem_of_xml(file: Path) -> Exception | None:
    try:
        _refuse_large(file)
        defusedxml.ElementTree.parse(file)
    except (ParseError, ValueError, LookupError, OSError) as error:
        return error
    return None


def _by_id(session_id: str) -> tuple[str, int | None, int | None]:
    """Return kind, participant and trial number by the number of a session.

    The kind is "s" for a stimulus, else "n".
    """
    if not (number := _to_int(session_id)):
        return "", None, None
    block, place = divmod(number - 1, _SESSION_BLOCK)
    number, is_odd = divmod(place + 1, 2)
    if is_odd or number > N_CLIPS:
        return "n", block + 1, None
    return "s", block + 1, number


def _is_stimulus(
    kind: str, attributes: Mapping[str, str], has_bdf: bool
) -> tuple[bool, str | None]:
    """Say whether a session showed an emotional clip, and what contradicts that.

    Neutral clips and tagging are not trials. In doubt a session is one, so that it is
    reported rather than left out.
    """
    task = attributes.get("experimentType", "").lower()
    shown = attributes.get("isStim")
    is_tagging = "tagging" in kind + task or {"tagValid", "tagAgree"} & set(attributes)
    has_felt = any(name.startswith("felt") for name in attributes)
    problem = None
    if shown not in ("0", "1", None):
        problem = f"its isStim must be 0 or 1, but is {shown!r:.20}"
    if kind == "n" or (is_tagging and kind != "s"):
        return False, problem
    if is_tagging:
        return True, problem or "it is of tagging, but its number is of a stimulus"
    if shown == "0":
        if kind == "s" or has_felt:
            return True, "its isStim is 0, but all else is of a stimulus"
        return False, None
    if kind != "s" and not has_felt and shown is None and has_bdf and attributes:
        problem = "it has neither isStim nor feltEmo"
    return bool(kind == "s" or has_felt or shown or problem), problem


@lru_cache(maxsize=8192)
def _parse(file: Path, mtime_ns: int, size: int) -> tuple[dict, int]:
    """Return attributes and participant of a session.xml, read once while unchanged."""
    _refuse_large(file)
    root = defusedxml.ElementTree.parse(file).getroot()
    if root.tag != "session":
        raise _BrokenTrialError(f"its root must be <session>, but is <{root.tag}>")
    subject = root.find("subject")
    text = "" if subject is None else subject.get("id", "")
    if (number := _to_int(text)) is None or not 1 <= number <= N_SUBJECTS:
        raise _BrokenTrialError(
            f"it must have a <subject id=...> between 1 and {N_SUBJECTS}, but has "
            f"{text!r}"
        )
    return {name: value.strip() for name, value in root.attrib.items()}, number


def _describe(session: _Session) -> dict:
    """Return what a session.xml says of its trial, as arguments of `Trial`."""
    if isinstance(session.problem, OSError):
        raise session.problem
    if session.problem is not None:
        raise _BrokenTrialError(f"{session.file} cannot be read ({session.problem}).")
    stimulus = session.attributes.get("mediaFile", "").lower()
    if not stimulus:
        raise _BrokenTrialError(f"{session.file} names no mediaFile.")
    values = {
        name: _whole_number(session, attribute, 1, 9)
        for name, attribute in RATINGS.items()
    }
    return {
        "trial": session.number - 1,  # type: ignore[operator]
        "stimulus": stimulus,
        "emotion": EMOTIONS[_whole_number(session, "feltEmo", 0, len(EMOTIONS) - 1)],
        "ratings": {name: float(value) for name, value in values.items()},
    }


def _whole_number(session: _Session, attribute: str, low: int, high: int) -> int:
    text = session.attributes.get(attribute)
    if (number := _to_int(text or "")) is None or not low <= number <= high:
        raise _BrokenTrialError(
            f"{attribute} in {session.file} must be a whole number between {low} and "
            f"{high}, but is {text!r}."
        )
    return number


def _to_int(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\s*[0-9]{1,9}\s*", text) else None


# -- BDF -----------------------------------------------------------------------


def _read_bdf(
    file: Path, ch_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return signals (n_chans, n_times), status (n_times) and absent electrodes.

    The signals have no rows if ``ch_names`` is empty; absent electrodes are zeros.
    """
    header, absent = _check_header(file)
    sources = [n for n in (*EEG_NAMES, *ECG_NAMES, *OTHER_TYPES) if n not in absent]
    names = {label.lower(): label for label in header.labels}
    raw = mne.io.read_raw_bdf(
        file,
        stim_channel=names[STATUS.lower()],
        include=[names[n.lower()] for n in (*(sources if ch_names else ()), STATUS)],
        verbose="ERROR",
    )
    signals = dict(zip(map(str.lower, raw.ch_names), raw.get_data(), strict=True))
    status = signals[STATUS.lower()].astype(int) & STATUS_MASK
    if not ch_names:
        return np.empty((0, len(status))), status, absent
    data = {name: signals[name.lower()] for name in sources}
    data |= {name: np.zeros(len(status)) for name in absent}
    # MNE scales what the header calls a voltage, whatever the sensor measures.
    dimensions = header.dimensions_by_name()
    for name, unit in {"GSR1": 1.0, "Resp": 1e-6, "Temp": 1.0}.items():
        data[name] *= unit / _VOLTS.get(dimensions[name.lower()], 1.0)
    data["ECG"] = data["EXG2"] - data["EXG3"]
    return np.stack([data[name] for name in ch_names]), status, absent


def _check_header(file: Path) -> tuple[BdfHeader, list[str]]:
    """Return the header of a file that is whole, and the electrodes that it lacks."""
    try:
        header = read_bdf_header(file)
        absent = header.find_absent(FILE_NAMES, EEG_NAMES, UNUSED_NAMES)
    except ValueError as error:
        raise _BrokenTrialError(f"{error}.") from error
    rates = sorted(set(header.n_samples))
    if rates != [round(SFREQ * header.duration)]:
        raise _BrokenTrialError(
            f"the sampling rate must be {SFREQ} Hz, but there are {rates} samples in "
            f"{header.duration:g} s."
        )
    dimensions = header.dimensions_by_name()
    voltages = [name for name in (*EEG_NAMES, *ECG_NAMES) if name not in absent]
    if wrong := [n for n in voltages if dimensions[n.lower()] not in _VOLTS]:
        raise _BrokenTrialError(
            f"{wrong[0]} must be a voltage, but its dimension is "
            f"{dimensions[wrong[0].lower()]!r}."
        )
    try:
        header.check_length()
        header.check_ranges(voltages)
    except ValueError as error:
        raise _BrokenTrialError(f"{error}.") from error
    return header, absent


def _find_clip(status: np.ndarray, file: Path) -> tuple[float, float]:
    """Return onset and length of the clip in seconds; ``status`` (n_times)."""
    is_pulse = status != np.bincount(status).argmax()
    rises = np.flatnonzero(is_pulse[1:] & ~is_pulse[:-1]) + 1
    if len(rises) > 2:
        raise _BrokenTrialError(
            "the status channel must have two pulses, at the start and at the end of "
            f"the clip, but has {len(rises)}."
        )
    start, end = MARGIN_SECONDS * SFREQ, len(status) - MARGIN_SECONDS * SFREQ
    if len(rises) == 2:
        start, end = rises.tolist()
    if end - start < SFREQ:
        raise _BrokenTrialError(
            f"the clip must last at least 1 s, but lasts {(end - start) / SFREQ:g} s "
            f"(pulses: {len(rises)}, recording: {len(status) / SFREQ:g} s)."
        )
    if len(rises) < 2:
        warn_of_format(
            f"MAHNOB-HCI: the status channel of {file} has {len(rises)} pulses, not "
            "two: the clip is assumed to fill all but the first and last "
            f"{MARGIN_SECONDS} s."
        )
    return start / SFREQ, (end - start) / SFREQ
