"""The data sets: what comes with the package, and the readers on small files of the same format."""

import doctest
import io
import tarfile
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pyodl import datasets
from pyodl.datasets import Dataset, cifar10, digits, keywords, load, mfcc, speech_commands

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
RATE = 16000


def rows(data: Dataset) -> list[bytes]:
    """One value per example, equal where images and labels are."""
    return [
        image.tobytes() + bytes([label])
        for image, label in zip(data.images, data.labels, strict=True)
    ]


def tiny(counts: tuple[int, ...], groups: int | None = None) -> Dataset:
    """So many examples of each class, each image its own number."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    images = np.arange(labels.size, dtype=np.float32).reshape(-1, 1, 1, 1)
    names = tuple(f"class {number}" for number in range(len(counts)))
    voices = None if groups is None else np.arange(labels.size, dtype=np.int64) % groups
    return Dataset(images, labels, names, "tiny", voices)


class TestDataset:
    def test_split_is_stratified_and_loses_nothing(self) -> None:
        data = tiny((10, 20, 5))
        train, test = data.split(0.2)
        assert np.bincount(test.labels).tolist() == [2, 4, 1]
        assert sorted(rows(train) + rows(test)) == sorted(rows(data))
        assert (train.name, test.name) == ("tiny/train", "tiny/test")
        assert train.classes == data.classes

    def test_split_is_in_random_order(self) -> None:
        train, test = tiny((50, 50)).split(0.4)
        for part in (train, test):
            assert np.abs(np.diff(part.labels)).sum() > 5

    def test_split_depends_on_the_seed_alone(self) -> None:
        data = tiny((10, 20, 5))
        assert rows(data.split()[0]) == rows(data.split(0.2, 0)[0])
        assert rows(data.split()[1]) != rows(data.split(seed=1)[1])

    def test_small_classes_are_on_both_sides_if_they_can(self) -> None:
        train, test = tiny((2, 1)).split(0.01)
        assert (train.labels.tolist().count(0), test.labels.tolist()) == (1, [0])
        train, test = tiny((2, 1)).split(0.99)
        assert (sorted(train.labels), test.labels.tolist()) == ([0, 1], [0])

    def test_split_by_group_has_no_group_on_both_sides(self) -> None:
        data = tiny((30, 30), groups=6)
        train, test = data.split(0.3, by="group")
        assert train.groups is not None
        assert test.groups is not None
        assert len(set(test.groups)) == 2
        assert not set(train.groups) & set(test.groups)
        assert sorted(rows(train) + rows(test)) == sorted(rows(data))

    @pytest.mark.parametrize(
        "settings, message",
        [
            ({"test_fraction": 0.0}, "test_fraction .* 0.0"),
            ({"test_fraction": 1.0}, "test_fraction .* 1.0"),
            ({"seed": -1}, "seed .* -1"),
            ({"by": "voice"}, "by must be 'example' or 'group', not 'voice'"),
            ({"by": "group"}, "tiny, which has no groups"),
        ],
    )
    def test_split_refuses(self, settings: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            tiny((4, 4)).split(**settings)  # type: ignore[arg-type]

    def test_split_refuses_to_leave_a_side_empty(self) -> None:
        for data in (tiny((1, 1)), tiny(())):
            with pytest.raises(ValueError, match="tiny has too few examples to split"):
                data.split()
        with pytest.raises(ValueError, match="tiny has too few examples to split"):
            tiny((4, 4), groups=1).split(by="group")

    def test_refuses_fields_that_do_not_fit(self) -> None:
        images, labels = np.zeros((2, 1, 3, 3), np.float32), np.array([0, 1])
        for error, message, fields in [
            (TypeError, "images must be float32", (images.astype(np.float64), labels, ("a", "b"))),
            (ValueError, r"images .*\(2, 9\)", (images.reshape(2, 9), labels, ("a", "b"))),
            (TypeError, "labels must be int64", (images, labels.astype(np.uint8), ("a", "b"))),
            (ValueError, r"labels .*\(2,\), .*\(1,\)", (images, labels[:1], ("a", "b"))),
            (ValueError, "labels must be from 0 to 0.* from 0 to 1", (images, labels, ("a",))),
            (ValueError, "labels .* from -1 to 0", (images, labels - 1, ("a", "b"))),
            (ValueError, "groups must", (images, labels, ("a", "b"), "x", labels[:1])),
        ]:
            with pytest.raises(error, match=message):
                Dataset(*(*fields, "x")[: max(4, len(fields))])  # type: ignore[arg-type]

    def test_the_example_of_the_module_holds(self) -> None:
        assert doctest.testmod(datasets).failed == 0
        assert doctest.testmod(datasets).attempted > 0


class TestPackaged:
    def test_digits_are_all_there(self) -> None:
        data = digits()
        assert data.images.shape == (1797, 3, 32, 32)
        assert data.classes == tuple("0123456789")
        counts = np.bincount(data.labels, minlength=10)
        assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]

    def test_small_digits_are_the_stored_pixels_standardised(self) -> None:
        data = digits((1, 8, 8))
        assert data.images.shape == (1797, 1, 8, 8)
        assert data.images.mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
        assert data.images.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)
        first = np.rint(data.images[0, 0] * 6.016788 + 4.884165)
        assert first[0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
        assert data.labels[:10].tolist() == list(range(10))

    def test_large_digits_are_the_small_ones_in_squares(self) -> None:
        large, small = digits((2, 32, 32)).images, digits((1, 8, 8)).images
        for row in range(4):
            for column in range(4):
                assert (large[:, :, row::4, column::4] == small).all()

    @pytest.mark.parametrize("shape", [(0, 8, 8), (1, 12, 12), (1, 16, 8), (1, 0, 0), (8, 8)])
    def test_digits_refuse_other_shapes(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="shape must be"):
            digits(shape)  # type: ignore[arg-type]

    def test_keywords_are_balanced(self) -> None:
        data = keywords()
        assert data.images.shape == (1728, 1, 49, 10)
        assert data.classes == (*WORDS, "silence", "unknown")
        assert data.groups is not None
        counts = np.zeros((12, 12), int)
        np.add.at(counts, (data.labels, data.groups), 1)
        assert (counts == 12).all()

    def test_keywords_are_standardised_and_distinct(self) -> None:
        data = keywords()
        assert np.isfinite(data.images).all()
        assert data.images.mean(axis=(0, 1, 2), dtype=np.float64) == pytest.approx(0, abs=1e-4)
        assert data.images.std(axis=(0, 1, 2), dtype=np.float64) == pytest.approx(1, abs=1e-4)
        assert len(set(rows(data))) == len(data)

    def test_a_keyword_is_near_its_own_class(self) -> None:
        # Nearest mean of a class: far from a network, and far above a chance of 1 in 12.
        train, test = keywords().split()
        means = [train.images[train.labels == label].mean(axis=0) for label in range(12)]
        distance = [((test.images - mean) ** 2).sum(axis=(1, 2, 3)) for mean in means]
        assert (np.argmin(distance, axis=0) == test.labels).mean() > 0.4

    @pytest.mark.parametrize("name", ["digits", "keywords"])
    def test_load_splits_by_class_without_overlap(self, name: str) -> None:
        train, test = load(name)
        whole = digits() if name == "digits" else keywords()
        assert len(train) + len(test) == len(whole)
        assert not set(rows(train)) & set(rows(test))
        fractions = np.bincount(test.labels) / np.bincount(whole.labels)
        assert fractions == pytest.approx(0.2, abs=0.005)
        assert rows(test) == rows(load(name)[1])


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """The binary version with three records in every file, under the published folder name."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    for number, name in enumerate([f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]):
        records = np.zeros((3, 3073), np.uint8)
        records[:, 0] = [number, 9, 0]
        records[:, 1:1025], records[:, 1025:2049], records[:, 2049:] = 255, 10 * number, 0
        records[1, 1 + 2 * 1024 + 5 * 32 + 7] = 200  # blue, row 5, column 7
        records.tofile(folder / f"{name}.bin")
    return folder


