"""What a private LoRA step costs beside the same step without privacy, in time and memory.

    python -m benchmarks.lora_step --records 16 --length 128 --width 256 --layers 4

Both steps take the same records through the same frozen GPT-2 with the same adapters, and step the
same optimizer; they alternate in one process, and the ratio of medians is told. The private step is
a session's: rows, norms, clipped sum, noise, ledger. Memory is the peak of each kind of step in a
process of its own, model included and imports not; the first step, which compares engines, is over.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import peft
import torch
import transformers
from torch import Tensor, nn

import dpigu
from benchmarks.machine import memory_of_this_process

VOCABULARY = 1_024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("records", 16), ("length", 128), ("width", 256), ("layers", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peak", choices=("plain", "private"), help="tell one kind's peak, in MiB")
    args = parser.parse_args()
    if args.peak:
        print(peak(args))
        return
    with private(args) as step_privately:
        kinds = {"plain": plain(args), "private": step_privately}
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(args.rounds):
            for kind, step in kinds.items():
                began, used = time.perf_counter(), time.process_time()
                step()
                times[kind].append(time.perf_counter() - began)
                cpu = time.process_time() - used
                print(f"{kind}: {times[kind][-1]:.3f} s, {cpu:.3f} s of processor", file=sys.stderr)
    medians = {kind: statistics.median(found[1:]) for kind, found in times.items()}
    command = [sys.executable, "-m", "benchmarks.lora_step", *sys.argv[1:], "--peak"]
    peaks = {k: float(subprocess.check_output([*command, k], text=True)) for k in kinds}
    for kind in kinds:
        print(f"{kind}: {medians[kind] * 1e3:.0f} ms, {peaks[kind]:.0f} MiB")
    print(
        f"ratio: {medians['private'] / medians['plain']:.2f} in time, "
        f"{peaks['private'] / peaks['plain']:.2f} in memory"
    )


def peak(args: argparse.Namespace) -> float:
    """The most MiB that two steps of one kind hold, beyond what imports took."""
    imported, _ = memory_of_this_process()
    with nullcontext(plain(args)) if args.peak == "plain" else private(args) as step:
        step()
        memory_of_this_process(reset=True)
        for _ in range(2):
            step()
        _, most = memory_of_this_process()
    return (most - imported) / 2**20


def adapted(args: argparse.Namespace) -> nn.Module:
    """A frozen GPT-2 with adapters of rank 8 on every linear layer."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=args.width, n_layer=args.layers, n_head=4,
        n_positions=args.length, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=0, eos_token_id=0, use_cache=False,
    )  # fmt: skip
    layers = ["c_attn", "c_proj", "c_fc"]
    lora = peft.LoraConfig(r=8, target_modules=layers, fan_in_fan_out=True, task_type="CAUSAL_LM")
    return peft.get_peft_model(transformers.GPT2LMHeadModel(config), lora).train()


def tokens(args: argparse.Namespace, records: int) -> Tensor:
    return torch.randint(VOCABULARY, (records, args.length))


def plain(args: argparse.Namespace) -> Callable[[], None]:
    """A step on a batch, as everybody takes it."""
    model, ids = adapted(args), tokens(args, args.records)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()

    return step


@contextmanager
def private(args: argparse.Namespace) -> Iterator[Callable[[], None]]:
    """A step of a session in which every record is drawn."""
    model = adapted(args)
    held_out = {"input_ids": tokens(args, 1)}, tokens(args, 1)
    ids = tokens(args, args.records)
    data = dpigu.data_from(
        train=({"input_ids": ids}, ids), test=held_out, records=args.records,
        classes=VOCABULARY, task="causal-lm",
    )  # fmt: skip
    settings = dpigu.Settings(
        noise_multiplier=1.0, rate=1.0, accountant="rdp", optimizer="adam", learning_rate=1e-4,
        evaluations=1, physical_batch=args.records,
    )  # fmt: skip
    with dpigu.Session(dpigu.dpsgd(10 * args.rounds), data, model, settings) as session:
        steps = iter(session)
        next(steps).apply()  # the engine compares itself with vmap once

        def step() -> None:
            next(steps).apply()

        yield step
        session.stop()


if __name__ == "__main__":
    main()
