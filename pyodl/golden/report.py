"""A comparison as a page that opens from disk: no script, nothing from a network."""

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from pyodl.golden._drawings import difference_map, histogram

if TYPE_CHECKING:
    from pyodl.golden.compare import Comparison, TensorComparison
    from pyodl.golden.diagnosis import Diagnosis

__all__ = ["ORIGINS", "html_report", "summary", "unseen"]

ORIGINS = {
    "given": "it was given",
    "here": "begins here",
    "unknown": "begins here or in what the dump lacks",
    "before": "follows from before",
}
_MOST_DRAWN = 12  # tensors
_MOST_NAMED = 4
_STYLE = """
:root { color-scheme: light dark; --bad: #c0392b; --good: #1e8449; --cell: #8884; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.15rem; margin-top: 2.2rem } h3 { font-size: 1rem }
code, td.name { font-family: ui-monospace, monospace; font-size: 0.92em }
.scroll { overflow-x: auto }
table { border-collapse: collapse } th, td { padding: 0.15rem 0.7rem; text-align: right }
th { border-bottom: 1px solid #8888 } td.name, th.name, td.text { text-align: left }
tr.here td, tr.unknown td { font-weight: 600 } tr.same { opacity: 0.65 }
.bad { color: var(--bad) } .good { color: var(--good) } dl { display: grid;
  grid-template-columns: max-content 1fr; gap: 0 1rem } dt { font-weight: 600 } dd { margin: 0 }
svg { max-width: 100%; height: auto } svg text { font-size: 11px; fill: currentColor }
.bar { fill: var(--bad) } .same { fill: var(--cell) } .differs { fill: var(--bad) }
.d1 { fill-opacity: 0.3 } .d2 { fill-opacity: 0.5 } .d3 { fill-opacity: 0.75 }
.first { fill: none; stroke: currentColor; stroke-width: 2 }
"""


def html_report(found: "Comparison", dump: str, diagnosis: "Diagnosis | None" = None) -> str:
    """Return the page.

    Parameters
    ----------
    found : Comparison
    dump : str
        What was compared, for the heading.
    diagnosis : Diagnosis or None
        What would explain it.

    Returns
    -------
    str
        HTML with drawings; every name in it is escaped.
    """
    title = f"{dump}: {'identical' if found.identical else 'differs'}"
    body = "\n".join(_body(found, title, diagnosis))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def summary(found: "Comparison") -> str:
    """Return in words how many tensors are the same, and how many are not there."""
    count, missing = len(found.tensors), len(found.missing)
    differing = len(found.differing)
    said = f"{differing} of {count} tensors differ" if differing else f"identical, {count} tensors"
    return f"{said}; {missing} that the device computes are not in the dump" if missing else said


def unseen(found: "Comparison") -> str:
    """Return in words what may hide where the first wrong computation began."""
    names = ", ".join(found.unseen[:_MOST_NAMED])
    rest = len(found.unseen) - _MOST_NAMED
    others = f" and {rest} others" if rest > 0 else ""
    return f"it may have begun in what the dump lacks: {names}{others}"


def _body(found: "Comparison", title: str, diagnosis: "Diagnosis | None") -> Iterable[str]:
    """Return the page's parts."""
    kind = "good" if found.identical else "bad"
    yield f'<h1>{escape(title)}</h1>\n<p class="{kind}">{escape(summary(found))}.</p>'
    yield "<h2>Expected</h2>\n<dl>" + "".join(_case(found)) + "</dl>"
    for heading, tensor in _headings(found):
        yield f"<h2>{heading}</h2>\n" + "\n".join(_difference(tensor))
    if found.unseen:
        yield f"<p>{escape(unseen(found))}</p>"
    if diagnosis is not None:
        yield from _explanations(diagnosis)
    yield "<h2>Tensors</h2>\n" + _table(found)
    drawn = sorted(found.differing, key=lambda t: t.origin == "before")[:_MOST_DRAWN]
    if drawn:
        yield "<h2>Where they differ</h2>"
        yield (
            "<p>Bars count the differing elements by ULP, on a logarithmic scale; at 0 ULP are "
            "zeros of another sign and NaNs with other bits. Maps have a cell for each element, or "
            "for a square of them; the first that differs is framed.</p>"
        )
    if len(drawn) < len(found.differing):
        yield f"<p>Drawn are {len(drawn)} of {len(found.differing)} tensors that differ.</p>"
    for tensor in drawn:
        yield from _drawings(tensor)


