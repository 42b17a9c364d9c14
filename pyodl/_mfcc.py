"""Mel-frequency cepstral coefficients of a recording, in NumPy alone."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["mfcc"]

Float64 = NDArray[np.float64]

# Magnitudes are of a signal in -1..1, so the floor is far below one step of 16-bit audio and
# only digital silence meets it.
_FLOOR = 1e-6


def mfcc(
    waveform: ArrayLike,
    sample_rate: int = 16000,
    *,
    window: float = 0.040,
    stride: float = 0.020,
    mel_bins: int = 40,
    low: float = 20.0,
    high: float = 4000.0,
    coefficients: int = 10,
) -> NDArray[np.float32]:
    """Mel-frequency cepstral coefficients of a mono recording.

    A periodic Hann window, the magnitude of the Fourier transform zero-padded to a power of two,
    triangular mel filters, the natural logarithm, and the first coefficients of the scaled DCT-II
    over the filters. One second with the default settings gives 49 frames of 10 coefficients, the
    input of DS-CNN in MLPerf Tiny [1]_. Computed in float64 and rounded once at the end.

    Parameters
    ----------
    waveform : array_like, shape (samples,)
        Integers of 16-bit PCM (full scale 32768) or floats (full scale 1.0).
    sample_rate : int
        Samples per second.
    window, stride : float
        Length of a frame and distance between the starts of two, in seconds.
    mel_bins : int
        Number of mel filters.
    low, high : float
        Edges of the lowest and of the highest filter, in hertz.
    coefficients : int
        Number of coefficients kept, at most `mel_bins`.

    Returns
    -------
    ndarray, shape (frames, coefficients), float32
        ``frames = 1 + (samples - window) // stride``, both counted in samples. No padding: samples
        after the last whole frame are not looked at.

    Raises
    ------
    TypeError
        If `waveform` holds neither int16 nor floats.
    ValueError
        If `waveform` is not one-dimensional, is shorter than one window or is not finite, or if
        a setting is out of its range.

    References
    ----------
    .. [1] C. Banbury et al., "MLPerf Tiny Benchmark", NeurIPS Datasets and Benchmarks, 2021,
       arXiv:2106.07597; features after Y. Zhang et al., "Hello Edge: Keyword Spotting on
       Microcontrollers", 2017, arXiv:1711.07128.
    """
    if sample_rate <= 0:
        raise ValueError(f"sample_rate must be positive, not {sample_rate}")
    length, step = round(window * sample_rate), round(stride * sample_rate)
    if length < 2 or step < 1:
        raise ValueError(
            f"window and stride must be at least 2 and 1 samples long, not {length} and {step} "
            f"({window} s and {stride} s at {sample_rate} Hz)"
        )
    if not 0 <= low < high <= sample_rate / 2:
        raise ValueError(
            f"low and high must satisfy 0 <= low < high <= {sample_rate / 2} Hz, "
            f"half the sample rate, not {low} and {high}"
        )
    if not 1 <= coefficients <= mel_bins:
        raise ValueError(
            f"coefficients must be between 1 and mel_bins ({mel_bins}), not {coefficients}"
        )
    signal = _signal(waveform)
    if signal.size < length:
        raise ValueError(f"waveform has {signal.size} samples, and one window takes {length}")
    frames = np.lib.stride_tricks.sliding_window_view(signal, length)[::step]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    size = 1 << (length - 1).bit_length()
    magnitude = np.abs(np.fft.rfft(frames * hann, n=size, axis=1))
    mel = _product(magnitude, _mel_filters(size // 2 + 1, sample_rate, mel_bins, low, high))
    return _product(np.log(mel + _FLOOR), _dct(mel_bins, coefficients)).astype(np.float32)


def _product(left: Float64, right: Float64) -> Float64:
    """``left @ right.T`` without BLAS, whose threads cost more than they save at this size."""
    result: Float64 = np.einsum("ij,kj->ik", left, right)
    return result


def _signal(waveform: ArrayLike) -> Float64:
    """Return the samples as float64 with full scale 1.0."""
    samples: NDArray[Any] = np.asarray(waveform)
    if samples.ndim != 1:
        raise ValueError(f"waveform must be of shape (samples,), not {samples.shape}")
    if samples.dtype == np.int16:
        return samples.astype(np.float64) / 32768
    if not np.issubdtype(samples.dtype, np.floating):
        raise TypeError(f"waveform must be of int16 or of floats, not of {samples.dtype}")
    if not np.isfinite(samples).all():
        raise ValueError("waveform must be finite, and holds infinities or NaN")
    return samples.astype(np.float64)


def _hertz_to_mel(hertz: Float64) -> Float64:
    return 1127.0 * np.log1p(hertz / 700.0)


@cache  # the filters take longer than the rest of a second of sound
def _mel_filters(bins: int, sample_rate: int, mel_bins: int, low: float, high: float) -> Float64:
    """Return weights (mel_bins, bins): triangles of height 1, equally wide on the mel scale."""
    frequencies = _hertz_to_mel(np.linspace(0.0, sample_rate / 2, bins))
    ends = _hertz_to_mel(np.array([low, high]))
    edges = np.linspace(ends[0], ends[1], mel_bins + 2)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - left) / (centre - left)
    falling = (right - frequencies) / (right - centre)
    weights: Float64 = np.maximum(0.0, np.minimum(rising, falling))
    weights.setflags(write=False)
    return weights


@cache
def _dct(mel_bins: int, coefficients: int) -> Float64:
    """Return the scaled DCT-II (coefficients, mel_bins)."""
    angle = np.outer(np.arange(coefficients), np.arange(mel_bins) + 0.5) * np.pi / mel_bins
    basis: Float64 = np.cos(angle) * np.sqrt(2.0 / mel_bins)
    basis.setflags(write=False)
    return basis
