"""What a training script has becomes a session: records, batch size, epochs, optimizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dpigu.dpcore import ConfigurationError, DataError
from dpigu.trainers import make_private
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler

from tests.support.laws.data import linear, points

OPTIONS: dict[str, Any] = {
    "delta": 1e-5,
    "epochs": 2.0,
    "clipping_norm": 1.0,
    "accountant": "rdp",
    "device": "cpu",
}


class Mapped(Dataset[tuple[Tensor, int]]):
    """A map-style data set of single records, with labels as whole numbers."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.x[i], int(self.y[i])


def loaders(kind: Any = TensorDataset, **options: Any) -> tuple[DataLoader[Any], DataLoader[Any]]:
    data = points()
    train = DataLoader(kind(data.train_x, data.train_y), **({"batch_size": 24} | options))
    return train, DataLoader(kind(data.test_x, data.test_y), batch_size=40)


@pytest.mark.parametrize("kind", [TensorDataset, Mapped])
def test_a_session_of_what_a_script_has(kind: Any) -> None:
    model = linear()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.05)
    train, test = loaders(kind, shuffle=True)
    loss = nn.CrossEntropyLoss()
    session = make_private(model, optimizer, train, test=test, epsilon=8.0, loss=loss, **OPTIONS)
    with session:
        for step in session:
            step.apply()
    told = session.summary
    assert told["rate"] == 24 / 120 and told["records"] == 120
    assert told["steps"] == 10 and told["epochs"] == told["planned_epochs"] == 2.0
    assert told["epsilon"] <= 8.0 and told["target_epsilon"] == 8.0
    assert int(optimizer.state[model.weight]["step"]) == 10
    assert told["test_accuracy"] > 0.9


def test_sigma_in_place_of_epsilon_and_declared_constants() -> None:
    model, (train, test) = linear(), loaders()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    declared = {"records": 200, "classes": 2, "noise_multiplier": 1.5}
    with make_private(model, optimizer, train, test=test, **declared, **OPTIONS) as session:
        pass
    assert session.summary["noise_multiplier"] == 1.5 and session.summary["records"] == 200
    assert session.steps == round(2 / (24 / 200))


def test_sampling_of_its_own_is_refused_in_one_line() -> None:
    model, (_, test) = linear(), loaders()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weighted, _ = loaders(sampler=WeightedRandomSampler([1.0] * 120, 120))
    unbatched, _ = loaders(batch_size=None)
    for loader in (weighted, unbatched):
        with pytest.raises(ConfigurationError, match="samples by a rule of its own") as caught:
            make_private(model, optimizer, loader, test=test, epsilon=8.0, **OPTIONS)
        assert "\n" not in str(caught.value)


def test_a_collate_function_of_many_records_is_refused_in_one_line() -> None:
    model, (_, test) = linear(), loaders()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    standardised, _ = loaders(collate_fn=lambda batch: torch.stack([x for x, _ in batch]).mean(0))
    with pytest.raises(ConfigurationError, match="one batch of many records") as caught:
        make_private(model, optimizer, standardised, test=test, epsilon=8.0, **OPTIONS)
    assert "\n" not in str(caught.value)


def test_records_of_two_shapes_are_refused_without_a_value() -> None:
    ragged = DataLoader([(torch.ones(n), n) for n in (1, 2)], batch_size=1)
    model, (_, test) = linear(), loaders()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(DataError, match="another shape"):
        make_private(model, optimizer, ragged, test=test, epsilon=8.0, **OPTIONS)
