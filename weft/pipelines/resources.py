"""What an operator needs, and what a cluster has."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass

from weft.errors import DefinitionError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip


def parse_bytes(text: str | int) -> int:
    """A number of bytes from ``"8 GiB"``, ``"500 MB"`` or an int.

    >>> parse_bytes("8 GiB")
    8589934592

    Raises:
        DefinitionError: not a size.
    """
    if isinstance(text, int):
        return text
    match = re.fullmatch(r"\s*([\d.]+)\s*([A-Za-z]*)\s*", text)
    if not match or match[2].upper() not in _UNITS:
        raise DefinitionError(f"{text!r} is not a size. Expected a number of bytes or '8 GiB'.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def format_bytes(count: float) -> str:
    """`count` bytes for people.

    >>> format_bytes(8589934592), format_bytes(512)
    ('8.0 GiB', '512 B')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


@dataclass(frozen=True)
class Resources:
    """What one worker of an operator holds while it runs.

    `cpus` and `gpus` may be fractions. `memory` and `gpu_memory` are bytes or text like
    ``"8 GiB"``. `batch_rows` fixes the batch instead of sizing it by bytes. `workers` asks for
    a pool of that many long-lived workers; an operator on a GPU always gets one, by default as
    large as the cluster has room for. `or_cpu` lets an operator that wants a GPU run on CPUs
    where the cluster has none.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int | str = 0
    gpu_memory: int | str = 0
    batch_rows: int | None = None
    workers: int | None = None
    or_cpu: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "cpus", float(self.cpus))
        object.__setattr__(self, "gpus", float(self.gpus))
        object.__setattr__(self, "memory", parse_bytes(self.memory))
        object.__setattr__(self, "gpu_memory", parse_bytes(self.gpu_memory))
        if self.cpus < 0 or self.gpus < 0 or (self.cpus == 0 and self.gpus == 0):
            raise DefinitionError(
                f"Resources(cpus={self.cpus:g}, gpus={self.gpus:g}): expected a positive share "
                "of a CPU or of a GPU."
            )
        if self.or_cpu and not (self.gpus and self.cpus):
            raise DefinitionError(
                f"Resources(cpus={self.cpus:g}, gpus={self.gpus:g}, or_cpu=True): expected a share "
                "of a GPU, and of a CPU to fall back to."
            )
        for name in ("batch_rows", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DefinitionError(f"Resources({name}={value}): expected at least 1.")

    @property
    def pooled(self) -> bool:
        """Whether the operator runs in a pool of long-lived workers instead of tasks."""
        return self.gpus > 0 or self.workers is not None

    def __str__(self) -> str:
        parts = [f"cpus={self.cpus:g}"]
        parts += [f"gpus={self.gpus:g}"] if self.gpus else []
        parts += [f"memory={format_bytes(self.memory)}"] if self.memory else []  # type: ignore[arg-type]
        parts += [f"gpu_memory={format_bytes(self.gpu_memory)}"] if self.gpu_memory else []  # type: ignore[arg-type]
        parts += [f"workers={self.workers}"] if self.workers else []
        parts += ["or_cpu"] if self.or_cpu else []
        return " ".join(parts)


@dataclass(frozen=True)
class Machine:
    """The shape of one node of a cluster. Memory in bytes; 0 means unknown."""

    cpus: float
    gpus: float = 0.0
    memory: int = 0
    gpu_memory: int = 0


@dataclass(frozen=True)
class Cluster:
    """The nodes that a plan is made for, live or declared."""

    machines: tuple[Machine, ...]

    @property
    def cpus(self) -> float:
        """CPUs of all nodes together."""
        return sum(m.cpus for m in self.machines)

    @property
    def gpus(self) -> float:
        """GPUs of all nodes together."""
        return sum(m.gpus for m in self.machines)

    def __str__(self) -> str:
        shapes = [
            f"{m.cpus:g} CPUs" + (f", {m.gpus:g} GPUs" if m.gpus else "") for m in self.machines
        ]
        return f"{len(shapes)} node{'s' if len(shapes) != 1 else ''}: " + "; ".join(shapes)


def this_machine() -> Cluster:
    """This computer, as a cluster of one node: the CPUs this process may use, and its GPUs.

    NVIDIA's driver lists a GPU as ``/dev/nvidia0``; ``CUDA_VISIBLE_DEVICES`` hides some of them.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cpus = float(len(os.sched_getaffinity(0)))
    return Cluster((Machine(cpus=cpus, gpus=float(_gpus()), memory=memory),))


def _gpus() -> int:
    here = sum(re.fullmatch(r"nvidia\d+", name) is not None for name in os.listdir("/dev"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return here
    named = [v.strip() for v in visible.split(",")]
    usable = list(itertools.takewhile(lambda v: v and v != "-1", named))  # as CUDA reads it
    return min(here, len(usable))
