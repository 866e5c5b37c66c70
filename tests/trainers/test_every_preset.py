"""Every preset trains on digits from its name alone, charges its steps, and stays finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from dpigu.mechanisms import PRESETS
from dpigu.trainers import build_model, load_run, recipe_from_file, train
from dpigu.trainers.data.features import patches
from dpigu.trainers.recipes.from_preset import recipe_for


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache folder of their own, and procedural features of few filters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patches._prior.cache_clear()
        patches._filters.cache_clear()
        for name, value in (("FILTERS", 32), ("CHANNELS", 32), ("IMAGES", 100)):
            patch.setattr(patches, name, value)
        yield
        patches._prior.cache_clear()
        patches._filters.cache_clear()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains_on_digits(name: str, tmp_path: Path) -> None:
    noise = {} if name == "non-private" else {"noise_multiplier": 2.0}
    recipe = recipe_for(name, "digits", steps=4, accountant="rdp", evaluations=1, **noise)
    data = recipe.load_data(progress=False)
    model = build_model(recipe.model_for(data.spec), data.spec, 0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    run = train(
        recipe.plan,
        data,
        model,
        recipe.settings,
        out=tmp_path / "run",
        labels=recipe.labels(data.spec),
        public=recipe.load_public(data.spec, progress=False),
        progress=False,
    )
    assert run.summary["private"] is (name != "non-private")
    assert run.summary["steps"] == 4
    assert (run.summary["epsilon"] is None) is (name == "non-private")
    after = model.state_dict()
    assert all(bool(value.isfinite().all()) for value in after.values())
    assert any(not torch.equal(before[key], value) for key, value in after.items())
    again = recipe_from_file(tmp_path / "run/public/config.toml")
    assert again.plan.steps == 4 and again.features == recipe.features
    loaded = load_run(tmp_path / "run").model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in after.items())
