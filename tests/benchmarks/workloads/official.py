"""The official package `qwen-asr`, installed beside this environment and run in its own process, for
comparison.

It pins transformers 4.57.6, which cannot share an environment with ours. Its packages go to a folder that
comes first on its process's path; torch and the rest come from this environment, so the comparison is one of
code, not of torch versions.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.workloads.rows import Skipped

# Its pins where it has any, and their requirements that this environment lacks. No gradio, flask and sox:
# they are for its demos.
PACKAGES = [
    "qwen-asr==0.0.6",
    "transformers==4.57.6",
    "tokenizers==0.22.2",
    "huggingface_hub==0.36.2",
    "accelerate==1.12.0",
    "librosa==0.11.0",
    "nagisa==0.2.11",
    "soynlp==0.0.493",
    "scikit-learn==1.9.1",
    "scipy==1.17.1",
    "joblib==1.6.0",
    "cloudpickle==3.1.3",
    "threadpoolctl==3.8.0",
    "narwhals==2.29.0",
    "lazy_loader==0.6",
    "decorator==5.3.1",
    "pooch==1.9.0",
]
# Named by what it holds, so that a change of the list is installed.
_DIGEST = hashlib.sha256("\n".join(PACKAGES).encode()).hexdigest()[:8]
FOLDER = Path(tempfile.gettempdir()) / f"scriptorium-bench-qwen-asr-0.0.6-{_DIGEST}"


def install() -> Path:
    """The folder with the packages, filled at the first call and reused by later runs.

    Raises:
        Skipped: they cannot be installed here.
    """
    if not (FOLDER / "complete").exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--upgrade",
            "--target",
            str(FOLDER),
            *PACKAGES,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Skipped(
                "qwen-asr 0.0.6 and its transformers 4.57.6 cannot be installed: "
                f"{done.stderr.strip().splitlines()[-1][:200]}"
            )
        (FOLDER / "complete").touch()
    return FOLDER


class Official:
    """A process with the official models loaded.

    Args:
        clips: the audio of all runs, int16 at 16 kHz.
        threads: of torch.
        asr, aligner: folders of checkpoints in the original layout; None: not loaded.

    Raises:
        Skipped: it cannot be installed.
    """

    def __init__(
        self, clips: list[np.ndarray], threads: int, asr: Path | None = None, aligner: Path | None = None
    ) -> None:
        packages = install()
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "clips.npz"
        np.savez(path, *clips)
        self._log = (Path(self._folder.name) / "log").open("w+")
        arguments = [str(path), str(threads), str(asr or "-"), str(aligner or "-")]
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("official_worker.py")), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": str(packages),
                "HF_HUB_OFFLINE": "1",
                "OMP_NUM_THREADS": str(threads),
            },
        )
        self.versions: str = self._answer()["ready"]

    def run(self, **command: Any) -> dict[str, Any]:
        """Let it do one thing; see official_worker.py.

        Raises:
            RuntimeError: it ended; the message has its last words.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def __enter__(self) -> Official:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._log.seek(0)
        raise RuntimeError("the official package ended: " + self._log.read()[-800:])
