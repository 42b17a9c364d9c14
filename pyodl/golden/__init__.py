"""The firmware's reference: vectors out.

`Case` is one call of a primitive with its shapes and parameters, `StepCase` training steps of a
network as a chain of such calls. Both draw their inputs from a seed, run on the host model, and
describe themselves as JSON. `export.write` puts what they give into a directory of vectors,
`export.read` gets it back bit for bit, and C headers come with it.

    _primitives   what can be exported: tensors, parameters and shapes of each primitive
    _sizes        cases from the sizes of a layer
    _data         inputs from a seed, hard cases among them
    cases         Case, Operation
    _lowering     a network's layers as calls
    steps         StepCase
    export        directories of vectors
    dumps         what a device dumped, for the same tensors; _hex_text reads it as text
    compare       a dump beside vectors
    diagnosis     what explains a dump: as a whole, and its first wrong operations
    report        that as a page; _drawings has its plots
    _products     calls as matrix products that are added up in any order
    alternatives  what a device may have done instead
    explain       which of that gives a device's bits
    replay        training sessions on record, run again
    _headers      the C headers in them; include/pyodl_check.h compares on the device
"""

from pyodl.golden._primitives import family_and_step
from pyodl.golden._sizes import case_of
from pyodl.golden.cases import Case, Operation, from_json
from pyodl.golden.export import Tensor, Vectors, read, vectors_of, write
from pyodl.golden.replay import Recorder, Session
from pyodl.golden.steps import StepCase

__all__ = [
    "Case",
    "Operation",
    "Recorder",
    "Session",
    "StepCase",
    "Tensor",
    "Vectors",
    "case_of",
    "family_and_step",
    "from_json",
    "read",
    "vectors_of",
    "write",
]
