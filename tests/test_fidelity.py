"""The firmware's defects: shapes derived by hand, and every recorded case with and without one."""

import json
import pathlib
from collections import defaultdict

import pytest
from golden_cases import ALGORITHM, KERNELS

from pyodl.fidelity import known_defects

MANIFEST = pathlib.Path(__file__).parent / "golden" / "manifest.json"
OUT, RACE, WRONG = "out-of-bounds", "race", "wrong result"
IMAGE = (2, 8, 8)  # CHW
WEIGHTS = (4, 2, 3, 3)


def kinds(item, found):
    return {d.kind for d in found if d.item == item}


# item, primitive, shapes, cores, options, kinds: a hand-derived trigger, then what does not trigger
HAND = [
    # 1. bias through the matmul dispatcher; naive convolutions add it themselves
    (1, "linear_forward", [(6,), (4, 6), (4,)], 8, {}, {WRONG, RACE}),
    (1, "linear_forward", [(6,), (4, 6), (4,)], 1, {}, {WRONG}),
    (1, "linear_forward", [(6,), (4, 6)], 8, {}, set()),
    (1, "conv2d_forward", [IMAGE, WEIGHTS, (4,)], 8, {}, {WRONG, OUT}),
    (1, "conv2d_forward", [(2, 4, 4), WEIGHTS, (4,)], 8, {}, {WRONG}),  # 4 pixels, 4 biases
    (1, "conv2d_forward", [(8, 8, 2), (4, 3, 3, 2), (4,)], 8, {"layout": "HWC"},
     {WRONG, OUT, RACE}),
    (1, "conv2d_forward", [IMAGE, WEIGHTS], 8, {}, set()),
    (1, "conv2d_forward", [IMAGE, WEIGHTS, (4,)], 8, {"algorithm": "direct"}, set()),
    # 2. linear weight gradient: the old bias gradient, m = 6 of them read where n = 4 are
    (2, "linear_weight_grad", [(6,), (4,)], 8, {"bias": True}, {WRONG, OUT, RACE}),
    (2, "linear_weight_grad", [(4,), (4,)], 1, {"bias": True}, {WRONG}),
    (2, "linear_weight_grad", [(6,), (4,)], 8, {}, set()),
    # 3. im2row weight gradient with bias
    (3, "conv2d_weight_grad", [IMAGE, (4, 6, 6)], 8, {"kernel_size": 3, "bias": True},
     {WRONG, OUT, RACE}),
    (3, "conv2d_weight_grad", [IMAGE, (4, 6, 6)], 8, {"kernel_size": 3}, set()),
    (3, "conv2d_bias_grad", [(4, 6, 6)], 1, {}, {WRONG, OUT}),
    (3, "conv2d_bias_grad", [(4, 6, 6)], 1, {"algorithm": "direct"}, set()),
    # 4. direct bias gradient with padding: last taps 0+2-1=1 to 7+2-1=8, and 8 is outside
    (4, "conv2d_weight_grad", [IMAGE, (4, 8, 8)], 8,
     {"kernel_size": 3, "padding": 1, "algorithm": "direct", "bias": True}, {WRONG}),
    # stride 2 over 7 with padding (1, 0): last taps 1, 3, 5: all inside
    (4, "conv2d_weight_grad", [(2, 7, 7), (4, 3, 3)], 8,
     {"kernel_size": 3, "stride": 2, "padding": (1, 0, 1, 0), "algorithm": "direct", "bias": True},
     set()),
    # padding 3 up: the first last tap is in row -1
    (4, "conv2d_weight_grad", [IMAGE, (4, 9, 6)], 8,
     {"kernel_size": 3, "padding": (3, 0, 0, 0), "algorithm": "direct", "bias": True}, {WRONG}),
    (4, "conv2d_weight_grad", [IMAGE, (4, 6, 6)], 8,
     {"kernel_size": 3, "algorithm": "direct", "bias": True}, set()),
    (4, "conv2d_weight_grad", [(2, 9, 9), (4, 4, 4)], 8,
     {"kernel_size": 5, "stride": 2, "padding": 1, "algorithm": "direct", "bias": True}, {WRONG}),
    # 5. im2row's limit 8-k+1+1: 8-3+2=7 where 8 is right, 8-2+2=8 is right, 8-1+2=9 is too far
    (5, "im2row", [IMAGE], 8, {"kernel_size": 3, "padding": 1}, {WRONG}),
    (5, "im2row", [IMAGE], 8, {"kernel_size": 2, "padding": 1}, set()),
    (5, "im2row", [IMAGE], 8, {"kernel_size": 1, "padding": 1}, {WRONG, OUT}),
    (5, "im2row", [IMAGE], 8, {"kernel_size": 3, "padding": (0, 1, 0, 1)}, set()),
    # k=4 after 2: the limit is right, but of the last pair only the first is zeroed
    (5, "im2row", [IMAGE], 8, {"kernel_size": 4, "padding": (0, 2, 0, 2)}, {WRONG, OUT}),
    (5, "im2row", [IMAGE], 8, {"kernel_size": (4, 3), "padding": (0, 2, 0, 1)}, set()),
    # both of the first pair are left padding: x[0][0][-1] is read
    (5, "im2row", [IMAGE], 8, {"kernel_size": 2, "padding": (0, 0, 2, 2)}, {WRONG, OUT}),
    (5, "conv2d_forward", [IMAGE, WEIGHTS], 8, {"padding": 1}, {WRONG}),
    (5, "conv2d_forward", [IMAGE, WEIGHTS], 8, {"padding": 1, "algorithm": "direct"}, set()),
    # im2col's limit is 8+1-1=8, right; 8+1-2=7 where 8+2-1=9 is right; 8+1-0 where 8 is right
    (5, "im2col", [IMAGE], 8, {"kernel_size": 3, "padding": 1}, set()),
    (5, "im2col", [IMAGE], 8, {"kernel_size": 3, "padding": 2}, {WRONG}),
    (5, "im2col", [IMAGE], 8, {"kernel_size": 3, "padding": (1, 0, 1, 0)}, set()),
    (5, "im2col", [IMAGE], 8, {"kernel_size": 3, "padding": (0, 1, 0, 1)}, {WRONG, OUT}),
    # 6. no padding in HWC
    (6, "im2row", [(8, 8, 2)], 8, {"kernel_size": 3, "padding": 1, "layout": "HWC"}, {WRONG}),
    (6, "im2col", [(8, 8, 2)], 8, {"kernel_size": 3, "padding": 1, "layout": "HWC"}, {WRONG}),
    (6, "im2row", [(8, 8, 2)], 8, {"kernel_size": 3, "layout": "HWC"}, set()),
    (6, "im2row", [IMAGE], 8, {"kernel_size": 3, "padding": 1}, set()),
    # 7. im2row weight gradient with padding
    (7, "conv2d_weight_grad", [IMAGE, (4, 8, 8)], 8, {"kernel_size": 3, "padding": 1}, {WRONG}),
    (7, "conv2d_weight_grad", [IMAGE, (4, 6, 6)], 8, {"kernel_size": 3}, set()),
    # 8. im2row input gradient with stride or padding
    (8, "conv2d_input_grad", [WEIGHTS, (4, 8, 8)], 8, {"input_size": 8, "padding": 1}, {WRONG}),
    (8, "conv2d_input_grad", [WEIGHTS, (4, 4, 4)], 8, {"input_size": 9, "stride": 2}, {WRONG}),
    (8, "conv2d_input_grad", [WEIGHTS, (4, 6, 6)], 8, {"input_size": 8}, set()),
    # 9. direct input gradient: kernels that are neither 1 nor 3 wide; asymmetric padding
    (9, "conv2d_input_grad", [(4, 2, 5, 5), (4, 4, 4)], 8,
     {"input_size": 8, "algorithm": "direct"}, {WRONG}),
    (9, "conv2d_input_grad", [(4, 2, 2, 2), (4, 7, 7)], 8,
     {"input_size": 8, "algorithm": "direct"}, {WRONG, OUT}),
    (9, "conv2d_input_grad", [WEIGHTS, (4, 6, 6)], 8,
     {"input_size": 8, "algorithm": "direct"}, set()),
    (9, "conv2d_input_grad", [WEIGHTS, (4, 7, 6)], 8,
     {"input_size": 8, "algorithm": "direct", "padding": (1, 0, 0, 0)}, {WRONG}),
    (9, "conv2d_input_grad", [WEIGHTS, (4, 7, 7)], 8,
     {"input_size": 8, "algorithm": "direct", "padding": (1, 0, 1, 0)}, set()),
    # 10. columns by twos: 8 over 8 cores are blocks of 1; over 4 cores of 2
    (10, "matmul", [(4, 4), (4, 8)], 8, {"kernel": "m_simd_2x4"}, {OUT, RACE, WRONG}),
    (10, "matmul", [(1, 4), (4, 8)], 8, {"kernel": "m_simd_2x4"}, {OUT}),
    (10, "matmul", [(4, 4), (4, 8)], 4, {"kernel": "m_simd_2x4"}, set()),
    # 9 columns, 8 of them in blocks of 1: the last pair covers the leftover column
    (10, "matmul", [(4, 4), (9, 4)], 8, {"kernel": "m_simd_2x4", "transpose_b": True}, {RACE}),
    (10, "matmul", [(4, 4), (4, 9)], 8, {"kernel": "m_simd_2x4"}, set()),
    # by fours: 36 over 8 cores are blocks of 5: the last begins at 35 and ends at 39
    (10, "matmul", [(4, 4), (4, 36)], 8, {"kernel": "m_simd_4x8"}, {OUT, RACE, WRONG}),
    (10, "matmul", [(4, 4), (4, 32)], 8, {"kernel": "m_simd_4x8"}, set()),
    # 11. blocks of 3: of 17 rows the seventh core begins 1 beyond, of 18 the eighth 3 beyond
    (11, "matmul", [(17, 4), (4, 8)], 8, {"kernel": "unroll_2x1"}, {OUT}),
    (11, "matmul", [(18, 4), (4, 8)], 8, {"kernel": "unroll_2x1"}, {OUT}),
    (11, "matmul", [(16, 4), (4, 8)], 8, {"kernel": "unroll_2x1"}, set()),
    # blocks of 5: the eighth core begins at 35, 1 beyond 34 and an even 2 beyond 33
    (11, "matmul", [(34, 4), (4, 8)], 8, {"kernel": "simd_4x8"}, {OUT}),
    (11, "matmul", [(33, 4), (4, 8)], 8, {"kernel": "simd_4x8"}, set()),
    (11, "matmul", [(32, 4), (4, 8)], 8, {"kernel": "simd_4x8"}, set()),
    (11, "matmul", [(36, 4), (4, 8)], 8, {"kernel": "unroll_4x1"}, {OUT}),  # 35 to 39
    (11, "matmul", [(32, 4), (4, 8)], 8, {"kernel": "unroll_4x1"}, set()),
    (11, "matmul", [(72, 4), (4, 8)], 8, {"kernel": "unroll_8x1"}, {OUT}),  # blocks of 9: 63 to 79
    (11, "matmul", [(64, 4), (4, 8)], 8, {"kernel": "unroll_8x1"}, set()),
    (11, "matvec", [(17, 4), (4,)], 8, {"kernel": "simd_2x1"}, {OUT}),
    (11, "matvec", [(16, 4), (4,)], 8, {"kernel": "simd_2x1"}, set()),
    # 12. three rows a core, odd K: the third is a leftover; groups of two from 5 to 9 of 8
    (12, "matvec", [(3, 5), (5,)], 1, {"kernel": "simd_2x1"}, {OUT, WRONG}),
    (12, "matvec", [(3, 4), (4,)], 1, {"kernel": "simd_2x1"}, set()),
    (12, "matvec", [(4, 5), (5,)], 1, {"kernel": "simd_2x1"}, set()),
    (12, "matvec", [(8, 4), (4,)], 1, {"kernel": "simd_8x1"}, set()),
    # 13. pointwise weight gradient in HWC
    (13, "pointwise_weight_grad", [(4, 4, 3), (4, 4, 5)], 8, {"layout": "HWC"}, {WRONG}),
    (13, "pointwise_weight_grad", [(3, 4, 4), (5, 4, 4)], 8, {}, set()),
    (13, "pointwise_weight_grad", [(4, 4, 1), (4, 4, 5)], 8, {"layout": "HWC"}, set()),
    (13, "pointwise_weight_grad", [(1, 1, 3), (1, 1, 5)], 8, {"layout": "HWC"}, set()),
    (13, "pointwise_weight_grad", [(2, 2, 4), (2, 2, 5)], 8, {"layout": "HWC"}, set()),  # a square
    (13, "pointwise_forward", [(4, 4, 3), (5, 3)], 8, {"layout": "HWC"}, set()),
    # 14. pad
    (14, "pad", [IMAGE], 8, {"padding": 1}, set()),
    (14, "pad", [IMAGE], 8, {"padding": (1, 0, 1, 3)}, set()),
    (14, "pad", [IMAGE], 8, {"padding": (0, 1, 0, 0)}, {OUT, WRONG}),
    (14, "pad", [IMAGE], 8, {"padding": (0, 0, 2, 0)}, {WRONG}),
    # 15. vect_sum, vector_softmax
    (15, "add", [(1,), (1,)], 1, {"algorithm": "vect_sum"}, {OUT}),  # a pair of 1
    (15, "add", [(2,), (2,)], 1, {"algorithm": "vect_sum"}, set()),
    (15, "add", [(16,), (16,)], 8, {"algorithm": "vect_sum"}, set()),
    (15, "add", [(17,), (17,)], 8, {}, set()),
    (15, "softmax_forward", [(10,)], 8, {"exp": "expf"}, {OUT}),  # blocks of 2: three are empty
    (15, "softmax_forward", [(10,)], 5, {"exp": "expf"}, set()),
    (15, "softmax_forward", [(10,)], 8, {"exp": "fast"}, set()),
    # 16. max pooling, L1
    (16, "max_pool_backward", [IMAGE, (2, 4, 4)], 8, {"kernel_size": 2, "stride": 2}, {WRONG}),
    (16, "max_pool_backward", [IMAGE, (2, 4, 4)], 8, {"kernel_size": 1, "stride": 2}, set()),
    (16, "l1_grad", [(10,), (10,)], 1, {}, {WRONG}),
    (16, "mse_grad", [(10,), (10,)], 1, {}, set()),
    # 17. instance norm
    (17, "instance_norm_input_grad", [IMAGE, IMAGE, (2,), (2,), (2,), (2,)], 8, {}, {WRONG}),
    (17, "instance_norm_forward", [(2, 1, 1), (2,), (2,)], 8, {}, {WRONG}),
    (17, "instance_norm_forward", [IMAGE, (2,), (2,)], 8, {}, set()),
    (17, "instance_norm_param_grad", [IMAGE, IMAGE, (2,), (2,)], 8, {}, set()),
    # 18. strides that do not divide: 8 + 2 - 3 = 7 by 2
    (18, "conv2d_forward", [IMAGE, WEIGHTS], 8, {"stride": 2, "padding": 1}, {WRONG, OUT}),
    (18, "conv2d_weight_grad", [IMAGE, (4, 4, 4)], 8,
     {"kernel_size": 3, "stride": 2, "padding": 1}, {WRONG}),
    (18, "im2row", [IMAGE], 8, {"kernel_size": 1, "stride": 2}, {WRONG}),
    (18, "im2row", [(2, 7, 7)], 8, {"kernel_size": 3, "stride": 2}, set()),
    (18, "conv2d_forward", [IMAGE, WEIGHTS], 8, {"stride": 2, "algorithm": "direct"}, set()),
]  # fmt: skip


