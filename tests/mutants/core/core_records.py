"""Bugs planted where one record is kept apart from the others."""

from __future__ import annotations

from dpigu.trainers.engines import OneByOneEngine
from dpigu.trainers.engines.capture import Capture
from dpigu.trainers.engines.guards import randomness, rules
from dpigu.trainers.engines.guards.kept import Kept
from dpigu.trainers.engines.guards.watch import Watch
from dpigu.trainers.phases import slots
from hypothesis import strategies as st

from tests.laws.records import test_records_apart as apart
from tests.laws.records.mixing_models import CASES
from tests.mutants.core.core_table import KernelMutant


def on(name: str, engine: str, drop: int = 0) -> dict[str, st.SearchStrategy[object]]:
    """One model of the table, in steps with and without one record."""
    return {
        "case": st.just(CASES[name]),
        "engine": st.just(engine),
        "microbatch": st.just(4),
        "rate": st.just(0.9),
        "drop": st.just(drop),
    }


SAMPLED = "self.record_N[sampler.draw(len(self.record_N), step)]"
MOVED_UP = f"(lambda r: r[r != EMPTY])({SAMPLED})"

MUTANTS = (
    KernelMutant(
        "batches packed by who is there",
        slots.Slots,
        "sample",
        ((SAMPLED, MOVED_UP),),
        apart.law_one_record_moves_the_sum_by_at_most_the_bound,
        {
            **on("dropout", "auto"),
            "microbatch": st.just(8),
        },
    ),
    KernelMutant(
        "a batch as large as there are records",
        slots.Slots,
        "sample",
        ((SAMPLED, MOVED_UP),),
        apart.law_the_size_of_a_batch_has_one_law,
        {"present": st.just(3)},
    ),
    KernelMutant(
        "losses over the largest of the batch",
        Capture,
        "collect",
        (
            (
                "torch.full_like(losses_B, share)",
                "torch.full_like(losses_B, share) / losses_B.detach().amax()",
            ),
        ),
        apart.law_one_record_moves_the_sum_by_at_most_the_bound,
        {**on("plain", "ghost"), "microbatch": st.just(17), "drop": st.integers(0, 12)},
    ),
    KernelMutant(
        "a user's rule under vmap that is let through",
        rules,
        "_refuse",
        (("if own and", "if False and"),),
        apart.law_one_record_moves_the_sum_by_at_most_the_bound,
        on("a rule under vmap that mixes", "materialising"),
    ),
    KernelMutant(
        "one stream of random numbers for all records, one after the other",
        OneByOneEngine,
        "_row",
        (("reseeded(device_of(x))", "torch.no_grad()"),),
        apart.law_one_record_moves_the_sum_by_at_most_the_bound,
        {**on("as many draws as the record says", "one-by-one"), "microbatch": st.just(17)},
    ),
    KernelMutant(
        "masks from a seed that everybody knows",
        randomness,
        "system_seed",
        (("return int(system_words(1)[0]) >> 1", "return 0"),),
        apart.law_nobody_knows_the_masks,
        {"engine": st.just("auto")},
    ),
    KernelMutant(
        "a list that grows, unseen",
        Watch,
        "check",
        (("if changed is None:", "if True:"),),
        apart.law_a_state_is_refused,
        {"name": st.just("a list that grows"), "engine": st.just("auto")},
    ),
    KernelMutant(
        "globals that nobody looks at",
        Kept,
        "_globals",
        (("names = global_names(function.__code__)", "names = set()"),),
        apart.law_a_state_is_refused,
        {"name": st.just("a global that counts"), "engine": st.just("auto")},
    ),
    KernelMutant(
        "what tensors hold, unseen where vmap does not watch",
        Kept,
        "_digest",
        (("zlib.crc32(flat.view(torch.uint8).numpy().data)", "1"),),
        apart.law_a_state_is_refused,
        {
            "name": st.just("a running mean behind a buffer's back"),
            "engine": st.just("one-by-one"),
        },
    ),
)
