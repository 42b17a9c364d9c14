"""Make pyodl/data/keywords.npz: spoken keywords by espeak-ng, as MFCC features.

Usage: python tools/make_keywords.py [pyodl/data/keywords.npz]

Needs the programs of Debian's package espeak-ng. The same version of it gives the same file:
everything drawn at random is drawn from generators seeded with (SEED, class, voice, take).

Every voice says every class TAKES times, so that the set is balanced over classes and over
voices. A `silence` has no speaker; it gets a voice number all the same, to keep that balance when
whole voices are held out.
"""

import functools
import io
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from pyodl._mfcc import mfcc  # noqa: E402  (the tree next to this script, installed or not)

Waveform = NDArray[np.float64]

OUTPUT = ROOT / "pyodl" / "data" / "keywords.npz"
SEED = 20250
TAKES = 12
RATE = 16000
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
CLASSES = (*WORDS, "silence", "unknown")
# Ten of the other words of Speech Commands.
OTHERS = ["bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow"]
# Accents of English with speakers' variants, men and women. Twice the voices with half the takes,
# at a wider range of speeds and pitches, took plain SGD longer to learn.
VOICES = [
    "en-us+m1",
    "en-us+f2",
    "en-us+m3",
    "en-us+linda",
    "en-us-nyc+m4",
    "en+m7",
    "en+f1",
    "en+steph",
    "en-gb-scotland+f3",
    "en-gb-x-rp+m6",
    "en-gb-x-gbcwmd+shelby",
    "en-029+max",
]


@functools.cache
def speak(text: str, voice: str, speed: int, pitch: int) -> Waveform:
    """Return one utterance, (samples,) at RATE, without the silence around it, peak at 1."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    audio = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(audio)) as clip:
        # Written to a pipe, the header cannot know the length: read what there is.
        data, rate = clip.readframes(len(audio)), clip.getframerate()
    samples = resample(np.frombuffer(data[: len(data) // 2 * 2], "<i2") / 32768, rate)
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    word: Waveform = samples[loud[0] : loud[-1] + 1] / np.abs(samples).max()
    return word


def resample(samples: Waveform, rate: int) -> Waveform:
    """Change the sample rate to RATE by cutting or padding the spectrum."""
    common = int(np.gcd(rate, RATE))
    whole = -(-samples.size // (rate // common)) * (rate // common)
    spectrum = np.fft.rfft(samples, n=whole)
    return np.fft.irfft(spectrum, n=whole * RATE // rate) * (RATE / rate)


def noise(rng: np.random.Generator) -> Waveform:
    """One second of noise of root mean square 1, falling by 0 to 6 dB per octave."""
    spectrum = np.fft.rfft(rng.standard_normal(RATE))
    frequency = np.maximum(np.fft.rfftfreq(RATE, 1 / RATE), 20.0)
    samples: Waveform = np.fft.irfft(spectrum * frequency ** -rng.uniform(0.0, 1.0), n=RATE)
    samples /= np.sqrt(np.mean(samples**2))
    return samples


def example(label: int, voice: int, take: int) -> NDArray[np.int16]:
    """One second of PCM of the class, in the voice."""
    rng = np.random.default_rng([SEED, label, voice, take])
    # The background is as loud in every class, or its level would tell silence from speech.
    samples = 10 ** rng.uniform(-4.0, -2.7) * noise(rng)
    name = CLASSES[label]
    if name != "silence":
        text = name if name != "unknown" else str(rng.choice(OTHERS))
        speed, pitch = int(rng.integers(140, 176)), int(rng.integers(40, 61))
        word = speak(text, VOICES[voice], speed, pitch)[:RATE]
        # The middle of the word lies near the middle of the second, give or take 0.05 s.
        start = (RATE - word.size) // 2 + int(rng.integers(-RATE // 20, RATE // 20 + 1))
        start = min(max(start, 0), RATE - word.size)
        samples[start : start + word.size] += rng.uniform(0.2, 0.8) * word
    return np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16)


def main(output: str | Path = OUTPUT) -> None:
    """Write features (n, 1, 49, 10) as float16, their statistics, labels, voices and names."""
    keys = [
        (label, voice, take)
        for label in range(len(CLASSES))
        for voice in range(len(VOICES))
        for take in range(TAKES)
    ]
    features = np.stack([mfcc(example(*key)) for key in keys])[:, None]
    # Steps of 1/32, below 4 % of any standard deviation, make the file a third smaller.
    features = (np.rint(features * 32) / 32).astype(np.float16)
    labels, voices, _ = np.array(keys, np.uint8).T
    exact = features.astype(np.float64)
    np.savez_compressed(
        output,
        features=features,
        mean=exact.mean(axis=(0, 1, 2)).astype(np.float32),
        std=exact.std(axis=(0, 1, 2)).astype(np.float32),
        labels=labels,
        voices=voices,
        classes=np.array(CLASSES),
        voice_names=np.array(VOICES),
    )
    print(f"{output}: {len(labels)} examples, {Path(output).stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