def _case(found: "Comparison") -> Iterable[str]:
    """Return what the vectors are of, as a list of definitions."""
    for name, value in {"pyodl": found.vectors.version, **found.vectors.case.to_json()}.items():
        network = name == "model" and not isinstance(value, str)
        text = f"a network of {len(value['layers'])} layers" if network else str(value)
        yield f"<dt>{escape(name)}</dt><dd><code>{escape(text)}</code></dd>"


def _headings(found: "Comparison") -> "Iterable[tuple[str, TensorComparison]]":
    """Return the tensors that are described, with the headings of that."""
    if found.first is not None:
        yield "First difference", found.first
    if found.fault is not None and found.fault is not found.first:
        yield "First wrong computation", found.fault


def _difference(tensor: "TensorComparison") -> Iterable[str]:
    """Return a paragraph for each line of a description."""
    name, *lines = tensor.describe()
    yield f"<p><strong>{escape(name)}</strong><br>" + "<br>".join(map(escape, lines)) + "</p>"


def _explanations(diagnosis: "Diagnosis") -> Iterable[str]:
    """Return what reproduces the dump's bits."""
    if diagnosis.causes:
        yield "<h2>What gives these bits</h2>"
    for line in diagnosis.describe():
        yield f"<p><strong>{escape(line)}</strong></p>"
    for cause in diagnosis.causes:
        lines = "".join(f"<li>{escape(line)}</li>" for line in cause.describe())
        yield f"<p><code>{escape(cause.tensor.name)}</code></p>\n<ul>{lines}</ul>"


def _table(found: "Comparison") -> str:
    head = "".join(
        f'<th class="{"name" if text in ("tensor", "the difference") else ""}">{text}</th>'
        for text in ("tensor", "elements", "differ", "share", "bits", "most ULP", "the difference")
    )
    rows = "\n".join(_row(tensor) for tensor in found.tensors)
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{rows}\n</table></div>'


def _row(tensor: "TensorComparison") -> str:
    cells, kind = [str(tensor.got.size), "0", "", "", ""], "same"
    origin = ""
    if tensor.differing:
        cells = [
            *(str(tensor.got.size), str(tensor.differing)),
            *(f"{tensor.differing / tensor.got.size:.2%}", str(tensor.differing_bits)),
            tensor.most,
        ]
        kind, origin = tensor.origin, ORIGINS[tensor.origin]
    numbers = "".join(f"<td>{cell}</td>" for cell in cells)
    return (
        f'<tr class="{kind}"><td class="name">{escape(tensor.name)}</td>{numbers}'
        f'<td class="text">{origin}</td></tr>'
    )


def _drawings(tensor: "TensorComparison") -> Iterable[str]:
    """Return the histogram and the map of a tensor that differs."""
    name = tensor.name
    axes = ", ".join(
        f"{a} {n}" for a, n in zip(tensor.tensor.layout, tensor.got.shape, strict=True)
    )
    yield f"<h3><code>{escape(name)}</code> ({escape(axes)}), {ORIGINS[tensor.origin]}</h3>"
    yield histogram(tensor.histogram, f"differing elements of {name} by ULP")
    first = tensor.first
    if first is not None:
        label = f"differing elements of {name}"
        drawn = difference_map(tensor.differs, tensor.tensor.layout, first.place, label)
        yield f"<p>{drawn}</p>"