class TestCifar10:
    def test_reads_labels_planes_and_names(self, cifar: Path) -> None:
        train, test = cifar10(cifar), cifar10(cifar, "test")
        assert train.images.shape == (15, 3, 32, 32)
        assert train.labels.tolist() == [0, 9, 0, 1, 9, 0, 2, 9, 0, 3, 9, 0, 4, 9, 0]
        assert test.labels.tolist() == [5, 9, 0]
        assert train.classes[::3] == ("airplane", "cat", "frog", "truck")
        assert (train.name, test.name) == ("cifar10/train", "cifar10/test")
        assert train.images[:, 0] == pytest.approx((1 - 0.4914) / 0.2470, abs=1e-6)
        assert test.images[:, 1] == pytest.approx((50 / 255 - 0.4822) / 0.2435, abs=1e-6)
        blue = test.images[1, 2] * 0.2616 + 0.4465
        assert blue[5, 7] == pytest.approx(200 / 255)
        assert np.delete(blue, 5 * 32 + 7) == pytest.approx(0, abs=1e-6)

    def test_reads_the_folder_above_and_the_archive_alike(self, cifar: Path) -> None:
        archive = cifar.parent / "cifar-10-binary.tar.gz"
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(cifar, cifar.name)
        for part in ("train", "test"):
            expected = rows(cifar10(cifar, part))
            assert rows(cifar10(str(cifar.parent), part)) == expected
            assert rows(cifar10(archive, part)) == expected

    def test_load_gives_both_parts(self, cifar: Path) -> None:
        train, test = load(f"cifar10:{cifar}")
        assert (len(train), len(test)) == (15, 3)

    @pytest.mark.parametrize("name", ["data_batch_4.bin", "batches.meta.txt"])
    def test_names_the_missing_file(self, cifar: Path, name: str) -> None:
        (cifar / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"^{name} is missing in .*{cifar.name}"):
            cifar10(cifar)

    def test_names_the_file_missing_in_the_archive(self, cifar: Path) -> None:
        archive = cifar.parent / "cifar.tar"
        with tarfile.open(archive, "w") as packed:
            packed.add(cifar / "batches.meta.txt", "batches.meta.txt")
        with pytest.raises(FileNotFoundError, match=r"test_batch.bin is missing in .*cifar.tar"):
            cifar10(archive, "test")

    def test_says_what_is_expected_at_a_path_without_anything(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"nowhere does not exist.*batches-bin"):
            cifar10(tmp_path / "nowhere")

    @pytest.mark.parametrize("size", [0, 3072, 3 * 3073 - 1, 3 * 3073 + 1, 10_001 * 3073])
    def test_refuses_a_wrong_size(self, cifar: Path, size: int) -> None:
        with (cifar / "data_batch_2.bin").open("r+b") as file:
            file.truncate(size)
        with pytest.raises(ValueError, match=f"data_batch_2.bin has {size} bytes.* 3073 bytes"):
            cifar10(cifar)
        assert len(cifar10(cifar, "test")) == 3

    def test_refuses_a_wrong_size_in_the_archive(self, cifar: Path) -> None:
        archive = cifar.parent / "cifar.tar"
        with tarfile.open(archive, "w") as packed:
            packed.add(cifar / "batches.meta.txt", "batches.meta.txt")
            member = tarfile.TarInfo("test_batch.bin")
            member.size = 3074
            packed.addfile(member, io.BytesIO(bytes(3074)))
        with pytest.raises(ValueError, match=r"test_batch.bin has 3074 bytes"):
            cifar10(archive, "test")

    def test_refuses_a_label_above_nine(self, cifar: Path) -> None:
        data = bytearray((cifar / "test_batch.bin").read_bytes())
        data[2 * 3073] = 10
        (cifar / "test_batch.bin").write_bytes(data)
        with pytest.raises(ValueError, match=r"test_batch.bin has the label 10 in record 2"):
            cifar10(cifar, "test")

    def test_refuses_other_than_ten_names(self, cifar: Path) -> None:
        (cifar / "batches.meta.txt").write_text("airplane\nbird\n")
        with pytest.raises(ValueError, match=r"batches.meta.txt names 2 classes.* 10"):
            cifar10(cifar)

    @pytest.mark.parametrize("keep", [0.0, 0.5, 0.95])
    def test_refuses_a_damaged_archive(self, cifar: Path, keep: float) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (500, 3073), dtype=np.uint8)
        noise[:, 0] = 1
        noise.tofile(cifar / "test_batch.bin")
        archive = cifar.parent / "cifar-10-binary.tar.gz"
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(cifar, cifar.name)
        data = archive.read_bytes()
        archive.write_bytes(data[: int(keep * len(data))] or b"this is not an archive")
        with pytest.raises(ValueError, match=r"cifar-10-binary.tar.gz is not a tar archive, or is"):
            cifar10(archive, "test")

    def test_refuses_another_part(self, cifar: Path) -> None:
        with pytest.raises(ValueError, match="part must be 'train' or 'test', not 'validation'"):
            cifar10(cifar, "validation")


