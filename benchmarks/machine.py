"""The machine that a benchmark ran on, and the memory that it took. Linux."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "opacus", "backpack-for-pytorch", "jax", "jax-privacy", "numpy")


def _fields(path: str) -> dict[str, str]:
    """Lines `name: value` of a file."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}


def _bytes(field: str) -> int:
    return int(field.split()[0]) * 1024


def available_bytes() -> int:
    """Memory that a new program can have."""
    return _bytes(_fields("/proc/meminfo")["MemAvailable"])


def memory_of_this_process(*, reset: bool = False) -> tuple[int, int]:
    """Resident bytes now, and at most since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    status = _fields("/proc/self/status")
    return _bytes(status["VmRSS"]), _bytes(status["VmHWM"])


def describe_machine(threads: int) -> dict[str, object]:
    """Processor, memory and versions; nothing that names the machine."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {
        "cpu": _fields("/proc/cpuinfo").get("model name", platform.machine()),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": round(_bytes(_fields("/proc/meminfo")["MemTotal"]) / 2**30),
        "python": platform.python_version(),
        "versions": found,
    }
