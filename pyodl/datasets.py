"""Data to train on: two small sets that come with the package, and readers of two downloads.

>>> train, test = digits().split()
>>> train.images.shape, len(test)
((1438, 3, 32, 32), 359)
"""

from dataclasses import dataclass
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyodl import _cifar10, _speech_commands
from pyodl._mfcc import mfcc
from pyodl.primitives import _check as check

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Dataset", "cifar10", "digits", "keywords", "load", "mfcc", "speech_commands"]

# Over all pixels of all images, 0 to 16.
_DIGITS_MEAN = 4.884165
_DIGITS_STD = 6.016788
# Per channel, over the 50,000 training images scaled to 0..1; both parts are treated alike.
_CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
_CIFAR10_STD = (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Dataset:
    """Labelled images, or features in the shape of images.

    Parameters
    ----------
    images : ndarray, shape (n, C, H, W), float32
        Standardised to about zero mean and unit variance.
    labels : ndarray, shape (n,), int64
        Index into `classes`.
    classes : tuple of str
        Names of the classes.
    name : str
        Name of the set, with its part.
    groups : ndarray, shape (n,), int64, optional
        What examples have in common beside the class, as the voice that says them.

    Raises
    ------
    TypeError
        If an array has another dtype.
    ValueError
        If the shapes do not fit one another, or a label has no class.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    name: str
    groups: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Check that the fields belong together."""
        if self.images.dtype != np.float32 or self.images.ndim != 4:
            raise (TypeError if self.images.dtype != np.float32 else ValueError)(
                f"images must be float32 of shape (n, C, H, W), not {_kind(self.images)}"
            )
        for field, array in (("labels", self.labels), ("groups", self.groups)):
            if array is not None and (array.dtype != np.int64 or array.shape != (len(self),)):
                raise (TypeError if array.dtype != np.int64 else ValueError)(
                    f"{field} must be int64 of shape ({len(self)},), not {_kind(array)}"
                )
        if len(self) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(
                f"labels must be from 0 to {len(self.classes) - 1}, one less than the classes, "
                f"not from {self.labels.min()} to {self.labels.max()}"
            )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.images)

    def split(
        self, test_fraction: float = 0.2, seed: int = 0, by: str = "example"
    ) -> tuple["Dataset", "Dataset"]:
        """Split into two sets without a common example, each in random order.

        Parameters
        ----------
        test_fraction : float
            Part of the examples to hold out, between 0 and 1.
        seed : int
            Seed of the drawing, not negative; the same seed gives the same sets.
        by : {"example", "group"}
            Hold out the same part of the examples of every class, of which a class with more than
            one keeps one on either side; or, harder, whole groups.

        Returns
        -------
        train, test : Dataset
            The two sets, with ``/train`` and ``/test`` added to the name.

        Raises
        ------
        ValueError
            If an argument is out of range, there are no groups to split by, or a set would be
            empty.
        """
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must be between 0 and 1, not {test_fraction}")
        if by not in ("example", "group"):
            raise ValueError(f"by must be 'example' or 'group', not {by!r}")
        if by == "group" and self.groups is None:
            raise ValueError(f"by must be 'example' for {self.name}, which has no groups")
        if seed < 0:
            raise ValueError(f"seed must not be negative, and is {seed}")
        rng = np.random.default_rng(seed)
        held_out = np.zeros(len(self), bool)
        if by == "group" and self.groups is not None:
            chosen = _held_out(np.unique(self.groups), test_fraction, rng)
            held_out = np.isin(self.groups, chosen)
        else:
            for label in range(len(self.classes)):
                members = np.flatnonzero(self.labels == label)
                held_out[_held_out(members, test_fraction, rng)] = True
        if held_out.all() or not held_out.any():
            raise ValueError(f"{self.name} has too few examples to split: {len(self)}")
        return (
            self._take(rng.permutation(np.flatnonzero(~held_out)), "train"),
            self._take(rng.permutation(np.flatnonzero(held_out)), "test"),
        )

    def _take(self, index: NDArray[np.intp], part: str) -> "Dataset":
        groups = None if self.groups is None else self.groups[index]
        name = f"{self.name}/{part}"
        return Dataset(self.images[index], self.labels[index], self.classes, name, groups)


