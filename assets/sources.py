"""The sounds in a folder of unpacked Debian packages, and fingerprints that detect copies among them.

    python assets/sources.py --into raw        # downloads and unpacks PACKAGES (about 3 GB), on a Debian machine

>>> for sound in sounds(Path("raw"), ["minetest-data"]):        # doctest: +SKIP
...     print(sound.path, fingerprint(at_16k(*sound.read())).shape)
"""

import argparse
import io
import math
import re
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

Wave = npt.NDArray[np.float32]

RATE = 16_000
PACKAGES: tuple[str, ...] = (
    "0ad-data",
    "asterisk-core-sounds-en-g722",
    "asterisk-core-sounds-es-g722",
    "asterisk-core-sounds-fr-g722",
    "asterisk-core-sounds-it-g722",
    "asterisk-core-sounds-ru-g722",
    "fluid-soundfont-gm",
    "gcompris-qt-data",
    "hedgewars-data",
    "hydrogen-data",
    "hydrogen-drumkits",
    "klettres-data",
    "ktuberling-data",
    "lincity-ng-data",
    "megaglest-data",
    "minetest-data",
    "openarena-data",
    "sonic-pi-samples",
    "tuxpaint-stamps-default",
    "ufoai-sound",
    "warzone2100-data",
    "wesnoth-1.16-data",
    "widelands-data",
)
AUDIO = {".wav", ".ogg", ".flac", ".oga", ".mp3", ".opus", ".aif", ".aiff", ".g722"}
ZIPS = {".pk3", ".wz", ".zip"}
INSIDE = re.compile(r"(.*?\.(?:sf2|rcc|pk3|wz|zip))!(.*)")  # archive ! member; other names may contain a "!" as well


class UnreadableSoundError(Exception):
    """Raised for a file whose name is that of a sound and which cannot be decoded."""


@dataclass(frozen=True)
class Sound:
    """One sound: `path` is relative to the package's folder; after an archive's name, "!" and a member."""

    package: str
    path: str
    root: Path = field(repr=False, compare=False)

    def read(self) -> tuple[Wave, int]:
        """The sound as (mono wave [samples], rate in Hz); channels are averaged. Raises UnreadableSoundError."""
        inside = INSIDE.fullmatch(self.path)
        file, member = inside.groups() if inside else (self.path, "")
        at = self.root / self.package / file
        try:
            if at.suffix == ".sf2":
                samples, rate = _sf2_samples(at)[member]
                return np.divide(samples, 32768, dtype=np.float32), rate
            if at.suffix == ".rcc":
                return _decode(_rcc_members(at)[member], Path(member).suffix.lower())
            if member:
                with zipfile.ZipFile(at) as archive:
                    return _decode(archive.read(member), Path(member).suffix.lower())
            return _decode(at.read_bytes(), at.suffix.lower())
        except (soundfile.LibsndfileError, subprocess.CalledProcessError, KeyError, ValueError) as error:
            raise UnreadableSoundError(f"{self.package}: cannot decode {self.path}: {error}") from error


def sounds(root: Path, packages: Sequence[str] | None = None) -> Iterator[Sound]:
    """All sounds of packages that are unpacked in `root`, by default of all PACKAGES, in a fixed order.

    Raises FileNotFoundError if the folder of a package is missing.
    """
    for package in packages or PACKAGES:
        folder = root / package
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}; `python assets/sources.py --into {root}` makes it")
        for file in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
            path = file.relative_to(folder).as_posix()
            if file.suffix.lower() in AUDIO:
                yield Sound(package, path, root)
            for member in _members(file):
                yield Sound(package, f"{path}!{member}", root)


def fetch(packages: Sequence[str], into: Path) -> None:
    """Download the packages and unpack each into a folder of `into`; needs apt-get and dpkg-deb, but not root.

    0 A.D. has its sounds in a zip of 1.4 GB: the folder audio/ is unpacked next to it and the zip is removed.
    """
    into.mkdir(parents=True, exist_ok=True)
    for package in packages:
        with tempfile.TemporaryDirectory(dir=into) as scratch:
            subprocess.run(["apt-get", "download", package], cwd=scratch, check=True)
            (archive,) = Path(scratch).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", archive, into / package], check=True)
    for public in into.glob("0ad-data/**/public.zip"):
        with zipfile.ZipFile(public) as nested:
            audio = [name for name in nested.namelist() if name.startswith("audio/")]
            nested.extractall(into / "0ad-data" / "public", audio)
        public.unlink()


