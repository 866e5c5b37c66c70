"""Models by name: the paper's nets, a small one for digits, baselines, and `module:factory`.

Source: arXiv 2507.06525, section 6, and its released code; tempered sigmoids from Papernot,
Thakurta, Song, Chien and Erlingsson (AAAI 2021, arXiv 2007.14191).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from dpigu.dpcore.errors import ModelError, did_you_mean
from dpigu.trainers.code import imported, names_code
from dpigu.trainers.data import DataSpec
from dpigu.trainers.data.sources import is_shape
from dpigu.trainers.models.feature_models import centred_linear, scattering_cnn, scattering_linear
from dpigu.trainers.models.wide_resnet import wide_resnet
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


class TemperedSigmoid(nn.Module):
    """A bounded activation that keeps gradients small.

    φ(x) = s·sigmoid(T·x) − o = (s/2)·tanh(T·x/2) + (s/2 − o), elementwise, any shape

    The second form is what is computed: exact near 0, and exactly tanh at the defaults.

    Args:
        scale: s. temperature: T (inverse). offset: o. s = T = 2, o = 1 is tanh.

    Source: arXiv 2007.14191, section 3.
    """

    def __init__(
        self, *, scale: float = 2.0, temperature: float = 2.0, offset: float = 1.0
    ) -> None:
        super().__init__()
        self.scale, self.temperature, self.offset = scale, temperature, offset

    def forward(self, x: Tensor) -> Tensor:
        bounded = torch.tanh(x * (self.temperature / 2))
        return bounded * (self.scale / 2) + (self.scale / 2 - self.offset)

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}, temperature={self.temperature:g}, offset={self.offset:g}"


def paper_mnist_cnn(spec: DataSpec, activation: Activation = nn.ReLU) -> nn.Module:
    """Return the paper's net for MNIST and FashionMNIST: 26,010 parameters for 10 classes.

    The second convolution is not padded, as in the released code (the paper's table pads 2).
    """
    _require(spec, (1, 28, 28))
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, stride=2, padding=2),
        activation(),
        nn.MaxPool2d(2, stride=1),
        nn.Conv2d(16, 32, 4, stride=2),
        activation(),
        nn.MaxPool2d(2, stride=1),
        nn.Flatten(),
        nn.Linear(512, 32),
        activation(),
        nn.Linear(32, spec.outputs),
    )


def paper_cifar_cnn(spec: DataSpec, activation: Activation = nn.ReLU) -> nn.Module:
    """Return the paper's net for CIFAR-10: 74,362 parameters for 10 classes."""
    _require(spec, (3, 32, 32))
    return nn.Sequential(
        *_conv_block(3, 16, activation),
        *_conv_block(16, 16, activation),
        *_conv_block(16, 32, activation),
        nn.Flatten(),
        nn.Linear(512, 128),
        activation(),
        nn.Linear(128, spec.outputs),
    )


def digits_cnn(spec: DataSpec, activation: Activation = nn.ReLU) -> nn.Module:
    """Return a small net for 8 × 8 digits: 2,730 parameters for 10 classes.

    One convolution only: with 1,500 records at ε = 4 the noise costs more than depth brings.
    """
    _require(spec, (1, 8, 8))
    return nn.Sequential(
        *_conv_block(1, 16, activation), nn.Flatten(), nn.Linear(256, spec.outputs)
    )


def mlp(spec: DataSpec, activation: Activation = nn.ReLU, width: int = 128) -> nn.Module:
    """Return one hidden layer over the flattened record; any shape."""
    inputs = math.prod(spec.shape)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, width), activation(), nn.Linear(width, spec.outputs)
    )


