"""Features of whitened procedural patches: a map of one record, learnt from no record."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from dpigu.dpcore import DataError
from dpigu.trainers.data.features import filters, patches
from dpigu.trainers.data.features.dead_leaves import dead_leaves
from dpigu.trainers.data.features.registry import feature_map
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.numerical

SHAPES = ((1, 8, 8, 1), (3, 9, 12, 1), (1, 14, 15, 2))  # and the layers


SMALL = {"FILTERS": 32, "CHANNELS": 32, "IMAGES": 150, "LOW_FILTERS": 16, "MAPS": 8}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fewer filters and images, so that a prior takes no time."""
    patches._prior.cache_clear()
    patches._filters.cache_clear()
    for name, value in SMALL.items():
        monkeypatch.setattr(patches, name, value)
    yield
    patches._prior.cache_clear()
    patches._filters.cache_clear()


def images(count: int, shape: tuple[int, ...], seed: int = 5) -> torch.Tensor:
    return dead_leaves(count, shape, seed)


@pytest.mark.parametrize("shape", SHAPES)
@given(order=st.permutations(range(6)), kept=st.integers(1, 6))
def test_a_records_features_do_not_depend_on_the_others(
    shape: tuple[int, ...], order: list[int], kept: int
) -> None:
    x = images(6, shape[:3])
    features = patches.Patches(shape[:3], shape[3])
    at = order[:kept]
    whole = features(x)
    torch.testing.assert_close(features(x[at]), whole[at], atol=1e-5, rtol=1e-5)
    assert torch.equal(features(x[:1]), whole[:1])  # one product a record, whoever stands beside it


@pytest.mark.parametrize("shape", SHAPES)
def test_every_record_has_norm_ten_and_the_declared_shape(shape: tuple[int, ...]) -> None:
    *size, layers = shape
    found = patches.Patches(tuple(size), layers)(images(4, tuple(size)))
    declared = patches.patches_shape(tuple(size), layers)
    assert tuple(found.shape[1:]) == declared == (32 * layers * 9,)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.flatten(1).norm(dim=1), torch.full((4,), 10.0))


