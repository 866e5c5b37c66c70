"""Where the time of our step goes (`python -m benchmarks.parts --net mlp --batch 1000`).

Medians over rounds, over the non-private step of the same batch in one piece: forward and
backward to the layers' outputs; norms; clipped sums; and the rest of the step, which is the
guard, noise, posts, the stages' updates and SGD. Every part but the rest grows with the batch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from dpigu.trainers.engines import GhostEngine
from dpigu.trainers.engines.capture import Capture
from dpigu.trainers.engines.ghost import GhostRows

from benchmarks.nets import NETS
from benchmarks.peers.contenders import non_private, ours
from benchmarks.step import CLOCKS

PARTS = ("forward and backward", "norms", "clipped sums", "rest")


class Watch:
    """Adds up the time spent inside named functions, less that of the functions inside them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._clock, self._inside = clock, [0.0]

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = self._clock()
        self._inside.append(0.0)
        yield
        whole = self._clock() - start
        self.spent[part] += whole - self._inside.pop()
        self._inside[-1] += whole

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self(part):
                return function(*args, **kwargs)

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=sorted(NETS), required=True)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--microbatch", type=int)
    parser.add_argument("--preset", default="adadpigu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clock, size = CLOCKS[given.clock], given.microbatch or given.batch
    watch = Watch(clock)
    collect = Capture.collect

    def collected(
        self: Capture, *given: Any, finish: Callable[..., None], share: float = 1.0
    ) -> None:
        with watch("forward and backward"):
            collect(self, *given, finish=watch.around("norms", finish), share=share)

    Capture.collect = collected  # type: ignore[assignment, method-assign]  # timed
    GhostEngine.rows = watch.around("norms", GhostEngine.rows)  # type: ignore[method-assign]  # timed
    for name, part in (("norm_upper_bounds", "norms"), ("weighted_sum", "clipped sums")):
        setattr(GhostRows, name, watch.around(part, getattr(GhostRows, name)))
    plain, step = non_private()(NETS[given.net], given.batch), ours(given.preset, True)
    private = step(NETS[given.net], given.batch)
    plain(given.batch)
    private(size)
    rounds = []
    for _ in range(given.rounds):
        start = clock()
        plain(given.batch)
        whole = clock() - start
        watch.spent.clear()
        with watch("rest"):
            private(size)
        rounds.append({part: watch.spent[part] / whole for part in PARTS})
    medians = {part: round(statistics.median(r[part] for r in rounds), 3) for part in PARTS}
    if given.json:
        print(json.dumps(medians))
        return
    print(
        f"{given.net}, {given.preset}, batch {given.batch} in microbatches of {size}; "
        f"non-private step in one piece = 1"
    )
    for part, value in medians.items():
        print(f"{part:22} {value:6.2f}")
    print(f"{'together':22} {sum(medians.values()):6.2f}")


if __name__ == "__main__":
    main()
