"""Headers of BioSemi files (BDF), compared with what BioSemi's software writes.

A reader scales each channel by four numbers of the header, and takes the records one
after the other. A wrong number rescales or inverts a channel, and an inserted byte
turns all that follows into noise; a reader notices neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from braindecode_emossl.errors import warn_of_format

__all__ = ["BdfHeader", "read_bdf_header"]

_MAX_CHANNELS = 512
# A file that lacks more than this share of the electrodes is of another montage.
_MOST_ABSENT = 0.25
_SAMPLE_BYTES = 3
# BioSemi's converter has 24 bits and steps of 1/32 microvolt.
_DIGITAL = (-8388608, 8388607)
_MICROVOLTS_PER_STEP = 1 / 32
# Bytes of the fields that each channel has in the header, in their order.
_WIDTHS = {
    "label": 16,
    "transducer": 80,
    "dimension": 8,
    **dict.fromkeys(("physical_min", "physical_max", "digital_min", "digital_max"), 8),
    "filter": 80,
    "n_samples": 8,
    "reserved": 32,
}
# Symbols of the micro prefix: the sign, the Greek letter, and the letter in Shift JIS.
_MICROVOLTS = ("uV", "\u00b5V", "\u03bcV", "\x83\xcaV")
#: The factor by which MNE converts a channel to volts, by the unit in the header.
MNE_UNITS = {**dict.fromkeys(_MICROVOLTS, 1e-6), "mV": 1e-3}


@dataclass(frozen=True)
class BdfHeader:
    """The header of a file; ranges are pairs per channel, in the channel's unit.

    ``n_records`` is the number that the header states, -1 if the recording was not
    stopped. ``n_whole`` and ``n_rest`` are the whole records and the bytes after them
    that the file has.
    """

    file: Path
    labels: list[str]
    dimensions: list[str]
    physical: list[tuple[float, float]]
    digital: list[tuple[float, float]]
    n_samples: list[int]
    duration: float
    n_records: int
    n_whole: int
    n_rest: int

    def dimensions_by_name(self) -> dict[str, str]:
        """Return the dimension of each channel by its name in small letters."""
        labels = map(str.lower, self.labels)
        return dict(zip(labels, self.dimensions, strict=True))

    def check_length(self) -> None:
        """Raise ValueError unless the file is as long as its header states."""
        if self.n_whole < max(self.n_records, 1):
            raise ValueError(
                f"it is cut short or damaged: the header promises {self.n_records} "
                f"records, there are {self.n_whole} and {self.n_rest} bytes"
            )
        if self.n_rest or self.n_records not in (self.n_whole, -1):
            raise ValueError(
                f"it is longer than its header says: it promises {self.n_records} "
                f"records, there are {self.n_whole} and {self.n_rest} bytes. Bytes "
                "were inserted, or the header is of another file"
            )

    def find_absent(
        self, expected: Sequence[str], electrodes: Sequence[str], unused=()
    ) -> list[str]:
        """Return the electrodes that the file lacks, of its published channels.

        Raises ValueError unless the file begins with the electrodes that it has, and
        all ``expected`` channels are there once and in their order, in any case.
        ``unused`` channels that are missing are a warning.
        """
        labels = [label.lower() for label in self.labels]
        places = {name.lower(): k for k, name in enumerate(expected)}
        absent = [name for name in electrodes if name.lower() not in labels]
        others = places.keys() - {name.lower() for name in electrodes}
        n_first = next((k for k, name in enumerate(labels) if name in others), 0)
        # Among the electrodes, a name that is not theirs is a damaged one.
        known = [k for k in enumerate(labels) if k[0] < n_first or k[1] in places]
        published = [name for name in expected if name.lower() in labels]
        for (number, found), name in zip(known, published, strict=False):
            if found != name.lower():
                raise ValueError(
                    f"its channels must be in the published order, in which {name} is "
                    f"number {places[name.lower()] + 1}, but number {number + 1} is "
                    f"{self.labels[number]!r:.20}"
                )
        if len(known) > len(published):
            raise ValueError(f"it has {known[len(published)][1]!r:.20} more than once")
        missing = [name for name in expected if name.lower() not in labels]
        needed = [name for name in missing if name not in (*electrodes, *unused)]
        if needed or len(absent) > _MOST_ABSENT * len(electrodes):
            raise ValueError(f"it has no channels {', '.join(needed or absent)}")
        if missing := [name for name in missing if name in unused]:
            warn_of_format(
                f"{self.file}: the channels {', '.join(missing)}, which are not used, "
                "are missing. Check whether the file was converted."
            )
        return absent

    def check_ranges(self, voltages: Sequence[str]) -> None:
        """Raise ValueError unless the ranges can be those of one amplifier.

        The channels of ``voltages``, by name, must have one range and unit. All must
        have 24 bits, or those of a converted file whose voltages have BioSemi's steps.
        What BioSemi's amplifiers do not have, but another may, is a warning.
        """
        names = {name.lower() for name in voltages}
        picks = [k for k, label in enumerate(self.labels) if label.lower() in names]
        first = picks[0]
        for label, physical, digital in zip(
            self.labels, self.physical, self.digital, strict=True
        ):
            for kind, (low, high) in (("physical", physical), ("digital", digital)):
                if not -math.inf < low < high < math.inf:
                    raise ValueError(
                        f"the {kind} minimum of {label or 'a channel'} must be below "
                        f"its maximum, but they are {low:g} and {high:g}"
                    )
            usual = self.digital[first] if self._is_converted(first) else _DIGITAL
            if digital not in (usual, _DIGITAL):
                raise ValueError(
                    f"the digital range of {label or 'a channel'} must be that of 24 "
                    f"bits, {_DIGITAL}, but is ({digital[0]:.0f}, {digital[1]:.0f})"
                )
        self._check_voltages(picks)

    def _is_converted(self, channel: int) -> bool:
        """Return whether a channel has BioSemi's steps around zero in other bits."""
        (low, high), (bottom, top) = self.physical[channel], self.digital[channel]
        step = (high - low) / (top - bottom)
        return (
            self.digital[channel] != _DIGITAL
            and self.dimensions[channel] in _MICROVOLTS
            and math.isclose(step, _MICROVOLTS_PER_STEP, rel_tol=1e-3)
            and abs(bottom * step - low) <= step
        )

    def _check_voltages(self, picks: Sequence[int]) -> None:
        first = picks[0]
        for k in picks[1:]:
            for kind in ("physical", "digital", "dimensions"):
                here, there = getattr(self, kind)[first], getattr(self, kind)[k]
                if here != there:
                    raise ValueError(
                        f"all electrodes must have one physical range and unit, but "
                        f"{self.labels[first]} has {here}, {self.labels[k]} {there}"
                    )
        low, high = self.physical[first]
        bottom, top = self.digital[first]
        step = (high - low) / (top - bottom)
        if self.digital[first] != _DIGITAL:
            warn_of_format(
                f"{self.file}: the electrodes have the digital range ({bottom:.0f}, "
                f"{top:.0f}), but BioSemi's amplifiers have {_DIGITAL}. Check whether "
                "the file was converted."
            )
        in_microvolts = self.dimensions[first] in _MICROVOLTS
        if in_microvolts and not math.isclose(step, _MICROVOLTS_PER_STEP, rel_tol=1e-3):
            warn_of_format(
                f"{self.file}: the electrodes have steps of {step:.4g} microvolts, but "
                f"BioSemi's amplifiers have {_MICROVOLTS_PER_STEP:g}. Check whether "
                "the file was converted."
            )
        skewed = [
            label
            for label, (low, high) in zip(self.labels, self.physical, strict=True)
            if abs(low + high) > 1e-3 * (high - low)
        ]
        if skewed:
            warn_of_format(
                f"{self.file}: the physical ranges of {', '.join(skewed):.100} are not "
                "symmetric about zero, as BioSemi's amplifiers have them. The values "
                "of these channels may be shifted and scaled."
            )


