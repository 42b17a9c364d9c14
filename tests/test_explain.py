"""Why a device computed other bits: the right hypothesis is found, and only those that fit."""

import itertools

import numpy as np
import pytest

from pyodl import arithmetic, golden
from pyodl.formats import add, from_bits, mul, round_to, to_bits
from pyodl.formats import sub as subtract
from pyodl.golden import _products, alternatives
from pyodl.golden.compare import operations_of
from pyodl.golden.explain import explain, identify
from pyodl.primitives._orders import MATMUL_KERNELS, MATVEC_KERNELS


def operation_of(case):
    (operation,) = operations_of(case)
    return operation


def bits_of(outputs):
    return {name: np.asarray(to_bits(values)) for name, values in outputs.items()}


def explained(case, outputs, inputs=None):
    """What explains these outputs, as {kind: choices}."""
    given = case.inputs() if inputs is None else inputs
    found = explain(operation_of(case), given, bits_of(outputs))
    return {explanation.kind: explanation.choices for explanation in found}


def matmul(**how):
    fields = {"transpose_b": True, "kernel": "simd_2x4", "cores": 4, "arithmetic": "fp16-fma"}
    return golden.case_of("matmul", (12, 9, 7), data="leftovers", seed=5, **{**fields, **how})


def conv(step="conv2d_forward", **how):
    fields = {"kernel_size": 3, "padding": (1, 0, 2, 1), "cores": 3, "arithmetic": "fp16-fma"}
    shapes = {
        "conv2d_forward": {"x": (3, 6, 7), "w": (5, 3, 3, 3)},
        "conv2d_weight_grad": {"x": (3, 6, 7), "dy": (5, 5, 8)},
        "conv2d_input_grad": {"w": (5, 3, 3, 3), "dy": (5, 5, 8)},
    }[step]
    parameters = {"padding": fields.pop("padding"), **how.pop("parameters", {})}
    kernel_size = fields.pop("kernel_size")
    if step == "conv2d_weight_grad":
        parameters["kernel_size"] = kernel_size
    if step == "conv2d_input_grad":
        parameters["input_size"] = (6, 7)
    return golden.Case(step, shapes, parameters, **{**fields, **how})


PRODUCTS = [
    matmul(),
    matmul(transpose_b=False),
    golden.Case("matvec", {"a": (9, 7), "v": (7,)}, {"kernel": "simd_4x1"}, cores=4),
    golden.Case("linear_forward", {"x": (9,), "w": (5, 9)}),
    golden.Case("linear_input_grad", {"w": (5, 9), "dy": (5,)}),
    golden.Case("linear_weight_grad", {"x": (9,), "dy": (5,)}, data="signed-zeros"),
    *(
        golden.Case(f"pointwise_{step}", shapes, {"layout": layout}, seed=3)
        for layout, image, small in (("CHW", (5, 3, 4), (7, 3, 4)), ("HWC", (3, 4, 5), (3, 4, 7)))
        for step, shapes in (
            ("forward", {"x": image, "w": (7, 5)}),
            ("weight_grad", {"x": image, "dy": small}),
            ("input_grad", {"w": (7, 5), "dy": small}),
        )
    ),
    conv(),
    conv("conv2d_weight_grad"),
    conv("conv2d_input_grad"),
    golden.Case(
        "conv2d_input_grad",
        {"w": (4, 3, 3, 2), "dy": (3, 4, 4)},
        {"input_size": (6, 7), "stride": 2, "padding": 1, "layout": "HWC"},
    ),
    golden.Case(
        "conv2d_weight_grad",
        {"x": (6, 7, 2), "dy": (3, 3, 4)},
        {"kernel_size": 3, "stride": (2, 2), "padding": (1, 0, 0, 1), "layout": "HWC"},
    ),
]


@pytest.mark.parametrize("case", PRODUCTS, ids=lambda case: case.primitive)
@pytest.mark.parametrize("name", list(arithmetic.ARITHMETICS))
def test_products_have_the_bits_of_the_primitives(case, name):
    kernels = MATVEC_KERNELS if case.primitive == "matvec" else MATMUL_KERNELS
    for kernel, cores in itertools.product(kernels, (1, 3, 8)):
        own = case.replace(arithmetic=name, kernel=kernel, cores=cores)
        inputs = own.inputs()
        product = _products.product_of(own, inputs)
        sums = alternatives.own_sums(product, own)
        c = product.arrange(_products.summed(product, own, sums))
        want = own.run(inputs)[product.output]
        assert np.array_equal(to_bits(np.ascontiguousarray(c)), to_bits(want)), (kernel, cores)


