"""``weft manifest rayjob|cronjob TARGET``: a pipeline as an object for Kubernetes."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import click

from weft.cli.command import Command, Group, emit
from weft.cli.options import parse_settings, target_argument
from weft.errors import DefinitionError

if TYPE_CHECKING:
    from weft.pipelines.schedules.kubernetes import Target

F = TypeVar("F", bound=Callable[..., Any])

_HEADS = {
    "RayJob": "Needs KubeRay 1.5.1 or newer.",
    "RayCronJob": (
        "Needs KubeRay 1.6 or newer with its feature gate RayCronJob, which is alpha.\n"
        "# Times at which a run is still going on make another, which weft's lease refuses."
    ),
}


def _options(function: F) -> F:
    for option in (
        click.option("--retries", type=click.IntRange(0), default=1, show_default=True,
                     help="Clusters to try again with, if the run fails."),
        click.option("--service-account", metavar="NAME", help="Of the pods."),
        click.option("--secret", "secrets", multiple=True, metavar="NAME",
                     help="A Secret whose keys are in the environment; repeat for more."),
        click.option("--claim", "claims", multiple=True, metavar="NAME:/PATH",
                     help="A PersistentVolumeClaim that all pods mount; repeat for more."),
        click.option("--gpus", type=click.IntRange(0), metavar="N",
                     help="GPU workers.  [default: 1 if a step wants a GPU]"),
        click.option("--memory", metavar="SIZE", help="Of a worker.  [default: 4 GiB per CPU]"),
        click.option("--cpus", type=click.IntRange(1), metavar="N",
                     help="Of a worker.  [default: 4, or what the largest step wants]"),
        click.option("--workers", type=click.IntRange(0), default=1, show_default=True,
                     metavar="N", help="Workers without a GPU."),
        click.option("--namespace", metavar="NAME", help="Where it is made."),
        click.option("--name", metavar="NAME", help="[default: the pipeline's]"),
        click.option("--image", required=True, metavar="IMAGE",
                     help="With Ray, weft and the pipeline in it."),
    ):  # fmt: skip
        function = option(function)
    return target_argument(function)


@click.group("manifest", cls=Group)
def command() -> None:
    """Print a pipeline as an object of KubeRay: weft manifest … | kubectl apply -f -

    TARGET is loaded here to check and to size it, and is named in the image as it is named
    here: a module, or a file relative to the image's working directory. See docs/clusters.md.
    """


@command.command("rayjob", cls=Command)
@_options
def _rayjob(target: str, **options: Any) -> None:
    """Print a RayJob: a Ray cluster that runs the pipeline once, and goes."""
    from weft.pipelines.schedules.kubernetes import rayjob

    where, line = _prepare("RayJob", target, **options)
    _print(rayjob(where, line, version("ray")))


@command.command("cronjob", cls=Command)
@_options
@click.option("--schedule", required=True, metavar="CRON", help='Such as "0 2 * * *".')
@click.option("--timezone", required=True, metavar="ZONE", help="Such as Europe/Berlin.")
def _cronjob(target: str, schedule: str, timezone: str, **options: Any) -> None:
    """Print a RayCronJob: a RayJob at each time of a schedule."""
    from weft.pipelines.schedules.cron import Cron
    from weft.pipelines.schedules.kubernetes import raycronjob

    cron = Cron(schedule, timezone)
    where, line = _prepare("RayCronJob", target, **options)
    _print(raycronjob(where, line, version("ray"), cron))


def _prepare(
    kind: str,
    target: str,
    *,
    settings: tuple[str, ...],
    image: str,
    name: str | None,
    namespace: str | None,
    workers: int,
    cpus: int | None,
    memory: str | None,
    gpus: int | None,
    claims: tuple[str, ...],
    secrets: tuple[str, ...],
    service_account: str | None,
    retries: int,
) -> tuple[Target, list[str]]:
    """Where it is to run, checked, and the command line that runs it there."""
    from weft.cli.elsewhere import load_for_cluster
    from weft.pipelines.schedules import kubernetes

    values = parse_settings(settings)
    for key, value in values.items():
        if "{nominal" in value or "{interval_" in value:
            raise DefinitionError(
                f"--set {key}={value}: KubeRay does not tell a run what time it is for. Use "
                "`weft schedule`, or make the path from what the source holds."
            )
    pipeline, full = load_for_cluster(target, values)
    mounts = tuple(map(kubernetes.Claim.parse, claims))
    kubernetes.check_paths(pipeline.graph, mounts)
    where = kubernetes.Target(
        name=name if name is not None else kubernetes.default_name(pipeline.graph.name, kind),
        image=image,
        workers=kubernetes.workers_for(pipeline.graph, workers, cpus, memory, gpus),
        namespace=namespace,
        claims=mounts,
        secrets=secrets,
        service_account=service_account,
        retries=retries,
    )
    named = (
        target
        if target.endswith(f":{pipeline.graph.name}")
        else f"{target}:{full.rpartition(':')[2]}"
    )
    line = ["weft", "run", "--address", "auto", *(f"--set={n}={v}" for n, v in values.items())]
    return where, [*line, "--", named]


def _print(document: dict[str, Any]) -> None:
    import yaml  # type: ignore[import-untyped]

    kind = document["kind"]
    head = (
        f"# {_HEADS[kind]}\n"
        f"# The image must have Ray {version('ray')}, weft {version('weft')} and the pipeline.\n"
    )
    emit(document, head + yaml.safe_dump(document, sort_keys=False, width=100).rstrip())
