"""Fixtures that several test modules share."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# A shell starts what runs in the background without Ctrl-C, and so would all processes that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tell pytest-xdist which tests one process runs, one after the other.

    The tests that start Ray share one Ray, so they are one group; those of faults, which start a Ray each,
    are another. In all other folders a module is a group, because its fixtures are made once per process.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder == "e2e" or item.get_closest_marker("ray"):
            group = "ray"
        else:
            group = "faults" if folder == "faults" else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def captured_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Capture our messages: a Ray that an earlier test started disables loggers and silences all handlers."""
    caplog.handler.setLevel(logging.NOTSET)
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and name.startswith(("actors", "pipelines")):
            logger.disabled = False


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """An empty bucket in a server that speaks S3 over HTTP on loopback: yields `s3://scriptorium-test`.

    The server's address and dummy credentials stay in the environment until the session ends, so that
    processes started after this fixture (Ray's workers too) reach the server.
    """
    boto3 = pytest.importorskip("boto3", reason="the S3 tests need boto3 (extra `test`)")
    server_module = pytest.importorskip("moto.server", reason="the S3 tests need moto[server] (extra `test`)")
    s3fs = pytest.importorskip("s3fs", reason="the S3 tests need s3fs (extra `s3`)")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [
            name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")
        ]:
            patch.delenv(name)
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        boto3.client("s3").create_bucket(Bucket="scriptorium-test")
        yield "s3://scriptorium-test"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()
