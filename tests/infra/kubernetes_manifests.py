"""The manifests of infra/kubernetes, read, with the schemas of Kubernetes and KubeRay."""

import functools
import json
from pathlib import Path

import jsonschema
import pytest
import referencing
import yaml

kubernetes_validate = pytest.importorskip("kubernetes_validate")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "kubernetes"
SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / "v1.33.0-local-strict"
KUBERAY = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parent / "schemas" / "kuberay.json").read_text())
)


@functools.cache
def kubernetes(kind: str) -> jsonschema.Draft202012Validator:
    """The strict schema of a Kubernetes type by its long name.

    It is loaded once. kubernetes_validate itself loads it for every call.
    """
    definitions = json.loads((SCHEMAS / "_definitions.json").read_text())
    registry = referencing.Registry().with_resource(
        definitions["$id"], referencing.Resource.from_contents(definitions)
    )
    return jsonschema.Draft202012Validator({"$ref": f"{definitions['$id']}#/$defs/{kind}"}, registry=registry)


KINDS = {
    "Namespace": "io.k8s.api.core.v1.Namespace",
    "ServiceAccount": "io.k8s.api.core.v1.ServiceAccount",
    "NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "Role": "io.k8s.api.rbac.v1.Role",
    "RoleBinding": "io.k8s.api.rbac.v1.RoleBinding",
    "CronJob": "io.k8s.api.batch.v1.CronJob",
}
POD = "io.k8s.api.core.v1.PodTemplateSpec"


def read(name: str) -> list[dict]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


RAY = {name: read(f"{name}.yaml")[0] for name in ("rayjob", "raycluster", "rayservice")}


def ray_cluster(name: str) -> dict:
    spec = RAY[name]["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def templates() -> list[tuple[str, dict]]:
    """All pod templates, with where they are."""
    found = [("submitter", RAY["rayjob"]["spec"]["submitterPodTemplate"])]
    for name in RAY:
        found.append((f"{name} head", ray_cluster(name)["headGroupSpec"]["template"]))
        found += [
            (f"{name} {group['groupName']}", group["template"])
            for group in ray_cluster(name)["workerGroupSpecs"]
        ]
    cron = read("cronjob.yaml")[-1]
    return [*found, ("nightly", cron["spec"]["jobTemplate"]["spec"]["template"])]


def pre_stop(name: str) -> str:
    """What the head runs before it goes."""
    container = ray_cluster(name)["headGroupSpec"]["template"]["spec"]["containers"][0]
    [python, option, script] = container["lifecycle"]["preStop"]["exec"]["command"]
    assert (python, option) == ("python", "-c")
    return script
