"""A pipeline as an object of KubeRay: a RayJob, or a RayCronJob that makes RayJobs at its times.

A RayJob is a Ray cluster of its own that runs one command and goes. Its head coordinates and
does no work (``num-cpus: 0``); CPU workers and, if the pipeline wants GPUs, GPU workers do.
Requests are equal to limits, so that a node never promises memory that it lacks.

RayCronJob has a schedule, a time zone and a template, and no word on runs that overlap: what
keeps two runs from one dataset is weft's lease, which refuses the second. A CronJob of
Kubernetes, which has such a word, would need a pod that may create RayJobs.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weft.errors import DefinitionError, PlanError
from weft.pipelines.compile import compile_plan
from weft.pipelines.graph import Graph, Node, Read, Write
from weft.pipelines.lowering import lower
from weft.pipelines.passes.assign_devices import assign_devices
from weft.pipelines.passes.fuse import fuse
from weft.pipelines.passes.place import place
from weft.pipelines.resources import Cluster, Machine, parse_bytes
from weft.pipelines.schedules.cron import Cron

NAME_LENGTHS = {"RayJob": 47, "RayCronJob": 36}
"""KubeRay refuses longer names of RayJobs, because it makes those of services of them; a
RayCronJob needs 11 characters more, for the time that is put behind its name."""

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

_HEAD = {"cpu": "2", "memory": "8Gi"}
"""The head holds the driver, which lists the source, and Ray's own books."""

_SHOWN_SECONDS = 600
"""How long a cluster stays when its job has ended: to read its logs."""

_HEAP = 0.7
"""The part of a worker's memory that Ray gives to tasks; the rest is its object store."""

_ROOM = (assign_devices, fuse, place)
"""The passes that find room for a plan; the others may look at data, which need not be here."""


@dataclass(frozen=True)
class Workers:
    """The workers of a cluster: `count` on CPUs, and `gpu_count` more with `gpus` GPUs each."""

    count: int
    cpus: int
    memory: int
    gpu_count: int = 0
    gpus: int = 0

    @property
    def cluster(self) -> Cluster:
        """What a plan finds there."""
        memory = int(self.memory * _HEAP)
        plain = (Machine(cpus=self.cpus, memory=memory),) * self.count
        return Cluster(plain + (Machine(self.cpus, self.gpus, memory),) * self.gpu_count)


@dataclass(frozen=True)
class Claim:
    """A PersistentVolumeClaim and where all pods mount it.

    >>> Claim.parse("datasets:/data")
    Claim(name='datasets', path='/data')

    Raises:
        DefinitionError: not a claim and an absolute path.
    """

    name: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Claim:
        """A claim from ``NAME:/PATH``."""
        name, _, path = text.partition(":")
        if not path.startswith("/") or path.strip("/") == "":
            raise DefinitionError(
                f"--claim {text!r}: expected NAME:/PATH, such as datasets:/data: the name of a "
                "PersistentVolumeClaim, and the path where all pods mount it."
            )
        return cls(check_name(name, "--claim"), path.rstrip("/"))


@dataclass(frozen=True)
class Target:
    """Where a pipeline is to run, and as what."""

    name: str
    image: str
    workers: Workers
    namespace: str | None = None
    claims: tuple[Claim, ...] = ()
    secrets: tuple[str, ...] = ()
    service_account: str | None = None
    retries: int = 1


def rayjob(target: Target, command: list[str], ray_version: str) -> dict[str, Any]:
    """A RayJob that runs `command`, whose parts are quoted as a shell needs them."""
    _check(target, "RayJob")
    return _object("RayJob", target, _job(target, command, ray_version))


def raycronjob(target: Target, command: list[str], ray_version: str, cron: Cron) -> dict[str, Any]:
    """A RayCronJob that makes a RayJob at the times of `cron`.

    Raises:
        DefinitionError: KubeRay's cron does not know the expression.
    """
    _check(target, "RayCronJob")
    _check_cron(cron)
    spec = {
        "schedule": cron.expression,
        "timeZone": cron.timezone,
        "jobTemplate": _job(target, command, ray_version),
    }
    return _object("RayCronJob", target, spec)


def workers_for(
    graph: Graph, count: int, cpus: int | None, memory: str | None, gpus: int | None
) -> Workers:
    """Workers that `graph` fits on: by default as large as its largest step, and 4 CPUs at least;
    one GPU worker if a step wants a GPU.

    Raises:
        DefinitionError: not a size, or no worker at all.
        PlanError: the plan has no room there.
    """
    asked = [s.resources for s in lower(graph).steps]
    each = math.ceil(max(r.gpus for r in asked))
    gpu_count = (1 if each else 0) if gpus is None else gpus
    if count + gpu_count == 0:
        raise DefinitionError("--workers 0: somebody has to do the work. Expected 1 or more.")
    least = max(4, math.ceil(max(r.cpus for r in asked)))
    heap = max(int(r.memory) for r in asked)
    problem: PlanError | None = None
    for size in (cpus,) if cpus else (least, 2 * least, 4 * least):
        room = parse_bytes(memory) if memory else max(4 * 2**30 * size, math.ceil(heap / _HEAP))
        shares = max(1, each) if gpu_count else 0
        workers = Workers(count, size, _whole_gib(room), gpu_count, shares)
        try:
            compile_plan(graph, workers.cluster, _ROOM)
        except PlanError as error:
            problem = error
        else:
            return workers
    assert problem is not None
    raise problem


