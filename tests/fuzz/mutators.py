"""Seedable mutations of files, by format.

Each mutator takes a `random.Random` and the content of a sound file, and returns the
content of a mutated one.
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
import zlib

INTERESTING = (0, 1, 2, 8, 14, 15, 127, 128, 255, 2**15, 2**16, 2**24, 2**28)
INTERESTING += (2**31 - 1, 2**31, 2**32 - 1, 2**32 - 8)


def change_bytes(rng, content: bytes, stop: int | None = None) -> bytes:
    """Change, insert, delete, repeat or move bytes, most often near the start."""
    mutated = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        size = max(1, min(len(mutated), stop or len(mutated)))
        near = rng.random() < 0.5
        place = min(
            int(size ** rng.random()) if near else rng.randrange(size), size - 1
        )
        n_bytes = int(min(2 ** rng.uniform(0, 14), size))
        match rng.randrange(8):
            case 0 | 1:
                mutated[place : place + 1] = bytes([rng.randrange(256)])
            case 2:
                mutated[place : place + 1] = bytes(
                    [(mutated + b"\0")[place] ^ 1 << rng.randrange(8)]
                )
            case 3:
                order = rng.choice("<>")
                number = rng.choice((*INTERESTING, len(content), len(content) - place))
                number = (number + rng.choice((-1, 0, 0, 1))) % 2**32
                mutated[place : place + 4] = struct.pack(f"{order}I", number)
            case 4:
                mutated[place:place] = rng.randbytes(min(n_bytes, 4096))
            case 5:
                del mutated[place : place + n_bytes]
            case 6:
                mutated[place:place] = mutated[place : place + n_bytes]
            case 7:
                del mutated[max(1, size - n_bytes) :]
    return bytes(mutated)


# -- pickles -------------------------------------------------------------------


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


_DTYPE, _NDARRAY = b"cnumpy\ndtype\n", b"cnumpy\nndarray\n"
_OBJECT = _DTYPE + _text("O") + b"K\x00K\x01\x87R"
_FIELDS = (
    _DTYPE
    + _text("V8")
    + b"K\x00K\x01\x87R(K\x03X\x01\x00\x00\x00|N(X\x01\x00\x00\x00at}X\x01\x00\x00\x00a"
    + _OBJECT
    + b"K\x00\x86sK\x08K\x01K\x00tb"
)
# Parts of attacks; $CANARY is replaced by a command that leaves a file.
SNIPPETS = (
    b"cos\nsystem\nX\x08\x00\x00\x00$CANARY\x85R",
    b"cposix\nsystem\n(S'$CANARY'\ntR",
    b"(S'$CANARY'\nios\nsystem\n",
    b"cbuiltins\neval\n",
    b"cnumpy\nload\n",
    b"cnumpy.core.multiarray\nscalar\n",
    *(_DTYPE, _NDARRAY, _OBJECT, _FIELDS),
    _NDARRAY + b"((K\x01t" + _FIELDS + b"tR",
    b"K\x00(K\x07ts",
    b"c_codecs\nencode\n" + _text("abc") + _text("zlib") + b"\x86R",
    *(b"r\x00\x00\x00\x10", b"p1000000000000\n", b"h\x00", b"j\x00\x00\x00\x00"),
    *(b"(", b"]", b"}", b")", b"t", b"l", b"d", b"u", b"s", b"e", b"a", b"0", b"1"),
    *(b"2", b"b", b"R", b"\x81", b"\x85", b"\x86", b"\x87", b"N", b"\x88", b"\x89"),
    *(b"q\x00", b"\x94", b"\x93", b"\x82\x01", b"Q", b"\x97", b"\x98", b"."),
    *(b"(" * 1000, b"\x85" * 1000, b"}" * 1000, b"]q\x01(h\x01h\x01e"),
    b"\x8d" + struct.pack("<Q", 1 << 60),
    b"\x8b\xff\xff\xff\x7f",
)


def change_pickle(rng, content: bytes) -> bytes:
    """Delete, repeat, exchange and insert opcodes, or change their bytes."""
    if rng.random() < 0.3:
        return change_bytes(rng, content, stop=rng.choice((300, 2000, None)))
    starts = [place for _, _, place in pickletools.genops(content)]
    parts = [
        content[start:stop]
        for start, stop in zip(starts, [*starts[1:], len(content)], strict=True)
    ]
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        place = rng.randrange(len(parts)) if parts else 0
        match rng.randrange(6):
            case 0 if parts:
                del parts[place]
            case 1 if parts:
                parts.insert(place, rng.choice(parts))
            case 2 if parts:
                other = rng.randrange(len(parts))
                parts[place], parts[other] = parts[other], parts[place]
            case 3 if parts and len(parts[place]) < 100:
                parts[place] = change_bytes(rng, parts[place])
            case _:
                parts.insert(place, rng.choice(SNIPPETS))
    return b"".join(parts)


# -- MATLAB files --------------------------------------------------------------


_MATRIX_TAG = struct.pack("<I", 14)


def change_mat(rng, content: bytes) -> bytes:
    """Change tags and dimensions of a variable, which may be compressed."""
    if rng.random() < 0.3:
        return change_bytes(rng, content, stop=rng.choice((136, 300, None)))
    elements, place = [], 128
    while place + 8 <= len(content):
        kind, size = struct.unpack_from("<II", content, place)
        elements.append((kind, content[place + 8 : place + 8 + size]))
        place += 8 + size
    if rng.random() < 0.1:
        rng.shuffle(elements)
    number = rng.randrange(len(elements))
    kind, inner = elements[number]
    is_compressed = kind == 15
    inner = zlib.decompress(inner) if is_compressed else inner
    inner = _change_tags(rng, inner)
    if is_compressed:
        inner = zlib.compress(inner, 1)
    elif rng.random() < 0.1:
        kind, inner = 15, zlib.compress(struct.pack("<II", 14, len(inner)) + inner)
    elements[number] = (kind, inner)
    mutated = b"".join(
        struct.pack("<II", kind, len(inner)) + inner for kind, inner in elements
    )
    return content[:128] + mutated


def _change_tags(rng, inner: bytes) -> bytes:
    mutated = bytearray(inner)
    # Matrices within structures and cells have tags of their own.
    starts = [0, *(found.start() for found in re.finditer(_MATRIX_TAG, inner))]
    start = rng.choice(starts) if rng.random() < 0.7 else 0
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = min(start + 4 * rng.randrange(24), max(0, len(mutated) - 4))
        match rng.randrange(4):
            case 0:
                number = rng.choice((*range(24), 50, 100, 200, 255))
                mutated[place : place + 1] = bytes([number])
            case 1:
                number = rng.choice((*INTERESTING, *range(24)))
                mutated[place : place + 4] = struct.pack("<I", number)
            case 2 if len(mutated) >= place + 4:
                number = struct.unpack_from("<I", mutated, place)[0]
                number = (number + rng.choice((-8, -1, 1, 8))) % 2**32
                mutated[place : place + 4] = struct.pack("<I", number)
            case _:
                return change_bytes(rng, bytes(mutated), stop=120)
    return bytes(mutated)


# -- BioSemi files -------------------------------------------------------------

_WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
_FIELD_TEXTS = (
    *(b"", b"0", b"-1", b"1", b"1e308", b"-1e308", b"nan", b"inf", b"-inf"),
    *(b"262144", b"-262144", b"8388607", b"-8388608", b"99999999", b"0x10"),
    *(b"uV", b"mV", b"nV", b"V", b"Ohm", b"nS", b"Degree", b"Boolean", b"\xb5V"),
    *(b"Status", b"Fp1", b"EXG1", b"GSR1", b"\x00", b"\xff\xff", b"256", b"512"),
)


def change_bdf(rng, content: bytes) -> bytes:
    """Change, copy and exchange fields of the header, and insert or delete bytes."""
    n_chans = int(content[252:256])
    if (draw := rng.random()) < 0.15:
        return change_bytes(rng, content, stop=256 * (n_chans + 1))
    if draw < 0.35:
        return change_bytes(rng, content)
    mutated = bytearray(content)
    for _ in range(rng.choice((1, 1, 2))):
        if rng.random() < 0.2:
            place, width = rng.choice(
                ((0, 8), (168, 16), (184, 8), (192, 44), (236, 8), (244, 8), (252, 4))
            )
            places = (place, place)
        else:
            number = rng.randrange(len(_WIDTHS))
            width, start = _WIDTHS[number], 256 + n_chans * sum(_WIDTHS[:number])
            places = [start + width * rng.randrange(n_chans) for _ in range(2)]
        here, there = (slice(place, place + width) for place in places)
        match rng.randrange(4):
            case 0:
                mutated[here] = rng.choice(_FIELD_TEXTS).ljust(width)[:width]
            case 1:
                mutated[here] = mutated[there]
            case 2:
                mutated[here], mutated[there] = mutated[there], mutated[here]
            case 3:
                mutated[here] = change_bytes(rng, bytes(mutated[here])).ljust(width)[
                    :width
                ]
    return bytes(mutated)


# -- XML -----------------------------------------------------------------------

_VALUES = ("", "0", "1", "2", "-1", "10", "99", "1e9", "x", "yes", "130", "\u0661")
_VALUES += ("emotion elicitation", "video tagging", "9" * 5000)
_WRAPPERS = (
    '<!DOCTYPE x [<!ENTITY a "b">]>{}',
    '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>{}',
    "<?xml version='1.0' encoding='utf-16'?>{}",
    "<?xml version='1.0' encoding='none'?>{}",
    *("<a>{}</a>", "{0}{0}", "<!--{}-->", "\ufeff{}", "{}<"),
)


def change_xml(rng, content: bytes) -> bytes:
    """Change, rename, drop and exchange attributes, or what is around the root."""
    if rng.random() < 0.2:
        return change_bytes(rng, content)
    text = content.decode()
    for _ in range(rng.choice((1, 1, 2, 3))):
        found = list(re.finditer(r'(\w+)="([^"]*)"', text))
        if not found:
            break
        match, other = rng.choice(found), rng.choice(found)
        name, value = match.groups()
        new = rng.choice(
            (
                *(f'{name}="{rng.choice(_VALUES)}"', f'{name}="{value}{value}"'),
                *("", f'{name}x="{value}"', f'{other[1]}="{value}"'),
                *(f'{name}="{other[2]}"', f"{name}='&lt;{value}'"),
            )
        )
        text = text[: match.start()] + new + text[match.end() :]
    if rng.random() < 0.2:
        text = rng.choice(_WRAPPERS).format(text)
    if rng.random() < 0.02:
        text = text.replace("<track", "<a/>" * 100_000 + "<track")
    return text.encode()


# -- tables --------------------------------------------------------------------


def change_table(rng, content: bytes) -> bytes:
    """Change, copy and exchange cells, rows and columns, or change any bytes."""
    if rng.random() < 0.3:
        return change_bytes(rng, content)
    rows = [line.split("\t") for line in content.decode().split("\n")]
    for _ in range(rng.choice((1, 1, 2, 4))):
        row, other = (rng.randrange(len(rows)) for _ in range(2))
        column = rng.randrange(len(rows[row]) or 1)
        match rng.randrange(5):
            case _ if not rows[row]:
                continue
            case 0:
                rows[row][column] = rng.choice((*_VALUES, "n/a", "nan", "inf", "V"))
            case 1 if column < len(rows[other]):
                here, there = rows[row], rows[other]
                here[column], there[column] = there[column], here[column]
            case 2:
                place = rng.randrange(len(rows[row]))
                rows[row][column] = rows[row][place]
            case 3:
                rows[row], rows[other] = rows[other], rows[row]
            case _:
                del rows[row][column]
    return "\n".join("\t".join(row) for row in rows).encode()


# -- Neuroscan files and archives ----------------------------------------------


def change_cnt(rng, content: bytes) -> bytes:
    """Change fields of the header and of the electrodes, or any bytes."""
    n_chans = int.from_bytes(content[370:372], "little")
    start = 900 + 75 * n_chans
    if (draw := rng.random()) < 0.3:
        return change_bytes(rng, content, stop=rng.choice((900, start, None)))
    mutated = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = 75 * rng.randrange(n_chans) + 900
        if draw < 0.7:  # channels, rate, samples, events, blocks
            place = rng.choice((370, 376, 438, 864, 886, 890, 894))
        else:  # name, flags, place, baseline, sensitivity, calibration
            place = at + rng.choice((0, 4, 14, 19, 23, 47, 59, 71))
        number = rng.choice((*INTERESTING, len(content), rng.randrange(2**32)))
        mutated[place : place + 4] = struct.pack("<I", number % 2**32)
    return bytes(mutated)


def change_npz(rng, content: bytes) -> bytes:
    """Change the pickle in a member of an archive, its header, or the archive."""
    if rng.random() < 0.3:
        return change_bytes(rng, content)
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(members))
    start = 10 + int.from_bytes(members[name][8:10], "little")
    header, inner = members[name][:start], members[name][start:]
    if rng.random() < 0.2:
        members[name] = change_bytes(rng, header) + inner
    else:
        changed = change_pickle(rng, inner)
        size = str(len(inner)).encode(), str(len(changed)).encode()
        members[name] = header.replace(b"S" + size[0], b"S" + size[1]) + changed
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return stream.getvalue()


MUTATORS = {
    ".cnt": change_cnt,
    ".npz": change_npz,
    ".dat": change_pickle,
    ".pkl": change_pickle,
    ".mat": change_mat,
    ".bdf": change_bdf,
    ".xml": change_xml,
    ".csv": change_bytes,
    ".tsv": change_table,
    ".txt": change_bytes,
}
