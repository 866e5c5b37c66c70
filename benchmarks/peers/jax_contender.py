"""The step of jax_privacy, compiled: plain DP-SGD on the same net, weights and batch.

The nets that are a chain of layers are translated layer by layer; the others are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn

from benchmarks.nets import Net

if TYPE_CHECKING:
    from jax import Array

SEQUENTIAL = ("mnist", "cifar", "mlp")
BOUND, MULTIPLIER, RATE = 0.5, 1.0, 0.1


def compiled(net: Net, batch: int) -> Callable[[int], None]:
    """`clipped_grad` under jit, with noise and SGD; it takes microbatches that divide a batch."""
    import jax
    import jax.numpy as jnp
    from jax_privacy.clipping import clipped_grad

    model = net.make()
    assert isinstance(model, nn.Sequential)
    layers = list(model)
    x_B, y_B = (jnp.asarray(v.numpy()) for v in net.batch(batch))
    given = [{n: jnp.asarray(p.detach().numpy()) for n, p in m.named_parameters()} for m in layers]

    def loss(weights: list[dict[str, Array]], x: Array, y: Array) -> Array:
        for layer, own in zip(layers, weights, strict=True):
            x = _apply(layer, own, x)
        return -jax.nn.log_softmax(x)[jnp.arange(len(y)), y].sum()

    def update(size: int) -> Callable[..., Any]:
        clipped = clipped_grad(loss, l2_clip_norm=BOUND, batch_argnums=(1, 2), microbatch_size=size)

        def step(weights: Any, key: Array) -> Any:
            leaves, shape = jax.tree.flatten(clipped(weights, x_B, y_B))
            keys = jax.random.split(key, len(leaves))
            noisy = [
                g + MULTIPLIER * BOUND * jax.random.normal(k, g.shape)
                for g, k in zip(leaves, keys, strict=True)
            ]
            moves = jax.tree.unflatten(shape, noisy)
            return jax.tree.map(lambda w, g: w - RATE * g / batch, weights, moves)

        return jax.jit(step)

    steps: dict[int, Callable[..., Any]] = {}
    state = [given, jax.random.key(0)]

    def step(microbatch: int) -> None:
        if microbatch not in steps:
            steps[microbatch] = update(microbatch)
        state[1], key = jax.random.split(state[1])
        state[0] = jax.block_until_ready(steps[microbatch](state[0], key))

    return step


def _apply(layer: nn.Module, own: dict[str, Array], x: Array) -> Array:
    """One layer of a chain."""
    import jax
    from jax import lax

    match layer:
        case nn.Linear():
            return x @ own["weight"].T + own["bias"]
        case nn.Conv2d():
            pads = [(p, p) for p in layer.padding]  # type: ignore[misc]  # given as numbers here
            y = lax.conv_general_dilated(x, own["weight"], layer.stride, pads)
            return y + own["bias"][:, None, None]
        case nn.ReLU():
            return jax.nn.relu(x)
        case nn.Flatten():
            return x.reshape(len(x), -1)
        case nn.MaxPool2d():
            window, stride = (1, 1, layer.kernel_size, layer.kernel_size), layer.stride
            low = -jax.numpy.inf
            return lax.reduce_window(x, low, lax.max, window, (1, 1, stride, stride), "VALID")
    raise TypeError(f"no translation of {type(layer).__name__}")