def digits(shape: tuple[int, int, int] = (3, 32, 32)) -> Dataset:
    """Handwritten digits, 1,797 of them, scaled up to the input of a network.

    The 8 x 8 pixels are standardised with the mean and deviation over all of them, and each is
    repeated over a square and over the channels. ResNet8 reaches the same accuracy with pixels
    interpolated bilinearly, its loss falling a little slower.

    Parameters
    ----------
    shape : tuple of int
        Channels, height and width of an image: at least one channel, and height and width the
        same multiple of 8.

    Returns
    -------
    Dataset
        Ten classes "0" to "9", with 174 to 183 examples each.

    Raises
    ------
    ValueError
        If `shape` is no such shape.

    Notes
    -----
    The test part of E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI
    Machine Learning Repository, 1998, doi 10.24432/C50P49, under CC BY 4.0.
    """
    if len(shape) != 3 or shape[0] < 1 or shape[1] < 8 or shape[1] % 8 or shape[1] != shape[2]:
        raise ValueError(
            f"shape must be (C, 8 k, 8 k) with C and k at least 1, as (3, 32, 32), not {shape}"
        )
    stored = _stored("digits.npz")
    pixels = ((stored["images"] - _DIGITS_MEAN) / _DIGITS_STD).astype(np.float32)
    large = pixels.repeat(shape[1] // 8, axis=1).repeat(shape[2] // 8, axis=2)
    images = np.repeat(large[:, None], shape[0], axis=1)
    return Dataset(images, stored["labels"].astype(np.int64), tuple("0123456789"), "digits")


def keywords() -> Dataset:
    """Synthetic spoken keywords for DS-CNN: 144 utterances of each of 12 classes.

    The classes are those of `speech_commands`. The features are standardised per coefficient
    with the mean and deviation that are stored with them.

    Returns
    -------
    Dataset
        Images of shape (1728, 1, 49, 10): frames by coefficients of `mfcc`. The groups are the
        twelve voices, each of which says every class twelve times.

    Notes
    -----
    Spoken by eSpeak NG, over noise; ``tools/make_keywords.py`` made it. No substitute for
    recordings where accuracy on speech is the question.
    """
    stored = _stored("keywords.npz")
    return Dataset(
        _standardise(stored["features"], stored["mean"], stored["std"]),
        stored["labels"].astype(np.int64),
        tuple(str(name) for name in stored["classes"]),
        "keywords",
        stored["voices"].astype(np.int64),
    )


def cifar10(path: str | PathLike[str], part: str = "train") -> Dataset:
    """CIFAR-10 from its binary version.

    Parameters
    ----------
    path : path-like
        The folder ``cifar-10-batches-bin`` or the one it is in, or ``cifar-10-binary.tar.gz``.
    part : {"train", "test"}
        The 50,000 images to train on, or the 10,000 to test on. Files with fewer records than
        published are read as they are.

    Returns
    -------
    Dataset
        Images of shape (n, 3, 32, 32), standardised per channel with the mean and deviation of the
        training part.

    Raises
    ------
    FileNotFoundError
        If `path` or one of the files is missing.
    ValueError
        If `part` is none of the two, or a file is damaged: no whole number of records of 3,073
        bytes, more than 10,000 of them, a label above 9, or other than ten names.

    Notes
    -----
    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    pixels, labels, classes = _cifar10.read(Path(path), part)
    images = pixels.astype(np.float32)
    for channel, (mean, std) in enumerate(zip(_CIFAR10_MEAN, _CIFAR10_STD, strict=True)):
        plane = images[:, channel]  # in place: the training part takes 600 MB
        plane /= np.float32(255)
        plane -= np.float32(mean)
        plane /= np.float32(std)
    return Dataset(images, labels, classes, f"cifar10/{part}")


def speech_commands(
    path: str | PathLike[str],
    part: str = "train",
    *,
    per_class: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Speech Commands as the task of twelve classes, from the folder as downloaded.

    The classes are ten words, `silence` cut out of the background recordings (a stretch of its own
    for every part) and turned down at random, and `unknown` drawn from the other words. A clip
    shorter than one second is padded with zeros at its end, a longer one is cut there.

    Parameters
    ----------
    path : path-like
        A folder with one folder of WAV files for each word (16 kHz, 16 bits, mono),
        ``_background_noise_``, ``testing_list.txt`` and ``validation_list.txt``.
    part : {"train", "validation", "test"}
        Which clips: those of the list, or for training those on neither.
    per_class : int, optional
        At most so many examples of a class. Without, all clips of the ten words, and as many of
        silence and unknown as of a word on average.
    seed : int
        Seed of all that is drawn, and of the order.

    Returns
    -------
    Dataset
        Images of shape (n, 1, 49, 10): frames by coefficients of `mfcc`, standardised with the
        mean and deviation of `keywords`, so that a network for the one takes the other.

    Raises
    ------
    FileNotFoundError
        If `path`, the folder of a word, the noise, a list or a clip on it is missing.
    ValueError
        If an argument is out of range, a file is no WAV file of that format, a line of a list
        names no clip, or a word has no clip in the part.

    Notes
    -----
    P. Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", 2018,
    arXiv:1804.03209.
    """
    features, labels = _speech_commands.read(Path(path), part, per_class, seed)
    stored = _stored("keywords.npz")
    images = _standardise(features[:, None], stored["mean"], stored["std"])
    return Dataset(images, labels, _speech_commands.CLASSES, f"speech_commands/{part}")


def load(spec: str) -> tuple[Dataset, Dataset]:
    """Training and test set by name, as on the command line.

    Parameters
    ----------
    spec : str
        ``digits``, ``keywords``, ``cifar10:PATH`` or ``speech:PATH``.

    Returns
    -------
    train, test : Dataset
        The parts as published, or a split with the default settings of `Dataset.split`.

    Raises
    ------
    FileNotFoundError
        If something is missing at PATH.
    ValueError
        If `spec` is none of these, or a file is not in its format.
    """
    packaged: dict[str, Callable[[], Dataset]] = {"digits": digits, "keywords": keywords}
    downloads: dict[str, Callable[[str, str], Dataset]] = {
        "cifar10": cifar10,
        "speech": speech_commands,
    }
    check.instance("spec", spec, str, "a string")
    kind, _, path = spec.partition(":")
    if spec in packaged:
        return packaged[spec]().split()
    if kind in downloads and path:
        return downloads[kind](path, "train"), downloads[kind](path, "test")
    raise ValueError(
        f"the data set must be 'digits', 'keywords', 'cifar10:PATH' or 'speech:PATH', not {spec!r}"
    )


def _kind(array: NDArray[Any]) -> str:
    return f"{array.dtype} of shape {array.shape}"


def _held_out(members: NDArray[Any], fraction: float, rng: np.random.Generator) -> NDArray[Any]:
    """Draw that part of the members; of two or more at least one, and not all."""
    count = min(max(round(fraction * len(members)), 1), len(members) - 1)
    drawn: NDArray[Any] = rng.permutation(members)[: max(count, 0)]
    return drawn


def _stored(name: str) -> dict[str, NDArray[Any]]:
    """Read all arrays of a file of the package."""
    with (
        resources.files("pyodl").joinpath("data", name).open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        return dict(arrays)


def _standardise(
    features: NDArray[Any], mean: NDArray[np.float32], std: NDArray[np.float32]
) -> NDArray[np.float32]:
    result: NDArray[np.float32] = (features.astype(np.float32) - mean) / std
    return result