def linear(spec: DataSpec) -> nn.Module:
    """Return one affine map of the flattened record (multinomial regression); any shape."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(spec.shape), spec.outputs))


def tempered(spec: DataSpec) -> nn.Module:
    """Return the net made for records of this shape, with the tempered sigmoid for ReLU."""
    return MODELS[default_model(spec).removesuffix("-tanh") + "-tanh"](spec)


_NETS: Mapping[str, Callable[..., nn.Module]] = {
    "paper-mnist-cnn": paper_mnist_cnn,
    "paper-cifar-cnn": paper_cifar_cnn,
    "digits-cnn": digits_cnn,
    "mlp": mlp,
}

MODELS: Mapping[str, Callable[[DataSpec], nn.Module]] = {
    **_NETS,
    **{f"{name}-tanh": partial(net, activation=TemperedSigmoid) for name, net in _NETS.items()},
    "linear": linear,
    "wrn-10-1": partial(wide_resnet, depth=10, width=1),
    "wrn-16-4": partial(wide_resnet, depth=16, width=4),
    "tempered": tempered,
    "centred-linear": centred_linear,
    "scattering-linear": scattering_linear,
    "scattering-linear-channels": partial(scattering_linear, channels=True),
    "scattering-cnn": scattering_cnn,
    "scattering-cnn-channels": partial(scattering_cnn, channels=True),
}
"""The models that have a name; `…-tanh` has the tempered sigmoid at s = T = 2, o = 1 for ReLU."""


def build_model(name: str, spec: DataSpec, seed: int) -> nn.Module:
    """Build a model on the CPU from public constants and a seed; the global generator stays put.

    Args:
        name: a key of `MODELS`, or `module:factory`: a function or class of yours, found as
            `import module` finds it from the working folder, called with those of `shape`,
            `classes` and `outputs` that its signature names.
        spec: the record's shape and the classes.
        seed: governs public initialisation only.

    Raises:
        ModelError: the name is unknown, the data does not fit the model, or the factory cannot
            be imported, needs other arguments or does not return a module.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if names_code(name):
            offered = {"shape": spec.shape, "classes": spec.classes, "outputs": spec.outputs}
            return model_of(name, offered)
        if name in MODELS:
            _refuse_trees(spec)
            return MODELS[name](spec)
    raise ModelError(
        "unknown model",
        got=name,
        expected=", ".join((*MODELS, "or module:factory")),
        remedy=did_you_mean(name, MODELS)
        or "If it was an object in Python, name a factory that makes it, or one of these.",
    )


def default_model(spec: DataSpec) -> str:
    """Return the name of the model made for records of this shape, else `mlp`."""
    made_for: dict[tuple[int, ...], str] = {
        (1, 28, 28): "paper-mnist-cnn-tanh",
        (3, 32, 32): "paper-cifar-cnn-tanh",
        (1, 8, 8): "digits-cnn",
    }
    return made_for.get(spec.shape, "mlp") if is_shape(spec.shape) else "mlp"


def _conv_block(channels: int, out: int, activation: Activation) -> tuple[nn.Module, ...]:
    """Return a 3 × 3 convolution that keeps the size, the activation, and a pool that halves it."""
    return nn.Conv2d(channels, out, 3, padding=1), activation(), nn.MaxPool2d(2)


def _refuse_trees(spec: DataSpec) -> None:
    if not is_shape(spec.shape):
        raise ModelError(
            "the models that have a name take one tensor a record",
            where=spec.name,
            got=spec.shape,
            remedy="Give a model of your own: the module, or module:factory.",
        )


def _require(spec: DataSpec, shape: tuple[int, ...]) -> None:
    if spec.shape != shape:
        raise ModelError(
            "the model does not fit the data's records",
            where=spec.name,
            got=spec.shape,
            expected=shape,
            remedy=f"Try the `model` {default_model(spec)}.",
        )


def model_of(name: str, offered: Mapping[str, Any]) -> nn.Module:
    """The model of a user's factory, called with those of the arguments that its signature names.

    Args:
        name: `module:factory`.
        offered: some of shape, classes and outputs.

    Raises:
        ModelError: it cannot be imported, needs other arguments or does not return a module.
    """
    factory = imported(name, "model", ModelError)
    try:
        signature = inspect.signature(factory)
        arguments = {key: value for key, value in offered.items() if key in signature.parameters}
        signature.bind(**arguments)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"the model's factory wants other arguments: {error}",
            where=name,
            expected=f"some of {', '.join(offered)}, or none" if offered else "none",
            remedy="Give the others default values.",
        ) from error
    model = factory(**arguments)
    if not isinstance(model, nn.Module):
        raise ModelError(
            "the model's factory did not return a torch.nn.Module", where=name, got=type(model)
        )
    return model
