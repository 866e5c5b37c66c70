"""The step benchmark measures what it says: rows, ratios, memory, and the table drawn from them."""

from __future__ import annotations

import json
import mmap
import platform
import time

import torch

from benchmarks import draw
from benchmarks.counts.steps import DEVICES, Cost, Watch, allowed
from benchmarks.machine import describe_machine, memory_of_this_process
from benchmarks.peers.contenders import CONTENDERS
from benchmarks.step import near, race, rows, sizes_of

FIELDS = [
    "pipeline",
    "engine",
    "library",
    "physical_batch",
    "seconds",
    "ratio",
    "ratio_best",
    "peak_bytes",
]


def test_a_race_has_a_row_for_every_contender_of_ours() -> None:
    times, left_out = race("mnist", 8, (4,), 1, 60.0, ("torch", "dpigu"), time.perf_counter, 0.0)
    table = list(rows("mnist", 8, times, until=0.0))
    assert left_out == []
    assert [list(row) for row in table] == [FIELDS] * len(table)
    names = {(r["pipeline"], r["library"], r["engine"]) for r in table}
    assert names == {
        (c.pipeline, c.library, c.engine) for c in CONTENDERS if c.library in ("torch", "dpigu")
    }
    assert {at for at, _ in times} == set(range(6)) and (0, 8) in times
    assert {size for _, size in times} <= {4, 8} and {len(of) for of in times.values()} == {1}


def test_sizes_that_were_slow_at_first_run_no_rounds_but_the_yardstick() -> None:
    first = {(0, 8): 3.0, (0, 4): 1.0, (2, 8): 1.0, (2, 4): 1.2, (2, 2): 1.4}
    assert near(first, 8) == [(0, 8), (0, 4), (2, 8), (2, 4)]


def test_ratios_are_of_times_of_the_same_round_and_a_row_is_the_fastest_size() -> None:
    """Exactly: the contender takes 3 and 2 times as long in rounds of 1 s and of 10 s."""
    times = {(0, 8): [1.0, 10.0, 1.0], (0, 4): [0.5, 5.0, 0.5]}
    times |= {(2, 8): [9.0, 90.0, 9.0], (2, 4): [3.0, 20.0, 3.0]}
    plain, ours = rows("mnist", 8, times, until=0.0)
    assert (plain["physical_batch"], plain["ratio"], plain["ratio_best"]) == (4, 0.5, 1.0)
    assert (ours["physical_batch"], ours["seconds"]) == (4, 3.0)
    assert (ours["ratio"], ours["ratio_best"]) == (3.0, 6.0)


def test_a_cost_is_what_was_counted_and_lies_on_the_line_through_two_batches() -> None:
    """3 × 4 times 4 × 5 is 120 operations. 32 numbers are made and read, 15 written; in float32 the
    32 are made twice and read once more, in float64 made of them: 143 and 79 numbers."""
    with Watch() as watch:
        torch.ones(3, 4) @ torch.ones(4, 5)
        torch.ones(3, 4).double() @ torch.ones(4, 5).double()
    found = Cost.of(watch.counts)
    assert (found.products, found.products64) == (120, 120)
    assert (found.launches, found.bytes, found.bytes64) == (8, 143 * 4, 79 * 8)
    one, twice = Cost(10, 0, 100, 8, 3), Cost(18, 0, 150, 8, 4)
    assert one.at(40, 10, twice) == Cost(34, 0, 250, 8, 6)
    plain = {"non-private": Cost(10, 0, 1, 0, 1), "dpsgd": Cost(9, 3, 1, 0, 1)}
    assert allowed(plain, "dpsgd") == 1.5
    slow = DEVICES[-1]
    assert Cost(0, slow.float64, 0, 0, 0).on(slow) == 1.0 == Cost(0, 0, slow.memory, 0, 9).on(slow)


def test_rows_that_do_not_fit_into_memory_are_not_tried() -> None:
    whole = next(c for c in CONTENDERS if c.matrices)
    assert sizes_of(whole, 100, (10,), 1) == [10, 100]
    assert sizes_of(whole, 100, (10,), 2**50) == []
    peer = next(c for c in CONTENDERS if c.library == "jax_privacy")
    assert sizes_of(peer, 100, (30, 50), 1) == [50, 100]


def test_peak_memory_is_seen_after_it_was_let_go() -> None:
    """To the few pages by which the kernel counts late."""
    before, _ = memory_of_this_process(reset=True)
    with mmap.mmap(-1, 2**26) as held:
        held.write(bytes(2**26 - 1) + b"1")
        now, _ = memory_of_this_process()
        assert now - before > 60 * 2**20
    after, peak = memory_of_this_process()
    assert peak > now - 2**20 > after


def test_the_table_is_drawn_from_what_the_step_benchmark_wrote() -> None:
    """And from nothing else that is kept beside it."""
    found = draw.results()
    assert {r["net"] for r in found} == set(draw.NETS) and len(found) >= len(draw.NETS)


def test_the_table_names_the_machine_but_not_its_name() -> None:
    about = describe_machine(2)
    assert platform.node() not in json.dumps(about)
    row = dict(zip(FIELDS, ("adadpigu", "ghost", "dpigu", 4, 0.5, 1.5, 1.25, 2**20), strict=True))
    result = {
        "command": "python -m benchmarks.step",
        "net": "mnist",
        "batch": 8,
        "rounds": 1,
        "clock": "wall",
        "machine": about,
        "load": [0.1, 0.2],
        "left_out": ["a peer: a step would pass 9 s"],
        "rows": [row],
    }
    text = draw.table([result])
    cells = ("adadpigu", "dpigu, ghost", "4", "0.500", "1.50", "1.25", "1")
    assert "| " + " | ".join(f"**{cell}**" for cell in cells) + " |" in text
    assert "would pass 9 s" in text and "load average 0.1 before" in text
    assert draw.machine([result, result]).count("GiB") == 1
