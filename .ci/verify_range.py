"""Verify bundles under the lowest and the newest transformers that pyproject.toml allows: verify_range.py BUNDLE...

Each is installed into a folder of its own that goes before the environment, with what else it needs in another version.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import distributions, version
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
# The rest of what transformers asks for changes no result.
WITH_IT = ("tokenizers", "huggingface-hub", "safetensors")


def main() -> int:
    (allowed,) = re.findall(r'"(transformers>=[^"]*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lowest = next(spec.version for spec in Requirement(allowed).specifier if spec.operator == ">=")
    codes = []
    for wanted in (f"transformers=={lowest}", allowed):
        with TemporaryDirectory() as folder:
            install(folder, wanted)
            (found,) = (d for d in distributions(path=[folder]) if d.name == "transformers")
            needs = [Requirement(line) for line in found.requires or ()]
            others = [n for n in needs if n.name in WITH_IT and n.marker is None and version(n.name) not in n.specifier]
            install(folder, *map(str, others))
            print(f"{wanted}: {found.version}", *others, flush=True)
            path = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
            for bundle in sys.argv[1:]:
                command = [sys.executable, "-m", "pharmatriples", "verify", bundle]
                codes.append(subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=False).returncode)
    return int(any(codes))  # that of a process that a signal ended is below 0


def install(folder: str, *requirements: str) -> None:
    if requirements:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", "--target", folder, *requirements], check=True)


if __name__ == "__main__":
    sys.exit(main())