def test_nothing_to_explain_or_no_explanation():
    case = matmul()
    right = case.run()
    assert explained(case, right) == {}
    bits = bits_of(right)
    bits["c"][5, 3] ^= 1
    assert explain(operation_of(case), case.inputs(), bits) == ()
    with pytest.raises(ValueError, match=r"got holds \['d'\]; it must hold one of c"):
        explain(operation_of(case), case.inputs(), {"d": bits["c"]})


@pytest.mark.parametrize("case", [matmul(), conv(), conv("conv2d_weight_grad")])
def test_another_arithmetic(case):
    for own, other in itertools.permutations(("fp16-fma", "fp16-muladd", "fp16-fp32acc"), 2):
        case = case.replace(arithmetic=own)
        assert explained(case, case.run(arithmetic=other))["arithmetic"] == (other,)


def rounded_twice(case, a, b):
    """Products of rows of a and of b, each rounded before it is added."""
    own = arithmetic.get(case.arithmetic).storage
    total = round_to(np.zeros((len(a), len(b))), own)
    for k in range(a.shape[1]):
        total = add(total, mul(a[:, k, None], b[None, :, k], own), own)
    return total


@pytest.mark.parametrize("name", ["bf16-fma", "fp32"])
def test_a_multiply_add_that_is_not_fused_where_no_arithmetic_has_it(name):
    case = matmul(kernel="naive", arithmetic=name)
    inputs = case.inputs()
    dumped = {"c": rounded_twice(case, inputs["a"], inputs["b"])}
    storage = arithmetic.get(name).storage.name
    assert explained(case, dumped, inputs) == {"unfused": (storage,)}
    image = golden.Case(
        "conv2d_forward",
        {"x": (3, 5, 5), "w": (4, 3, 1, 1), "bias": (4,)},
        arithmetic=name,
        cores=2,
    )
    inputs = image.inputs()
    y = rounded_twice(image, inputs["w"].reshape(4, 3), inputs["x"].reshape(3, 25).T)
    y = add(y, inputs["bias"][:, None], storage).reshape(4, 5, 5)
    assert explained(image, {"y": y}, inputs)["unfused"] == (storage,)


def test_bfloat16_that_is_not_fused_is_told_once_to_who_expects_fp32_sums():
    case = matmul(kernel="naive", arithmetic="bf16-fp32acc")
    inputs = case.inputs()
    dumped = rounded_twice(case, inputs["a"], inputs["b"])
    assert explained(case, {"c": dumped}, inputs) == {"unfused": ("bfloat16",)}


@pytest.mark.parametrize("decay", [0.0, 0.25])
def test_an_update_that_is_not_fused(decay):
    parameters = {"lr": 0.1, "weight_decay": decay}
    case = golden.Case("sgd", {"w": (9, 7), "grad": (9, 7)}, parameters, arithmetic="bf16-fma")
    inputs = case.inputs()
    lr, w, grad = round_to(0.1, "bfloat16"), inputs["w"], inputs["grad"]
    if decay:
        decayed = mul(round_to(decay, "bfloat16"), w, "bfloat16")
        grad = add(grad, decayed, "bfloat16")
    found = {"w_new": subtract(w, mul(lr, grad, "bfloat16"), "bfloat16"), "grad_new": grad}
    assert explained(case, found, inputs) == {"unfused": ("bfloat16",)}


def test_another_kernel_or_core_count():
    case = matmul(cores=2)
    found = explained(case, case.run(kernel="simd_4x8"))
    assert "simd_4x8" in found["kernel"]
    assert "naive" not in found["kernel"]
    case = matmul(kernel="simd_4x8", cores=3)
    found = explained(case, case.run(cores=8))
    assert set(found["cores"]) == {str(cores) for cores in range(7, 17)}


def test_swapped_padding():
    case = conv()
    found = explained(case, case.run(padding=(0, 1, 2, 1)))
    assert found == {"padding": ("up and down",)}
    found = explained(case, case.run(padding=(0, 1, 1, 2)))
    assert found == {"padding": ("up and down, left and right",)}


def lanes(case, inputs, evens, odds):
    """The sum of two lanes, step by step in Python, each term in the order given."""

    def dot(terms):
        a, b = (np.ascontiguousarray(inputs[name][:, terms]) for name in "ab")
        one = golden.case_of("matmul", (len(a), len(terms), len(b)), transpose_b=True)
        how = {"arithmetic": case.arithmetic, "kernel": "naive_m"}
        return one.run({"a": a, "b": b}, **how)["c"]

    return add(dot(evens), dot(odds), arithmetic.get(case.arithmetic).storage)


