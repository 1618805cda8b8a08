"""The files for Prometheus and Grafana are valid, and name only metrics of this Ray version."""

import functools
import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "infra" / "monitoring"
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
METRIC = re.compile(r"\bray_[a-z]\w*")


@functools.cache
def known() -> frozenset[str]:
    """The metrics in the dashboards that Ray ships: they exist in the installed version."""
    folder = (
        Path(importlib.util.find_spec("ray").origin).parent
        / "dashboard"
        / "modules"
        / "metrics"
        / "dashboards"
    )
    return frozenset(
        name for path in folder.glob("*_dashboard_panels.py") for name in METRIC.findall(path.read_text())
    )


def test_expressions_name_known_metrics():
    expressions = [target["expr"] for panel in PANELS for target in panel["targets"]] + [
        rule["expr"] for rule in RULES
    ]
    assert len(expressions) > 15
    for expression in expressions:
        names = METRIC.findall(expression)
        assert names and set(names) <= known(), set(names) - known()
        assert expression.count("(") == expression.count(")") and expression.count("{") == expression.count(
            "}"
        )


def test_the_dashboard_is_valid():
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= set(DASHBOARD)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    cells = set()
    for panel in DASHBOARD["panels"]:
        position = panel["gridPos"]
        assert position["x"] >= 0 and position["x"] + position["w"] <= 24
        taken = {
            (x, y)
            for x in range(position["x"], position["x"] + position["w"])
            for y in range(position["y"], position["y"] + position["h"])
        }
        assert not taken & cells
        cells |= taken
    for panel in PANELS:
        assert panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
        assert all(
            target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            for target in panel["targets"]
        )
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) <= variables


def test_the_scrape_configuration_is_valid():
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert set(config) == {"global", "rule_files", "scrape_configs"}
    assert all((FOLDER / name).is_file() for name in config["rule_files"])
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    kubernetes = jobs["ray-kubernetes"]
    assert kubernetes["kubernetes_sd_configs"] == [{"role": "pod", "namespaces": {"names": ["scriptorium"]}}]
    for rule in kubernetes["relabel_configs"]:
        assert rule["source_labels"] and ("target_label" in rule or rule["action"] == "keep")
        re.compile(rule.get("regex", ""))
    # Pods are found by the label that the network policy uses.
    assert "ray.io/is-ray-node" in (FOLDER.parent / "kubernetes" / "namespace.yaml").read_text()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_is_valid(rule):
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"[A-Z]\w+", rule["alert"]) and re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
    assert rule["labels"]["severity"] in ("page", "warning") and rule["annotations"]["summary"]
