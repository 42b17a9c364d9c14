"""The three steps of every layer of ResNet8, DS-CNN and MobileNetV1-0.25, kernels alone.

A timed call runs a step so often that it has 100 million multiply-accumulates or a few more, a
fifth of that in depthwise layers, or five thousand times if that is less: it takes a millisecond at
least, and large layers compare.
"""

from .common import ARITHMETICS, LAYERS, layer_program


class _Step:
    params = [list(LAYERS), ARITHMETICS]
    param_names = ["layer", "arithmetic"]
    step = ""

    def setup(self, layer, arithmetic):
        self.program = layer_program(layer, self.step, arithmetic)

    def time_kernels(self, layer, arithmetic):
        self.program.run()


class Forward(_Step):
    step = "forward"


class WeightGrad(_Step):
    step = "weight_grad"


class InputGrad(_Step):
    step = "input_grad"


class PublicCall:
    """A few primitives as users call them: what checking, binding and allocating add."""

    params = [["resnet8.stack3_conv2", "ds_cnn.depthwise", "ds_cnn.pointwise", "resnet8.linear"]]
    param_names = ["layer"]

    def setup(self, layer):
        self.function, self.args, self.kwargs = LAYERS[layer].call("forward", ARITHMETICS[0])
        self.function(*self.args, **self.kwargs)

    def time_20_calls(self, layer):
        for _ in range(20):
            self.function(*self.args, **self.kwargs)
