"""Makes PyPI's torchvision importable beside a torch for CPUs: vLLM imports it, for pictures that nobody
shows it here.

That build registers what its CUDA operators would give, operators that it then does not find. From the index
of torch's builds for CPUs comes one that has nothing to cure, and this does nothing.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Empty `torchvision/_meta_registrations.py` if torchvision cannot be imported as it is."""
    if _importable():
        return
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None and spec.origin is not None, "torchvision is not installed"
    (Path(spec.origin).parent / "_meta_registrations.py").write_text("")
    assert _importable(), "torchvision cannot be imported, nor cured"


def _importable() -> bool:
    return subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True).returncode == 0


if __name__ == "__main__":
    main()
