"""The wheel and the sdist: what they hold, and that a fresh environment with the wheel extracts."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from tiny import ROOT, tiny_model_dir

TEXT = "The NMPA has accepted the NDA for ACM-101 in lupus nephritis."


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints, without the paths of this environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(kind: str, source: Path, out: Path) -> Path:
    """Build a "wheel" or an "sdist" as pip does, with the setuptools that is installed."""
    code = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    return out / run(sys.executable, "-c", code, out, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packed: building leaves files behind."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "model", folder / "model", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel in it; it borrows the dependencies of this one."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    run(*pip, "install", "--no-index", "--no-deps", wheel, cwd=folder)
    (own,) = (folder / "env").glob("lib/python*/site-packages")
    # A folder that a .pth file names is searched last, and its own .pth files (such as that of an editable
    # installation of this package) are not read.
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return python


def files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    package = {f"pharmatriples/{path.name}" for path in (ROOT / "model" / "pharmatriples").glob("*.*")}
    assert {"pharmatriples/py.typed", "pharmatriples/page.html", "pharmatriples/report.html"} < package
    assert {name for name in files(wheel) if ".dist-info/" not in name} == package


def test_the_metadata_name_license_extras_and_entry_points(wheel: Path) -> None:
    held = {name.split(".dist-info/")[-1]: content.decode() for name, content in files(wheel).items()}
    metadata = email.message_from_string(held["METADATA"])
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Apache License" in held["licenses/LICENSE"]
    assert {"label-studio", "ray", "report", "spacy"} <= set(metadata.get_all("Provides-Extra", []))
    assert "pharmatriples = pharmatriples.cli:main" in held["entry_points.txt"]
    assert "[spacy_factories]\npharmatriples = " in held["entry_points.txt"]


def test_the_sdist_builds_the_same_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(build("sdist", source, tmp_path), tmp_path)
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    again = files(build("wheel", unpacked, tmp_path))
    expected = files(wheel)
    assert again.keys() == expected.keys()
    assert [name for name in again if again[name] != expected[name] and not name.endswith("RECORD")] == []


def test_the_installed_command_extracts(python: Path, tmp_path: Path) -> None:
    model = tiny_model_dir(tmp_path / "model")
    (tmp_path / "release.txt").write_text(TEXT)
    command = python.parent / "pharmatriples"
    line = run(command, "extract", "release.txt", "--model", model, "--format", "jsonl", cwd=tmp_path)
    assert json.loads(line)["text"] == TEXT
    run(command, "extract", "release.txt", "--model", model, "-o", "page.html", cwd=tmp_path)
    assert TEXT[:8] in re.sub("<[^>]*>", "", (tmp_path / "page.html").read_text())


def test_spacy_finds_the_component_without_an_import(python: Path, tmp_path: Path) -> None:
    model = tiny_model_dir(tmp_path / "model")
    code = (
        "import sys, spacy\n"
        "nlp = spacy.blank('en')\n"
        "nlp.add_pipe('pharmatriples', config={'model': sys.argv[1]})\n"
        "print(type(nlp(sys.argv[2])._.records).__name__)\n"
        "print(sys.modules['pharmatriples'].__file__)"
    )
    kind, place = run(python, "-c", code, model, TEXT, cwd=tmp_path).splitlines()[-2:]
    assert kind == "list"
    assert Path(place).is_relative_to(python.parents[1])