def at_16k(wave: Wave, rate: int) -> Wave:
    """The mono wave at 16 kHz (soxr, high quality)."""
    if rate == RATE:
        return wave
    return np.asarray(soxr.resample(wave, rate, RATE, quality="HQ"), dtype=np.float32)


def trim(wave: Wave, floor_db: float = -60.0) -> Wave:
    """The wave without the samples at both ends that are below `floor_db` relative to its peak; silence becomes empty.

    >>> trim(np.array([0, 0, 1, 0, -1, 0], np.float32)).tolist()
    [1.0, 0.0, -1.0]
    """
    level = np.abs(wave)
    loud = np.flatnonzero(level > level.max(initial=0.0) * 10 ** (floor_db / 20))
    return wave[loud[0] : loud[-1] + 1] if len(loud) else wave[:0]


# A fingerprint is the level in dB of 32 mel bands at 32 time steps over two seconds, differenced along both axes
# (Haitsma and Kalker 2002 use the signs of the same differences). The steps grow from 10 ms at the onset to about
# 200 ms, because two footsteps differ in their first tenth of a second and two melodies differ later. Without the
# differences all short sounds are similar (1 pair in 1000 has a cosine above 0.92; with them above 0.18, at the same
# recall).
#
# Inspected pairs with a cosine above 0.8 were the same recording (re-encoded, cut, left and right channel, velocity
# layers of one hit); from 0.5 to 0.8 they were takes or variants of one source; below 0.4 they were different events.
# After a cut of 5 ms, shortening or encoding again (Opus, Vorbis), 95 of 100 recordings have a cosine of at least 0.43
# with the original.
SAME, ALIKE = 0.8, 0.45  # least cosine of copies, and of recordings of one source (same split)
_WINDOW, _HOP, _FFT, _BANDS, _STEPS, _SECONDS, _FLOOR_DB = 320, 160, 512, 32, 32, 2, -50.0


def fingerprint(wave16k: Wave) -> Wave:
    """An L2-normalised vector [961] that describes the first two seconds after the onset, independent of the gain.

    The cosine of two fingerprints is 1 for copies with another gain and high for copies that were cut or encoded again.
    A silent or empty wave gives zeros.
    """
    level = np.abs(wave16k)
    loud = np.flatnonzero(level > 0.1 * level.max(initial=0.0))
    if not len(loud):
        return np.zeros((_STEPS - 1) * (_BANDS - 1), np.float32)
    frames = _SECONDS * RATE // _HOP
    length = (frames - 1) * _HOP + _WINDOW
    part = wave16k[max(0, loud[0] - _HOP) :][:length]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(part, (0, length - len(part))), _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW), _FFT)) ** 2 @ _mel().T
    starts = _step_starts(frames)
    power = np.add.reduceat(power, starts) / np.diff(starts, append=frames)[:, None]
    decibels = 10 * np.log10(np.maximum(power / power.max(), 10 ** (_FLOOR_DB / 10)))
    print_ = np.diff(np.diff(decibels, axis=0), axis=1).astype(np.float32).ravel()
    return np.asarray(print_ / max(float(np.linalg.norm(print_)), 1e-9), dtype=np.float32)


def near_duplicates(prints: Wave, threshold: float, block: int = 2048) -> npt.NDArray[np.int64]:
    """Pairs [pairs, 2] of rows i < j of `prints` [sounds, 961] whose cosine reaches `threshold`, in order.

    The same as `[(i, j) for i in range(n) for j in range(i + 1, n) if prints[i] @ prints[j] >= threshold]`.
    """
    pairs = [np.zeros((0, 2), np.int64)]
    for top in range(0, len(prints), block):
        rows, columns = np.nonzero(prints[top : top + block] @ prints[top:].T >= threshold)
        upper = rows < columns
        pairs.append(np.stack([rows[upper], columns[upper]], axis=1) + top)
    return np.concatenate(pairs)


