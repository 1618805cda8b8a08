"""The files for Kubernetes: valid by the schemas of Kubernetes and KubeRay, safe, and true to the settings that they go with."""

import copy
import functools
import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jsonschema
import pytest
import referencing
import yaml

from actors.errors import UsageError
from pipelines import cluster
from pipelines.config import load_config
from pipelines.nodes import Node
from pipelines.placement import placed

kubernetes_validate = pytest.importorskip("kubernetes_validate")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "kubernetes"
SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / "v1.33.0-local-strict"
KUBERAY = jsonschema.Draft202012Validator(json.loads((Path(__file__).parent / "schemas" / "kuberay.json").read_text()))


@functools.cache
def kubernetes(kind: str) -> jsonschema.Draft202012Validator:
    """The strict schema of a type of Kubernetes by its long name; loaded once, which kubernetes_validate itself does for every call."""
    definitions = json.loads((SCHEMAS / "_definitions.json").read_text())
    registry = referencing.Registry().with_resource(definitions["$id"], referencing.Resource.from_contents(definitions))
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
        found += [(f"{name} {group['groupName']}", group["template"]) for group in ray_cluster(name)["workerGroupSpecs"]]
    cron = read("cronjob.yaml")[-1]
    return [*found, ("nightly", cron["spec"]["jobTemplate"]["spec"]["template"])]


@pytest.mark.parametrize("name", ["namespace.yaml", "cronjob.yaml"])
def test_kubernetes_own_kinds(name):
    for thing in read(name):
        kubernetes(KINDS[thing["kind"]]).validate(thing)
        group, _, version = thing["apiVersion"].rpartition("/")
        assert KINDS[thing["kind"]].startswith(f"io.k8s.api.{group.split('.')[0] or 'core'}.{version}.")


@pytest.mark.parametrize("name", RAY)
def test_kuberay_kinds(name):
    KUBERAY.validate(RAY[name])


@pytest.mark.parametrize("where, template", templates(), ids=lambda value: value if isinstance(value, str) else "")
def test_pod_templates(where, template):
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
    assert {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])} == volumes


@pytest.mark.parametrize("change", [("entrypont",), ("rayClusterSpec", "headGroupSpec", "rayStartParam"), ("backoffLimit",)])
def test_the_schema_refuses(change):
    """Misspelt names and wrong types do not pass."""
    job = copy.deepcopy(RAY["rayjob"])
    *path, last = change
    place = job["spec"]
    for part in path:
        place = place[part]
    place[last] = "three"
    with pytest.raises(jsonschema.ValidationError):
        KUBERAY.validate(job)


