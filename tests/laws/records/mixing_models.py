"""Models and losses of users that mix, count, remember, branch or draw: a table by name.

Each is made afresh by `build`. `ends` says how it ends on the engine that is chosen for it:
"apart" (one record moves the sum by at most the bound), "refused", or "declared" (it keeps
something in a place that cannot be seen into, and the run names the place).
"""

from __future__ import annotations

import functools
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

WIDTH, CLASSES = 6, 3
Built = tuple[nn.Module, Callable[..., Any]]


@dataclass(frozen=True)
class Case:
    """A model with its loss, and how it ends; `regression` reads a record's label as a number."""

    build: Callable[[], Built]
    ends: str = "apart"
    regression: bool = False


class Of(nn.Module):
    """A linear layer around a function of the layer and the batch."""

    def __init__(self, f: Callable[..., Tensor], outputs: int = CLASSES) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, outputs)
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return self.f(self.layer, x)


def model(f: Callable[..., Tensor]) -> Callable[[], Built]:
    return lambda: (Of(f), F.cross_entropy)


def loss(f: Callable[..., Any], outputs: int = CLASSES) -> Callable[[], Built]:
    return lambda: (nn.Linear(WIDTH, outputs), f)


def squared(outputs: Tensor, y: Tensor) -> Tensor:
    return ((outputs - y.float()) ** 2).mean(1)


def mean_squared(outputs: Tensor, y: Tensor) -> Tensor:
    return nn.MSELoss()(outputs, y.float())


def contrastive(outputs: Tensor, y: Tensor) -> Tensor:
    """InfoNCE within the batch: every record against all the others."""
    z = F.normalize(outputs, dim=1)
    return F.cross_entropy(z @ z.T / 0.1, torch.arange(len(z)), reduction="none")


class Normalised(nn.Module):
    """Batch normalisation by hand, without statistics that last."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(WIDTH, CLASSES), nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        spread = x.std(0, unbiased=False) + 1e-3
        return self.layer(self.scale * (x - x.mean(0)) / spread + x)


class Mean(nn.Module):
    """A running mean of the inputs, kept where `keep` puts it."""

    def __init__(self, keep: str) -> None:
        super().__init__()
        self.layer, self.keep = nn.Linear(WIDTH, CLASSES), keep
        if keep == "attribute":
            self.mean = torch.zeros(WIDTH)
        else:
            self.register_buffer("mean", torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x - self.mean)
        new = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        if self.keep == "attribute":
            self.mean = new
        elif self.keep == "buffer":
            self.mean.copy_(new)
        else:
            self.mean.numpy()[:] = new.numpy()
        return out


class Keeping(nn.Module):
    """Keeps what `put` keeps of every batch in `store`, and looks at how much there is."""

    def __init__(self, store: Any, put: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.store, self.put = nn.Linear(WIDTH, CLASSES), store, put

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * (1 + float(self.put(self.store, x) or 0))


def keeping(store: Callable[[], Any], put: Callable[[Any, Tensor], Any]) -> Callable[[], Built]:
    return lambda: (Keeping(store(), put), F.cross_entropy)


class Note:
    """Not a module, and hung on one."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


def noted(note: Note, x: Tensor) -> int:
    note.count += 1
    return note.count


def counted(kind: str) -> Built:
    """A loss that counts its calls, in a place of that kind."""
    if kind == "closure":
        calls = 0

        def count() -> int:
            nonlocal calls
            calls += 1
            return calls

    elif kind == "closure list":
        seen: list[int] = []

        def count() -> int:
            seen.append(1)
            return len(seen)

    elif kind == "default argument":

        def count(seen: list[int] = []) -> int:  # noqa: B006  # that is the point
            seen.append(1)
            return len(seen)

    else:

        def count() -> int:
            count.calls = getattr(count, "calls", 0) + 1  # type: ignore[attr-defined]
            return count.calls  # type: ignore[attr-defined, no-any-return]

    return nn.Linear(WIDTH, CLASSES), lambda o, y: F.cross_entropy(o, y) * count()


CALLS = 0
SEEN: list[int] = []


def by_global(outputs: Tensor, y: Tensor) -> Tensor:
    global CALLS
    CALLS += 1
    return F.cross_entropy(outputs, y) * CALLS


def by_global_list(outputs: Tensor, y: Tensor) -> Tensor:
    SEEN.append(1)
    return F.cross_entropy(outputs, y) * len(SEEN)


class Shared(nn.Linear):
    calls = 0
    seen: Mapping[str, int] = {}

    def forward(self, x: Tensor) -> Tensor:
        Shared.calls += 1
        return super().forward(x) * Shared.calls


class Dunder(nn.Linear):
    """Counts its calls on its class, under a name that looks like one of Python's."""

    __calls__ = 0

    def forward(self, x: Tensor) -> Tensor:
        Dunder.__calls__ += 1
        return super().forward(x) * Dunder.__calls__


