"""The checks of ``weft doctor``: each looks at one thing and says ok, warn or FAIL."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import resource
import shutil
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from weft.pipelines.resources import format_bytes

_PACKAGES = {
    "ray": "ray",
    "pyarrow": "pyarrow",
    "polars": "polars",
    "lance": "pylance",
    "av": "av",
    "PIL": "pillow",
}
"""Module -> the package it comes from."""

_LEAST_PYTHON = (3, 11)

_SHM = "/dev/shm"  # noqa: S108  where Linux has shared memory, not a file of ours

_SHM_SHARE = 0.2
"""The share of memory that the Ray engine gives its object store, which lives in /dev/shm."""

_SHM_MOST = 4 << 30

_LEAST_FILES = 4096
"""Open files. Ray's processes hold some hundreds each; with 1024 a long run ends in EMFILE."""

_LEAST_DISK = 5 << 30

_LEAST_MEMORY = 4 << 30


@dataclass(frozen=True)
class Finding:
    """What one check found; `fix` says what to do if it is not ok."""

    level: str
    what: str
    found: str
    fix: str = ""


def ok(what: str, found: str) -> Finding:
    """A check that is fine."""
    return Finding("ok", what, found)


def warn(what: str, found: str, fix: str) -> Finding:
    """Something that slows runs down or will fail some of them."""
    return Finding("warn", what, found, fix)


def fail(what: str, found: str, fix: str) -> Finding:
    """Something that keeps weft from working, or secrets from being secret."""
    return Finding("FAIL", what, found, fix)


def python() -> Iterator[Finding]:
    """The version of Python."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= _LEAST_PYTHON:
        yield ok("python", found)
    else:
        yield fail("python", found, "weft needs Python 3.11 or newer: uv venv --python 3.12")


def packages() -> Iterator[Finding]:
    """Whether what weft stands on can be imported."""
    for module, package in _PACKAGES.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(module)
            yield ok(package, importlib.metadata.version(package))
        except Exception as error:  # noqa: BLE001  a broken binary wheel raises anything
            text = f"cannot be imported: {type(error).__name__}: {error}"
            yield fail(package, text, f"pip install --force-reinstall {package}")


def image_formats() -> Iterator[Finding]:
    """Whether Pillow was built with the formats that weft decodes."""
    try:
        features = importlib.import_module("PIL.features")
    except ImportError:
        return
    names = {"jpg": "JPEG", "zlib": "PNG", "webp": "WebP", "libtiff": "TIFF", "avif": "AVIF"}
    missing = [name for feature, name in names.items() if not features.check(feature)]
    if missing:
        fix = "pip install --force-reinstall 'pillow>=11.3' (the wheel has them all)"
        yield warn("image formats", f"missing: {', '.join(missing)}", fix)
    else:
        yield ok("image formats", ", ".join(names.values()))


def shared_memory() -> Iterator[Finding]:
    """Room for Ray's object store."""
    memory = _memory()
    needed = min(int(memory * _SHM_SHARE), _SHM_MOST)
    try:
        free = shutil.disk_usage(_SHM).free
    except OSError:
        yield warn(_SHM, "not there", "Ray will use the disk instead, which is slow.")
        return
    if free < needed:
        fix = f"docker run --shm-size={needed >> 20}m, or mount -o remount,size=… /dev/shm"
        text = f"{format_bytes(free)} free; the Ray engine takes {format_bytes(needed)}"
        yield warn(_SHM, text, fix)
    else:
        yield ok(_SHM, f"{format_bytes(free)} free")


def memory() -> Iterator[Finding]:
    """Memory, and whether a container has less of it than the machine."""
    physical, limit = _memory(), _cgroup_memory()
    have = min(physical, limit or physical)
    text = format_bytes(have)
    if limit and limit < physical:
        fix = "Runs are planned for the machine's memory: set the Ray engine's by --address, or"
        text = f"{format_bytes(limit)} for this container, of {format_bytes(physical)}"
        yield warn("memory", text, f"{fix} raise the container's limit.")
    elif have < _LEAST_MEMORY:
        fix = "Ray itself takes about 1 GiB: use --engine local, or more memory."
        yield warn("memory", text, fix)
    else:
        yield ok("memory", text)


