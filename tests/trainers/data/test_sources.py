"""Every source gives the records that lie in it, by index, and tells nothing when one is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dpigu.dpcore import RunError
from dpigu.dpcore.errors import DataError
from dpigu.trainers import Arrays, Data, Tensors, data_from
from dpigu.trainers.data.overlap import split_fingerprints
from dpigu.trainers.phases.reading import Records
from dpigu.trainers.phases.slots import microbatches
from dpigu.trainers.tasks.losses import cross_entropy, weighted
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._pytree import tree_leaves

from tests.support.zoo.task_zoo import HELD, IDS, LABELS, LENGTH, Items, N, X, both, items, mapped

CPU = torch.device("cpu")


def sources(folder: Path) -> dict[str, Data]:
    """The same records in memory, on the disk and in a data set."""
    given = {
        "memory": both(X, LABELS),
        "disk": mapped(folder, X, LABELS),
        "items": items(Items, X, LABELS),
        "lists": both(X.tolist(), LABELS.tolist()),
    }
    return {name: data_from(**g, records=N, classes=2) for name, g in given.items()}


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Data]:
    return sources(tmp_path_factory.mktemp("sources"))


@settings(max_examples=20)
@given(at=st.lists(st.integers(0, N - 1), max_size=9))
def test_a_source_gives_what_was_asked_for_in_that_order(
    same: dict[str, Data], at: list[int]
) -> None:
    for data in same.values():
        x_B, y_B = data.train.read(np.array(at, dtype=np.int64))
        assert x_B.numpy().tolist() == X[at].tolist() and y_B.tolist() == LABELS[at].tolist()
        assert (x_B.dtype, y_B.dtype) == (torch.float32, torch.int64)


def test_what_is_known_of_records_does_not_depend_on_where_they_lie(same: dict[str, Data]) -> None:
    specs = {data.spec for data in same.values()}
    prints = {split_fingerprints(b"k", d, "training").tobytes() for d in same.values()}
    assert len(specs) == len(prints) == 1


@pytest.mark.parametrize("workers", (0, 1))
@settings(max_examples=10, deadline=None)
@given(at=st.lists(st.integers(-1, N - 1), min_size=1, max_size=20), size=st.integers(1, 7))
def test_microbatches_are_the_same_from_every_source(
    same: dict[str, Data], workers: int, at: list[int], size: int
) -> None:
    """The records of sampled slots at their places, the stand-in where nobody is."""
    stand_in = torch.full((1, X.shape[1]), -7.0), torch.zeros(1, dtype=torch.int64)
    wanted = [X[i] if i >= 0 else stand_in[0][0].numpy() for i in at]
    for data in (same["memory"], same["disk"]):
        reader = Records(data, CPU, stand_in, workers if len(at) > 15 else 0)
        sampled = microbatches(np.array(at), size, reader.home)
        found = [(x_B, valid_B) for x_B, _, valid_B in reader.microbatches(sampled)]
        x, valid = (torch.cat(column) for column in zip(*found, strict=True))
        assert np.array_equal(x[: len(at)].numpy(), np.stack(wanted))
        assert valid[: len(at)].tolist() == [i >= 0 for i in at] and not valid[len(at) :].any()


WRONG: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "not finite": (lambda x: np.where(x == x[7, 3], np.inf, x), "input is not finite"),
    "another shape": (lambda x: x[:, :2], "another shape|shape of a record"),
    "another type": (lambda x: (x > 0).astype(np.int32), "another shape or type|differ in type"),
}


@pytest.mark.parametrize("kind", ("disk", "items"))
@pytest.mark.parametrize("mistake", WRONG)
def test_a_record_that_does_not_fit_is_one_line_without_a_value(
    tmp_path: Path, kind: str, mistake: str
) -> None:
    change, said = WRONG[mistake]
    given = mapped(tmp_path, X, LABELS) if kind == "disk" else items(Items, X, LABELS)
    np.save(tmp_path / "wrong.npy", change(X[:N]))
    wrong = np.load(tmp_path / "wrong.npy", mmap_mode="r")
    given["train"] = (wrong, LABELS[:N]) if kind == "disk" else Items(wrong, LABELS[:N])
    with pytest.raises(DataError, match=said) as refused:
        list(data_from(**given, records=N, classes=2).batches("training"))
    line = str(refused.value)
    assert "\n" not in line and "7" not in line and "inf" not in line.replace("info", "")


def test_records_that_change_while_a_run_goes_on_end_it_in_one_line(tmp_path: Path) -> None:
    given = mapped(tmp_path, X, LABELS)
    data = data_from(**given, records=N, classes=2)
    reader = Records(data, CPU, (torch.zeros(1, X.shape[1]), torch.zeros(1, dtype=torch.int64)))
    writable = np.load(tmp_path / "1.npy", mmap_mode="r+")
    writable[3] = 9
    writable.flush()
    with pytest.raises(RunError, match="as they could when the run was prepared") as refused:
        list(reader.microbatches(microbatches(np.arange(8), 4, CPU)))
    assert "9" not in str(refused.value)


@given(lengths=st.lists(st.integers(1, 9), min_size=2, max_size=8), length=st.integers(1, 9))
def test_padding_keeps_what_fits_and_the_mask_says_where_it_is(
    lengths: list[int], length: int
) -> None:
    """The real tokens in front, then the padding token; targets −100; longer ones are cut."""
    sequences = [[100 * i + t for t in range(n)] for i, n in enumerate(lengths)]
    data = data_from(
        train=(sequences, sequences),
        test=(sequences, sequences),
        records=9,
        classes=1000,
        task="masked-lm",
        pad_to=length,
        pad_token=999,
    )
    (ids, mask), y = data.train.x, data.train.y
    assert ids.shape == mask.shape == y.shape == (len(lengths), length)
    for i, n in enumerate(lengths):
        kept = min(n, length)
        assert mask[i].tolist() == [True] * kept + [False] * (length - kept)
        assert ids[i][mask[i]].tolist() == sequences[i][:length] == y[i][mask[i]].tolist()
        assert ids[i][~mask[i]].tolist() == [999] * (length - kept)
        assert y[i][~mask[i]].tolist() == [-100] * (length - kept)


def test_a_mask_that_is_there_is_kept_and_named() -> None:
    rows = {"input_ids": [[1, 2], [3]], "attention_mask": [[1, 0], [1]]}
    data = data_from(
        train=rows, test=rows, records=2, classes=9, task="causal-lm", pad_to=3, pad_token=8
    )
    assert data.train.x["attention_mask"].tolist() == [[1, 0, 0], [1, 0, 0]]
    assert data.train.x["input_ids"].tolist() == [[1, 2, 8], [3, 8, 8]]


def test_a_memory_map_stays_on_the_disk(same: dict[str, Data]) -> None:
    assert isinstance(same["disk"].train, Arrays) and isinstance(same["memory"].train, Tensors)
    assert isinstance(same["disk"].train.x, np.memmap)
    with pytest.raises(DataError, match="records in memory"):
        _ = same["disk"].train_x


def test_shapes_come_from_the_held_out_split_and_nothing_from_the_training_split() -> None:
    class Closed(Items):
        def __getitem__(self, i: int) -> Any:
            raise AssertionError("a training record was looked at")

    data = data_from(train=Closed(X), test=Items(X[N:], LABELS[N:]), records=N, classes=2)
    assert data.spec.shape == X.shape[1:] and data.spec.target == ()
    assert [len(v) for v in tree_leaves(data.train.read(np.empty(0, dtype=np.int64)))] == [0, 0]


def test_no_held_out_split_is_ever_chosen() -> None:
    with pytest.raises(DataError, match="no held-out record"):
        data_from(train=Items(X, LABELS), test=Items(X[:0], LABELS[:0]), records=N, classes=2)


def test_a_weight_multiplies_its_record_s_loss() -> None:
    draw = torch.Generator().manual_seed(0)
    outputs, y = torch.randn(5, 3, generator=draw), torch.arange(5) % 3
    weights = torch.rand(5, generator=draw)
    plain = torch.stack([cross_entropy(outputs[i : i + 1], y[i : i + 1]) for i in range(5)])[:, 0]
    loss = partial(weighted, cross_entropy)
    one_by_one = zip(outputs.split(1), y.split(1), weights.split(1), strict=True)
    found = torch.stack([loss(o, (label, weight)) for o, label, weight in one_by_one])
    torch.testing.assert_close(found[:, 0], weights * plain)


def test_sizes_agree() -> None:
    data = data_from(**both(IDS, IDS), records=N, classes=11, task="masked-lm")
    assert len(data.train) == N and len(data.test) == HELD and data.spec.shape == (LENGTH,)
    assert replace(data.spec, name="other").outputs == 11
