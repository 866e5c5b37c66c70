"""`TrainingArguments` read anew: what they mean for a private run, and what cannot be honoured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from dpigu.dpcore import ConfigurationError

RANDOM = ("random", "sequential")


@dataclass(frozen=True)
class Reading:
    """What a user's arguments come to.

    Args:
        batch: the expected batch, batch size × accumulation × processes.
        microbatch: records that go through the model at once, the batch size.
        steps: `max_steps`, or `num_train_epochs` × records / batch.
        bound: `max_grad_norm`, the bound on each record's gradient.
        records: the declared number of them.
    """

    batch: int
    microbatch: int
    steps: int
    bound: float
    records: int

    @property
    def rate(self) -> float:
        """The probability with which every record is drawn, by itself, at every step."""
        return self.batch / self.records

    def line(self, accumulation: int, epsilon: float | None, delta: float) -> str:
        """How the arguments were read, for the user."""
        claim = "no ε is claimed" if epsilon is None else f"ε = {epsilon:.4g}, δ = {delta:g}"
        return (
            f"PrivateTrainer: {self.microbatch} records × {accumulation} accumulated are an "
            f"expected batch of {self.batch}: each of {self.records} declared records is drawn by "
            f"itself at rate {self.rate:.4g}, and {self.microbatch} go through the model at once; "
            f"{self.steps} steps; max_grad_norm {self.bound:g} bounds each record's gradient; "
            f"{claim}."
        )


def read(args: Any, records: int) -> Reading:
    """Read the arguments, or say in one line which of them a private run cannot honour.

    Errors: `ConfigurationError`.
    """
    refuse(args)
    batch = args.train_batch_size * args.gradient_accumulation_steps
    if batch > records:
        raise ConfigurationError(
            "a step takes more records than are declared",
            where="TrainingArguments",
            got=batch,
            expected=f"at most {records}",
            remedy="Lower per_device_train_batch_size or gradient_accumulation_steps.",
        )
    steps = args.max_steps
    if steps <= 0:
        steps = max(1, math.ceil(args.num_train_epochs * records / batch))
    return Reading(batch, args.train_batch_size, steps, args.max_grad_norm, records)


def refuse(args: Any) -> None:
    """An error that names the first argument which cannot be honoured, why, and what to do.

    Errors: `ConfigurationError`.
    """
    mapped = "it does not work where one record at a time is differentiated"
    mixing = "it makes one record's gradient depend on others"
    told = "it publishes what was computed from training records"
    reasons: list[tuple[str, bool, str, str]] = [
        ("fp16", bool(args.fp16), "its loss scaler looks at unnoised gradients", "Use bf16."),
        ("deepspeed", bool(args.deepspeed), "it has a loop of its own", "Leave it out."),
        ("fsdp", bool(args.fsdp), "it shards gradients before they are clipped", "Leave it out."),
        ("torch_compile", bool(args.torch_compile), mapped, "Leave it out."),
        ("gradient_checkpointing", _checkpoints(args), mapped, "Lower the batch size, raise "
         "gradient_accumulation_steps: memory goes by the first alone."),
        ("use_liger_kernel", bool(args.use_liger_kernel), mapped, "Leave it out."),
        ("auto_find_batch_size", bool(args.auto_find_batch_size),
         "it starts the run anew, and every start is charged", "Set the batch size."),
        ("neftune_noise_alpha", args.neftune_noise_alpha is not None, mixing, "Leave it out."),
        ("label_smoothing_factor", args.label_smoothing_factor != 0,
         "the loss here is the task's own", "Give compute_loss_func=(outputs, labels) → number."),
        ("train_sampling_strategy", args.train_sampling_strategy not in RANDOM,
         "every record is drawn by itself, whatever its length", "Leave it at random."),
        ("include_num_input_tokens_seen", args.include_num_input_tokens_seen not in ("no", False),
         told, "Leave it out."),
        ("max_grad_norm", not 0 < args.max_grad_norm < math.inf,
         "it is the bound on each record's gradient", "Set it above 0, such as 1.0."),
        ("world_size", args.world_size > 1, "this trainer runs in one process",
         "Start it without torchrun; raise gradient_accumulation_steps."),
    ]  # fmt: skip
    for name, given, why, remedy in reasons:
        if given:
            raise ConfigurationError(
                f"{name} cannot be honoured in a private run: {why}",
                where=f"TrainingArguments.{name}",
                got=getattr(args, name, True),
                remedy=remedy,
            )


def _checkpoints(args: Any) -> bool:
    return bool(args.gradient_checkpointing or getattr(args, "activation_checkpointing", False))
