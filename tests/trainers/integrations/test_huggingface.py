"""`PrivateTrainer` and models saved the way Hugging Face saves them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import dpigu
from dpigu import DpiguError, RunError
from tests.support.zoo.hf_zoo import LENGTH, VOCABULARY, hf, made

arguments: Any = pytest.importorskip("dpigu.trainers.integrations.huggingface.arguments")
records: Any = pytest.importorskip("dpigu.trainers.integrations.huggingface.records")
datasets: Any = pytest.importorskip("datasets", reason="the extra hf is not installed")
TRAIN, TEST = 24, 6


def texts(count: int, first: int, labelled: bool) -> Any:
    """Sequences of several lengths, no two the same; and a column that no model takes."""
    draw = torch.Generator().manual_seed(first)
    ids = torch.randint(2, VOCABULARY, (count, LENGTH), generator=draw)
    ids[:, 0] = torch.arange(first, first + count) % (VOCABULARY - 2) + 2
    ids[:, 1] = torch.arange(first, first + count) // (VOCABULARY - 2) + 2
    rows = {
        "input_ids": [row[: LENGTH - i % 3].tolist() for i, row in enumerate(ids)],
        "line": list(range(count)),
    }
    if labelled:
        rows["label"] = [i % 2 for i in range(count)]
    return datasets.Dataset.from_dict(rows)


def trainer(
    out: Path, name: str = "bert", lora: bool = False, changes: Any = (), **given: Any
) -> Any:
    model, labelled = made(name, lora), name == "bert"
    args = hf.TrainingArguments(
        **{
            "output_dir": str(out),
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "max_steps": 3,
            "logging_steps": 1,
            "eval_strategy": "steps",
            "eval_steps": 2,
            "save_steps": 2,
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "learning_rate": 0.1,
            **dict(changes),
        }
    )
    given = {"delta": 1e-3, "noise_multiplier": 1.0, "accountant": "rdp", "pad_to": LENGTH, **given}
    train, test = texts(TRAIN, 0, labelled), texts(TEST, TRAIN, labelled)
    return dpigu.PrivateTrainer(model, args, train_dataset=train, eval_dataset=test, **given)


class Seen(hf.TrainerCallback):
    """Everything that a callback and a logger are told."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.logs: list[dict[str, Any]] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.events.append("begin")

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.events.append("step")

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.events.append("end")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        self.logs.append(dict(logs))


def test_a_run_of_the_user_s_arguments_callbacks_and_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = Seen()
    run = trainer(tmp_path, callbacks=[seen])
    before = {n: p.detach().clone() for n, p in run.model.named_parameters()}
    found = run.train()
    said = capsys.readouterr().out
    assert "expected batch of 8" in said and "at rate 0.3333" in said and "3 steps" in said
    assert seen.events == ["begin", "step", "step", "step", "end"]
    assert found.global_step == 3 and math.isnan(found.training_loss)
    assert any(not torch.equal(p, before[n]) for n, p in run.model.named_parameters())
    logged = set().union(*seen.logs)
    assert {"grad_norm", "learning_rate", "epsilon_spent", "eval_loss"} <= logged
    assert not {"loss", "train_loss", "num_input_tokens_seen", "total_flos"} & logged
    rates = [log["learning_rate"] for log in seen.logs if "learning_rate" in log]
    assert rates == pytest.approx([0.1, 0.1 * 2 / 3, 0.1 / 3])
    kept = tmp_path / "checkpoint-2"
    assert (kept / "model.safetensors").is_file() and (kept / "optimizer.pt").is_file()
    assert not list(tmp_path.rglob("rng_state*"))
    assert '"num_input_tokens_seen": 0' in (kept / "trainer_state.json").read_text()
    summary = json.loads((tmp_path / "private-run/public/summary.json").read_text())
    assert summary["steps"] == 3 and summary["expected_batch"] == 8
    assert summary["claimed_epsilon"] == found.metrics["epsilon"]


def test_adapters_are_saved_beside_the_claim_and_come_back(tmp_path: Path) -> None:
    run = trainer(tmp_path, "llama", lora=True)
    run.train()
    saved = tmp_path / "private-run/public/pretrained"
    names = {path.name for path in saved.iterdir()}
    assert "adapter_model.safetensors" in names and not any(n.endswith(".bin") for n in names)
    base = made("llama", lora=False)
    back = dpigu.load_pretrained(tmp_path / "private-run", base)
    ids = torch.arange(2, 2 + LENGTH)[None]
    with torch.no_grad():
        expected = run.model.eval()(input_ids=ids).logits
        torch.testing.assert_close(back(input_ids=ids).logits, expected)
    assert not torch.equal(made("llama", lora=True)(input_ids=ids).logits, expected)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    class Stops(hf.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, callbacks=[Stops()]).train()
    seen = Seen()
    again = trainer(tmp_path, callbacks=[seen])
    assert again.train(resume_from_checkpoint=True).global_step == 3
    assert 1 <= seen.events.count("step") <= 2
    rates = [log["learning_rate"] for log in seen.logs if "learning_rate" in log]
    assert rates[-1] == pytest.approx(0.1 / 3)


def test_epochs_are_steps_and_a_callback_may_stop(tmp_path: Path) -> None:
    class Stops(hf.TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = True

    epochs = {"max_steps": -1, "num_train_epochs": 2, "eval_strategy": "epoch"}
    run = trainer(tmp_path, changes=epochs, callbacks=[Stops()])
    run.train()
    assert run.session.steps == 6 and run.session.reached == 3
    assert [log["epoch"] for log in run.state.log_history if "eval_loss" in log] == [1.0]


REFUSED = {
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "label_smoothing_factor": {"label_smoothing_factor": 0.1},
    "train_sampling_strategy": {"train_sampling_strategy": "group_by_length"},
    "max_grad_norm": {"max_grad_norm": 0.0},
    "auto_find_batch_size": {"auto_find_batch_size": True},
    "neftune_noise_alpha": {"neftune_noise_alpha": 5.0},
    "include_num_input_tokens_seen": {"include_num_input_tokens_seen": "all"},
    "more records than are declared": {"gradient_accumulation_steps": 100},
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_cannot_be_honoured_is_refused_in_one_line(word: str, tmp_path: Path) -> None:
    with pytest.raises(DpiguError) as refused:
        trainer(tmp_path, changes=REFUSED[word])
    assert word in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "private-run").exists()


def test_a_loss_scaler_is_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.args.fp16 = True
    with pytest.raises(DpiguError, match="fp16 cannot be honoured"):
        arguments.read(run.args, TRAIN)


def test_a_loss_of_a_batch_and_a_collator_of_one_are_refused(tmp_path: Path) -> None:
    def collator(batch: list[Any]) -> Any:
        return batch

    with pytest.raises(DpiguError, match="one record at a time"):
        trainer(tmp_path, data_collator=collator)


def test_a_loss_of_the_user_s_gets_no_count_of_the_batch() -> None:
    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        assert num_items_in_batch is None
        return torch.nn.functional.cross_entropy(outputs, labels)

    one = records.loss_of(loss)
    assert one is not None and one(torch.zeros(1, 2), torch.zeros(1).long()).shape == ()


def test_nothing_saved_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        dpigu.load_pretrained(tmp_path, made("llama", lora=False))


def test_what_the_page_shows_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "huggingface.md"
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for example in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(example, page.name, "exec"), names)
    assert names["run"].summary["claimed_epsilon"] <= 8
    assert names["trainer"].session.reached == 4
    assert (tmp_path / "runs/lora/public/pretrained/adapter_model.safetensors").is_file()