def test_the_schema_of_pods_refuses():
    template = copy.deepcopy(RAY["rayjob"]["spec"]["submitterPodTemplate"])
    template["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(jsonschema.ValidationError, match="imagePullPolice"):
        kubernetes(POD).validate(template)


@pytest.mark.parametrize("name", RAY)
def test_nodes(name):
    """Ray's environment is the one our own Ray has, the version is ours, and memory that rows take is there."""
    spec = ray_cluster(name)
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert spec["rayVersion"] == pins["ray"]
    assert spec["authOptions"] == {"mode": "token"}
    for node in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        container = node["template"]["spec"]["containers"][0]
        environment = {variable["name"]: variable["value"] for variable in container["env"]}
        for variable in ("RAY_task_oom_retries", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S"):
            assert environment[variable] == cluster.LOCAL_ENVIRONMENT[variable]
        shm = next(volume for volume in node["template"]["spec"]["volumes"] if volume["name"] == "shm")["emptyDir"]
        assert int(node["rayStartParams"]["object-store-memory"]) < int(shm["sizeLimit"].removesuffix("Gi")) << 30
        assert {port["name"]: port["containerPort"] for port in container["ports"]}["metrics"] == 8080
        if "groupName" in node:
            assert node["rayStartParams"]["num-cpus"] == container["resources"]["requests"]["cpu"]


@pytest.mark.parametrize("name", RAY)
def test_placement(name):
    """The pools of the settings fit the nodes, and do not start without them."""
    groups = ray_cluster(name)["workerGroupSpecs"]
    overrides: list[str] = []
    if name == "rayservice":
        [application] = yaml.safe_load(RAY[name]["spec"]["serveConfigV2"])["applications"]
        assert set(application) == {"name", "route_prefix", "import_path", "args"}
        assert application["import_path"] == "pipelines.serving.application:build"
        assert importlib.util.find_spec("pipelines.serving.application")
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
    place = placed(config, [Node(node) for node in nodes])
    assert place.on_gpu and place.asr["size"] == place.aligner["size"] == sum(node.get("GPU", 0) for node in nodes)
    with pytest.raises(UsageError, match="GPUs"):
        placed(config, [Node({"CPU": 8.0, "memory": 2e10})])


def test_job_contract():
    """A run that was cut off is tried again with the same command; machines that may go have workers only; the head stops jobs before it goes."""
    spec = RAY["rayjob"]["spec"]
    assert spec["backoffLimit"] >= 1 and spec["shutdownAfterJobFinishes"]
    assert spec["entrypoint"].startswith("bash /opt/scriptorium/transcribe.sh ")
    head = ray_cluster("rayjob")["headGroupSpec"]["template"]["spec"]
    assert "nodeSelector" not in head and "tolerations" not in head
    container = head["containers"][0]
    wait = int(next(variable["value"] for variable in container["env"] if variable["name"] == "RAY_JOB_STOP_WAIT_TIME_S"))
    assert 3 < wait < head["terminationGracePeriodSeconds"]
    compile(container["lifecycle"]["preStop"]["exec"]["command"][2], "preStop", "exec")


def test_names_agree():
    """What one file names, another makes."""
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    files = {name for made in kustomization["configMapGenerator"] for name in made["files"]} | set(kustomization["resources"])
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


class Api(BaseHTTPRequestHandler):
    """As much of the Kubernetes API as `nightly.py` needs: one RayJob, which is still seen once after it was deleted."""

    job: dict | None = None
    asked: list[str]
    lingering = 0

    def _answer(self, code: int, body: object) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self):
        kind = type(self)
        if kind.job is not None and kind.job.get("deleted"):
            kind.lingering -= 1
            if kind.lingering < 0:
                kind.job = None
        self._answer(404, {}) if kind.job is None else self._answer(200, kind.job)

    def do_DELETE(self):
        kind = type(self)
        kind.asked.append(f"DELETE {self.path}")
        kind.job = {**(kind.job or {}), "deleted": True}
        self._answer(200, {})

    def do_POST(self):
        kind = type(self)
        kind.asked.append(f"POST {self.path}")
        assert kind.job is None
        kind.job = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._answer(201, kind.job)

    def log_message(self, *_):
        pass


@pytest.fixture
def api(monkeypatch):
    kind = type("Api", (Api,), {"asked": [], "job": None, "lingering": 1})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("KUBERNETES_API", f"http://127.0.0.1:{server.server_port}")
    yield kind
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def nightly():
    spec = importlib.util.spec_from_file_location("nightly", FOLDER / "nightly.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


JOBS = "/apis/ray.io/v1/namespaces/scriptorium/rayjobs"


@pytest.mark.parametrize(
    "state, asked",
    [
        (None, [f"POST {JOBS}"]),
        ("Complete", [f"DELETE {JOBS}/scriptorium", f"POST {JOBS}"]),
        ("Failed", [f"DELETE {JOBS}/scriptorium", f"POST {JOBS}"]),
        ("Running", []),
        ("Retrying", []),
        ("", []),
    ],
)
def test_nightly(api, nightly, state, asked):
    if state is not None:
        api.job = {"status": {"jobDeploymentStatus": state}}
    said = nightly.start(RAY["rayjob"], patience=5)
    assert api.asked == asked
    assert ("left alone" in said) == (not asked)
    if asked:
        assert api.job == RAY["rayjob"]


def test_nightly_gives_up(api, nightly):
    api.job, api.lingering = {"status": {"jobDeploymentStatus": "Failed"}}, 1000
    with pytest.raises(TimeoutError, match="finalizers"):
        nightly.start(RAY["rayjob"], patience=0.3)


def test_ray_clusters_and_services_have_names_of_their_own() -> None:
    """KubeRay gives each of them a service NAME-head-svc, and of two with one name the service takes the cluster's."""
    names = [RAY[kind]["metadata"]["name"] for kind in ("raycluster", "rayservice")]
    assert len(set(names)) == 2
    page = (ROOT / "infra/README.md").read_text()
    assert f"service/{names[0]}-head-svc" in page and f"get secret {names[0]} " in page and f"{names[1]}-serve-svc" in page
