"""The features of sound: against their definition, and on sounds whose features are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pyodl.datasets import mfcc

RATE = 16000


def tone(hertz: float) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)


def test_a_second_gives_the_input_of_ds_cnn() -> None:
    features = mfcc(tone(440))
    assert features.shape == (49, 10)
    assert features.dtype == np.float32


def test_frames_are_the_whole_windows() -> None:
    assert len(mfcc(np.zeros(640))) == 1
    assert len(mfcc(np.zeros(640 + 319))) == 1
    assert len(mfcc(np.zeros(640 + 320))) == 2
    assert mfcc(np.zeros(8000), 8000, mel_bins=20, coefficients=13).shape == (49, 13)


def test_two_calls_give_the_same_bits() -> None:
    sound = np.random.default_rng(1).normal(size=RATE)
    assert mfcc(sound).tobytes() == mfcc(sound.copy()).tobytes()


def test_silence_is_the_floor_in_every_frame() -> None:
    features = mfcc(np.zeros(RATE, np.int16))
    # The DCT of a constant is all in the first coefficient.
    assert features[:, 0] == pytest.approx(np.sqrt(2 / 40) * 40 * np.log(1e-6), rel=1e-6)
    assert np.abs(features[:, 1:]).max() < 1e-5


@pytest.mark.parametrize("hertz", [250.0, 1000.0, 3000.0])
def test_a_tone_is_in_its_mel_band(hertz: float) -> None:
    every = mfcc(tone(hertz), coefficients=40).astype(np.float64)
    # Undo the DCT, which is orthogonal but for the first row.
    index = np.arange(40)
    basis = np.sqrt(2 / 40) * np.cos(np.pi / 40 * np.outer(index, index + 0.5))
    basis[0] /= 2
    energy = (every @ basis).mean(axis=0)
    edges = 700 * np.expm1(np.linspace(np.log1p(20 / 700), np.log1p(4000 / 700), 42))
    centre = int(np.argmin(np.abs(edges[1:-1] - hertz)))
    assert int(energy.argmax()) == centre
    far = np.abs(index - centre) > 4
    assert energy[far].max() < energy[centre] - np.log(1000)


def test_equals_the_definition_written_out() -> None:
    sound = np.random.default_rng(2).normal(size=640)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(640) / 640)
    turns = np.outer(np.arange(513), np.arange(640)) / 1024
    magnitude = np.abs(np.exp(-2j * np.pi * turns) @ (sound * hann))
    mel = 1127 * np.log(1 + np.arange(513) * RATE / 1024 / 700)
    edges = 1127 * np.log(1 + np.array([20.0, 4000.0]) / 700)
    edges = edges[0] + (edges[1] - edges[0]) * np.arange(42) / 41
    bands = [np.interp(mel, edges[b : b + 3], [0, 1, 0]) @ magnitude for b in range(40)]
    expected = [
        np.sqrt(2 / 40)
        * sum(np.log(v + 1e-6) * np.cos(np.pi / 40 * k * (b + 0.5)) for b, v in enumerate(bands))
        for k in range(10)
    ]
    assert mfcc(sound)[0] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_pcm_has_its_full_scale_at_32768() -> None:
    pcm = np.random.default_rng(3).integers(-32768, 32768, RATE).astype(np.int16)
    assert mfcc(pcm).tobytes() == mfcc(pcm / 32768).tobytes()


@pytest.mark.parametrize(
    "sound, settings, error, message",
    [
        (np.zeros((2, RATE)), {}, ValueError, r"waveform must be .*\(2, 16000\)"),
        (np.zeros(639), {}, ValueError, "waveform has 639 samples.* 640"),
        (np.zeros(RATE, np.int32), {}, TypeError, "waveform must be of int16.*int32"),
        (np.full(RATE, np.nan), {}, ValueError, "waveform must be finite"),
        (np.zeros(RATE), {"sample_rate": 0}, ValueError, "sample_rate .* 0"),
        (np.zeros(RATE), {"high": 8001.0}, ValueError, "low and high .*8001"),
        (np.zeros(RATE), {"low": 4000.0}, ValueError, "low and high .*4000"),
        (np.zeros(RATE), {"coefficients": 41}, ValueError, "coefficients .* 41"),
        (np.zeros(RATE), {"stride": 0.0}, ValueError, "window and stride .* 0"),
    ],
)
def test_refuses(
    sound: NDArray[np.float64],
    settings: dict[str, float],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        mfcc(sound, **settings)  # type: ignore[arg-type]
