"""`weft manifest`: valid by KubeRay's own schema, sized by the plan, and refused with the fix."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

HERE = Path(__file__).parent / "kuberay"

FARM = """\
from dataclasses import dataclass

import weft
from weft.connectors import Arrow, Files, Lance


@dataclass(frozen=True)
class Model(weft.Map):
    version = "1"
    reads = weft.fields(n=weft.Int64)
    writes = weft.fields(m=weft.Int64)
    resources = weft.Resources(cpus=6, gpus=0.5, memory="40 GiB", or_cpu=True)

    def map(self, batch, loaded):
        return {"m": batch["n"]}


@weft.pipeline
def plain_rows(out: str = "/data/plain.lance", note: str = ""):
    return weft.read(Arrow({"n": [1]})).write(Lance(out))


@weft.pipeline
def model(out: str = "/data/model.lance"):
    return weft.read(Arrow({"n": [1]})).apply(Model()).write(Lance(out))


@weft.pipeline
def pictures(source: str = "/photos/*.jpg", out: str = "/data/pictures.lance"):
    return weft.read(Files(source)).select("uri").write(Lance(out))
"""

IMAGE = "--image=registry.example/weft:1"
CLAIM = "--claim=datasets:/data"
CRON = ("--schedule=0 2 * * *", "--timezone=Europe/Berlin")


@pytest.fixture(autouse=True)
def farm(work: Path) -> Path:
    (work / "farm.py").write_text(FARM)
    return work / "farm.py"


@pytest.fixture
def made(weft) -> Callable[..., dict[str, Any]]:
    """What ``weft manifest`` prints, valid by the schema of its kind."""

    def make(*arguments: str) -> dict[str, Any]:
        document = yaml.safe_load(weft("manifest", *arguments).stdout)
        assert errors(document) == []
        return document

    return make


@cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    schema = yaml.safe_load((HERE / f"{kind.lower()}s.yaml").read_text())
    return jsonschema.Draft202012Validator(closed(schema))


def closed(schema: Any) -> Any:
    """An OpenAPI schema of Kubernetes as JSON Schema: a field that it does not name is wrong."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: value for key, value in schema.items() if key != "properties"}
    made = {key: closed(value) for key, value in made.items()}
    if "properties" in schema:
        made["properties"] = {name: closed(s) for name, s in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    return made


def errors(document: dict[str, Any]) -> list[str]:
    return [
        f"{e.json_path}: {e.message}" for e in validator(document["kind"]).iter_errors(document)
    ]


def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = spec["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [g["template"]["spec"] for g in groups]


def test_a_rayjob(made) -> None:
    document = made("rayjob", "farm.py:plain_rows", IMAGE, CLAIM, "--namespace=data", "--workers=3")
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayJob")
    assert document["metadata"]["name"] == "plain-rows"
    assert document["metadata"]["namespace"] == "data"
    spec = document["spec"]
    assert spec["entrypoint"] == "weft run --address auto -- farm.py:plain_rows"
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] == 1
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    [group] = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    for pod in pods(spec):
        [container] = pod["containers"]
        assert container["image"] == "registry.example/weft:1"
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["volumeMounts"] == [{"name": "claim-0", "mountPath": "/data"}]
        assert pod["volumes"] == [
            {"name": "claim-0", "persistentVolumeClaim": {"claimName": "datasets"}}
        ]


def test_the_same_is_printed_byte_by_byte(weft) -> None:
    arguments = ("manifest", "rayjob", "farm.py:model", IMAGE, CLAIM)
    first = weft(*arguments).stdout
    assert weft(*arguments).stdout == first
    assert first.startswith("# Needs KubeRay 1.5.1 or newer.\n# The image must have Ray 2.")
    assert "&id" not in first  # no anchors, which people do not read


def test_json_is_the_same_document(weft, answer) -> None:
    arguments = ("manifest", "rayjob", "farm.py:model", IMAGE, CLAIM)
    assert answer(*arguments) == yaml.safe_load(weft(*arguments).stdout)


def test_workers_are_sized_by_the_plan(made) -> None:
    spec = made("rayjob", "farm.py:model", IMAGE, CLAIM)["spec"]
    cpu, gpu = spec["rayClusterSpec"]["workerGroupSpecs"]
    # Two workers share the GPU and hold 12 CPUs, so 6 were too few; 40 GiB are 70% of 58.
    size = {"cpu": "12", "memory": "58Gi"}
    assert cpu["template"]["spec"]["containers"][0]["resources"]["limits"] == size
    assert gpu["template"]["spec"]["containers"][0]["resources"]["limits"] == {
        **size, "nvidia.com/gpu": "1",
    }  # fmt: skip
    assert gpu["replicas"] == 1


def test_workers_are_sized_by_hand(made) -> None:
    spec = made("rayjob", "farm.py:model", IMAGE, CLAIM, "--gpus=0", "--cpus=16", "--memory=64GiB")
    [group] = spec["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "16", "memory": "64Gi"}


def test_secrets_are_references(made) -> None:
    document = made(
        "rayjob", "farm.py:plain_rows", IMAGE, CLAIM, "--secret=storage", "--secret=hub",
        "--service-account=weft-runner",
    )  # fmt: skip
    for pod in pods(document["spec"]):
        assert pod["serviceAccountName"] == "weft-runner"
        assert pod["containers"][0]["envFrom"] == [
            {"secretRef": {"name": "storage"}}, {"secretRef": {"name": "hub"}},
        ]  # fmt: skip
        assert "env" not in pod["containers"][0]


def test_values_reach_the_command_as_they_are(made) -> None:
    note = 'it\'s $HOME; *.jpg "x"'
    document = made("rayjob", "farm.py:plain_rows", IMAGE, CLAIM, f"--set=note={note}")
    assert shlex.split(document["spec"]["entrypoint"]) == [
        "weft", "run", "--address", "auto", f"--set=note={note}", "--", "farm.py:plain_rows",
    ]  # fmt: skip
    assert document["spec"]["submissionMode"] == "HTTPMode"


def test_a_raycronjob(made) -> None:
    document = made("cronjob", "farm.py:plain_rows", IMAGE, CLAIM, *CRON, "--name=nightly")
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayCronJob")
    assert document["spec"]["schedule"] == "0 2 * * *"
    assert document["spec"]["timeZone"] == "Europe/Berlin"
    job = made("rayjob", "farm.py:plain_rows", IMAGE, CLAIM, "--name=nightly")
    assert document["spec"]["jobTemplate"] == job["spec"]


MISTAKES = {
    "a misspelt field": lambda d: d["spec"].update(entrypont="weft"),
    "a field of another place": lambda d: d["spec"].update(schedule="0 2 * * *"),
    "a wrong type": lambda d: d["spec"].update(backoffLimit="1"),
    "no head": lambda d: d["spec"]["rayClusterSpec"].pop("headGroupSpec"),
    "a wrong word": lambda d: d["spec"]["rayClusterSpec"]["authOptions"].update(mode="tokens"),
    "a misspelt field of a container": lambda d: pods(d["spec"])[1]["containers"][0].update(img=1),
    "a wrong quantity": lambda d: pods(d["spec"])[0]["containers"][0]["resources"]["limits"].update(
        cpu="four"
    ),
    "what reduce.py cut": lambda d: pods(d["spec"])[0].update(affinity={}),
    "a number where text is": lambda d: d["spec"]["rayClusterSpec"]["headGroupSpec"][
        "rayStartParams"
    ].update({"num-cpus": 0}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_check_finds_mistakes(made, mistake: str) -> None:
    document = copy.deepcopy(made("rayjob", "farm.py:plain_rows", IMAGE, CLAIM))
    MISTAKES[mistake](document)
    assert errors(document) != []


PLAIN = ("rayjob", "farm.py:plain_rows", IMAGE, CLAIM)
NIGHTLY = ("cronjob", "farm.py:plain_rows", IMAGE, CLAIM, "--timezone=UTC")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*PLAIN, "--name=Plain_Rows"), "cannot name a RayJob.*Did you mean 'plain-rows'"),
        ((*PLAIN, "--name=1st"), "a letter first.*Did you mean 'st'"),
        ((*PLAIN, f"--name={'a' * 48}"), "cannot name a RayJob. Expected up to 47 lower-case"),
        (
            (*NIGHTLY, "--schedule=0 2 * * *", f"--name={'a' * 37}"),
            "cannot name a RayCronJob. Expected up to 36",
        ),
        ((*PLAIN, "--namespace=Data"), "--namespace 'Data' is none.*Did you mean 'data'"),
        ((*PLAIN, "--secret=my_key"), "--secret 'my_key' cannot name.*Did you mean 'my-key'"),
        ((*PLAIN, "--service-account=-a"), "--service-account '-a' cannot name an object"),
        ((*PLAIN, "--claim=datasets"), "--claim 'datasets': expected NAME:/PATH"),
        ((*PLAIN, "--claim=datasets:/"), "expected NAME:/PATH"),
        ((*PLAIN, "--memory=much"), "'much' is not a size"),
        ((*PLAIN, "--workers=0"), "somebody has to do the work"),
        (("rayjob", "farm.py:model", IMAGE, CLAIM, "--cpus=2", "--gpus=0"), "6"),
        ((*PLAIN, "--set=out=plain.lance"), "is relative to "),
        ((*PLAIN, "--set=out=/other/plain.lance"), "/other/plain.lance is on no volume .*: /data"),
        ((*PLAIN, "--set=out=/database/a.lance"), "/database/a.lance is on no volume"),
        (("rayjob", "farm.py:pictures", IMAGE, CLAIM), "/photos/.* is on no volume"),
        ((*PLAIN, "--set=note=password=hunter2"), "looks like a credential"),
        ((*PLAIN, "--set=note={nominal}"), "does not tell a run what time it is for"),
        ((*NIGHTLY, "--schedule=0 2 * *"), "has 4 fields. Expected five"),
        ((*NIGHTLY, "--schedule=0 2 * * 7"), "does not know '7 as a day of the week'.*Sunday as 0"),
        ((*NIGHTLY, "--schedule=0 2 L * *"), "KubeRay's cron does not know 'L'"),
        ((*NIGHTLY, "--schedule=0 2 * * 1#2"), "KubeRay's cron does not know '#'"),
    ],
)
def test_what_is_refused(weft, arguments, message: str) -> None:
    import re

    found = weft("manifest", *arguments, code=2)
    assert re.search(message, found.stderr.replace("\n", " ")), found.stderr
    assert "hunter2" not in found.stderr
    assert found.stdout == ""


@pytest.mark.parametrize("cron", ["*/15 0-6 1,15 jan-jun mon-fri", "0 17 * * 0", "0 7 1/7 * */7"])
def test_what_kuberays_cron_knows(made, cron: str) -> None:
    assert made(*NIGHTLY, f"--schedule={cron}")["spec"]["schedule"] == cron


def test_a_zone_is_mandatory(weft) -> None:
    found = weft("manifest", *NIGHTLY[:-1], "--schedule=0 2 * * *", code=2)
    assert "Missing option '--timezone'" in found.stderr


def test_a_mistyped_kind(weft) -> None:
    found = weft("manifest", "cronjobs", "farm.py", code=2)
    assert "Did you mean 'cronjob'?" in found.stderr