def write_wav(
    path: Path,
    samples: NDArray[np.float64],
    rate: int = RATE,
    width: int = 2,
    channels: int = 1,
) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    pcm = np.rint(samples * 32767).astype("<i2")
    with wave.open(str(path), "wb") as clip:
        clip.setparams((channels, width, rate, 0, "NONE", ""))
        clip.writeframes(pcm.tobytes() if width == 2 else pcm.astype(np.uint8).tobytes())


def tone(word: int, number: int, seconds: float = 1.0) -> NDArray[np.float64]:
    """A sound that no other clip has."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.2 + 0.1 * number) * np.sin(2 * np.pi * (200 + 150 * word) * time)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Five clips of each of ten words and two others: one for validation, one for test."""
    root = tmp_path / "speech"
    lists: dict[int, list[str]] = {3: [], 4: []}
    for index, word in enumerate((*WORDS, "bed", "cat")):
        for number in range(5):
            write_wav(root / word / f"{number}.wav", tone(index, number))
            if number in lists:
                lists[number].append(f"{word}/{number}.wav\n")
    (root / "validation_list.txt").write_text("".join(lists[3]))
    (root / "testing_list.txt").write_text("".join(lists[4]))
    noise = np.random.default_rng(5).uniform(-1, 1, (2, 10 * RATE))
    for number in range(2):
        write_wav(root / "_background_noise_" / f"noise_{number}.wav", noise[number])
    (root / "_background_noise_" / "README.md").write_text("about the noise")
    return root