@pytest.mark.parametrize(
    "item, primitive, shapes, cores, options, expected",
    HAND,
    ids=[f"{item}-{name}-{i}" for i, (item, name, *_) in enumerate(HAND)],
)
def test_shapes_derived_by_hand(item, primitive, shapes, cores, options, expected):
    found = known_defects(primitive, shapes, cores, **options)
    assert kinds(item, found) == expected
    assert all(d.message and d.tensor for d in found)


def test_every_item_has_a_trigger_and_a_shape_that_does_not_trigger():
    assert {case[0] for case in HAND if case[-1]} == set(range(1, 19))
    assert {case[0] for case in HAND if not case[-1]} == set(range(1, 19))


def recorded_call(case):
    """-> (primitive, shapes, options) of a recorded case; None for operations without defects."""
    p = case["params"]
    options = {} if p.get("matmul_type") is None else {"kernel": KERNELS[p["matmul_type"]]}
    make = CALLS.get(case["op"])
    return None if make is None else make(p, options)


def _image(p, channels, size="HW"):
    h, w = (p[k] if size == "HW" else p[k + "out"] for k in "HW")
    return (h, w, p[channels]) if p["layout"] == "HWC" else (p[channels], h, w)


def _padding(p):
    return tuple(p["pad_" + side] for side in "UDLR")


