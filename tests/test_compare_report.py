"""The page that a comparison is written as, and its drawings."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from dump_files import computed, hexadecimal

from pyodl import golden
from pyodl.cli import main
from pyodl.golden import _drawings
from pyodl.golden.compare import compare
from pyodl.golden.report import html_report

VOID = {"meta", "br", "rect", "path"}


class Page(HTMLParser):
    """Checks that tags close in order, and keeps them and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


def rectangles(svg, kind):
    """What the rectangles of a class cover: (x, y, width, height) of each."""
    found = re.search(rf'class="{kind}" transform="scale\(([^)]+)\)" d="([^"]+)"', svg)
    if not found:
        return []
    size, path = float(found[1]), re.findall(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z", found[2])
    assert "".join("M{} {}h{}v1h-{}z".format(*step) for step in path) == found[2]
    assert all(there == back for _, _, there, back in path)
    return [(int(x) * size, int(y) * size, int(w) * size, size) for x, y, w, _ in path]


def framed(svg):
    """The frame of the first element."""
    (frame,) = re.findall(r'class="first" x="(.+?)" y="(.+?)" width="(.+?)" height="(.+?)"', svg)
    return tuple(float(number) for number in frame)


def test_a_map_has_a_panel_for_each_channel_and_frames_the_first_element():
    differs = np.zeros((4, 3, 5), bool)
    differs[2, 1, 1:4] = differs[3, 2, 4] = True
    svg = _drawings.difference_map(differs, ("co", "h", "w"), (2, 1, 1), "a map")
    # two by two panels of 3 x 5 with a gap of one, cells of 16
    assert rectangles(svg, "differs d4") == [(16, 80, 48, 16), (160, 96, 16, 16)]
    assert framed(svg) == (16, 80, 16, 16)
    assert len(rectangles(svg, "same")) == 2 * 2 * 3
    turned = _drawings.difference_map(
        np.moveaxis(differs, 0, -1), ("h", "w", "co"), (1, 1, 2), "a map"
    )
    assert turned == svg


def test_a_map_of_many_elements_has_cells_for_squares_of_them():
    differs = np.zeros((4, 400), bool)
    differs[0, :2] = differs[3, 399] = True
    svg = _drawings.difference_map(differs, ("out", "in"), (0, 0), "a map")  # 3 x 3 in a cell
    size = 576 / 134
    assert rectangles(svg, "differs d1") == [
        (0, 0, pytest.approx(size, 1e-4), pytest.approx(size, 1e-4))
    ]
    (last,) = rectangles(svg, "differs d4")  # its cell has but one element
    assert last[:2] == (pytest.approx(133 * size, 1e-4), pytest.approx(size, 1e-4))


@pytest.mark.parametrize(
    "shape", [(1,), (64,), (65,), (200,), (7, 9), (2, 3, 3, 1), (2, 1, 2, 2, 1)]
)
def test_a_map_shows_every_element_once(shape):
    axes = tuple(f"axis{i}" for i in range(len(shape)))
    svg = _drawings.difference_map(np.ones(shape, bool), axes, (0,) * len(shape), "a map")
    cell = framed(svg)[2]
    for kind in ("same", "differs d4"):
        area = sum(width * height for _, _, width, height in rectangles(svg, kind))
        assert area == pytest.approx(np.prod(shape) * cell**2, rel=1e-4)


def test_a_histogram_has_a_bar_for_each_bin():
    page = Page(_drawings.histogram({"0": 1, "3-4": 7, "NaN": 1000}, "a & b"))
    assert page.text == ["1", "0", "7", "3-4", "1000", "NaN"]
    heights = [float(attrs["height"]) for tag, attrs in page.tags if tag == "rect"]
    assert heights == sorted(heights)
    assert page.tags[0][1]["aria-label"] == "a & b"


def test_a_page_is_whole_and_needs_nothing_else():
    vectors = golden.vectors_of(golden.StepCase("tiny_cnn", arithmetic="fp16-fma"))
    broken = golden.vectors_of(vectors.case.replace(arithmetic="fp16-muladd"), vectors.inputs())
    found = compare(computed(broken), vectors)
    text = html_report(found, "<dump & co>.bin")
    page = Page(text)
    said = "".join(page.text)
    assert "<dump & co>.bin: differs" in said
    assert f"{len(found.differing)} of {len(found.tensors)} tensors differ" in said
    assert all(tensor.name in said for tensor in found.tensors)
    assert found.first.first.where in said
    assert page.count("tr") == 1 + len(found.tensors)
    assert page.count("svg") == 2 * 12
    assert f"Drawn are 12 of {len(found.differing)}" in said
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert set(re.findall(r"\w+://[^\"]*", text)) == {"http://www.w3.org/2000/svg"}
    assert "<dump" not in text


def test_a_page_of_identical_tensors_says_so():
    vectors = golden.vectors_of(golden.StepCase("tiny_cnn"))
    page = Page(html_report(compare(computed(vectors), vectors), "dump"))
    assert "dump: identical" in page.text
    assert page.count("svg") == 0


def test_the_command_writes_the_page_whole_or_not_at_all(tmp_path, capsys):
    vectors = golden.write(tmp_path / "v", golden.case_of("relu_forward", (9,)))
    words = hexadecimal(vectors.tensors["y"].bits ^ 1)
    (tmp_path / "uart.txt").write_text("y: " + " ".join(words))
    command = ["compare", str(tmp_path / "uart.txt"), "--against", str(tmp_path / "v")]
    page = tmp_path / "report.html"
    assert main([*command, "--html", str(page)]) == 1
    assert "1 of 1 tensors differ" in "".join(Page(page.read_text()).text)
    before = page.read_bytes()
    (tmp_path / "uart.txt").write_text("y: ")
    assert main([*command, "--html", str(page)]) == 2
    assert page.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"v", "uart.txt", "report.html"}
