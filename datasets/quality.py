"""Quality of the signals of a recording: broken trials, odd channels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from braindecode_emossl.errors import warn_of_format

__all__ = ["VOLTAGE_TYPES", "RecordingQuality"]

# Types of channels that are in volts; the others keep the unit of the sensor.
VOLTAGE_TYPES = ("eeg", "eog", "emg", "ecg", "resp", "bio")

# A channel is flat if its range is smaller than this share of the median channel's:
# filters and conversions leave rounding errors of a constant.
_FLAT_SHARE = 1e-6
# Seconds for which a channel holds one value: at its largest or smallest value it is
# saturated, elsewhere it stands still.
_SATURATED_SECONDS = 0.1
_STILL_SECONDS = 1.0
# A trial that stands still in all channels for this share of its seconds is broken.
_BROKEN_SHARE = 0.5
# Standard deviation of the median channel, in volts, outside of which the unit is in
# doubt. Offsets of unfiltered recordings drift by less than the upper limit.
_PLAUSIBLE_DEVIATION = (2e-7, 5e-3)
# Samples per channel that are enough to estimate a standard deviation.
_N_ESTIMATE = 2000
# Range, in volts or in the unit of the sensor, that a sensor with contact exceeds in
# any trial; seconds at its largest or smallest value for which it is saturated. Its
# signal is slow, so that short stretches of one value are sound.
_SENSOR_RANGE = {True: 1e-12, False: 1e-6}
_SENSOR_SECONDS = 1.0
# A temperature may stand still for a while.
_NEVER_SATURATED = ("temperature",)
# No message lists more channels than this.
_MOST_NAMES = 12

_UNITS = {1e6: "volts", 1e3: "millivolts", 1e-3: "nanovolts"}
# What is said of each kind of findings, in this order.
_MESSAGES = {
    "absent": "{n} EEG channels are absent and filled with zeros: {names}. {done}",
    "flat_sensors": "{n} channels other than EEG are flat, as sensors without contact "
    "are: {names}. {done}",
    "saturated_sensors": "{n} channels other than EEG are saturated, held at their "
    "largest or smallest value: {names}",
    "flat": "{n} EEG channels are flat, as electrodes without contact are: {names}. "
    "{done}",
    "still": "the EEG stands still for a while: {names}",
    "saturated": "{n} EEG channels are saturated, held at their largest or smallest "
    "value: {names}",
    "large": "{n} EEG channels have implausible amplitudes: {names}",
    "units": "the unit of the EEG is in doubt, whose standard deviation (of the median "
    "channel) looks {names}. It was read in the unit of the release; convert the file "
    "if it has another one.",
}


@dataclass
class RecordingQuality:
    """The findings in the signals of one recording, trial by trial.

    ``where`` names the recording in messages, ``ch_names`` are the EEG channels, and
    ``sensors`` has the types of the channels after them that are to be inspected. An
    EEG channel that leaves its mean by more than ``implausible`` volts is reported;
    ``impossible`` volts break the trial.
    """

    where: str
    ch_names: Sequence[str]
    sfreq: float
    sensors: Mapping[str, str] = field(default_factory=dict)
    implausible: float = 5e-3
    impossible: float = 0.3
    absent: dict[str, dict] = field(default_factory=dict)
    flat: dict[str, dict] = field(default_factory=dict)
    still: dict[str, dict] = field(default_factory=dict)
    saturated: dict[str, dict] = field(default_factory=dict)
    large: dict[str, dict] = field(default_factory=dict)
    units: dict[str, dict] = field(default_factory=dict)
    flat_sensors: dict[str, dict] = field(default_factory=dict)
    saturated_sensors: dict[str, dict] = field(default_factory=dict)
    whole_numbers: list = field(default_factory=list)
    n_trials: int = 0

    def inspect(
        self,
        trial: int,
        data: np.ndarray,
        volts: float = 1.0,
        n_before: int = 0,
        absent: Collection[str] = (),
    ) -> str | None:
        """Record the findings in a trial (n_chans, n_times); return why it is broken.

        The EEG comes first; ``volts`` is the size of its unit. The trial begins after
        ``n_before`` samples of baseline. ``absent`` electrodes are zeros.
        """
        if data.dtype.kind not in "iuf":
            return f"must hold real numbers, but holds {data.dtype}"
        if not np.isfinite(data).all():
            return "holds values that are not finite numbers"
        eeg = data[: len(self.ch_names)]
        low, high = (f(axis=1).astype(float) * volts for f in (eeg.min, eeg.max))
        step = max(1, eeg.shape[1] // _N_ESTIMATE)
        sample = eeg[:, ::step].astype(float) * volts
        mean = sample.mean(axis=1)
        peak = np.maximum(high - mean, mean - low)
        if peak.max() > self.impossible:
            worst = int(peak.argmax())
            return (
                f"holds EEG that no electrode can have: {self.ch_names[worst]} reaches "
                f"{peak[worst]:.3g} V"
            )
        if flaw := self._find_stillness(trial, eeg[:, n_before:]):
            return flaw
        self.n_trials += 1
        if data.dtype.kind != "f":
            self.whole_numbers.append(trial)
        is_flat = high - low <= _FLAT_SHARE * np.median(high - low)
        for k in np.flatnonzero(is_flat).tolist():
            if self.ch_names[k] in absent:
                self._add(self.absent, k, trial, "")
            else:
                self._add(self.flat, k, trial, f"{mean[k] * 1e6:.4g} microvolts")
        for k in np.flatnonzero(peak > self.implausible).tolist():
            self._add(self.large, k, trial, f"{peak[k] * 1e3:.3g} mV")
        self._find_runs(trial, eeg, ~is_flat)
        if not is_flat.all():
            self._check_unit(trial, float(np.median(sample[~is_flat].std(axis=1))))
        self._inspect_sensors(trial, data[len(eeg) :, n_before:], volts)
        return None

    def bads(self, trial: int | None = None) -> list[str]:
        """Return the flat and absent channels of a trial, or those of most trials."""
        kinds = self.absent, self.flat, self.flat_sensors
        found = {name: trials for kind in kinds for name, trials in kind.items()}
        if trial is not None:
            return [name for name, trials in found.items() if trial in trials]
        most = self.n_trials / 2
        return [name for name, trials in found.items() if len(trials) > most]

    def _add(self, findings: dict, channel: int, trial: int, detail: str) -> None:
        name = [*self.ch_names, *self.sensors][channel]
        findings.setdefault(name, {})[trial] = detail

    def _inspect_sensors(self, trial: int, data: np.ndarray, volts: float) -> None:
        """Record the sensors (n_sensors, n_times) that are flat or saturated."""
        shortest = round(_SENSOR_SECONDS * self.sfreq)
        for number, kind in enumerate(self.sensors.values()):
            signal, channel = data[number], len(self.ch_names) + number
            is_voltage = kind in VOLTAGE_TYPES
            unit = volts if is_voltage else 1.0
            if np.ptp(signal) * unit <= _SENSOR_RANGE[is_voltage]:
                self._add(self.flat_sensors, channel, trial, "")
            elif (
                kind not in _NEVER_SATURATED
                and np.count_nonzero(signal[1:] == signal[:-1]) >= shortest - 1
            ):
                starts, lengths = _find_plateaus(signal)
                values = signal[starts]
                extreme = (values == signal.max()) | (values == signal.min())
                self._add_runs(
                    self.saturated_sensors,
                    channel,
                    trial,
                    starts,
                    lengths,
                    extreme & (lengths >= shortest),
                )

    def _find_stillness(self, trial: int, eeg: np.ndarray) -> str | None:
        """Record where all channels stand still; return why that breaks the trial."""
        second = round(self.sfreq)
        n_seconds = eeg.shape[1] // second

        def find(rows):
            seconds = rows[:, : n_seconds * second].reshape(len(rows), -1, second)
            return (np.ptp(seconds, axis=2) == 0).all(axis=0)

        if not find(eeg[:1]).any():  # which is fast
            return None
        still = np.flatnonzero(find(eeg))
        # As in files of the right size of which most was never written.
        if len(still) >= _BROKEN_SHARE * n_seconds:
            return (
                f"holds EEG that stands still for {len(still)} of {n_seconds} s, from "
                f"{still[0]} s on"
            )
        if len(still):
            detail = f"{len(still)} s in all, from {still[0]} s on"
            self.still.setdefault("all channels", {})[trial] = detail
        return None

    def _find_runs(self, trial: int, eeg: np.ndarray, used: np.ndarray) -> None:
        """Record stretches of one value in channels that are not flat."""
        same = eeg[:, 1:] == eeg[:, :-1]
        shortest = max(2, round(_SATURATED_SECONDS * self.sfreq)) - 1
        in_doubt = used & (np.count_nonzero(same, axis=1) >= shortest)
        everywhere = trial in self.still.get("all channels", {})
        for k in np.flatnonzero(in_doubt):
            starts, lengths = _find_plateaus(eeg[k])
            values = eeg[k, starts]
            extreme = (values == eeg[k].max()) | (values == eeg[k].min())
            clipped = extreme & (lengths > shortest)
            stuck = ~clipped & (lengths >= round(_STILL_SECONDS * self.sfreq))
            kinds = [(self.saturated, clipped)]
            kinds += [] if everywhere else [(self.still, stuck)]
            for findings, which in kinds:
                self._add_runs(findings, k, trial, starts, lengths, which)

    def _add_runs(self, findings, channel, trial, starts, lengths, which) -> None:
        """Record the selected stretches of one value, if there are any."""
        if which.any():
            seconds = lengths[which].sum() / self.sfreq
            start = starts[which][0] / self.sfreq
            detail = f"{seconds:.3g} s in all, from {start:.4g} s on"
            self._add(findings, channel, trial, detail)

    def _check_unit(self, trial: int, deviation: float) -> None:
        low, high = _PLAUSIBLE_DEVIATION
        if not low <= deviation <= high:
            guess = [
                name
                for factor, name in _UNITS.items()
                if 1e-6 <= deviation * factor <= 1e-3
            ]
            name = f"as if in {guess[0]}" if guess else "in no usual unit"
            self.units.setdefault(name, {})[trial] = f"{deviation * 1e6:.3g} microvolts"

    # -- messages --------------------------------------------------------------

    def warn(self, marked: bool) -> None:
        """Warn of the findings; ``marked`` says whether flat channels are bads."""
        for message in self._messages(marked):
            warn_of_format(message)

    def _messages(self, marked: bool) -> Iterable[str]:
        done = (
            "They are listed in raw.info['bads']."
            if marked
            else "They are not marked, as mark_bads=False."
        )
        for kind, message in _MESSAGES.items():
            if found := getattr(self, kind):
                names = _list_findings(found)
                text = message.format(n=len(found), names=names, done=done)
                yield f"{self.where}: {text}"
        if self.whole_numbers:
            trials = _join_numbers(self.whole_numbers)
            yield (
                f"{self.where}: the EEG of {trials} is stored as whole numbers and was "
                "read as such, in the unit of the release; the makers' files have "
                "fractions."
            )


def _list_findings(findings: dict[str, dict]) -> str:
    """Return channels as text, with their trials and the detail of the first one."""
    names = []
    for name, trials in list(findings.items())[:_MOST_NAMES]:
        others = ", first " if len(trials) > 1 else ", "
        detail = next(iter(trials.values()))
        detail = detail and others + detail
        names.append(f"{name} ({_join_numbers(trials)}{detail})")
    if (n_more := len(findings) - _MOST_NAMES) > 0:
        names.append(f"and {n_more} more")
    return ", ".join(names)


def _find_plateaus(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and lengths, in samples, of stretches of one value (n_times)."""
    same = (signal[1:] == signal[:-1]).view(np.int8)
    edges = np.flatnonzero(np.diff(np.r_[0, same, 0]))
    return edges[::2], edges[1::2] - edges[::2] + 1


def _join_numbers(numbers: Iterable[int]) -> str:
    """Return numbers as text such as "trials 1-3, 7"."""
    numbers = sorted(numbers)
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    text = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in spans)
    return f"trial{'s' if len(numbers) > 1 else ''} {text}"
