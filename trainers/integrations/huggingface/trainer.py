"""`PrivateTrainer`: Hugging Face's `Trainer`, whose steps are those of a `Session`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from dpigu.dpcore import ConfigurationError, Plan
from dpigu.mechanisms import dpsgd
from dpigu.trainers.data.sources.padding import Padding
from dpigu.trainers.integrations.huggingface.arguments import Reading, read
from dpigu.trainers.integrations.huggingface.records import (
    Padder,
    data_of,
    loss_of,
    refuse_collator,
    task_of,
)
from dpigu.trainers.integrations.huggingface.saving import save_pretrained
from dpigu.trainers.session import Session
from dpigu.trainers.settings import Settings
from dpigu.trainers.step import Step
from dpigu.trainers.tasks import Task
from transformers.trainer_callback import ExportableState

RUN = "private-run"
"""The run folder, in the user's output folder."""


class PrivateTrainer(transformers.Trainer):  # type: ignore[misc]  # untyped
    """A `Trainer` whose training is differentially private.

        trainer = dpigu.PrivateTrainer(
            model, args, train_dataset=train, eval_dataset=test, epsilon=4, delta=1e-5, pad_to=64
        )
        trainer.train()

    Arguments, callbacks, evaluation, saving, the optimizer and its scheduler are the user's; the
    loop is a `Session`'s. Batch size × accumulation is read as the expected batch, `max_grad_norm`
    as the bound on each record's gradient, and one printed line says so. Nothing of training
    records is logged or kept: there is no training loss, no count of tokens, no state of a
    generator. The claim, ledger and statement lie in `output_dir/private-run`; the model or its
    adapters in `public/pretrained` there.

    Args:
        epsilon, delta, noise_multiplier, accountant: as in `Settings`.
        records: the declared number of training records; None takes the length of the data set.
        task: None takes the one that the model's head is for.
        plan: its pipeline, in place of DP-SGD at `max_grad_norm`; it has as many steps as the
            arguments say.
        pad_to: the declared length that sequences are padded or cut to.
        budget: the file of a budget that runs on these records share.
        settings: any other field of `Settings`.
        given: what a `Trainer` takes.

    Errors: `ConfigurationError` for an argument that a private run cannot honour.
    """

    def __init__(
        self,
        *args: Any,
        epsilon: float | None = None,
        delta: float,
        noise_multiplier: float | None = None,
        accountant: str = "auto",
        records: int | None = None,
        task: str | Task | None = None,
        plan: Callable[[int, float], Plan] = lambda steps, bound: dpsgd(steps, bound=bound),
        pad_to: int | None = None,
        budget: Path | str | None = None,
        settings: dict[str, Any] | None = None,
        **given: Any,
    ) -> None:
        super().__init__(*args, **given)
        if type(self).compute_loss is not transformers.Trainer.compute_loss:
            raise ConfigurationError(
                "a loss that sees a batch is none of one record",
                where="compute_loss",
                remedy="Give compute_loss_func=(outputs, labels) → one number.",
            )
        count = len(self.train_dataset) if records is None else records
        self._task = task_of(self.model) if task is None else task
        refuse_collator(self.data_collator, self._task)
        if pad_to is not None and self.data_collator is transformers.default_data_collator:
            padding = Padding(pad_to, self._pad_token)
            self.data_collator = Padder(padding, (*self.label_names, "label"))
        self._reading: Reading = read(self.args, count)
        self._plan, self._pad_to, self._budget = plan, pad_to, budget
        self._settings = Settings(
            epsilon=epsilon,
            delta=delta,
            noise_multiplier=noise_multiplier,
            accountant=accountant,  # type: ignore[arg-type]  # checked there
            expected_batch=self._reading.batch,
            physical_batch=self._reading.microbatch,
            device=str(self.args.device),
            autocast=bool(self.args.bf16),
            workers=self.args.dataloader_num_workers,
            seed=self.args.seed,
            evaluations=1,
            **(settings or {}),
        )
        self.session: Session | None = None

    @property
    def run_folder(self) -> Path:
        """Where claim, ledger, checkpoint and model lie."""
        return Path(self.args.output_dir) / RUN

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        """Take every step, or go on with the run in the output folder.

        Errors: `DpiguError` before anything is spent.
        """
        if trial is not None:
            raise ConfigurationError(
                "a search is many runs on the same records, and each of them is charged",
                where="trial",
                remedy="Give the runs one `budget`, and start them one by one.",
            )
        self.is_in_train = True
        self.create_optimizer()
        self.create_scheduler(num_training_steps=self._reading.steps)
        with self._begun(bool(resume_from_checkpoint)) as session:
            print(self._told(session), flush=True)
            self._enter(session)
            for step in session:
                self._take(session, step, ignore_keys_for_eval)
        return self._finished(session)

    def _begun(self, again: bool) -> Session:
        """The session: a new one, or that of the run folder."""
        train, test = map(self._columns, (self.train_dataset, self.eval_dataset))
        target = next((n for n in (*self.label_names, "label") if n in _keys(train)), None)
        data = data_of(
            train,
            test,
            self.model,
            self._task,
            self._reading.records,
            target=target,
            pad_to=self._pad_to,
            pad_token=self._pad_token,
        )
        given: dict[str, Any] = {
            "data": data,
            "model": self.model,
            "loss": loss_of(self.compute_loss_func),
            "optimizer": self.optimizer,
        }
        if again:
            self.session = Session.resume(self.run_folder, **given, budget=self._budget)
        else:
            plan = self._plan(self._reading.steps, self._reading.bound)
            where = {"out": self.run_folder, "budget": self._budget}
            self.session = Session(plan=plan, settings=self._settings, **given, **where)
        return self.session

    @property
    def _pad_token(self) -> int:
        """The tokenizer's, or the model's, or 0."""
        for place in (self.processing_class, self.model.config):
            if (token := getattr(place, "pad_token_id", None)) is not None:
                return int(token)
        return 0

    def _columns(self, dataset: Any) -> Any:
        """A data set of Hugging Face's without the columns that the model does not take."""
        if isinstance(dataset, dict):
            return {name: self._columns(part) for name, part in dataset.items()}
        if self.args.remove_unused_columns and hasattr(dataset, "column_names"):
            return self._remove_unused_columns(dataset)
        return dataset

    def _told(self, session: Session) -> str:
        accumulated = self.args.gradient_accumulation_steps
        return self._reading.line(accumulated, session.epsilon, session.delta)

    def _enter(self, session: Session) -> None:
        """The state and the callbacks as `Trainer` has them at the start of training."""
        args, reading = self.args, self._reading
        self.state = transformers.TrainerState(
            max_steps=reading.steps,
            num_train_epochs=max(1, round(reading.steps * reading.rate)),
            train_batch_size=reading.microbatch,
            is_local_process_zero=self.is_local_process_zero(),
            is_world_process_zero=self.is_world_process_zero(),
            stateful_callbacks=[
                part
                for part in (*self.callback_handler.callbacks, self.control)
                if isinstance(part, ExportableState)
            ],
        )
        self.state.compute_steps(args, reading.steps)
        self.state.global_step = session.reached
        self.state.epoch = session.reached * reading.rate
        for _ in range(session.reached):
            self.lr_scheduler.step()
        handler = self.callback_handler
        handler.model, handler.optimizer = self.model, self.optimizer
        handler.lr_scheduler, handler.train_dataloader = self.lr_scheduler, None
        self.control = handler.on_train_begin(args, self.state, self.control)
        self.control = handler.on_epoch_begin(args, self.state, self.control)

    def _take(self, session: Session, step: Step, ignored: list[str] | None) -> None:
        """Apply one released step, and do what the callbacks ask for after it."""
        args, handler, before = self.args, self.callback_handler, self.state.epoch
        self.control = handler.on_step_begin(args, self.state, self.control)
        self.control = handler.on_pre_optimizer_step(args, self.state, self.control)
        rate = self._get_learning_rate()
        step.apply(self.optimizer)
        self.control = handler.on_optimizer_step(args, self.state, self.control)
        self.lr_scheduler.step()
        self.state.global_step = step.number
        self.state.epoch = step.number * self._reading.rate
        self.control = handler.on_step_end(args, self.state, self.control)
        self._react(session, step, rate, ignored)
        if int(self.state.epoch + 1e-9) > int(before + 1e-9) or step.number == session.steps:
            self.control = handler.on_epoch_end(args, self.state, self.control)
            self._react(session, step, rate, ignored)
            if step.number < session.steps:
                self.control = handler.on_epoch_begin(args, self.state, self.control)
        if self.control.should_training_stop:
            session.stop()

    def _react(self, session: Session, step: Step, rate: float, ignored: list[str] | None) -> None:
        """Log, evaluate and save, if a callback says so; everything logged is released."""
        if self.control.should_log:
            norm = float(step.release.gradient.value.norm())
            logs = {"grad_norm": norm, "learning_rate": rate}
            if session.spent is not None:
                logs["epsilon_spent"] = session.spent
            self.log(logs)
            self.control.should_log = False
        if self.control.should_evaluate:
            metrics = self._evaluate(None, ignored)
            best = self._determine_best_metric(metrics=metrics, trial=None)
            if self.args.save_strategy == transformers.trainer_utils.SaveStrategy.BEST:
                self.control.should_save = best
            self.control.should_evaluate = False
        if self.control.should_save:
            self._save_checkpoint(self.model, None)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)
            self.control.should_save = False

    def _finished(self, session: Session) -> Any:
        """Save the model beside the claim, and say what `Trainer.train` says."""
        save_pretrained(self.model, self.run_folder, self.processing_class)
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self._load_best_model()
        handler = self.callback_handler
        self.control = handler.on_train_end(self.args, self.state, self.control)
        self.is_in_train = False
        metrics = {"epsilon": session.epsilon, "delta": session.delta}
        return transformers.trainer_utils.TrainOutput(session.reached, float("nan"), metrics)

    def _save_rng_state(self, output_dir: str) -> None:
        """No state of a generator is kept."""


def _keys(dataset: Any) -> Any:
    """What a record's values are called, where they have names."""
    names = getattr(dataset, "column_names", None)
    return names if names is not None else ()
