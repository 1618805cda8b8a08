"""One output directory for the tests of imports, without a run and without Ray."""

from __future__ import annotations

import pytest

from tests.pipelines.export.transcripts import made_rows, write_output


@pytest.fixture(scope="session")
def made_output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Made transcripts, whose audio does not exist, in two files."""
    return write_output(tmp_path_factory.mktemp("made") / "out", made_rows(), files=2)
