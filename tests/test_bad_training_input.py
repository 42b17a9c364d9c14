"""What training refuses: the message names the argument, what it was and what it may be."""

import numpy as np
import pytest

import pyodl
from pyodl import datasets, models, primitives
from pyodl.fidelity import known_defects
from pyodl.layers import ReLU

NET = models.tiny_cnn()
IMAGES = np.ones((4, *NET.input_shape), np.float32)
LABELS = np.arange(4)


def fit(**changed):
    return pyodl.fit(NET, IMAGES, LABELS, **{"epochs": 1, **changed})


@pytest.mark.parametrize(
    "run, exception, message",
    [
        (lambda: fit(lr=None), TypeError, "lr must be a real number, not NoneType"),
        (lambda: fit(lr=lambda epoch: "x"), TypeError, "lr must be a real number, not str"),
        (lambda: fit(lr=10**400), ValueError, r"lr is 10+; it must be finite in float16"),
        (
            lambda: fit(seed="a"),
            TypeError,
            "seed must be an integer, a .*Generator or None, not str",
        ),
        (lambda: fit(seed=-1), ValueError, "seed is -1; it must be at least 0"),
        (lambda: fit(validation=3), TypeError, r"validation must be \(images, labels\) or None"),
        (lambda: fit(callbacks=3), TypeError, "callbacks must be a list of functions, not int"),
        (lambda: fit(callbacks=[3]), TypeError, r"callbacks\[0\] must be a function, not int"),
        (lambda: models.tiny_cnn(seed=1.5), TypeError, "seed must be an integer, .* not float"),
        (lambda: models.tiny_cnn(seed=-1), ValueError, "seed is -1; it must be at least 0"),
        (
            lambda: pyodl.Network(ReLU(), (3,)),
            TypeError,
            "layers must be a list of layers, not ReLU",
        ),
        (lambda: datasets.load(3), TypeError, "spec must be a string, not int"),
        (lambda: known_defects("matmul", None), TypeError, "shapes must be a list of shapes"),
        (lambda: known_defects("matmul", [8]), TypeError, r"shapes\[0\] must be a tuple of int"),
    ],
)
def test_is_refused(run, exception, message):
    before = {name: array.copy() for name, array in NET.parameters().items()}
    with pytest.raises(exception, match=message):
        run()
    for name, array in NET.parameters().items():
        assert np.array_equal(array, before[name]), f"{name} was changed"


@pytest.mark.parametrize(
    "run",
    [
        lambda net: pyodl.train_step(net, IMAGES[0], 1),
        lambda net: pyodl.fit(net, IMAGES, LABELS, epochs=1),
        lambda net: pyodl.evaluate(net, IMAGES, LABELS),
        pyodl.profile,
        pyodl.tune,
    ],
)
def test_no_network(run):
    with pytest.raises(TypeError, match=r"net must be a pyodl\.Network, not str"):
        run("resnet8")


def test_an_integer_beyond_binary64_is_not_finite():
    with pytest.raises(ValueError, match=r"slope is -10+; it must be finite in float16"):
        primitives.leaky_relu_forward(np.ones(3, np.float16), slope=-(10**400))
