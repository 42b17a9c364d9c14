"""Reader of the Speech Commands folder: the twelve-class task, as features."""

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyodl._mfcc import mfcc

__all__ = ["CLASSES", "read", "read_wav"]

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
CLASSES = (*WORDS, "silence", "unknown")
RATE = 16000  # samples per second, and samples of a clip
NOISE = "_background_noise_"
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
# The stretch of each background recording that is cut for a part: no sample is in two parts.
STRETCHES = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}


def read(
    path: Path, part: str, per_class: int | None, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read one part in random order.

    Parameters
    ----------
    path : Path
        The folder as downloaded.
    part : {"train", "validation", "test"}
        Which clips, by the two list files; those in neither are for training.
    per_class : int or None
        At most so many clips of a class. None: all clips of the ten words, and as many of
        silence and of unknown as of a word on average.
    seed : int
        Seed of everything that is drawn.

    Returns
    -------
    features : ndarray, shape (n, 49, 10), float32
        What `mfcc` makes of each second.
    labels : ndarray, shape (n,), int64
        Index into `CLASSES`.

    Raises
    ------
    FileNotFoundError
        If `path`, the folder of a word, a list or a clip in it is missing.
    ValueError
        If an argument is out of range, or a file is not in the format.
    """
    if part not in STRETCHES:
        raise ValueError(f"part must be 'train', 'validation' or 'test', not {part!r}")
    if per_class is not None and per_class < 1:
        raise ValueError(f"per_class must be None or at least 1, not {per_class}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, and is {seed}")
    rng = np.random.default_rng([seed, list(STRETCHES).index(part)])
    clips = _clips(path, part)
    chosen = {word: _sample(clips[word], per_class, rng) for word in WORDS}
    count = per_class or round(sum(map(len, chosen.values())) / len(WORDS))
    others = [clip for word in sorted(set(clips) - set(WORDS)) for clip in clips[word]]
    if not others:
        raise ValueError(f"{path} has no clip of a word for 'unknown' in the part {part!r}")
    chosen["unknown"] = _sample(others, count, rng)

    features: list[NDArray[np.float32]] = []
    labels: list[int] = []
    for label, name in enumerate(CLASSES):
        if name == "silence":
            features += [mfcc(second) for second in _silences(path, part, count, rng)]
        else:
            features += [mfcc(_one_second(read_wav(clip))) for clip in chosen[name]]
        labels += [label] * (len(features) - len(labels))
    order = rng.permutation(len(labels))
    return np.stack(features)[order], np.array(labels, np.int64)[order]


def read_wav(path: Path) -> NDArray[np.int16]:
    """Read the samples of a mono recording of 16-bit PCM at 16 kHz.

    Parameters
    ----------
    path : Path
        The WAV file.

    Returns
    -------
    ndarray, shape (samples,), int16
        At least one sample.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no WAV file, ends before its header says, is empty, or has another rate, width
        or number of channels.
    """
    try:
        with wave.open(str(path), "rb") as clip:
            found = (clip.getframerate(), 8 * clip.getsampwidth(), clip.getnchannels())
            promised, data = clip.getnframes(), clip.readframes(clip.getnframes())
    except (wave.Error, EOFError) as error:
        reason = str(error) or "it ends within its header"
        raise ValueError(f"{path} is not a WAV file of PCM: {reason}") from error
    if found != (RATE, 16, 1):
        raise ValueError(
            f"{path} has {found[0]} samples per second of {found[1]} bits on {found[2]} "
            f"channel(s), and must have {RATE} of 16 bits on 1"
        )
    if promised == 0 or len(data) != 2 * promised:
        raise ValueError(
            f"{path} holds {len(data)} bytes of sound, and its header promises {2 * promised}; "
            "there must be at least 2"
        )
    return np.frombuffer(data, np.int16)  # the module wave gives the byte order of the machine


def _clips(path: Path, part: str) -> dict[str, list[Path]]:
    """Return the clips of the part by word, sorted, and check that no word is without."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder: expected Speech Commands as downloaded")
    words = sorted(folder.name for folder in path.iterdir() if folder.is_dir())
    words = [word for word in words if not word.startswith(("_", "."))]
    for word in WORDS:
        if word not in words:
            raise FileNotFoundError(
                f"the folder {word} is missing in {path}: Speech Commands has there one folder "
                f"of clips for each word, {NOISE}, and the two list files"
            )
    listed = {held_out: _listed(path, name, words) for held_out, name in LISTS.items()}
    clips: dict[str, list[Path]] = {word: [] for word in words}
    if part == "train":
        held_out = set().union(*listed.values())
        for word in words:
            clips[word] = sorted(set((path / word).glob("*.wav")) - held_out)
    else:
        for clip in sorted(listed[part]):
            clips[clip.parent.name].append(clip)
    for word in WORDS:
        if not clips[word]:
            raise ValueError(f"{path} has no clip of {word!r} in the part {part!r}")
    return clips


def _listed(path: Path, name: str, words: list[str]) -> set[Path]:
    if not (path / name).is_file():
        raise FileNotFoundError(f"{name} is missing in {path}: it says which clips are held out")
    clips = set()
    lines = (path / name).read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            word, slash, file = line.strip().partition("/")
            if word not in words or not slash or not file or "/" in file:
                raise ValueError(
                    f"{path / name}, line {number}, is {line.strip()!r}, and must be the folder "
                    "of a word that is there, a slash and a file name"
                )
            clips.add(path / word / file)
    return clips


def _sample(clips: list[Path], count: int | None, rng: np.random.Generator) -> list[Path]:
    order = rng.permutation(len(clips))
    return [clips[index] for index in order[:count]]


def _one_second(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    return np.pad(samples[:RATE], (0, max(0, RATE - samples.size)))


def _silences(
    path: Path, part: str, count: int, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Cut seconds out of the background recordings and turn each down by a random factor."""
    files = sorted((path / NOISE).glob("*.wav"))
    if not files:
        raise FileNotFoundError(f"{path / NOISE} has no .wav file: 'silence' is cut from those")
    first, last = STRETCHES[part]
    stretches = []
    for file in files:
        samples = read_wav(file)
        stretch = samples[round(first * samples.size) : round(last * samples.size)]
        stretches.append(np.pad(stretch, (0, max(0, RATE - stretch.size))))
    seconds = []
    for _ in range(count):
        stretch = stretches[rng.integers(len(stretches))]
        start = rng.integers(stretch.size - RATE + 1)
        seconds.append(rng.uniform() * (stretch[start : start + RATE] / 32768.0))
    return seconds