class MethodLoss:
    """A loss that is an object with a call, and remembers the last one."""

    def __init__(self) -> None:
        self.last: Any = 0.0

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        now = F.cross_entropy(outputs, y)
        value, self.last = now + 0 * now.detach(), now.detach()
        return value


@functools.lru_cache(maxsize=8)
def rounded(value: float) -> float:
    return round(value, 3)


def memory_bank(bank: deque[Tensor], x: Tensor) -> float:
    bank.append(x.detach())
    return float(len(bank))


def last_one(store: dict[str, Any], x: Tensor) -> float:
    store["last"] = x.detach()
    return 0.0


def stepping() -> Iterator[int]:
    step = 0
    while True:
        yield step
        step += 1


class Scaled(torch.autograd.Function):
    """A function of its author's, whose rule under vmap divides by the whole batch's largest."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x / x.abs().max()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.most = inputs[0].abs().max()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g / ctx.most

    @staticmethod
    def vmap(info: Any, dims: Any, x: Tensor) -> tuple[Tensor, int]:
        return x / x.abs().max(), dims[0]


class Mapped(torch.autograd.Function):
    """The same with torch's own rule; its gradient is clipped by its norm."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * 1.0

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """Nothing is needed."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g / (1 + g.norm())


class Plain(torch.autograd.Function):
    """A function without a rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * 2


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(2, 3, batch_first=True), nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.view(len(x), -1, 2)
        lengths = 1 + (x[:, 0].abs() > 0.5).long()
        packed = pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False)
        return self.out(self.gru(packed)[1][-1])