def _decode(data: bytes, suffix: str) -> tuple[Wave, int]:
    if suffix == ".g722":
        command = ["ffmpeg", "-v", "error", "-f", "g722", "-i", "-", "-f", "wav", "-"]
        data = subprocess.run(command, input=data, capture_output=True, check=True).stdout
    wave, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return wave.mean(axis=1, dtype=np.float32), rate


def _members(file: Path) -> list[str]:
    """The names of the sounds in an archive, sorted; an empty list for other files."""
    suffix = file.suffix.lower()
    if suffix == ".sf2":
        return sorted(_sf2_samples(file))
    if suffix == ".rcc":
        names = list(_rcc_members(file))
    elif suffix in ZIPS and zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    else:
        return []
    return sorted(name for name in names if Path(name).suffix.lower() in AUDIO)


@lru_cache(maxsize=1)
def _sf2_samples(file: Path) -> dict[str, tuple[npt.NDArray[np.int16], int]]:
    """{sample name: (16-bit wave, rate)} of a SoundFont 2 file, in the order of its headers.

    The RIFF chunk "smpl" contains all waves, "shdr" 46 bytes per sample: name[20], start, end, 2 loop points, rate, ...
    A number is added to a name that occurs again.
    """
    data = file.read_bytes()
    wave = np.frombuffer(_chunk(data, b"smpl"), "<i2")
    layout = np.dtype("S20, <u4, <u4, 2<u4, <u4, V6")
    samples: dict[str, tuple[npt.NDArray[np.int16], int]] = {}
    headers = np.frombuffer(_chunk(data, b"shdr"), layout)[:-1]  # the last header marks the end
    for raw_name, start, end, _, rate, _ in headers.tolist():
        name = base = raw_name.decode("latin-1").strip()
        again = 1
        while name in samples:
            again += 1
            name = f"{base}#{again}"
        samples[name] = wave[start:end], rate
    return samples


def _chunk(data: bytes, name: bytes) -> bytes:
    at = data.index(name)
    return data[at + 8 : at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")]


@lru_cache(maxsize=2)
def _rcc_members(file: Path) -> dict[str, bytes]:
    """{path: content} of a Qt resource file ("qres", https://github.com/qt/qtbase, src/tools/rcc), zlib undone."""
    data = file.read_bytes()

    def number(at: int, size: int = 4) -> int:
        return int.from_bytes(data[at : at + size], "big")

    version, tree, contents, names = (number(at) for at in (4, 8, 12, 16))
    members: dict[str, bytes] = {}
    todo = [(0, "")]
    while todo:
        index, parent = todo.pop()
        node = tree + index * (22 if version >= 2 else 14)
        name_at, flags = names + number(node), number(node + 4, 2)
        name = data[name_at + 6 : name_at + 6 + 2 * number(name_at, 2)].decode("utf-16-be") if index else ""
        path = f"{parent}/{name}".lstrip("/")
        if flags & 2:  # a folder
            todo += [(child, path) for child in range(number(node + 10), number(node + 10) + number(node + 6))]
        else:
            start = contents + number(node + 10)
            content = data[start + 4 : start + 4 + number(start)]
            members[path] = zlib.decompress(content[4:]) if flags & 1 else content
    return members


@lru_cache(maxsize=1)
def _mel() -> npt.NDArray[np.float64]:
    """Triangular filters [bands, bins], equally spaced in mel from 50 Hz to 8 kHz."""
    top, bottom = 2595 * math.log10(1 + RATE / 2 / 700), 2595 * math.log10(1 + 50 / 700)
    edges = 700 * (10 ** (np.linspace(bottom, top, _BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(_FFT, 1 / RATE)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.asarray(np.maximum(0, np.minimum(rising, falling)))


@lru_cache(maxsize=1)
def _step_starts(frames: int) -> npt.NDArray[np.int64]:
    """The first frame of each of the 32 time steps, whose length grows from one frame."""
    curve = frames * np.expm1(np.linspace(0, 3, _STEPS, endpoint=False)) / np.expm1(3)
    return np.asarray(np.maximum(np.arange(_STEPS), curve), dtype=np.int64)


def main() -> None:
    """Download and unpack the packages."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--into", type=Path, required=True, help="folder to unpack in")
    parser.add_argument("packages", nargs="*", default=PACKAGES, help="default: all packages")
    options = parser.parse_args()
    fetch(options.packages, options.into)


if __name__ == "__main__":
    main()
