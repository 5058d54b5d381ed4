"""What a process may not do that decodes bytes nobody vouches for.

It is called before anything is imported that starts threads, since only a process with one
thread can leave its parent's network. What is taken away:

* privileges: none are gained by running programs (``no_new_privs``), no core is dumped;
* life: it is killed with its parent, however the parent dies;
* the network: it gets one of its own, without any interface, where the kernel lets users have
  one (`user.max_net_namespaces`, and no security module against it); elsewhere it keeps the
  parent's. Decoders are told as well to open nothing (`weft.operators.containers`);
* credentials: variables of the environment that hold or name them are never passed on;
* memory: see `limit_memory`.

It is no jail: files that the user may read can be read.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
from collections.abc import Mapping
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000

_FILES = 256
"""Files that may be open at a time."""

_SECRET = re.compile(
    r"(?i)(^(aws|azure|google|gcp|gcloud|ray_auth|ssh|gpg|docker|kube|npm|pip|uv|vault)_)"
    r"|token|secret|passw|credential|api_?key|access_?key|private_?key|cookie|dsn$|_auth"
    r"|connection_string|database_url|_proxy$"
)
"""Names of variables that hold credentials, or the way to some."""

_USER_IN_URL = re.compile(r"://[^/\s@]+@")


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """`given` without what holds credentials, by name or as a URL with a user in it.

    >>> environment({"PATH": "/bin", "AWS_PROFILE": "me", "HF_TOKEN": "x", "DB": "pg://u:p@h/d"})
    {'PATH': '/bin'}
    """
    return {
        name: value
        for name, value in given.items()
        if not _SECRET.search(name) and not _USER_IN_URL.search(value)
    }


def confine(parent: int, *, network: bool) -> None:
    """Take away what a decoder has no need of; `network` is whether it may keep the network."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not network and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        libc.unshare(_CLONE_NEWNET)  # root may without a namespace of users
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    die_with(parent, libc)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_NOFILE, _FILES)
    # What the parent ignores or blocks, an executed program goes on ignoring and blocking: Ray's
    # workers do so with SIGCHLD, without which nobody is told how a process ended.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGABRT, signal.SIGSEGV):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to the run, which ends this


def die_with(parent: int, libc: ctypes.CDLL | None = None) -> None:
    """Be killed when the process `parent` dies; at once if it is dead already.

    Strictly it is the thread that made this process whose end counts: see `isolation`.
    """
    (libc or ctypes.CDLL(None)).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def limit_memory(count: int) -> None:
    """From now on, at most `count` bytes of addresses more, and no file larger than that.

    Addresses are counted and not pages, since the kernel refuses them with an error that Python
    and C libraries know, where too many pages end the process.
    """
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _lower(resource.RLIMIT_AS, used + count)
    _lower(resource.RLIMIT_FSIZE, count)


def _lower(limit: int, count: int) -> None:
    _, most = resource.getrlimit(limit)
    count = count if most == resource.RLIM_INFINITY else min(count, most)
    resource.setrlimit(limit, (count, count))