def cpus() -> Iterator[Finding]:
    """CPUs, and whether a container may use fewer than it sees."""
    usable, quota = len(os.sched_getaffinity(0)), _cgroup_cpus()
    if quota and quota < usable:
        text = f"{usable} to be seen, a quota of {quota:g} for this container"
        yield warn("CPUs", text, f"Plans are made for {usable}: use docker run --cpuset-cpus.")
    else:
        yield ok("CPUs", str(usable))


def disk() -> Iterator[Finding]:
    """Room in the folder at hand, where datasets go."""
    free = shutil.disk_usage(Path.cwd()).free
    if free < _LEAST_DISK:
        yield warn("disk", f"{format_bytes(free)} free in {Path.cwd()}", "Write to another disk.")
    else:
        yield ok("disk", f"{format_bytes(free)} free in {Path.cwd()}")


def open_files() -> Iterator[Finding]:
    """The limit on open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < _LEAST_FILES:
        most = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
        yield warn("open files", f"limit {soft}", f"ulimit -n 65535 (at most {most} here)")
    else:
        yield ok("open files", f"limit {soft}" if soft >= 0 else "unlimited")


def gpu() -> Iterator[Finding]:
    """GPUs and torch; both optional."""
    devices = len([p for p in Path("/dev").glob("nvidia*") if p.name[6:].isdigit()])
    if importlib.util.find_spec("torch") is None:
        if devices:
            fix = "pip install 'weft[models]'"
            yield warn("GPU", f"{devices} there, and torch is not installed", fix)
        else:
            yield ok("GPU", "none; torch is not installed (optional)")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = importlib.import_module("torch")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if devices and not count:
        fix = "Install torch for this driver's CUDA; see nvidia-smi."
        yield warn("GPU", f"{devices} there, and torch {torch.__version__} sees none", fix)
    else:
        yield ok("GPU", f"{count or 'none'}; torch {torch.__version__}")


def ray_token() -> Iterator[Finding]:
    """Whether others can read the token that opens this user's Ray clusters."""
    path = Path("~/.ray/auth_token").expanduser()
    if not path.exists():
        yield ok("ray token", "no file; clusters that weft starts have tokens of their own")
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        text = f"{path} has mode {mode:04o}: others can read it, and run code as you"
        yield fail("ray token", text, f"chmod 600 {path}, then make a new token")
    else:
        yield ok("ray token", f"{path} is readable by you alone")


def allocator() -> Iterator[Finding]:
    """Whether the allocator can be tuned for buffers of megabytes."""
    from weft.pipelines.engines.allocator import tune_allocator

    if tune_allocator():
        yield ok("allocator", "glibc, tuned for large buffers")
    else:
        fix = "Use an image with glibc (Debian, Ubuntu) instead of musl (Alpine)."
        yield warn("allocator", "not glibc: image decoding may take twice the CPU", fix)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python, packages, image_formats, cpus, memory, shared_memory, disk, open_files, gpu,
    ray_token, allocator,
)  # fmt: skip
"""In the order they are printed."""


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cgroup_memory() -> int | None:
    """What this container may use; ``None``: all of it."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _cgroup(name)
        if text and text.isdigit():
            return int(text)
    return None


def _cgroup_cpus() -> float | None:
    """The CPU time this container may use, in CPUs; ``None``: all of it."""
    parts = (_cgroup("cpu.max") or "").split()
    if len(parts) != 2:
        parts = [_cgroup(f"cpu/cpu.cfs_{n}_us") or "" for n in ("quota", "period")]
    return int(parts[0]) / int(parts[1]) if all(p.isdigit() for p in parts) else None


def _cgroup(name: str) -> str | None:
    try:
        return Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return None