def _matmul(p, options):
    n, k = p["N"], p["K"]
    if "kernel" in p:
        return "matvec", [(n, k), (k,)], {"kernel": "simd_" + p["kernel"].removeprefix("mv_")}
    b = (p["M"], k) if p["trans_B"] else (k, p["M"])
    return "matmul", [(n, k), b], {**options, "transpose_b": bool(p["trans_B"])}


def _conv(p, options):
    k, bias = p["k"], bool(p["use_bias"])
    x, dy = _image(p, "Cin"), _image(p, "Cout", "out")
    w = (p["Cout"], k, k, p["Cin"]) if p["layout"] == "HWC" else (p["Cout"], p["Cin"], k, k)
    options |= {"layout": p["layout"], "algorithm": ALGORITHM[p["algorithm"]]}
    options |= {"stride": p["stride"], "padding": _padding(p)}
    return {
        "fw": ("conv2d_forward", [x, w] + [(p["Cout"],)] * bias, options),
        "wg": ("conv2d_weight_grad", [x, dy], {**options, "kernel_size": k, "bias": bias}),
        "ig": ("conv2d_input_grad", [w, dy], {**options, "input_size": (p["H"], p["W"])}),
    }[p["step"]]


def _pointwise(p, options):
    x, dy, w = _image(p, "Cin"), _image(p, "Cout"), (p["Cout"], p["Cin"])
    options["layout"] = p["layout"]
    return {
        "fw": ("pointwise_forward", [x, w], options),
        "wg": ("pointwise_weight_grad", [x, dy], options),
        "ig": ("pointwise_input_grad", [w, dy], options),
    }[p["step"]]