@pytest.mark.parametrize(
    "choice, evens, odds",
    [
        ("dropped", [0, 2, 4, 6], [1, 3, 5, 7]),
        ("added to lane 1", [0, 2, 4, 6], [1, 3, 5, 7, 8]),
        ("the first of lane 0", [8, 0, 2, 4, 6], [1, 3, 5, 7]),
    ],
)
def test_a_leftover_that_is_handled_otherwise(choice, evens, odds):
    case = matmul()
    inputs = case.inputs()
    c = case.run(inputs)["c"].copy()
    c[:, :6] = lanes(case, inputs, evens, odds)[:, :6]  # the seventh column is no pair
    assert explained(case, {"c": c}, inputs) == {"leftover": (choice,)}


def test_one_core_too_many():
    case = matmul(kernel="naive", cores=4)
    c = case.run()["c"].copy()
    c[12:] = 0  # blocks of ceil(12 / 5) = 3 rows: four of them hold all 12
    assert explained(case, {"c": c}) == {}
    case = matmul(kernel="naive", cores=3)
    c = case.run()["c"].copy()
    c[9:] = 0  # four blocks of 3 rows, three cores
    assert explained(case, {"c": c})["blocks"] == ("one core too many",)


IMAGE = {"x": (8, 6, 7)}
ONE_CORE_TOO_MANY = {  # on 3 cores; what is last of 8 channels, or of so many elements
    "conv2d_forward": ({**IMAGE, "w": (8, 8, 3, 3)}, {"padding": 1, "algorithm": "direct"}, "y"),
    "conv2d_weight_grad": (
        {**IMAGE, "dy": (8, 6, 7)},
        {"kernel_size": 3, "padding": 1, "algorithm": "direct"},
        "dw",
    ),
    "conv2d_input_grad": (
        {"w": (5, 8, 3, 3), "dy": (5, 4, 4)},
        {"input_size": 6, "algorithm": "direct"},
        "dx",
    ),
    "depthwise_forward": ({**IMAGE, "w": (8, 3, 3)}, {"padding": 1}, "y"),
    "avg_pool_forward": (IMAGE, {"kernel_size": 2, "stride": 2}, "y"),
    "max_pool_backward": (
        {**IMAGE, "dy": (8, 3, 3)},
        {"kernel_size": 2, "stride": 2},
        "dx",
    ),
    "linear_weight_grad": ({"x": (9,), "dy": (8,)}, {}, "dw"),
    "relu_forward": (IMAGE, {}, "y"),
    "add": ({"a": (8, 6, 7), "b": (8, 6, 7)}, {}, "y"),
}


