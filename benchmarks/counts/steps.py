"""Products, bytes and launches of a step, by dtype: without privacy, dpsgd and adadpigu.

    python -m benchmarks.counts.steps --net mnist --batch 1000

Every operation of a step is counted in small batches of b and 2b; what grows with the batch and
what does not is then known, and told for the batch that was asked for. Beside each pipeline stands
what its counts allow: products over those of the step without privacy, a product in float64 counted
twice, as a processor's vector units take it; and on paper, for three devices, products or bytes,
whichever takes longer at the rate of the data sheet. Launches come on top where the host does not
run ahead, and noise, which is drawn on the host.

What is counted is the processor's way through the engine: a device forms more records at a time, in
fewer launches. Attention's own products are not seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.counts.counting import Counts
from benchmarks.nets import NETS
from benchmarks.peers.contenders import Step, non_private, ours

PIPELINES = {
    "non-private": non_private(),
    "dpsgd": ours("dpsgd", True),
    "adadpigu": ours("adadpigu", True),
}


class Device(NamedTuple):
    """Rates of a data sheet: operations and bytes a second, without sparsity or TF32."""

    name: str
    float32: float
    float64: float
    memory: float


DEVICES = (
    Device("H200", 67e12, 67e12, 4.8e12),
    Device("A100 80 GB", 19.5e12, 19.5e12, 2.0e12),
    Device("RTX 4090", 82.6e12, 1.29e12, 1.0e12),
)
"""Float64 by its matrix units, where a device has them. Sources: NVIDIA's data sheets of the H200
and the A100, and the white paper on Ada (float64 at 1/64 of float32)."""


class Watch(TorchDispatchMode):
    """Counts every operation while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        self.counts.add(func, name, (*args, *(kwargs or {}).values()), out)
        return out


@dataclass(frozen=True)
class Cost:
    """Of one step: operations of products and bytes, float64's apart; and launches."""

    products: float
    products64: float
    bytes: float
    bytes64: float
    launches: float

    @classmethod
    def of(cls, counts: Counts) -> Cost:
        products, moved = counts.multiplied, counts.moved
        wide = products[torch.float64], moved[torch.float64]
        return cls(
            sum(products.values()) - wide[0],
            wide[0],
            sum(moved.values()) - wide[1],
            wide[1],
            counts.launches,
        )

    def at(self, batch: int, small: int, twice: Cost) -> Cost:
        """On the line through this one, of a batch of `small`, and that of twice as many."""
        share = batch / small - 1
        pairs = zip(vars(self).values(), vars(twice).values(), strict=True)
        return Cost(*(one + share * (other - one) for one, other in pairs))

    def on(self, device: Device) -> float:
        """Seconds: products or bytes, whichever is more."""
        products = self.products / device.float32 + self.products64 / device.float64
        moved = (self.bytes + self.bytes64) / device.memory
        return max(products, moved)


def counted(step: Step, batch: int) -> Cost:
    """The third step's: the first ones look at the model."""
    for _ in range(2):
        step(batch)
    with Watch() as watch:
        step(batch)
    return Cost.of(watch.counts)


def costs(net: str, batch: int, small: int) -> dict[str, Cost]:
    """Of every pipeline, at this batch."""

    def of(prepare: Callable[..., Step]) -> Cost:
        one, twice = (counted(prepare(NETS[net], n), n) for n in (small, 2 * small))
        return one.at(batch, small, twice)

    return {name: of(prepare) for name, prepare in PIPELINES.items()}


def allowed(found: dict[str, Cost], name: str) -> float:
    """Products over those of the step without privacy; float64 counts twice."""
    plain, own = found["non-private"], found[name]
    return (own.products + 2 * own.products64) / (plain.products + 2 * plain.products64)


def lines(found: dict[str, Cost]) -> Iterable[str]:
    titles = ("pipeline", "products, 10⁹", "in float64", "bound", "MB", "in float64", "launches")
    yield "| " + " | ".join((*titles, *(f"{d.name}, ms" for d in DEVICES))) + " |"
    yield "|---" + "|--:" * (len(titles) - 1 + len(DEVICES)) + "|"
    for name, cost in found.items():
        products, moved = cost.products + cost.products64, cost.bytes + cost.bytes64
        cells = [name, f"{products / 1e9:.1f}", f"{100 * cost.products64 / products:.0f} %"]
        cells += [f"{allowed(found, name):.2f}", f"{moved / 1e6:.0f}"]
        cells += [f"{100 * cost.bytes64 / moved:.0f} %", f"{cost.launches:.0f}"]
        cells += [f"{1e3 * cost.on(device):.2f}" for device in DEVICES]
        yield "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=sorted(NETS), required=True)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--small", type=int, default=16, help="b, the batch that is counted")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = costs(given.net, given.batch, given.small)
    if given.json:
        print(json.dumps({name: vars(cost) for name, cost in found.items()}))
        return
    print(f"{given.net}, batch {given.batch} in one piece, by count\n")
    print("\n".join(lines(found)))


if __name__ == "__main__":
    main()