def _linear(p, options):
    x, dy, w, bias = (p["in_dim"],), (p["out_dim"],), (p["out_dim"], p["in_dim"]), p["use_bias"]
    return {
        "fw": ("linear_forward", [x, w] + [dy] * bias, options),
        "wg": ("linear_weight_grad", [x, dy], {**options, "bias": bool(bias)}),
        "ig": ("linear_input_grad", [w, dy], options),
    }[p["step"]]


def _unroll(p, options):
    if p["mod"]:  # of the output gradient, without stride and padding
        return None
    options = {"kernel_size": p["k"], "stride": p["stride"], "padding": _padding(p)}
    return p["fn"], [_image(p, "Cin")], {**options, "layout": p["layout"]}


CALLS = {
    "mm": _matmul,
    "conv": _conv,
    "pw": _pointwise,
    "linear": _linear,
    "im2": _unroll,
    "pad": lambda p, o: ("pad", [_image(p, "C")], {"padding": _padding(p), "layout": p["layout"]}),
    "vsum": lambda p, o: ("add", [(p["dim"],)] * 2, {"algorithm": "vect_sum"}),
    "vsoftmax": lambda p, o: ("softmax_forward", [(p["size"],)], {"exp": "expf"}),
}
TAGS = {
    "race": RACE,
    "reads_out_of_bounds": OUT,
    "writes_out_of_bounds": OUT,
    "error_printed": WRONG,
    "unwritten_or_stale": WRONG,
    "depends_on_uninitialised_stack": WRONG,
    "not_the_mathematical_result": WRONG,
}


