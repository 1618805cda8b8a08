"""Makes PyPI's torchvision importable beside a CPU build of torch: vLLM imports it for images, which are not
used here.

PyPI's build registers fake implementations for its CUDA operators and then does not find the operators. The
CPU build from torch's own index does not have this problem; for it, this script does nothing.
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
