"""The files for Kubernetes: valid by the schemas of Kubernetes and KubeRay, safe, and true to the settings that they go with."""

import copy
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jsonschema
import psutil
import pytest
import referencing
import yaml

from actors.errors import UsageError
from pipelines.cluster import session
from pipelines.cluster.nodes import Node
from pipelines.cluster.placement import placed
from pipelines.config import load_config

kubernetes_validate = pytest.importorskip("kubernetes_validate")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "kubernetes"
SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / "v1.33.0-local-strict"
KUBERAY = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parent / "schemas" / "kuberay.json").read_text())
)


@functools.cache
def kubernetes(kind: str) -> jsonschema.Draft202012Validator:
    """The strict schema of a type of Kubernetes by its long name; loaded once, which kubernetes_validate itself does for every call."""
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


@pytest.mark.parametrize("name", ["namespace.yaml", "cronjob.yaml"])
def test_kubernetes_own_kinds(name):
    for thing in read(name):
        kubernetes(KINDS[thing["kind"]]).validate(thing)
        group, _, version = thing["apiVersion"].rpartition("/")
        assert KINDS[thing["kind"]].startswith(f"io.k8s.api.{group.split('.')[0] or 'core'}.{version}.")


@pytest.mark.parametrize("name", RAY)
def test_kuberay_kinds(name):
    KUBERAY.validate(RAY[name])


@pytest.mark.parametrize(
    "where, template", templates(), ids=lambda value: value if isinstance(value, str) else ""
)
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
    assert {
        mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])
    } == volumes


@pytest.mark.parametrize(
    "change", [("entrypont",), ("rayClusterSpec", "headGroupSpec", "rayStartParam"), ("backoffLimit",)]
)
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
def test_placement(name):
    """The pools of the settings fit the nodes, and do not start without them."""
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
    place = placed(config, [Node(node) for node in nodes])
    assert place.on_gpu and place.asr["size"] == place.aligner["size"] == sum(
        node.get("GPU", 0) for node in nodes
    )
    with pytest.raises(UsageError, match="GPUs"):
        placed(config, [Node({"CPU": 8.0, "memory": 2e10})])


def test_job_contract():
    """A run that was cut off is tried again with the same command; machines that may go have workers only."""
    spec = RAY["rayjob"]["spec"]
    assert spec["backoffLimit"] >= 1 and spec["shutdownAfterJobFinishes"]
    assert spec["entrypoint"].startswith("bash /opt/scriptorium/transcribe.sh ")
    head = ray_cluster("rayjob")["headGroupSpec"]["template"]["spec"]
    assert "nodeSelector" not in head and "tolerations" not in head


@pytest.mark.parametrize("name", ["rayjob", "raycluster"])
def test_a_head_that_goes_lets_runs_store(name):
    """It has the time for it: a stop that is under way, ours, and what comes after."""
    head = ray_cluster(name)["headGroupSpec"]["template"]["spec"]
    wait = int(
        next(
            variable["value"]
            for variable in head["containers"][0]["env"]
            if variable["name"] == "RAY_JOB_STOP_WAIT_TIME_S"
        )
    )
    assert wait > 3 and wait + 3 + 5 < head["terminationGracePeriodSeconds"] * 0.75
    assert pre_stop(name) == pre_stop("rayjob")


def pre_stop(name: str) -> str:
    """What the head runs before it goes."""
    container = ray_cluster(name)["headGroupSpec"]["template"]["spec"]["containers"][0]
    [python, option, script] = container["lifecycle"]["preStop"]["exec"]["command"]
    assert (python, option) == ("python", "-c")
    return script


RUN = """
import os, signal, sys, time
def heard(*_):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
    time.sleep(0.7)
    with open({mark!r}, "a") as file:
        file.write("stored ")
    sys.exit(1)
signal.signal(signal.SIGTERM, heard)
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


@pytest.mark.parametrize("stopped_before", [False, True])
def test_a_run_ends_by_itself_when_its_head_goes(tmp_path, stopped_before):
    """It hears one signal, stores and fails, and so is tried again; its shell is not cut off, and other processes hear nothing."""
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    mark, processes = tmp_path / "mark", tmp_path / "processes"
    processes.mkdir()
    (tmp_path / "run.py").write_text(RUN.format(mark=str(mark)))
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/run.py "$@"\n')
    (tmp_path / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment.pop(RAY_JOB_CONFIG_JSON_ENV_VAR, None)
    # As Ray runs it: in a shell, which is the process that it waits for.
    entrypoint = f"cd / && bash {ROOT}/infra/ray/transcribe.sh m o; exit $?"
    of_a_job = {**environment, RAY_JOB_CONFIG_JSON_ENV_VAR: "{}"}
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=environment)
    job = subprocess.Popen(
        entrypoint, shell=True, env=of_a_job, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert job.stdout.readline() == "ready\n"
        family = [
            job.pid,
            bystander.pid,
            *(child.pid for child in psutil.Process(job.pid).children(recursive=True)),
        ]
        # What it sees of this machine: other Ray jobs may be at work here.
        for pid in family:
            (processes / str(pid)).symlink_to(f"/proc/{pid}")
        if stopped_before:  # as KubeRay's operator does when a RayJob is deleted
            os.kill(family[-1], signal.SIGTERM)
        script = (
            pre_stop("rayjob")
            .replace('"/proc"', repr(str(processes)))
            .replace("time.sleep(5)", "time.sleep(0)")
        )
        hook = subprocess.run(
            [sys.executable, "-c", script], env={**environment, "RAY_JOB_STOP_WAIT_TIME_S": "2"}, timeout=30
        )
        assert hook.returncode == 0
        assert job.wait(10) == 1 and mark.read_text() == "stored "
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
        job.stdout.close()


def test_airflow_may_reach_the_cluster_that_its_dag_is_for():
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


def test_the_front_of_the_server_stays_off_the_head():
    """The head has CPU 0 and little memory. What decodes fits a worker, however many cores the machine below has."""
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
    """What one file names, another makes."""
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
    assert (
        f"service/{names[0]}-head-svc" in page
        and f"get secret {names[0]} " in page
        and f"{names[1]}-serve-svc" in page
    )