def recorded():
    """{(primitive, shapes, cores, options): kinds seen with any data}; no kinds: all was clean."""
    seen = defaultdict(set)
    for case in json.loads(MANIFEST.read_text())["cases"]:
        call = recorded_call(case)
        for result in case["results"]:
            found = {TAGS[tag] for tag in result.get("tags", [])}
            assert call or not found, f"{case['name']} has a defect, but no call"
            for cores in result["cores"] if call else ():
                name, shapes, options = call
                key = (name, tuple(shapes), cores, tuple(sorted(options.items())))
                seen[key] |= found
    return seen


def test_flags_every_recorded_defect_and_nothing_that_was_clean():
    wrong, flagged, clean = [], 0, 0
    for call, want in recorded().items():
        name, shapes, cores, options = call
        got = {d.kind for d in known_defects(name, shapes, cores, **dict(options))}
        flagged, clean = flagged + bool(want), clean + (not want)
        # More kinds than were seen: a race under a wrong result, and a size left to chance.
        if want - got or bool(want) != bool(got):
            wrong.append((call, want, got))
    assert not wrong, f"{len(wrong)} of {flagged + clean}, first {wrong[:5]}"
    assert (flagged, clean) == (1676, 4412)


@pytest.mark.parametrize(
    "error, message, arguments, options",
    [
        (ValueError, "primitive is 'gemm'; it may be", ("gemm", [(2, 2), (2, 2)]), {}),
        (TypeError, "primitive must be a string", (3, []), {}),
        (ValueError, "cores is 0", ("matmul", [(2, 2), (2, 2)], 0), {}),
        (ValueError, r"shapes\[1\]\[0\] is 0", ("matmul", [(2, 2), (0, 2)]), {}),
        (ValueError, "shapes has 1 items; matmul takes more", ("matmul", [(2, 2)]), {}),
        (ValueError, r"shapes\[0\] is \(2,\); it must have 2", ("matmul", [(2,), (2, 2)]), {}),
        (ValueError, "kernel is 'fast'", ("matmul", [(2, 2), (2, 2)]), {"kernel": "fast"}),
        (ValueError, "kernel_size is missing", ("im2row", [IMAGE]), {}),
        (ValueError, "the kernel spans", ("im2row", [IMAGE]), {"kernel_size": 9}),
        (TypeError, "transpose_b must be a bool", ("matmul", [(2, 2)] * 2), {"transpose_b": 1}),
        (ValueError, "layout is 'NHWC'", ("im2row", [IMAGE]), {"layout": "NHWC"}),
    ],
)
def test_bad_input(error, message, arguments, options):
    with pytest.raises(error, match=message):
        known_defects(*arguments, **options)


def test_what_pyodl_models_too_is_marked():
    every = [d for _, name, shapes, cores, options, _ in HAND
             for d in known_defects(name, shapes, cores, **options)]  # fmt: skip
    assert {d.item for d in every if d.modelled} == {16, 17}
    assert 16 not in {d.item for d in every if not d.modelled}
