"""Cut from KubeRay's CRDs what the manifests of weft need to be checked: the files beside this.

    python tests/cli/kuberay/reduce.py FOLDER

FOLDER has ``ray.io_rayjobs.yaml`` and ``ray.io_raycronjobs.yaml``, from KubeRay's
``ray-operator/config/crd/bases``. Descriptions and `status` go; every name and every scalar stays
as it is. An object or an array under ``spec`` that no manifest of ours has, such as ``affinity``,
becomes ``{"not": {}}``, which nothing satisfies: the check is never weaker than the CRD's. A
manifest that begins to use one fails until its name is put into `USED`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

USED = {
    "spec", "jobTemplate", "rayClusterSpec", "authOptions", "headGroupSpec", "workerGroupSpecs",
    "rayStartParams", "template", "metadata", "containers", "envFrom", "secretRef", "resources",
    "requests", "limits", "volumeMounts", "volumes", "persistentVolumeClaim", "submitterConfig",
}  # fmt: skip
"""Objects and arrays that manifests have, by name."""

KEPT = (
    "type", "format", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength",
    "minItems", "maxItems", "required", "nullable", "anyOf", "oneOf", "allOf",
    "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields",
)  # fmt: skip
"""What says which values are valid; the rest describes, or is for the server."""

IMPOSSIBLE: dict[str, Any] = {"not": {}}


def reduce(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without what does not decide whether our manifests are valid."""
    found = {key: schema[key] for key in KEPT if key in schema}
    if "properties" in schema:
        found["properties"] = {
            name: reduce(inner) if _keep(name, inner) else IMPOSSIBLE
            for name, inner in schema["properties"].items()
        }
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found[key] = reduce(schema[key])
    return found


def _keep(name: str, schema: dict[str, Any]) -> bool:
    return name in USED or schema.get("type") not in ("object", "array")


def main(folder: str) -> None:
    """Write the reduced schema of ``v1`` of both kinds beside this file."""
    for kind in ("rayjobs", "raycronjobs"):
        crd = yaml.safe_load(Path(folder, f"ray.io_{kind}.yaml").read_text())
        [version] = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
        schema = reduce(version["schema"]["openAPIV3Schema"])
        schema["properties"].pop("status")
        head = f"# From KubeRay's ray.io_{kind}.yaml (Apache-2.0) by reduce.py; do not edit.\n"
        text = yaml.safe_dump(schema, sort_keys=False, width=100)
        Path(__file__).with_name(f"{kind}.yaml").write_text(head + text)


if __name__ == "__main__":
    main(sys.argv[1])
