"""What arithmetic costs on a device, and how much of it to do at a time: one table.

The ways to a norm are compared in float32 products (one multiplication and one addition). On a
processor the numbers are measured (docs/speed.md). On a device they follow from its data sheet: a
coordinate of a row that is formed, weighed and reduced moves `BYTES`, at the memory's rate, and a
product in float64 takes what its units take. More numbers at a time there, since a launch costs
microseconds and the memory is large.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

BYTES = 40
"""Of a coordinate: float32 written and read, float64 written, weighed in place, and read."""


@dataclass(frozen=True)
class Costs:
    """One kind of device.

    Args:
        form: to form, weigh and reduce one coordinate of one row, in float32 products.
        double: a product in float64, in float32 products.
        stream: numbers of rows that are worked on at a time.
        store: numbers of one parameter's rows that are kept between norm and sum; more are
            formed twice.
        run: records whose ghost norms or clipped sums are taken at a time, at most.
        outputs: of a layer, whose share in weighted ghost norms is taken at a time.
    """

    form: float
    double: float
    stream: int
    store: int
    run: int
    outputs: int


def _of_data_sheet(float32: float, float64: float, memory: float) -> Costs:
    """From operations and bytes a second."""
    form, double = BYTES * float32 / 2 / memory, max(1.0, float32 / float64)
    return Costs(form=form, double=double, stream=2**26, store=2**26, run=4096, outputs=2**30)


CPU = Costs(form=60, double=2, stream=2**18, store=2**24, run=512, outputs=256)
"""Measured; pieces that stay in cache."""
DATA_CENTRE = _of_data_sheet(67e12, 67e12, 4.8e12)
"""NVIDIA H200. Float32 without TF32, which is refused; float64 by the matrix units."""
DATA_CENTRE_8 = _of_data_sheet(19.5e12, 19.5e12, 2.0e12)
"""NVIDIA A100 80 GB."""
CONSUMER = _of_data_sheet(82.6e12, 1.29e12, 1.0e12)
"""NVIDIA RTX 4090: float64 at 1/64 of float32, as on every device without units for it."""
BY_CAPABILITY = {(8, 0): DATA_CENTRE_8, (9, 0): DATA_CENTRE, (10, 0): DATA_CENTRE}
"""CUDA's compute capabilities with float64 units in full; any other is a `CONSUMER`."""


def costs_of(device: torch.device) -> Costs:
    """Of the device that a step runs on; public."""
    if device.type == "cpu":
        return CPU
    if device.type != "cuda":
        return DATA_CENTRE
    return BY_CAPABILITY.get(torch.cuda.get_device_capability(device), CONSUMER)
