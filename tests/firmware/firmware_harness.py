"""Build the firmware for RISC-V with Zfh, run it under qemu, and give it cases of pyodl.golden.

A case becomes an operation on a tape, a chain of them many; the program computes every tensor that
is not given, from the bits of those that are.
"""

import json
import pathlib
import shutil
import struct
import subprocess

import numpy as np

from pyodl.formats import round_to, to_bits
from pyodl.golden import _primitives

HERE = pathlib.Path(__file__).parent
COMPILER, QEMU = "clang-19", "qemu-riscv64"
FLAGS = [
    *("--target=riscv64-linux-gnu", "-march=rv64gc_zfh", "-mabi=lp64d", "-std=gnu11", "-O2"),
    *("-ffp-contract=off", "-fno-math-errno", "-ffreestanding", "-fno-strict-aliasing"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-unused-function"),
]
LINK = ["-nostdlib", "-static", "-fuse-ld=lld-19"]
NEEDED = {COMPILER: "clang-19", "ld.lld-19": "lld-19", QEMU: "qemu-user"}
DEFECTS = ("LEFTOVER", "UNFUSED", "PADDING", "CORES")
ARITHMETICS = {"fp16-fma": "FP16_FMA", "fp16-muladd": "FP16_MULADD", "fp16-fp32acc": "FP16_FP32ACC"}
KERNELS = (
    *("naive", "naive_m", "simd_2x4", "simd_4x8", "m_simd_2x4", "m_simd_4x8"),
    *("unroll_2x1", "unroll_4x1", "unroll_8x1"),
)
MAGIC, NONE, NUMBERS = 0x4C444F54, -1, 16


def missing():
    """Say which Debian packages the harness lacks on this machine; "" if none."""
    packages = [package for command, package in NEEDED.items() if not shutil.which(command)]
    return f"needs the Debian packages {' '.join(packages)}" if packages else ""


def build(folder, defect="", sound=None):
    """Compile the program; return its path.

    With a defect only the kernels in fp16-fma are compiled anew; the others are taken from the
    folder of the ``sound`` build.
    """
    compiled = ARITHMETICS if not defect else {"fp16-fma": ARITHMETICS["fp16-fma"]}
    running = []
    for name, macro in compiled.items():
        own = [f"-D{macro}", *([f"-DDEFECT_{defect}"] if defect else [])]
        command = [COMPILER, *FLAGS, *own, "-c", HERE / "firmware.c", "-o", folder / f"{name}.o"]
        running.append(subprocess.Popen(command))
    assert [compiler.wait() for compiler in running] == [0] * len(running)
    objects = [(folder if name in compiled else sound) / f"{name}.o" for name in ARITHMETICS]
    return link(folder / "firmware", [HERE / "main.c", *objects])


def link(program, sources, *flags):
    """Compile and link a program from sources and objects; return its path."""
    command = [COMPILER, *FLAGS, *LINK, *flags, *sources, HERE / "runtime.c", "-o", program]
    subprocess.run(command, check=True)
    return program


def execute(program, given=b""):
    """Run a program under qemu; return the finished process."""
    command = [QEMU, "-cpu", "rv64,Zfh=true", program]
    return subprocess.run(command, input=given, capture_output=True, check=False)


def _pair(value):
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _sides(value):
    return tuple(value) if isinstance(value, tuple | list) else (value,) * 4


def _convolution(case):
    """The numbers of ``convolution`` in conv.h, whatever the step."""
    p, shapes = case.parameters, case.shapes
    depthwise, hwc = case.family == "depthwise", p.get("layout") == "HWC"

    def image(shape):
        return (shape[2], *shape[:2]) if hwc else tuple(shape)

    if "w" in shapes:
        w = shapes["w"]
        kernel = w[1:3] if hwc or depthwise else w[2:4]
    else:
        kernel = _pair(p["kernel_size"])
    stride, (up, down, left, right) = _pair(p.get("stride", 1)), _sides(p.get("padding", 0))
    if "x" in shapes:
        c_in, *size = image(shapes["x"])
    else:
        size = _pair(p["input_size"])
        c_in = shapes["w"][0 if depthwise else 3 if hwc else 1]
    padded = (size[0] + up + down, size[1] + left + right)
    out = [(n - k) // s + 1 for n, k, s in zip(padded, kernel, stride, strict=True)]
    c_out = shapes["w"][0] if "w" in shapes else image(shapes["dy"])[0]
    direct = depthwise or p.get("algorithm") == "direct"
    return [c_in, *size, c_out, *kernel, *stride, up, down, left, right, *out, hwc, direct]


def _pool(case):
    p, shape = case.parameters, case.shapes
    channels, *size = shape.get("x") or (shape["dy"][0], *_pair(p["input_size"]))
    kernel, stride = _pair(p["kernel_size"]), _pair(p["stride"])
    out = [(n - k) // s + 1 for n, k, s in zip(size, kernel, stride, strict=True)]
    return [channels, *size, *out, *kernel, *stride]


def _pointwise(case):
    hwc = case.parameters.get("layout") == "HWC"
    shapes = {name: np.roll(s, 1) if hwc and len(s) == 3 else s for name, s in case.shapes.items()}
    if case.step == "weight_grad":
        channels = shapes["x"][0], shapes["dy"][0]
    else:
        channels = shapes["w"][1], shapes["w"][0]
    pixels = np.prod(shapes["dy" if "dy" in shapes else "x"][1:])
    return [*channels, pixels, hwc]


def _linear(case):
    if case.step == "weight_grad":
        return [*case.shapes["x"], *case.shapes["dy"]]
    return case.shapes["w"][::-1]


def _matmul(case):
    (n, k), b, transposed = (*case.shapes.values(), bool(case.parameters.get("transpose_b")))
    return [n, k, b[0 if transposed else 1], transposed]


def _bias_grad(case):
    shape = case.shapes["dy"]
    if case.parameters.get("layout") == "HWC":
        return [shape[2], shape[0] * shape[1], 1, shape[2]]
    pixels = shape[1] * shape[2]
    return [shape[0], pixels, pixels, 1]


def _add_bias(case):
    shape = case.shapes["x"]
    return [np.prod(shape), shape[0], np.prod(shape[1:])]


def _sgd(case):
    rates = [case.parameters["lr"], case.parameters.get("weight_decay", 0.0)]
    return [np.prod(case.shapes["w"]), *(int(to_bits(round_to(r, "float16"))) for r in rates)]


def _elements(case):
    return [np.prod(next(iter(case.shapes.values())))]


OPERATIONS = {  # in the order of enum operation_kind: what its numbers are
    "matmul": _matmul,
    "matvec": lambda case: case.shapes["a"],
    "conv2d_forward": _convolution,
    "conv2d_weight_grad": _convolution,
    "conv2d_bias_grad": _bias_grad,
    "conv2d_input_grad": _convolution,
    "depthwise_forward": _convolution,
    "depthwise_weight_grad": _convolution,
    "depthwise_input_grad": _convolution,
    "pointwise_forward": _pointwise,
    "pointwise_weight_grad": _pointwise,
    "pointwise_input_grad": _pointwise,
    "linear_forward": _linear,
    "linear_weight_grad": _linear,
    "linear_bias_grad": _elements,
    "linear_input_grad": _linear,
    "relu_forward": _elements,
    "relu_backward": _elements,
    "add": _elements,
    "add_bias": _add_bias,
    "reshape": _elements,
    "avg_pool_forward": _pool,
    "avg_pool_backward": _pool,
    "max_pool_forward": _pool,
    "max_pool_backward": _pool,
    "cross_entropy": _elements,
    "cross_entropy_grad": _elements,
    "mse": _elements,
    "mse_grad": _elements,
    "sgd": _sgd,
}


class Tape:
    """Tensors and operations for one run of the program."""

    def __init__(self):
        self._given, self._sizes, self._operations, self._index = [], [], [], {}
        self._computed = []  # (name, shape)

    def give(self, name, array):
        """Add a tensor whose bits the program is given."""
        bits = np.ascontiguousarray(to_bits(array)).astype("<u2").reshape(-1)
        self._index[name] = len(self._sizes)
        self._sizes.append((bits.size, 1))
        self._given.append(bits.tobytes() + b"\0\0" * (bits.size % 2))

    def want(self, name, shape):
        """Add a tensor that the program computes."""
        self._index[name] = len(self._sizes)
        self._sizes.append((int(np.prod(shape)), 0))
        self._computed.append((name, shape))

    def add(self, case, inputs, outputs):
        """Add a case; ``inputs`` and ``outputs`` are tensors' names by the case's."""
        known = _primitives.get(case.primitive)
        words = [
            list(OPERATIONS).index(case.primitive),
            list(ARITHMETICS).index(case.arithmetic),
            case.cores,
            KERNELS.index(case.parameters.get("kernel", "naive")) if case.family != "matvec" else 0,
        ]
        given = [self._index.get(inputs.get(name), NONE) for name in known.tensors]
        computed = [self._index.get(outputs.get(name), NONE) for name in known.outputs]
        numbers = [int(number) for number in OPERATIONS[case.primitive](case)]
        words += (given + [NONE] * 4)[:4] + (computed + [NONE] * 2)[:2]
        self._operations.append(words + numbers + [0] * (NUMBERS - len(numbers)))

    def run(self, program):
        """Run the program; return the bits of all tensors that it computed, by name."""
        head = struct.pack("<3I", MAGIC, len(self._sizes), len(self._operations))
        sizes = np.array(self._sizes, "<u4").tobytes()
        operations = np.array(self._operations, "<i4").tobytes()
        done = execute(program, b"".join([head, sizes, *self._given, operations]))
        assert done.returncode == 0, f"the program failed: {done.returncode} {done.stderr}"
        bits = np.frombuffer(done.stdout, "<u2")
        assert bits.size == sum(size for size, given in self._sizes if not given)
        ends = np.cumsum([int(np.prod(shape)) for _, shape in self._computed])[:-1]
        parts = np.split(bits, ends)
        return {
            name: part.reshape(shape)
            for (name, shape), part in zip(self._computed, parts, strict=True)
        }


def run_vectors(program, many):
    """Run `Vectors` of single calls, all at once; return the computed bits of each by name."""
    tape = Tape()
    for i, vectors in enumerate(many):
        for name, tensor in vectors.tensors.items():
            if tensor.role == "input":
                tape.give((i, name), tensor.values)
            else:
                tape.want((i, name), tensor.shape)
        names = {name: (i, name) for name in vectors.tensors}
        tape.add(vectors.case, names, names)
    results = [{} for _ in many]
    for (i, name), bits in tape.run(program).items():
        results[i][name] = bits
    return results


def run_steps(program, vectors):
    """Run `Vectors` of training steps as one chain; return every computed tensor's bits."""
    tape = Tape()
    for name, tensor in vectors.tensors.items():
        if tensor.role == "input":
            tape.give(name, tensor.values)
        else:
            tape.want(name, tensor.shape)
    for operation in vectors.case.operations:
        spare = {}
        if operation.case.primitive == "sgd" and "grad_new" not in operation.outputs:
            spare = {"grad_new": f"{operation.outputs['w_new']} (gradient)"}
            tape.want(spare["grad_new"], operation.case.shapes["grad"])
        tape.add(operation.case, operation.inputs, {**operation.outputs, **spare})
    found = tape.run(program)
    return {name: found[name] for name, t in vectors.tensors.items() if t.role == "output"}


def assembly(arithmetic, *defects):
    """The instructions of the kernels in one arithmetic, as text."""
    chosen = [f"-D{ARITHMETICS[arithmetic]}", *(f"-DDEFECT_{defect}" for defect in defects)]
    command = [COMPILER, *FLAGS, *chosen, "-S", "-o", "-", HERE / "firmware.c"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def write_dump(path, found, dtype="float16"):
    """Write tensors' bits as a device dumps them: little-endian, and a description beside them.

    ``path`` gets the bits, and ``path`` with .json the dtype, the shape and the offset in bytes of
    each tensor.
    """
    described, parts, offset = {}, [], 0
    for name, bits in found.items():
        described[name] = {"dtype": dtype, "shape": list(bits.shape), "offset": offset}
        parts.append(np.ascontiguousarray(bits).astype(bits.dtype.newbyteorder("<")).tobytes())
        offset += len(parts[-1])
    path.write_bytes(b"".join(parts))
    path.with_suffix(".json").write_text(json.dumps(described))
    return path
