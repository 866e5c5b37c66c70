"""Models of others: regression, tokens, several inputs, a language model's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dpigu.audits.external.foreign import foreign_scores
from dpigu.audits.external.signals import label_odds
from dpigu.dpcore import DataError, ModelError
from safetensors.torch import save_file
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier
from torch import nn

SELF = __name__


class Sum(nn.Module):
    """Two inputs by name: w·(a + b)."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (self.w * (a + b)).sum(1, keepdim=True)


class Bigram(nn.Module):
    """Logits of the next token: a row of a table for each."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.table(x)
        return found


def files(folder: Path, weights: dict[str, torch.Tensor], **arrays: Any) -> tuple[Path, Path, Path]:
    """Weights, and the first two records as members, the others as none."""
    save_file(weights, folder / "w.safetensors")
    np.savez(folder / "in.npz", **{n: a[:2] for n, a in arrays.items()})
    np.savez(folder / "out.npz", **{n: a[2:] for n, a in arrays.items()})
    return folder / "w.safetensors", folder / "in.npz", folder / "out.npz"


def test_regression_with_two_inputs_by_name(tmp_path: Path) -> None:
    a, b = np.arange(8.0).reshape(4, 2), np.ones((4, 2))
    y = np.array([[0.0], [6.0], [1.0], [2.0]])
    given = files(tmp_path, {"w": torch.tensor([2.0])}, **{"x.a": a, "x.b": b, "y": y})
    scores, who = foreign_scores(f"{SELF}:Sum", *given, signal="squared-error")
    assert who.tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(scores, -((2 * (a + b).sum(1) - y[:, 0]) ** 2), rtol=1e-6)


@pytest.mark.parametrize("signal", ["log-likelihood", "min-k"])
def test_tokens_are_foretold_from_those_before(tmp_path: Path, signal: str) -> None:
    table = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    x = np.random.default_rng(0).integers(0, 5, (4, 12))
    scores, _ = foreign_scores(
        f"{SELF}:Bigram", *files(tmp_path, {"table.weight": table}, x=x), 5, signal
    )
    log_p = table.log_softmax(1).double().numpy()
    each = log_p[x[:, :-1], x[:, 1:]]
    kept = each if signal == "log-likelihood" else np.sort(each)[:, :2]  # a fifth of eleven
    np.testing.assert_allclose(scores, kept.mean(1), rtol=1e-6)


def test_labels_of_tokens_may_be_missing(tmp_path: Path) -> None:
    x = np.zeros((4, 3), dtype=int)
    y = np.array([[1, -100, -100]] * 4)
    table = {"table.weight": torch.eye(5)}
    scores, _ = foreign_scores(
        f"{SELF}:Bigram", *files(tmp_path, table, x=x, y=y), 5, "log-likelihood"
    )
    assert scores == pytest.approx(float(torch.eye(5).log_softmax(1)[0, 1]))


def test_what_does_not_fit_the_signal_is_refused(tmp_path: Path) -> None:
    x, table = np.zeros((4, 3), dtype=int), {"table.weight": torch.eye(5)}
    given = files(tmp_path, table, x=x, y=np.zeros((4, 3)))
    with pytest.raises(DataError, match="an integer for each token"):
        foreign_scores(f"{SELF}:Bigram", *given, 5, "log-likelihood")
    with pytest.raises(DataError, match="one integer"):
        foreign_scores(f"{SELF}:Bigram", *given, 5)
    with pytest.raises(DataError, match="needs weights"):
        foreign_scores(f"{SELF}:Bigram", None, *given[1:], None, "squared-error")


def test_a_language_models_folder_needs_safetensors_and_no_code(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    size = {"vocab_size": 7, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 1}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**size)).eval()
    model.save_pretrained(tmp_path / "lm", safe_serialization=True)
    x = np.random.default_rng(0).integers(0, 7, (4, 6))
    given = files(tmp_path, {}, x=x)[1:]
    scores, _ = foreign_scores(f"huggingface:{tmp_path / 'lm'}", None, *given, 7, "log-likelihood")
    with torch.no_grad():
        loss = model(torch.from_numpy(x[:1]), labels=torch.from_numpy(x[:1])).loss
    assert scores[0] == pytest.approx(-float(loss), abs=1e-5)
    (tmp_path / "lm" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "lm" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        foreign_scores(f"huggingface:{tmp_path / 'lm'}", None, *given, 7, "log-likelihood")


def test_a_model_of_scikit_learn_sees_the_records_as_they_are(tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io", reason="the extra skops is not installed")
    x, y = np.arange(24.0).reshape(12, 2), np.array([3, 7] * 6)
    odds = LogisticRegression().fit(x, y)
    line = LinearRegression().fit(x, 2.5 * y)
    for name, model in (("odds", odds), ("line", line)):
        skops.dump(model, tmp_path / f"{name}.skops")
    np.savez(tmp_path / "in.npz", x=x[:8], y=y[:8])
    np.savez(tmp_path / "out.npz", x=x[8:], y=y[8:])
    given = None, tmp_path / "in.npz", tmp_path / "out.npz"
    scores, who = foreign_scores(str(tmp_path / "odds.skops"), *given)
    own_N = odds.predict_proba(x)[range(12), (y == 7) * 1]
    np.testing.assert_allclose(scores, label_odds(own_N))
    assert who.tolist() == [1] * 8 + [0] * 4
    np.savez(tmp_path / "in.npz", x=x[:8], y=2.5 * y[:8])
    np.savez(tmp_path / "out.npz", x=x[8:], y=2.5 * y[8:])
    scores, _ = foreign_scores(str(tmp_path / "line.skops"), *given, signal="squared-error")
    np.testing.assert_allclose(scores, -((line.predict(x) - 2.5 * y) ** 2))


def test_a_skops_file_with_types_that_it_does_not_trust_is_not_opened(tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io", reason="the extra skops is not installed")
    np.savez(tmp_path / "in.npz", x=np.ones((4, 2)), y=np.array([0, 1, 0, 1]))
    given = None, tmp_path / "in.npz", tmp_path / "in.npz"
    path, grown = tmp_path / "own.skops", DecisionTreeClassifier().fit(np.eye(2), [0, 1])
    for model, named in ((FunctionTransformer(func=os.getcwd), "getcwd"), (grown, "_tree.Tree")):
        skops.dump(model, path)
        with pytest.raises(ModelError, match="skops does not trust") as error:
            foreign_scores(str(path), *given)
        assert named in str(error.value)
    path.write_bytes(b"not a zip")
    with pytest.raises(ModelError, match="no model of scikit-learn"):
        foreign_scores(str(path), *given)
    with pytest.raises(DataError, match="no such file"):
        foreign_scores(str(tmp_path / "none.skops"), *given)
    np.savez(tmp_path / "tokens.npz", x=np.ones((4, 2), dtype=int))
    with pytest.raises(ModelError, match="takes one table"):
        foreign_scores(str(path), None, *[tmp_path / "tokens.npz"] * 2, signal="min-k")
