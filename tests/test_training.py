"""Training: gradients of batches, orders, resuming, and what is refused."""

import numpy as np
import pytest

import pyodl
from pyodl import formats
from pyodl import primitives as P
from pyodl.layers import Conv2D, Flatten, Linear, ReLU
from pyodl.models import tiny_cnn


def small(arithmetic="fp16-fp32acc", seed=0):
    layers = [Conv2D(3, 3, name="conv"), ReLU(), Flatten(), Linear(4, name="fc")]
    return pyodl.Network(layers, (1, 5, 5), arithmetic=arithmetic, seed=seed)


def some_data(count=10, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((count, 1, 5, 5)), generator.integers(0, 4, count)


def bits(net):
    return {name: formats.to_bits(array).tolist() for name, array in net.parameters().items()}


def stored(net, images):
    return formats.round_to(images, net.arithmetic.storage)


@pytest.mark.parametrize("arithmetic", ["fp16-fp32acc", "fp16-muladd", "bf16-fma", "fp32"])
def test_fit_is_a_chain_of_steps(arithmetic):
    images, labels = some_data()
    net, steps = small(arithmetic), small(arithmetic)
    history = pyodl.fit(net, images, labels, epochs=2, lr=lambda epoch: 0.1 / (epoch + 1), seed=4)
    generator = np.random.default_rng(4)
    losses = [
        pyodl.train_step(steps, stored(steps, images)[i], int(labels[i]), lr=0.1 / (epoch + 1))
        for epoch in range(2)
        for i in generator.permutation(len(images))
    ]
    assert bits(net) == bits(steps)
    assert history.step_loss == losses
    assert history.train_loss == [sum(losses[:10]) / 10, sum(losses[10:]) / 10]
    assert history.learning_rate == [0.1, 0.05]
    assert history.seconds_per_step > 0


@pytest.mark.parametrize("arithmetic", ["fp16-fp32acc", "bf16-fp32acc", "fp32"])
@pytest.mark.parametrize("accumulate", ["storage", "fp32"])
def test_a_batch_adds_up_gradients(arithmetic, accumulate):
    images, labels = some_data(7)
    net, single = small(arithmetic), small(arithmetic)
    how = {"arithmetic": arithmetic}
    rates = {"lr": 0.5, "weight_decay": 0.01}
    batches = {"batch_size": 4, "accumulate": accumulate}
    pyodl.fit(net, images, labels, epochs=1, seed=2, **rates, **batches)
    order = np.random.default_rng(2).permutation(7)
    x = stored(single, images)
    w = {name: array.copy() for name, array in single.parameters().items()}
    for batch in (order[:4], order[4:]):
        sums = {}
        for i in batch:
            for name, array in single.parameters().items():
                array[...] = w[name]
            pyodl.train_step(single, x[i], int(labels[i]), lr=0.0)
            for name, gradient in single.gradients().items():
                wide = gradient.astype(np.float32) if accumulate == "fp32" else gradient.copy()
                if name not in sums:
                    sums[name] = wide
                elif accumulate == "fp32":
                    sums[name] = sums[name] + wide
                else:
                    sums[name] = P.add(sums[name], wide, **how)
        n = len(batch)
        for name, total in sums.items():
            gradient = stored(single, total)
            w[name] = P.sgd(w[name], gradient, 0.5 / n, 0.01 * n, **how)[0]
    assert bits(net) == {name: formats.to_bits(array).tolist() for name, array in w.items()}


@pytest.mark.usefixtures("threads_for_everything")
def test_threads_change_no_bit_in_batches():
    images, labels = some_data()
    nets = []
    for threads in (1, 2, 7):
        net = small()
        pyodl.fit(net, images, labels, epochs=2, batch_size=3, num_threads=threads)
        nets.append(bits(net))
    assert nets[0] == nets[1] == nets[2]


def test_seeds():
    images, labels = some_data()
    results = []
    for seed in (1, np.random.default_rng(1), 2):
        net = small()
        pyodl.fit(net, images, labels, epochs=1, seed=seed)
        results.append(bits(net))
    assert results[0] == results[1] != results[2]


@pytest.mark.parametrize("stop", [1, 10, 14])
def test_an_interrupted_run_goes_on_with_the_same_bits(stop):
    images, labels = some_data()
    run = {"epochs": 3, "lr": lambda epoch: 0.1 / (epoch + 1), "seed": 5}
    whole, parts = small(), small()
    pyodl.fit(whole, images, labels, **run)
    seen = []

    def interrupt(progress):
        seen.append(progress)
        if len(seen) == stop:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        pyodl.fit(parts, images, labels, **run, progress=interrupt)
    assert seen[-1].epoch * 10 + seen[-1].image == stop
    pyodl.fit(parts, images, labels, **run, first_image=stop)
    assert bits(parts) == bits(whole)


def test_callbacks_and_validation():
    images, labels = some_data()
    calls = []
    history = pyodl.fit(
        *(small(), images, labels),
        epochs=2,
        validation=(images, labels),
        callbacks=[lambda net, history: calls.append((net, len(history.train_loss)))],
    )
    assert [count for _, count in calls] == [1, 2]
    assert history.validation_accuracy[-1] == pyodl.evaluate(calls[-1][0], images, labels)


def test_progress_is_shown_once_an_epoch_where_there_is_no_terminal(capsys):
    images, labels = some_data()
    pyodl.fit(small(), images, labels, epochs=2, progress=True, validation=(images, labels))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "loss" in lines[0]
    assert "held-out accuracy" in lines[0]


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "l1", "berhu"])
def test_losses(loss):
    net = small()
    x, target = stored(net, some_data()[0])[0], np.array([0, 0.25, 0.75, 0], np.float16)
    output = net.forward(x)
    stored_loss = pyodl.train_step(net, x, target, loss=loss, lr=0.1)
    assert stored_loss == float(getattr(P, loss)(output, target))
    (gradient,) = (net.output_gradients()["fc"],)
    assert (gradient == getattr(P, f"{loss}_grad")(output, target)).all()
    images = np.repeat(x[None], 30, axis=0)
    history = pyodl.fit(net, images, np.repeat(target[None], 30, axis=0), epochs=1, loss=loss)
    assert history.step_loss[-1] <= history.step_loss[0]