class Embedded(nn.Module):
    """An embedding that rescales the rows that were looked up, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(4, 3, max_norm=0.5), nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.table((x[:, 0] > 0).long()))


def kinked() -> Built:
    return nn.Sequential(
        nn.Linear(WIDTH, 17, bias=False), nn.ReLU(), nn.Linear(17, CLASSES)
    ), F.cross_entropy


def branch(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x / x.abs().max()) if x.abs().max() > 3 else layer(x)


def seeded_inside(layer: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return layer(F.dropout(x, 0.5))


def shrunk(layer: Any, x: Tensor) -> Tensor:
    layer.weight.data.mul_(1 - 0.01 * float(x.mean()))
    return layer(x)


def hooked(layer: nn.Module, x: Tensor) -> Tensor:
    hidden = layer(x)
    if hidden.requires_grad:
        hidden.register_hook(lambda g: g / (1e-3 + g.norm()))
    return hidden


def changed_in_place(layer: nn.Module, x: Tensor) -> Tensor:
    x = x.clone()
    out = layer(x)
    x += 1
    return out + x[:, :CLASSES]


def with_dropout() -> Built:
    return nn.Sequential(nn.Dropout(0.5), nn.Linear(WIDTH, CLASSES)), nn.CrossEntropyLoss()


def drawn(draw: Callable[[], float]) -> Callable[[], Built]:
    return model(lambda layer, x: layer(x) * (2.0 if draw() > 0.5 else 1.0))


def rejection(layer: nn.Module, x: Tensor) -> Tensor:
    """How often it draws depends on the record."""
    for _ in range(1 + int(float(x[:, 0].abs().sum()) * 3)):
        scale = torch.rand(WIDTH)
    return layer(x * scale)


CASES: dict[str, Case] = {
    "plain": Case(model(lambda layer, x: layer(x))),
    "a squared error that broadcasts": Case(loss(squared, 1), regression=True),
    "torch's squared error": Case(loss(mean_squared, 1), ends="apart", regression=True),
    "a guard by the largest of the batch": Case(model(lambda layer, x: layer(x / x.abs().max()))),
    "a guard that branches on the batch": Case(model(branch)),
    "a cumulative mean": Case(
        model(lambda layer, x: layer(x.cumsum(0) / torch.arange(1, len(x) + 1)[:, None]))
    ),
    "centred by the batch": Case(model(lambda layer, x: layer(x + x.mean(0)))),
    "batch normalisation by hand": Case(lambda: (Normalised(), F.cross_entropy)),
    "batch normalisation": Case(
        lambda: (nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, CLASSES)), F.cross_entropy),
        "refused",
    ),
    "a softmax over the batch": Case(model(lambda layer, x: layer(x * x.softmax(0)))),
    "sorted over the batch": Case(model(lambda layer, x: layer(x.sort(0).values))),
    "shuffled within the batch": Case(model(lambda layer, x: layer(x[torch.randperm(len(x))]))),
    "a roll over the batch": Case(model(lambda layer, x: layer(x + x.roll(1, 0)))),
    "a contrastive loss": Case(loss(contrastive)),
    "a loss over its own largest": Case(
        loss(lambda o, y: (lambda v: v / v.detach().max())(F.cross_entropy(o, y, reduction="none")))
    ),
    "a sum over the batch": Case(loss(lambda o, y: F.cross_entropy(o, y, reduction="sum"))),
    "a loss of two numbers": Case(loss(lambda o, y: o[0, :2]), "refused"),
    "a loss of a matrix": Case(loss(lambda o, y: o - 1), "refused"),
    "a loss that is a float": Case(loss(lambda o, y: 1.0), "refused"),
    "a running mean in an attribute": Case(lambda: (Mean("attribute"), F.cross_entropy), "refused"),
    "a running mean in a buffer": Case(lambda: (Mean("buffer"), F.cross_entropy), "refused"),
    "a running mean behind a buffer's back": Case(
        lambda: (Mean("data"), F.cross_entropy), "refused"
    ),
    "a list that grows": Case(keeping(list, lambda s, x: s.append(1) or len(s)), "refused"),
    "a dict that grows": Case(keeping(dict, lambda s, x: s.update({len(s): 1})), "refused"),
    "a set that grows": Case(keeping(set, lambda s, x: s.add(len(s))), "refused"),
    "a memory bank": Case(keeping(lambda: deque(maxlen=3), memory_bank), "refused"),
    "the last record": Case(keeping(dict, last_one), "refused"),
    "a byte array that grows": Case(
        keeping(bytearray, lambda s, x: s.append(1) or len(s)), "refused"
    ),
    "a namespace that counts": Case(keeping(lambda: SimpleNamespace(count=0), noted), "refused"),
    "an array of objects": Case(
        keeping(lambda: np.array([[], 0], dtype=object), lambda s, x: s[0].append(1) or len(s[0])),
        "refused",
    ),
    "an object in a set": Case(
        keeping(lambda: {Note()}, lambda s, x: noted(next(iter(s)), x)), "refused"
    ),
    "a class attribute with a name of Python's kind": Case(
        lambda: (Dunder(WIDTH, CLASSES), F.cross_entropy), "refused"
    ),
    "an object that counts": Case(keeping(Note, noted), "refused"),
    "a counter": Case(keeping(itertools.count, lambda s, x: next(s)), "refused"),
    "a generator under way": Case(keeping(stepping, lambda s, x: next(s)), "refused"),
    "an iterator": Case(
        keeping(lambda: itertools.cycle([0.0, 1.0]), lambda s, x: next(s)), "declared"
    ),
    "an array that is written to": Case(
        keeping(lambda: np.zeros(2), lambda s, x: s.__iadd__(1)[0]), "refused"
    ),
    "a generator of torch's of its own": Case(
        keeping(
            lambda: torch.Generator().manual_seed(0),
            lambda s, x: (
                float(torch.rand((), generator=s))
                if not x.is_floating_point()
                else float(np.float64(torch.empty(()).uniform_(generator=s).numpy()))
            ),
        ),
        "refused",
    ),
    "a generator of Python's of its own": Case(
        keeping(lambda: random.Random(0), lambda s, x: s.random()), "refused"
    ),
    "a generator of NumPy's of its own": Case(
        keeping(lambda: np.random.default_rng(0), lambda s, x: s.random()), "refused"
    ),
    "a closure that counts": Case(lambda: counted("closure"), "refused"),
    "a closure's list": Case(lambda: counted("closure list"), "refused"),
    "a default argument": Case(lambda: counted("default argument"), "refused"),
    "an attribute of a function": Case(lambda: counted("attribute"), "refused"),
    "a global that counts": Case(loss(by_global), "refused"),
    "a global list": Case(loss(by_global_list), "refused"),
    "an attribute of the class": Case(lambda: (Shared(WIDTH, CLASSES), F.cross_entropy), "refused"),
    "a loss that remembers": Case(lambda: (nn.Linear(WIDTH, CLASSES), MethodLoss()), "refused"),
    "a cache of values": Case(
        model(lambda layer, x: layer(x) * rounded(float(x.detach().sum()))), "refused"
    ),
    "weights that forward writes to": Case(model(shrunk), "refused"),
    "an embedding that rescales": Case(lambda: (Embedded(), F.cross_entropy), "refused"),
    "checkpointed": Case(
        model(lambda layer, x: checkpoint(layer, x, use_reentrant=False)), "refused"
    ),
    "checkpointed, reentrant": Case(
        model(lambda layer, x: checkpoint(layer, x, use_reentrant=True)), "refused"
    ),
    "changed in place after it was read": Case(model(changed_in_place), "refused"),
    "dropout": Case(with_dropout),
    "a seed within forward": Case(model(seeded_inside)),
    "a branch of Python's random": Case(drawn(random.random)),
    "a branch of NumPy's random": Case(drawn(lambda: float(np.random.rand()))),
    "as many draws as the record says": Case(model(rejection)),
    "a value taken out": Case(model(lambda layer, x: layer(x * x[0, 0].item()))),
    "a packed sequence": Case(lambda: (Packed(), F.cross_entropy)),
    "a rule under vmap that mixes": Case(model(lambda layer, x: layer(Scaled.apply(x)))),
    "torch's rule under vmap": Case(model(lambda layer, x: Mapped.apply(layer(x)))),
    "a function without a rule": Case(model(lambda layer, x: layer(Plain.apply(x)))),
    "a hook on a gradient": Case(model(hooked)),
    "kinks": Case(kinked),
}