def features_of(samples: NDArray[np.float64]) -> NDArray[np.float32]:
    """What a clip must give: standardised as the keywords, whose scale is in what they store."""
    with np.load(Path(datasets.__file__).parent / "data" / "keywords.npz") as stored:
        raw = mfcc(np.rint(samples * 32767).astype(np.int16))
        standardised: NDArray[np.float32] = (raw - stored["mean"]) / stored["std"]
    return standardised


class TestSpeechCommands:
    @pytest.mark.parametrize(
        "part, numbers", [("train", [0, 1, 2]), ("validation", [3]), ("test", [4])]
    )
    def test_parts_are_those_of_the_lists(
        self, speech: Path, part: str, numbers: list[int]
    ) -> None:
        data = speech_commands(speech, part)
        assert data.images.shape == (12 * len(numbers), 1, 49, 10)
        assert data.classes == (*WORDS, "silence", "unknown")
        assert np.bincount(data.labels).tolist() == [len(numbers)] * 12
        for index in range(10):
            found = {image.tobytes() for image in data.images[data.labels == index]}
            assert found == {features_of(tone(index, number)).tobytes() for number in numbers}
        unknown = {image.tobytes() for image in data.images[data.labels == 11]}
        others = {features_of(tone(i, n)).tobytes() for i in (10, 11) for n in numbers}
        assert unknown <= others
        assert len(unknown) == len(numbers)

    def test_depends_on_the_seed_alone(self, speech: Path) -> None:
        first = rows(speech_commands(speech))
        assert rows(speech_commands(speech)) == first
        assert rows(speech_commands(speech, seed=1)) != first

    def test_takes_no_more_of_a_class_than_asked(self, speech: Path) -> None:
        data = speech_commands(speech, per_class=2)
        assert np.bincount(data.labels).tolist() == [2] * 12

    def test_silence_of_the_parts_is_of_separate_stretches(self, speech: Path) -> None:
        # Tones tell where a second was cut: 20 s with the stretches 16 s, 2 s and 2 s.
        time = np.arange(20 * RATE) / RATE
        pitch = np.select([time < 16, time < 18], [500.0, 1500.0], 3000.0)
        for number in range(2):
            path = speech / "_background_noise_" / f"noise_{number}.wav"
            write_wav(path, np.sin(2 * np.pi * pitch * time))
        for part, hertz in (("train", 500.0), ("validation", 1500.0), ("test", 3000.0)):
            data = speech_commands(speech, part, per_class=3)
            silences = data.images[data.labels == 10, 0].mean(axis=1)
            assert len(silences) >= 1
            for silence in silences:
                shape = [
                    np.abs(
                        silence[1:] - features_of(np.sin(2 * np.pi * f * time[:RATE])).mean(0)[1:]
                    ).sum()
                    for f in (500.0, 1500.0, 3000.0)
                ]
                assert int(np.argmin(shape)) == [500.0, 1500.0, 3000.0].index(hertz)

    def test_pads_the_short_and_cuts_the_long(self, speech: Path) -> None:
        write_wav(speech / "yes" / "4.wav", tone(0, 4, 0.4))
        write_wav(speech / "no" / "4.wav", np.concatenate([tone(1, 4), tone(7, 1, 0.7)]))
        data = speech_commands(speech, "test")
        padded = np.concatenate([tone(0, 4, 0.4), np.zeros(RATE - 6400)])
        assert (data.images[data.labels == 0][0, 0] == features_of(padded)).all()
        assert (data.images[data.labels == 1][0, 0] == features_of(tone(1, 4))).all()

    def test_load_gives_training_and_test(self, speech: Path) -> None:
        train, test = load(f"speech:{speech}")
        assert (train.name, test.name) == ("speech_commands/train", "speech_commands/test")
        assert (len(train), len(test)) == (36, 12)

    @pytest.mark.parametrize(
        "rate, width, channels, message",
        [
            (8000, 2, 1, "8000 samples per second of 16 bits on 1 "),
            (RATE, 1, 1, "16000 samples per second of 8 bits on 1 "),
            (RATE, 2, 2, "16000 samples per second of 16 bits on 2 "),
        ],
    )
    def test_refuses_another_format(
        self, speech: Path, rate: int, width: int, channels: int, message: str
    ) -> None:
        path = speech / "stop" / "4.wav"
        write_wav(path, tone(0, 0), rate, width, channels)
        with pytest.raises(ValueError, match=f"stop/4.wav has {message}.*must have 16000"):
            speech_commands(speech, "test")

    @pytest.mark.parametrize("start", [b"", b"RIFF", b"garbage garbage garbage garbage " * 3])
    def test_refuses_a_garbled_header(self, speech: Path, start: bytes) -> None:
        (speech / "up" / "4.wav").write_bytes(start)
        with pytest.raises(ValueError, match=r"up/4.wav is not a WAV file of PCM: \w"):
            speech_commands(speech, "test")

    @pytest.mark.parametrize("keep", [44, 46, 1000, 32043])
    def test_refuses_a_clip_cut_off(self, speech: Path, keep: int) -> None:
        path = speech / "go" / "4.wav"
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ValueError, match=r"go/4.wav holds \d+ bytes of sound.* 32000"):
            speech_commands(speech, "test")

    def test_refuses_an_empty_clip(self, speech: Path) -> None:
        write_wav(speech / "go" / "4.wav", np.zeros(0))
        with pytest.raises(ValueError, match=r"go/4.wav holds 0 bytes of sound"):
            speech_commands(speech, "test")

    @pytest.mark.parametrize(
        "gone, message",
        [
            ("left", "the folder left is missing in .*speech"),
            ("testing_list.txt", "^testing_list.txt is missing in .*speech"),
            ("validation_list.txt", "^validation_list.txt is missing in .*speech"),
            ("_background_noise_", "_background_noise_ has no .wav file"),
            ("off/4.wav", "off/4.wav"),
        ],
    )
    def test_names_what_is_missing(self, speech: Path, gone: str, message: str) -> None:
        (speech / gone).rename(speech.parent / "elsewhere")
        with pytest.raises(FileNotFoundError, match=message):
            speech_commands(speech, "test")

    def test_names_a_path_that_is_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder: expected Speech"):
            speech_commands(tmp_path / "nowhere")

    @pytest.mark.parametrize("line", ["yes", "dog/1.wav", "../1.wav", "yes/a/1.wav", "yes/"])
    def test_refuses_a_list_that_names_no_clip(self, speech: Path, line: str) -> None:
        with (speech / "testing_list.txt").open("a") as file:
            file.write(f"\n{line}\n")
        with pytest.raises(ValueError, match=rf"testing_list.txt, line 14, is '{line}'"):
            speech_commands(speech, "train")

    def test_refuses_a_part_without_a_word_or_without_others(self, speech: Path) -> None:
        path = speech / "testing_list.txt"
        lines = path.read_text().splitlines()
        path.write_text("\n".join(line for line in lines if not line.startswith("right/")))
        with pytest.raises(ValueError, match="no clip of 'right' in the part 'test'"):
            speech_commands(speech, "test")
        path.write_text("\n".join(lines[:10]))
        with pytest.raises(ValueError, match="no clip of a word for 'unknown'"):
            speech_commands(speech, "test")

    @pytest.mark.parametrize(
        "settings, message",
        [
            ({"part": "testing"}, "part must be .*not 'testing'"),
            ({"per_class": 0}, "per_class must be None or at least 1, not 0"),
            ({"seed": -1}, "seed must not be negative, and is -1"),
        ],
    )
    def test_refuses_settings(
        self, speech: Path, settings: dict[str, object], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            speech_commands(speech, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", ["", "digit", "digits:", "cifar10", "cifar10:", "mnist:here"])
def test_load_refuses_what_it_does_not_know(spec: str) -> None:
    with pytest.raises(ValueError, match=rf"'digits', .* 'speech:PATH', not '{spec}'"):
        load(spec)
