"""Pointwise convolutions and fully connected layers, bit for bit."""

from agreement import agree
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import environments, in_layout, kernels, layouts, sizes, small, threads

channels = st.one_of(st.integers(1, 6), st.integers(1, 40))


@settings(max_examples=200)
@given(environments(), layouts, kernels, channels, channels, st.tuples(small, small), threads)
def test_pointwise(environment, layout, kernel, cin, cout, size, num_threads):
    common, array = environment
    x, dy = array(*in_layout(layout, cin, size)), array(*in_layout(layout, cout, size))
    w = array(cout, cin)
    call = {"layout": layout, "kernel": kernel, "num_threads": num_threads, **common}
    agree("pointwise_forward", x, w, **call)
    agree("pointwise_weight_grad", x, dy, **call)
    agree("pointwise_input_grad", w, dy, **call)


@settings(max_examples=200)
@given(environments(), kernels, sizes, sizes, st.booleans(), threads)
def test_linear(environment, kernel, inputs, outputs, biased, num_threads):
    common, array = environment
    x, dy, w = array(inputs), array(outputs), array(outputs, inputs)
    bias = array(outputs) if biased else None
    call = {"kernel": kernel, "num_threads": num_threads, **common}
    agree("linear_forward", x, w, bias, **call)
    agree("linear_weight_grad", x, dy, **call)
    agree("linear_input_grad", w, dy, **call)


@given(environments(), sizes, threads)
def test_linear_bias_grad(environment, outputs, num_threads):
    common, array = environment
    agree("linear_bias_grad", array(outputs), num_threads=num_threads, **common)