@pytest.mark.parametrize("name", list(ONE_CORE_TOO_MANY))
def test_one_core_too_many_of_what_is_no_product(name):
    shapes, parameters, output = ONE_CORE_TOO_MANY[name]
    case = golden.Case(name, shapes, parameters, cores=3, arithmetic="fp16-fma", seed=2)
    y = case.run()[output].copy()
    items = y.reshape(-1) if name in ("relu_forward", "add") else y
    block = -(-len(items) // 4)
    assert len(items[3 * block :])
    items[3 * block :] = 0
    assert explained(case, {output: y}) == {"blocks": ("one core too many",)}


def test_one_core_too_many_leaves_the_last_channels_and_weights():
    shapes = {"x": (6, 7, 8), "w": (8, 3, 3, 8)}
    parameters = {"layout": "HWC", "algorithm": "direct"}
    case = golden.Case("conv2d_forward", shapes, parameters, cores=3)
    y = case.run()["y"].copy()
    y[:, :, 6:] = 0
    assert explained(case, {"y": y}) == {"blocks": ("one core too many",)}
    case = golden.Case("sgd", {"w": (9, 7), "grad": (9, 7)}, {"lr": 0.1}, cores=3)
    inputs = case.inputs()
    new = case.run(inputs)["w_new"].copy()
    new.reshape(-1)[48:] = inputs["w"].reshape(-1)[48:]
    assert explained(case, {"w_new": new}, inputs) == {"blocks": ("one core too many",)}
    gradient = golden.Case(
        "depthwise_input_grad", {"w": (8, 3, 3), "dy": (8, 4, 4)}, {"input_size": 6}, cores=3
    )
    dx = gradient.run()["dx"].copy()
    dx[6:] = 0
    assert explained(gradient, {"dx": dx}) == {}  # every core computes all of it


def test_bias():
    case = golden.Case(
        "linear_forward", {"x": (9,), "w": (6, 9), "bias": (6,)}, arithmetic="fp16-fp32acc", seed=1
    )
    inputs = case.inputs()
    bare = {name: tensor for name, tensor in inputs.items() if name != "bias"}
    without = case.replace(shapes={name: case.shapes[name] for name in bare}).run(bare)
    assert explained(case, without)["bias"] == ("left out",)
    wide = {name: tensor.astype(np.float32) for name, tensor in inputs.items()}
    unrounded = case.replace(arithmetic="fp32").run(wide)["y"].astype(np.float16)
    assert "added before the sum is rounded" in explained(case, {"y": unrounded})["bias"]
    first = np.concatenate([inputs["bias"][:, None], inputs["w"]], axis=1)
    x = np.concatenate([np.ones(1, np.float16), inputs["x"]])
    one = golden.Case("linear_forward", {"x": (10,), "w": (6, 10)}, arithmetic="fp16-fma")
    fused = case.replace(arithmetic="fp16-fma")
    found = explained(fused, one.run({"x": x, "w": first}))
    assert found["bias"] == ("where the sums begin",)


def test_flushed_subnormals():
    case = matmul(arithmetic="fp16-fp32acc").replace(data="subnormals")
    inputs = case.inputs()

    def flush(values):
        tiny = np.abs(values) < np.float16(2**-14)
        return np.where(tiny, np.copysign(np.float16(0), values), values)

    given = {name: flush(tensor) for name, tensor in inputs.items()}
    assert "inputs" in explained(case, case.run(given), inputs)["subnormals"]
    results = {"c": flush(case.run(inputs)["c"])}
    assert "results" in explained(case, results, inputs)["subnormals"]


def test_another_format_of_as_many_bits():
    case = matmul(arithmetic="fp16-fma")
    inputs = case.inputs()
    as_bf16 = {n: from_bits(to_bits(tensor), "bfloat16") for n, tensor in inputs.items()}
    found = explained(case, case.run(as_bf16, arithmetic="bf16-fma"), inputs)
    assert found == {"format": ("bf16-fma",)}


def test_two_changes_at_once():
    case = conv()
    found = explained(case, case.run(padding=(0, 1, 2, 1), arithmetic="fp16-muladd"))
    assert found == {"arithmetic + padding": ("up and down",)}


def test_stale_parameters():
    case = golden.StepCase("tiny_cnn", steps=3, lr=0.5, arithmetic="fp16-fma")
    tensors = {**case.inputs(), **case.run()}
    operation = next(
        op
        for op in case.operations
        if any(name.startswith("step1/parameter") for name in op.inputs.values())
        and op.case.primitive.endswith("forward")
    )
    (own, name) = next((o, n) for o, n in operation.inputs.items() if "parameter" in n)
    stale = {**tensors, name: tensors[name.replace("step1", "step0")]}
    bits = bits_of(operation.run(stale))
    (found,) = explain(operation, tensors, bits)
    assert found.kind == "stale"
    assert found.choices == (name.replace("step1", "step0"),)
    assert own in found.sentence


def cancelling(case):
    """Inputs whose sums lose most of their digits, so that every order shows even in binary32."""
    storage = arithmetic.get(case.arithmetic).storage
    lowest = 20 if storage.name == "bfloat16" else 6
    generator = np.random.default_rng(0)
    inputs = {
        name: generator.standard_normal(shape) * 2.0 ** generator.integers(-lowest, 5, shape)
        for name, shape in case.shapes.items()
    }
    inputs["a"][:, 4:8] = inputs["a"][:, :4]
    inputs["b"][:, 4:8] = -inputs["b"][:, :4]
    inputs["a"][:, 8] /= 64
    return {name: round_to(values, storage) for name, values in inputs.items()}


@pytest.mark.parametrize("name", list(arithmetic.ARITHMETICS))
def test_unlabelled_dumps_are_identified(name):
    """Where kernels sum in the same order they are told together; otherwise the one is found."""
    case = matmul(cores=2).replace(arithmetic=name)
    operation, inputs = operation_of(case), cancelling(case)
    got = {kernel: bits_of(case.run(inputs, kernel=kernel)) for kernel in MATMUL_KERNELS}
    for kernel, bits in got.items():
        found = identify(operation, inputs, bits)
        same = {k for k, other in got.items() if np.array_equal(other["c"], bits["c"])}
        assert found.arithmetics == (name,)
        assert {k for _, k in found.matches} == same
        assert found.is_unique == (len(same) == 1)
        assert kernel in str(found)
        assert ("do not tell them apart" in str(found)) == (len(same) > 1)
    assert len({bits["c"].tobytes() for bits in got.values()}) >= 3  # sequential, split, into 0
    nothing = {"c": got["naive"]["c"] ^ 1}
    assert str(identify(operation, inputs, nothing)) == "no arithmetic and kernel gives these bits"


def test_what_no_data_tell_apart():
    case = golden.Case("matmul", {"a": (4, 1), "b": (6, 1)}, {"transpose_b": True})
    found = identify(operation_of(case), case.inputs(), bits_of(case.run()))
    assert not found.is_unique
    assert {"fp16-fp32acc", "fp16-fma", "fp16-muladd"} <= set(found.arithmetics)
