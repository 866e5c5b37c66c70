"""An accelerator that is not there: its tensors are held on the CPU, and every operation is seen.

It is judged by CUDA's rules: an operation on two devices, a value that the host waits for, a copy
from memory that is not pinned. Launches, bytes and the memory of long float64 vectors are counted.
Generators and matrix libraries of a real device are not imitated.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from benchmarks.counts.counting import Counts, tensors_in

NAME = "emulated"
ROOT = str(Path(__file__).resolve().parents[3]) + "/"
OURS = tuple(ROOT + room for room in ("dpcore", "mechanisms", "trainers", "audits"))

aten = torch.ops.aten
WAITS = (
    *("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "argwhere"),
    *("unique_consecutive", "_unique", "_unique2", "unique_dim", "bincount", "histc"),
    *("_linalg_svd", "_linalg_eigh", "_linalg_check_errors"),
)
"""What copies something to the host, or has a shape that depends on values."""
TAKES_NUMBERS = ("where", "fill_", "fill", "lerp", "lerp_", "masked_fill", "masked_fill_")
"""What takes a number of the host's as a tensor without dimensions, as pointwise operations do."""


class _Module:
    """What torch asks of a device's module."""

    is_available = is_initialized = staticmethod(lambda: True)
    _is_in_bad_fork = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    manual_seed = manual_seed_all = staticmethod(lambda seed: None)
    get_rng_state = staticmethod(lambda device=None: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, device=None: None)
    mem_get_info = staticmethod(lambda device=None: (2**30, 2**30))
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16, torch.float16])


@cache
def device() -> torch.device:
    """The emulated device, made known to torch for the whole process as this module is imported.

    Torch gives devices their queues at its first backward, and cannot fork afterwards: so tests on
    it have a process of their own (`make test-device`).
    """
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    return torch.device(NAME, 0)


device()


class DeviceTensor(Tensor):
    """A tensor on the emulated device; `here` is the CPU tensor that holds its values."""

    here: Tensor
    storage: object

    @staticmethod
    def __new__(cls, here: Tensor, storage: object) -> DeviceTensor:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined,no-any-return]
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=device(),
        )

    def __init__(self, here: Tensor, storage: object) -> None:
        self.here, self.storage = here, storage

    def __repr__(self) -> str:  # type: ignore[override]
        return f"DeviceTensor({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _watching[-1].run(func, args, kwargs or {})


class _Storage:
    """Stands for a CPU storage as long as a tensor of the device lies in it."""

    __slots__ = ("__weakref__",)


