"""The manifests agree with our settings, with Ray, and with each other."""

import importlib.util

import pytest
import yaml

from actors.errors import UsageError
from pipelines.cluster import session
from pipelines.cluster.nodes import Node
from pipelines.cluster.placement import place
from pipelines.config import load_config
from tests.infra.kubernetes_manifests import FOLDER, RAY, ROOT, ray_cluster, read, templates


@pytest.mark.parametrize("name", RAY)
def test_nodes_have_our_ray(name):
    """Environment and version are those of a local Ray, and shared memory holds the object store."""
    spec = ray_cluster(name)
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    assert spec["rayVersion"] == pins["ray"]
    assert spec["authOptions"] == {"mode": "token"}
    for node in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        container = node["template"]["spec"]["containers"][0]
        environment = {variable["name"]: variable["value"] for variable in container["env"]}
        for variable in (
            "RAY_task_oom_retries",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
            "RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S",
        ):
            assert environment[variable] == session.LOCAL_ENVIRONMENT[variable]
        shm = next(volume for volume in node["template"]["spec"]["volumes"] if volume["name"] == "shm")[
            "emptyDir"
        ]
        assert (
            int(node["rayStartParams"]["object-store-memory"])
            < int(shm["sizeLimit"].removesuffix("Gi")) << 30
        )
        assert {port["name"]: port["containerPort"] for port in container["ports"]}["metrics"] == 8080
        if "groupName" in node:
            assert node["rayStartParams"]["num-cpus"] == container["resources"]["requests"]["cpu"]


@pytest.mark.parametrize("name", RAY)
def test_the_pools_fit_the_nodes(name):
    """They do not start without the nodes."""
    groups = ray_cluster(name)["workerGroupSpecs"]
    overrides: list[str] = []
    if name == "rayservice":
        [application] = yaml.safe_load(RAY[name]["spec"]["serveConfigV2"])["applications"]
        assert set(application) == {"name", "route_prefix", "import_path", "args", "deployments"}
        assert application["import_path"] == "pipelines.serving.ray_serve_app:build"
        assert importlib.util.find_spec("pipelines.serving.ray_serve_app")
        assert application["args"]["config"] == "/etc/scriptorium/settings.yaml"
        overrides = application["args"]["set"]
    config = load_config(str(FOLDER / "settings.yaml"), overrides)
    nodes = [{"memory": 8e9}]
    for group in groups:
        resources = group["template"]["spec"]["containers"][0]["resources"]
        node = {
            "CPU": float(group["rayStartParams"]["num-cpus"]),
            "GPU": float(resources["limits"].get("nvidia.com/gpu", 0)),
            "memory": 2e10,
        }
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
        nodes += [node] * group["replicas"]
    placement = place(config, [Node(node) for node in nodes])
    assert placement.on_gpu and placement.asr.size == placement.aligner.size == sum(
        node.get("GPU", 0) for node in nodes
    )
    with pytest.raises(UsageError, match="GPUs"):
        place(config, [Node({"CPU": 8.0, "memory": 2e10})])


def test_airflow_may_reach_the_cluster_of_its_dag():
    policies = {
        thing["metadata"]["name"]: thing["spec"]
        for thing in read("namespace.yaml")
        if thing["kind"] == "NetworkPolicy"
    }
    assert (
        policies["airflow"]["podSelector"]["matchLabels"]["ray.io/cluster"]
        == RAY["raycluster"]["metadata"]["name"]
    )
    [rule] = policies["airflow"]["ingress"]
    assert rule["ports"] == [{"port": 8265}]
    [namespace] = [
        source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for source in rule["from"]
    ]
    assert f"namespace `{namespace}`" in (ROOT / "infra/README.md").read_text()


def test_the_front_of_the_server_is_not_placed_on_the_head():
    """The head has CPU 0 and little memory. The decoders fit a worker, however many cores its machine has."""
    from ray.serve.schema import ServeApplicationSchema

    from pipelines.serving.ray_serve_app import build

    [application] = yaml.safe_load(RAY["rayservice"]["spec"]["serveConfigV2"])["applications"]
    [front] = ServeApplicationSchema(**application).deployments
    config = load_config(str(FOLDER / "settings.yaml"), application["args"]["set"])
    assert (
        front.name
        == build({**application["args"], "config": str(FOLDER / "settings.yaml")})._bound_deployment.name
    )
    [group] = ray_cluster("rayservice")["workerGroupSpecs"]
    assert (
        0
        < config.serve.decoders
        <= front.ray_actor_options.num_cpus
        < int(group["rayStartParams"]["num-cpus"])
    )
    memory = int(
        group["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"].removesuffix("Gi")
    )
    assert config.serve.decoders * config.audio.max_memory < memory / 2


def test_names_agree():
    """Everything that one file names is created by another."""
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    files = {name for made in kustomization["configMapGenerator"] for name in made["files"]} | set(
        kustomization["resources"]
    )
    assert all((FOLDER / name).is_file() for name in files)
    maps = {made["name"] for made in kustomization["configMapGenerator"]}
    used = {
        volume["configMap"]["name"]
        for _, template in templates()
        for volume in template["spec"].get("volumes", [])
        if "configMap" in volume
    }
    assert used == maps
    accounts = {
        thing["metadata"]["name"]
        for name in ("namespace.yaml", "cronjob.yaml")
        for thing in read(name)
        if thing["kind"] == "ServiceAccount"
    }
    assert {template["spec"]["serviceAccountName"] for _, template in templates()} == accounts
    role = next(thing for thing in read("cronjob.yaml") if thing["kind"] == "Role")
    assert role["rules"][1]["resourceNames"] == [RAY["rayjob"]["metadata"]["name"]]


def test_clusters_and_services_have_different_names() -> None:
    """KubeRay creates a service NAME-head-svc for each. With one name, the RayService takes the cluster's."""
    names = [RAY[kind]["metadata"]["name"] for kind in ("raycluster", "rayservice")]
    assert len(set(names)) == 2
    page = (ROOT / "infra/README.md").read_text()
    assert (
        f"service/{names[0]}-head-svc" in page
        and f"get secret {names[0]} " in page
        and f"{names[1]}-serve-svc" in page
    )