def read_bdf_header(file: Path) -> BdfHeader:
    """Return the header of a file; raise ValueError if it is not a BDF header."""
    with file.open("rb") as stream:
        start = stream.read(256)
        if not start.startswith(b"\xffBIOSEMI"):
            raise ValueError("it is not a BDF file: the header starts differently")
        try:
            text = start.decode("latin-1")
            n_header, n_records = int(text[184:192]), int(text[236:244])
            duration, n_chans = float(text[244:252]), int(text[252:256])
        except ValueError as error:
            raise ValueError(f"its BDF header is invalid ({error})") from error
        if (
            not 1 <= n_chans <= _MAX_CHANNELS
            or n_header != 256 * (n_chans + 1)
            or not 0 < duration < math.inf
        ):
            raise ValueError("its BDF header is invalid")
        fields = {
            # Bytes are stripped of blanks alone, as MNE does: text also of "\xa0".
            name: [stream.read(width).strip().decode("latin-1") for _ in range(n_chans)]
            for name, width in _WIDTHS.items()
        }
    try:
        n_samples = [int(number) for number in fields["n_samples"]]
        physical, digital = (
            [
                (float(low), float(high))
                for low, high in zip(
                    fields[f"{kind}_min"], fields[f"{kind}_max"], strict=True
                )
            ]
            for kind in ("physical", "digital")
        )
    except ValueError as error:
        raise ValueError(f"its BDF header is invalid ({error})") from error
    if min(n_samples) < 1:
        raise ValueError("its BDF header is invalid: a channel has no samples")
    n_bytes = file.stat().st_size - n_header
    n_whole, n_rest = divmod(n_bytes, _SAMPLE_BYTES * sum(n_samples))
    return BdfHeader(
        file=file,
        labels=fields["label"],
        dimensions=fields["dimension"],
        physical=physical,
        digital=digital,
        n_samples=n_samples,
        duration=duration,
        n_records=n_records,
        n_whole=n_whole,
        n_rest=n_rest,
    )