def test_features_are_whitened_logarithms_of_responses() -> None:
    """z = (log(s/s̄ + ⅕) − mean)/deviation at norm √(2F·R), then 10·Wᵀz/‖Wᵀz‖; s̄ procedural."""
    ((maps, own, pool, level, mean, deviation, whitening),) = patches._prior(
        (1, 8, 8), 1, filters.regions
    )
    assert maps is None

    def pooled(x: torch.Tensor) -> torch.Tensor:
        return (own.pooled(x, pool) + own.pooled(x.flip(3), pool)).double() / 2

    logarithms = [
        (pooled(x) / level.double() + 0.2).log()
        for x in dead_leaves(SMALL["IMAGES"], (1, 8, 8)).split(1)
    ]
    torch.testing.assert_close(torch.stack(logarithms).mean(0), mean.double(), atol=1e-5, rtol=1e-5)
    x = images(1, (1, 8, 8))
    z_CR = ((pooled(x) / level.double() + 0.2).log() - mean) / deviation
    z_CR = z_CR * math.sqrt(z_CR.numel()) / z_CR.norm()
    white = (whitening.T.double() @ z_CR).flatten()
    found = patches.Patches((1, 8, 8))(x)[0].double()
    torch.testing.assert_close(found, 10 * white / white.norm(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_and_its_mirror_image_have_the_same_features(shape: tuple[int, ...]) -> None:
    """To rounding; other images are far away."""
    x = images(4, shape[:3])
    features = patches.Patches(shape[:3], shape[3])
    found, mirrored, upside = features(x), features(x.flip(3)), features(x.flip(2))
    assert float((found - mirrored).flatten(1).norm(dim=1).max()) < 1e-3
    assert float((found - upside).flatten(1).norm(dim=1).min()) > 3


def test_light_and_contrast_of_an_image_count_little() -> None:
    """Patches are normalised: a shift drops out, a scale nearly."""
    x = images(4, (1, 8, 8)) / 2
    features = patches.Patches((1, 8, 8))
    assert float((features(x) - features(x + 0.25)).flatten(1).norm(dim=1).max()) < 0.5
    assert float((features(x) - features(1.5 * x)).flatten(1).norm(dim=1).max()) < 1.5


def test_the_prior_is_the_same_for_everybody_and_moves_no_generator() -> None:
    state = torch.get_rng_state()
    first = patches._prior((1, 8, 8), 1, filters.regions)
    patches._prior.cache_clear()
    patches._filters.cache_clear()
    torch.rand(3)
    (second,) = patches._prior((1, 8, 8), 1, filters.regions)
    assert torch.equal(first[0].whitening, second.whitening)
    assert torch.equal(first[0].filters.weights, second.filters.weights)
    torch.set_rng_state(state)
    patches._prior.cache_clear()
    patches._filters.cache_clear()
    patches._prior((1, 8, 8), 1, filters.regions)
    assert torch.equal(torch.get_rng_state(), state)


@given(size=st.integers(2, 8), seed=st.integers(0, 9), shrinkage=st.floats(0.01, 10))
def test_whitening_evens_out_the_leading_directions(size: int, seed: int, shrinkage: float) -> None:
    """RᵀΣR = diag(v/(v + s·mean v)) over the leading eigenvalues v, signs fixed."""
    rows = torch.randn((50, size), generator=torch.Generator().manual_seed(seed)).double()
    covariance = rows.T @ rows / 50
    root = filters.root(covariance, size - 1, shrinkage)
    values = torch.linalg.eigvalsh(covariance)
    expected = values[1:] / (values[1:] + shrinkage * values.mean())
    torch.testing.assert_close(root.T @ covariance @ root, expected.diag(), atol=1e-9, rtol=1e-7)
    assert bool((root.gather(0, root.abs().argmax(0, keepdim=True)) > 0).all())


def test_windows_are_tents_that_end_at_their_neighbours_centres() -> None:
    """Three windows of twelve places, by hand; means, alike from both ends, in both directions."""
    pool = filters.regions(12, 7, 3)
    assert pool.shape == (9, 12 * 7)
    torch.testing.assert_close(pool.sum(1), torch.ones(9))
    torch.testing.assert_close(pool, pool.flip(0).flip(1))
    tall = filters.regions(12, 1, 3)[1::3]  # the middle one of the only column's three
    middle = torch.tensor([0, 0, 1, 3, 5, 7, 7, 5, 3, 1, 0, 0]) / 32
    torch.testing.assert_close(tall[1], middle)
    upper = torch.tensor([5, 7, 7, 5, 3, 1, 0, 0, 0, 0, 0, 0]) / 28
    torch.testing.assert_close(tall[0], upper)
    rows = pool.view(9, 12, 7).sum(2)
    torch.testing.assert_close(rows[0::3], torch.stack([upper, middle, upper.flip(0)]))


def test_both_signs_are_pooled_as_the_formula_says() -> None:
    """s± = max(0, ±r − t), over the regions, and over squares of 2 × 2 places."""
    x = images(1, (2, 9, 10))
    own = filters.learnt(images(40, (2, 9, 10)), size=4, count=5, threshold=0.3, flat=1e-3, seed=0)
    r_LF = own.responses(x).double()
    s_LF = torch.cat([(r_LF - 0.3).relu(), (-r_LF - 0.3).relu()], 1)
    pool = filters.regions(6, 7, 3)
    expected = (pool.double() @ s_LF).T
    torch.testing.assert_close(own.pooled(x, pool).double(), expected, atol=1e-6, rtol=1e-5)
    maps = s_LF.T.view(10, 6, 7)
    expected = torch.nn.functional.avg_pool2d(maps, 2)
    torch.testing.assert_close(own.halved(x).double(), expected, atol=1e-6, rtol=1e-5)


def test_filters_answer_to_no_light_and_stand_for_white_patches() -> None:
    """A constant patch gets the mean patch's answer; others get answers of size 1."""
    pictures = images(100, (3, 12, 12))
    own = filters.learnt(pictures, size=5, count=20, threshold=0.5, flat=6e-4, seed=0)
    flat = own.responses(torch.full((1, 3, 12, 12), 0.7))
    torch.testing.assert_close(flat, own.weights[-1:].expand_as(flat), atol=1e-4, rtol=1e-4)
    answers = torch.cat([own.responses(x) for x in pictures.split(1)])
    assert 0.4 < float(answers.std()) < 1.6


def test_dead_leaves_are_images_of_every_shade_and_alike_for_everybody() -> None:
    x = dead_leaves(300, (3, 8, 9))
    assert x.shape == (300, 3, 8, 9) and x.dtype == torch.float32
    assert -1 <= float(x.min()) < -0.8 and 0.8 < float(x.max()) <= 1
    assert float(x.flatten(1).std(1).min()) > 0
    assert torch.equal(x, dead_leaves(300, (3, 8, 9)))
    assert not torch.equal(x, dead_leaves(300, (3, 8, 9), seed=1))
    near = float((x[..., 1:] - x[..., :-1]).abs().mean())
    far = float((x[..., 4:] - x[..., :-4]).abs().mean())
    assert 1.2 * near < far  # neighbours are alike, as in photographs


def test_what_is_no_image_or_too_small_is_refused() -> None:
    for name, shapes, least in (
        ("patches", ((5,), (1, 7, 9)), 8),
        ("layered-patches", ((5,), (1, 13, 14)), 14),
    ):
        for shape in shapes:
            with pytest.raises(DataError, match=f"from {least} pixels on"):
                feature_map(name).shape(shape)