class Emulation(TorchDispatchMode):
    """Runs and judges every operation while it is entered.

    Args:
        long: from how many coordinates on a float64 vector counts as long.
    """

    def __init__(self, long: int = 1 << 62) -> None:
        super().__init__()
        self.counts, self._long = Counts(), long
        self._storages: weakref.WeakValueDictionary[int, _Storage] = weakref.WeakValueDictionary()
        self._held: dict[int, tuple[int, str]] = {}
        self._pinned: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self._functions = _Functions(self)

    def __enter__(self) -> Emulation:
        _watching.append(self)
        self._functions.__enter__()
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self._functions.__exit__(kind, error, trace)
        _watching.pop()

    @property
    def held(self) -> int:
        """Bytes of long float64 vectors that are held now."""
        return sum(size for size, _ in self._held.values())

    def anew(self) -> Counts:
        """The counts so far, which start anew from what is held now."""
        before, self.counts = self.counts, Counts()
        self._note_peak()
        return before

    def waited(self, what: str) -> None:
        """The host waited for the device."""
        self.counts.waits[what, _place()] += 1

    def on_device(self, here: Tensor) -> DeviceTensor:
        """A CPU tensor as one of the device, in the same memory."""
        key = here.untyped_storage()._cdata
        storage = self._storages.get(key)
        if storage is None:
            storage = self._storages[key] = _Storage()
            size = here.untyped_storage().nbytes()
            if here.dtype == torch.float64 and size >= 8 * self._long:
                self._held[id(storage)] = (size, _place())
                weakref.finalize(storage, self._held.pop, id(storage), None)
                self._note_peak()
        return DeviceTensor(here, storage)

    def _note_peak(self) -> None:
        if self.held > self.counts.peak:
            self.counts.peak = self.held
            self.counts.at_peak = Counter(place for _, place in self._held.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """One operation of torch, on CPU values where it is the device's."""
        if func in (aten._to_copy.default, aten.to.device, aten.to.dtype_layout):
            return self._copied(func, args, dict(kwargs))
        leaves = tensors_in((*args, *kwargs.values()))
        there = [v for v in leaves if isinstance(v, DeviceTensor)]
        if not there and not _means_it(kwargs.get("device")):
            return func(*args, **kwargs)
        name = func._schema.name.partition("::")[2]
        if func is aten.copy_.default:
            self._crossed(args[0], args[1], bool(kwargs.get("non_blocking", args[2:3] == (True,))))
        else:
            self._judge(func, name, args, kwargs, leaves)
        plain_args = [_here(v) for v in args]
        plain_kwargs = {key: _here(v) for key, v in kwargs.items()}
        if "device" in plain_kwargs:
            plain_kwargs["device"] = torch.device("cpu")
            plain_kwargs.pop("pin_memory", None)
        out = func(*plain_args, **plain_kwargs)
        self.counts.add(func, name, (*plain_args, *plain_kwargs.values()), out)
        if name == "_local_scalar_dense" or (not there and func is aten.copy_.default):
            return out
        if func is aten.copy_.default and not isinstance(args[0], DeviceTensor):
            return args[0]
        if torch.Tag.inplace_view in func.tags:
            return _reshaped_in_place(func, args, kwargs)
        return self._returned(out, {id(v.here): v for v in there})

    def _returned(self, out: Any, given: Mapping[int, DeviceTensor]) -> Any:
        """What an operation gives: one of its arguments, or a tensor of its own."""
        if isinstance(out, tuple | list):
            return type(out)(self._returned(v, given) for v in out)
        if not isinstance(out, Tensor):
            return out
        return given[id(out)] if id(out) in given else self.on_device(out)

    def _judge(self, func: Any, name: str, args: Any, kwargs: Any, leaves: list[Any]) -> None:
        if name in WAITS:
            self.waited(name)
        indexed = name in ("index", "index_put", "index_put_", "_unsafe_index")
        if indexed:
            for at in args[1]:
                if at is not None and at.dtype in (torch.bool, torch.uint8):
                    self.waited("index by a mask")
                elif at is not None and not isinstance(at, DeviceTensor):
                    self.waited("index on the host")
        hosts = [v for v in leaves if isinstance(v, Tensor) and not isinstance(v, DeviceTensor)]
        if indexed:
            hosts = [v for v in hosts if not any(v is at for at in args[1])]
        numbers = all(v.dim() == 0 for v in hosts)
        takes = torch.Tag.pointwise in func.tags or name in TAKES_NUMBERS or indexed
        if hosts and not (numbers and takes):
            shapes = ", ".join(str(tuple(v.shape)) for v in hosts)
            self.counts.mixed[f"{name} of {shapes} on the host", _place()] += 1
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type == "cpu":
            self.counts.mixed["generator on the host", _place()] += 1

    def pin(self, v: Tensor) -> Tensor:
        """A copy in memory that a device reads without the host."""
        with no_dispatch():
            copy = v.clone()
        self._pinned.add(copy.untyped_storage())
        return copy

    def _is_pinned(self, v: Tensor) -> bool:
        key = v.untyped_storage()._cdata
        return any(storage._cdata == key for storage in self._pinned)

    def _crossed(self, into: Tensor, source: Tensor, non_blocking: bool) -> None:
        if isinstance(source, DeviceTensor) and not isinstance(into, DeviceTensor):
            self.waited("copy to the host")
        elif not isinstance(source, DeviceTensor) and source.dim():
            self._sent(source, non_blocking)

    def _sent(self, v: Tensor, non_blocking: bool) -> None:
        if not (non_blocking and self._is_pinned(v)):
            self.waited("copy to the device")

    def _copied(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        source, target = args[0], kwargs.get("device")
        from_device = isinstance(source, DeviceTensor)
        to_device = from_device if target is None else _means_it(target)
        if not from_device and not to_device:
            return func(*args, **kwargs)
        non_blocking = bool(kwargs.get("non_blocking"))
        if from_device and not to_device:
            self.waited("copy to the host")
        elif not from_device:
            self._sent(source, non_blocking)
        plain = _here(source)
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        out = func(plain, *args[1:], **kwargs)
        if not to_device:
            return out
        if from_device:
            self.counts.add(func, "_to_copy", (plain,), out)
        return self.on_device(out.clone() if out is plain else out)


class _Functions(TorchFunctionMode):
    """What torch serves above its dispatcher: pinned memory, and values that the host gives."""

    def __init__(self, emulation: Emulation) -> None:
        super().__init__()
        self._emulation = emulation

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.pin_memory:
            return self._emulation.pin(args[0])
        if func is Tensor.untyped_storage and isinstance(args[0], DeviceTensor):
            return args[0].here.untyped_storage()
        if func is Tensor.tolist and isinstance(args[0], DeviceTensor):
            self._emulation.waited("tolist")
            return args[0].here.tolist()
        if func is torch.tensor and _means_it(kwargs.get("device")):
            del kwargs["device"]
            return func(*args, **kwargs).to(device())
        return func(*args, **kwargs)


_watching: list[Emulation] = []


def _means_it(target: Any) -> bool:
    return target is not None and torch.device(target).type == NAME


def _here(v: Any) -> Any:
    if isinstance(v, tuple | list):
        return [_here(part) for part in v]
    return v.here if isinstance(v, DeviceTensor) else v


def _place() -> str:
    """The nearest file of the code under test, and the function there."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(OURS):
            return f"{file.removeprefix(ROOT)} {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


def _reshaped_in_place(func: Any, args: Any, kwargs: Any) -> Any:
    """The wrapper's own shape, as the tensor that it holds was reshaped in place."""
    with no_dispatch():
        before = torch._C._meta_in_tls_dispatch_include()
        torch._C._set_meta_in_tls_dispatch_include(True)
        try:
            func(*args, **kwargs)
        finally:
            torch._C._set_meta_in_tls_dispatch_include(before)
    return args[0]
