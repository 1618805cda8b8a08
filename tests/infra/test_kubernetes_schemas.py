"""The manifests are valid by the schemas of Kubernetes and KubeRay, and their pods are safe."""

import copy

import jsonschema
import pytest

from tests.infra.kubernetes_manifests import KINDS, KUBERAY, POD, RAY, kubernetes, read, templates


@pytest.mark.parametrize("name", ["namespace.yaml", "cronjob.yaml"])
def test_kubernetes_manifests_are_valid(name):
    for thing in read(name):
        kubernetes(KINDS[thing["kind"]]).validate(thing)
        group, _, version = thing["apiVersion"].rpartition("/")
        assert KINDS[thing["kind"]].startswith(f"io.k8s.api.{group.split('.')[0] or 'core'}.{version}.")


@pytest.mark.parametrize("name", RAY)
def test_kuberay_manifests_are_valid(name):
    KUBERAY.validate(RAY[name])


@pytest.mark.parametrize(
    "where, template", templates(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_pods_are_valid_and_restricted(where, template):
    kubernetes(POD).validate(template)
    pod = template["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert ":" in container["image"] and not container["image"].endswith(":latest")
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    assert {
        mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])
    } == volumes


@pytest.mark.parametrize(
    "change", [("entrypont",), ("rayClusterSpec", "headGroupSpec", "rayStartParam"), ("backoffLimit",)]
)
def test_the_schema_refuses_wrong_fields(change):
    """Misspelled names and wrong types are refused."""
    job = copy.deepcopy(RAY["rayjob"])
    *path, last = change
    target = job["spec"]
    for part in path:
        target = target[part]
    target[last] = "three"
    with pytest.raises(jsonschema.ValidationError):
        KUBERAY.validate(job)


def test_the_schema_of_pods_refuses_misspelled_names():
    template = copy.deepcopy(RAY["rayjob"]["spec"]["submitterPodTemplate"])
    template["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(jsonschema.ValidationError, match="imagePullPolice"):
        kubernetes(POD).validate(template)