def check_paths(graph: Graph, claims: tuple[Claim, ...]) -> None:
    """Refuse datasets on a path of no volume: they would go with the pods.

    Raises:
        DefinitionError: there is one.
    """
    for node in graph.nodes:
        for path in _paths(node):
            if not any(f"{path}/".startswith(f"{claim.path}/") for claim in claims):
                mounted = ", ".join(c.path for c in claims) or "none"
                raise DefinitionError(
                    f"{node.site}: {path} is on no volume (mounted: {mounted}), so the pods would "
                    "not find it, or take it with them. Mount one on all of them: --claim "
                    "NAME:/PATH, a PersistentVolumeClaim that many nodes may write (ReadWriteMany)."
                )


def _paths(node: Node) -> list[str]:
    """The absolute paths that make a source or a sink what it is."""
    if isinstance(node.action, Write):
        return _absolute(node.action.sink.identity())
    return _absolute(node.action.source.identity()) if isinstance(node.action, Read) else []


def _absolute(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if value.startswith("/") else []
    if isinstance(value, Mapping):
        return _absolute(list(value.values()))
    return [p for v in value for p in _absolute(v)] if isinstance(value, list | tuple) else []


def default_name(pipeline: str, kind: str) -> str:
    """A name that Kubernetes takes.

    >>> default_name("daily_photos", "RayJob")
    'daily-photos'
    """
    name = re.sub(r"[^a-z0-9]+", "-", pipeline.lower()).strip("-")[: NAME_LENGTHS[kind]]
    return name.strip("-")


def check_name(name: str, option: str) -> str:
    """`name`, if it names an object of Kubernetes: an RFC 1123 subdomain.

    Raises:
        DefinitionError: it does not.
    """
    if not _NAME.fullmatch(name) or len(name) > 253:
        raise DefinitionError(
            f"{option} {name!r} cannot name an object of Kubernetes. Expected lower-case letters, "
            f"digits, '-' and '.', a letter or digit first and last.{_near(name)}"
        )
    return name


def _check(target: Target, kind: str) -> None:
    name, most = target.name, NAME_LENGTHS[kind]
    if not _LABEL.fullmatch(name) or len(name) > most:
        raise DefinitionError(
            f"--name {name!r} cannot name a {kind}. Expected up to {most} lower-case letters, "
            f"digits and '-', a letter first and no '-' last.{_near(name[:most])}"
        )
    namespace = target.namespace
    if namespace is not None and (not _LABEL.fullmatch(namespace) or len(namespace) > 63):
        raise DefinitionError(
            f"--namespace {namespace!r} is none. Expected up to 63 lower-case letters, digits and "
            f"'-'.{_near(namespace)}"
        )
    for secret in target.secrets:
        check_name(secret, "--secret")
    if target.service_account is not None:
        check_name(target.service_account, "--service-account")


def _near(name: str) -> str:
    near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")
    return f" Did you mean {near!r}?" if near and near != name else ""


def _check_cron(cron: Cron) -> None:
    """KubeRay reads what Go's robfig/cron does: no L, no #, and Sunday is 0."""
    day = cron.expression.split()[4]
    special = re.search(r"(?i)\bl\b|\d+l\b|#|w\b", " ".join(cron.expression.split()[2:]))
    if special or re.search(r"(?<![\d/])7(?!\d)", day):
        raise DefinitionError(
            f"--schedule {cron.expression!r}: KubeRay's cron does not know "
            f"{special[0] if special else '7 as a day of the week'!r}. Write Sunday as 0, and use "
            "numbers, ranges, lists and steps; or run it with `weft schedule`."
        )


def _object(kind: str, target: Target, spec: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": target.name}
    if target.namespace:
        metadata["namespace"] = target.namespace
    metadata["labels"] = {"app.kubernetes.io/part-of": "weft"}
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _job(target: Target, command: list[str], ray_version: str) -> dict[str, Any]:
    workers = target.workers
    size = {"cpu": str(workers.cpus), "memory": f"{workers.memory // 2**30}Gi"}
    groups = [_group("cpu", workers.count, target, size)] if workers.count else []
    if workers.gpu_count:
        gpu_size = {**size, "nvidia.com/gpu": str(workers.gpus)}
        groups.append(_group("gpu", workers.gpu_count, target, gpu_size))
    return {
        "entrypoint": shlex.join(command),
        # The operator hands the command to Ray as it is; a submitter's pod quotes it once more.
        "submissionMode": "HTTPMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _SHOWN_SECONDS,
        "backoffLimit": target.retries,
        "rayClusterSpec": {
            "rayVersion": ray_version,
            "authOptions": {"mode": "token"},
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0"},
                "template": _pod("ray-head", target, _HEAD),
            },
            "workerGroupSpecs": groups,
        },
    }


def _group(name: str, count: int, target: Target, size: Mapping[str, str]) -> dict[str, Any]:
    return {
        "groupName": name,
        "replicas": count,
        "minReplicas": count,
        "maxReplicas": count,
        "rayStartParams": {},
        "template": _pod("ray-worker", target, size),
    }


def _pod(name: str, target: Target, size: Mapping[str, str]) -> dict[str, Any]:
    container: dict[str, Any] = {"name": name, "image": target.image}
    if target.secrets:
        container["envFrom"] = [{"secretRef": {"name": s}} for s in target.secrets]
    container["resources"] = {"requests": dict(size), "limits": dict(size)}
    spec: dict[str, Any] = {"containers": [container]}
    if target.claims:
        volumes = [(f"claim-{i}", claim) for i, claim in enumerate(target.claims)]
        container["volumeMounts"] = [{"name": n, "mountPath": c.path} for n, c in volumes]
        spec["volumes"] = [
            {"name": n, "persistentVolumeClaim": {"claimName": c.name}} for n, c in volumes
        ]
    if target.service_account:
        spec["serviceAccountName"] = target.service_account
    return {"spec": spec}


def _whole_gib(size: int) -> int:
    return max(1, math.ceil(size / 2**30)) * 2**30
