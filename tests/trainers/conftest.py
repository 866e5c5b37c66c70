"""A small data set and a small plan, for tests of the loop."""

from __future__ import annotations

import pytest
from dpigu.dpcore import Phase, Pipeline, Plan
from dpigu.mechanisms import Flat, Gaussian
from dpigu.trainers import Data, Settings
from torch import nn

from tests.support.laws.data import linear, points, settings_of


@pytest.fixture
def data() -> Data:
    return points()


@pytest.fixture
def model() -> nn.Module:
    return linear()


@pytest.fixture
def plan() -> Plan:
    return Plan((Phase("main", Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian()), 12),))


@pytest.fixture
def settings() -> Settings:
    return settings_of()