def test_it_learns():
    train, test = pyodl.datasets.digits((1, 8, 8)).split()
    net = tiny_cnn()
    pyodl.fit(net, train.images, train.labels, epochs=2, lr=0.02)
    assert pyodl.evaluate(net, test.images, test.labels) > 0.9


def refused(call, steps=0):
    """Return the exception of a call that must change nothing, after so many steps."""
    net = small()
    for _ in range(steps):
        pyodl.train_step(net, np.ones((1, 5, 5), np.float16), 1)
    before, tensors = bits(net), {n: a.copy() for n, a in net.activations().items()}
    try:
        call(net)
    except (TypeError, ValueError) as error:
        assert bits(net) == before
        assert all((a == tensors[n]).all() for n, a in net.activations().items())
        return f"{type(error).__name__}: {error}"
    return "nothing"


X = np.zeros((1, 5, 5), np.float16)


@pytest.mark.parametrize(
    "target,how,message",
    [
        (4, {}, "ValueError: target is 4; it must be below 4, the classes"),
        (-1, {}, "ValueError: target is -1"),
        (1.0, {}, "TypeError: target must be an integer"),
        (float("nan"), {}, "TypeError: target must be an integer"),
        (np.array([0, np.nan, 0, 1], np.float16), {}, "ValueError: target has an infinity or NaN"),
        (np.zeros(3, np.float16), {}, "ValueError: target has shape"),
        (np.zeros(4, np.float32), {}, "TypeError: target has dtype float32"),
        (1, {"loss": "hinge"}, "ValueError: loss is 'hinge'; it may be one of cross_entropy"),
        (1, {"lr": -0.1}, "ValueError: lr is -0.1; it must be at least 0"),
        (1, {"lr": 1e9}, "ValueError: lr is"),
        (1, {"lr": "fast"}, "TypeError: lr must be a real number"),
        (1, {"weight_decay": float("nan")}, "ValueError: weight_decay is nan"),
        (1, {"num_threads": 0}, "ValueError: num_threads is 0"),
    ],
)
@pytest.mark.parametrize("before", [0, 2])
def test_steps_that_are_refused(target, how, message, before):
    """Also after others: what has been checked already is not checked again."""
    said = refused(lambda net: pyodl.train_step(net, X, target, **how), before)
    assert said.startswith(message)


