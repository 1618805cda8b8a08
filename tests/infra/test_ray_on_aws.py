"""Ray's cluster launcher on AWS: the file is valid, and agrees with our settings."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from pipelines.config import load_config

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"


def test_the_cluster_file_is_valid():
    """It follows the schema of Ray's launcher, only workers are spot machines, all mounted files exist."""
    jsonschema = pytest.importorskip("jsonschema")
    import importlib.util
    import json

    schema = Path(importlib.util.find_spec("ray").origin).parent / "autoscaler" / "ray-schema.json"
    config = yaml.safe_load((INFRA / "ray" / "aws.yaml").read_text())
    jsonschema.validate(config, json.loads(schema.read_text()))
    nodes = config["available_node_types"]
    assert "InstanceMarketOptions" not in nodes[config["head_node_type"]]["node_config"]
    [worker] = [node for name, node in nodes.items() if name != config["head_node_type"]]
    assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert all(node["node_config"]["MetadataOptions"]["HttpTokens"] == "required" for node in nodes.values())
    settings = load_config(str(INFRA / "kubernetes" / "settings.yaml"))
    assert worker["min_workers"] == worker["max_workers"] == config["max_workers"] == settings.asr.pool.size
    assert all(
        (ROOT / source).exists() for source in config["file_mounts"].values() if not source.startswith("~")
    )
    for command in [
        *config["setup_commands"],
        *config["head_start_ray_commands"],
        *config["worker_start_ray_commands"],
    ]:
        assert subprocess.run(["bash", "-n"], input=command, text=True).returncode == 0
    from pipelines.cluster import session

    for commands_ in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        for variable in (
            "RAY_task_oom_retries",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
            "RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S",
        ):
            assert f"{variable}={session.LOCAL_ENVIRONMENT[variable]}" in commands_[-1]


def test_every_node_and_every_client_sends_the_token() -> None:
    """Only `ray start --head` finds a token file by itself (Ray 2.60). Others need RAY_AUTH_MODE."""
    config = yaml.safe_load((INFRA / "ray" / "aws.yaml").read_text())
    starts = [
        line
        for kind in ("head", "worker")
        for line in config[f"{kind}_start_ray_commands"]
        if "ray start" in line
    ]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token" in line.split("ray start")[0] for line in starts)
    page = (INFRA / "README.md").read_text()
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        assert "ray job submit --address" not in block or "export RAY_AUTH_MODE=token" in block
    assert "RAY_AUTH_MODE=token" in (INFRA / "airflow" / "scriptorium_nightly.py").read_text()