@pytest.mark.parametrize(
    "x, message",
    [
        (np.zeros((1, 5, 5), np.float32), "TypeError: x has dtype float32"),
        (np.zeros((1, 5, 5), ">f2"), "TypeError: x has dtype >f2"),
        (np.zeros((1, 5, 5), np.uint16), "TypeError: x has dtype uint16"),
        (np.zeros((5, 5), np.float16), "ValueError: x has "),
        (np.zeros((1, 25), np.float16), "ValueError: x has "),
        (np.zeros((1, 5, 6), np.float16), "ValueError: x has shape (1, 5, 6)"),
        (np.zeros((1, 5, 10), np.float16)[..., ::2], "ValueError: x is not C-contiguous"),
        (memoryview(np.zeros((1, 5, 5), np.float16)), "TypeError: x must be a numpy.ndarray"),
        (None, "TypeError: x must be a numpy.ndarray"),
    ],
)
@pytest.mark.parametrize("before", [0, 2])
def test_inputs_that_are_refused(x, message, before):
    said = refused(lambda net: pyodl.train_step(net, x, 1), before)
    assert said.startswith(message)


def copy_of(net):
    """Return a network with the same parameters that has not taken a step."""
    copy = small(net.arithmetic.name)
    for name, array in copy.parameters().items():
        array[...] = net.parameters()[name]
    return copy


@pytest.mark.parametrize("arithmetic", ["fp16-fp32acc", "bf16-fma", "fp32"])
def test_settings_are_those_of_the_call(arithmetic):
    """Steps whose settings, inputs and programs change have the bits of a network that is new."""
    net = small(arithmetic)
    images, labels = some_data(4)
    inputs = stored(net, images)
    rate = np.array(0.5, inputs.dtype)  # a number that can change in place
    calls = [("cross_entropy", 0.1), ("cross_entropy", 0.1), ("mse", 0.5), ("cross_entropy", rate)]
    for image, label, (loss, lr) in zip(inputs, labels, calls, strict=True):
        fresh = copy_of(net)
        one_hot = (np.arange(4) == label).astype(image.dtype)
        expected = pyodl.train_step(fresh, image, one_hot, loss=loss, lr=float(lr))
        assert pyodl.train_step(net, image, int(label), loss=loss, lr=lr) == expected
        assert bits(net) == bits(fresh)
    rate[...] = 0.25
    fresh = copy_of(net)
    pyodl.train_step(net, inputs[0], 1, lr=rate)
    pyodl.train_step(fresh, inputs[0], 1, lr=0.25)
    assert bits(net) == bits(fresh)
    pyodl.train_step(net, inputs[0], 2, lr=0.1)
    pyodl.fit(net, images, labels, epochs=1, batch_size=2, lr=0.25)
    fresh = copy_of(net)
    for either in (net, fresh):
        pyodl.train_step(either, inputs[0], 2, lr=0.1)
    assert bits(net) == bits(fresh)


IMAGES, LABELS = some_data(4)


@pytest.mark.parametrize(
    "images,labels,how,message",
    [
        (IMAGES[:, 0], LABELS, {}, "ValueError: images have shape (4, 5, 5); it must be (N, 1,"),
        (IMAGES.tolist(), LABELS, {}, "TypeError: images must be a numpy.ndarray, not list"),
        (IMAGES[:0], LABELS[:0], {}, "ValueError: images have shape (0,"),
        (IMAGES * 1e6, LABELS, {}, "ValueError: images have an infinity or NaN in float16"),
        (IMAGES, LABELS[:2], {}, "ValueError: there are 2 labels for 4 images"),
        (IMAGES, LABELS + 4, {}, "ValueError: the largest label is"),
        (IMAGES, LABELS - 1, {}, "ValueError: the smallest label is -1"),
        (IMAGES, LABELS * 1.0, {}, "ValueError: labels have dtype float64 and shape (4,)"),
        (IMAGES, np.full((4, 4), np.nan), {}, "ValueError: labels have an infinity or NaN"),
        (IMAGES, LABELS, {"epochs": 0}, "ValueError: epochs is 0"),
        (IMAGES, LABELS, {"batch_size": 0}, "ValueError: batch_size is 0"),
        (IMAGES, LABELS, {"accumulate": "fp64"}, "ValueError: accumulate is 'fp64'"),
        (IMAGES, LABELS, {"progress": 3}, "TypeError: progress must be a bool"),
        (IMAGES, LABELS, {"validation": (IMAGES, LABELS + 9)}, "ValueError: the largest label"),
    ],
)
def test_fits_that_are_refused(images, labels, how, message):
    said = refused(lambda net: pyodl.fit(net, images, labels, **{"epochs": 1, **how}))
    assert said.startswith(message)
