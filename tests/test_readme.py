"""The README: its commands exist as written, and its Python runs."""

from __future__ import annotations

import gzip
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from pharmatriples.cli import main as command
from tiny import ROOT, tiny_model_dir

README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [match.group(1).strip() for match in re.finditer(r"^    (.*)$", README, flags=re.M)]
SCRIPTS = sorted({line for line in LINES if "scripts/" in line and not line.startswith("Label Studio")})
MAKE = sorted({line.split()[1] for line in LINES if line.startswith("make ")})


def words(line: str) -> list[str]:
    """The words of a command, without its comment."""
    return shlex.split(line, comments=True)


@cache
def help_of(*command: str) -> str:
    return subprocess.run([*command, "--help"], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_there_are_commands_to_test() -> None:
    assert len(SCRIPTS) >= 5
    assert "demo" in MAKE


@pytest.mark.parametrize("target", MAKE)
def test_each_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.M)


@pytest.mark.parametrize("line", SCRIPTS)
def test_each_script_takes_the_options_that_are_written(line: str) -> None:
    parts = words(line)
    script = next(i for i, part in enumerate(parts) if part.startswith("scripts/"))
    assert (ROOT / parts[script]).is_file()
    assert [p for p in parts if p.startswith("configs/") and not (ROOT / p).is_file()] == []
    arguments = [sys.executable, str(ROOT / parts[script])]
    if parts[script].endswith(("label_studio.py", "benchmark.py")):
        arguments.append(parts[script + 1])
    shown = help_of(*arguments)
    for option in parts[script:]:
        if option.startswith("-"):
            assert re.search(rf"(?<![\w-]){option}\b", shown), f"{option} is no option of {parts[script]}"


@pytest.mark.parametrize("line", [line for line in LINES if "pharmatriples extract" in line])
def test_each_extract_command_runs(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = words(line)
    arguments = parts[next(i for i, part in enumerate(parts) if part.endswith("bin/pharmatriples")) + 1 :]
    tiny_model_dir(tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "release.txt").write_text("The NMPA has accepted the NDA for ACM-101.")
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / "one.txt").write_text("The FDA approved X.")
    (tmp_path / "news.jsonl").write_text('{"id": "a", "text": "The FDA approved X."}\n')
    (tmp_path / "archive").symlink_to("releases")
    (tmp_path / "news.csv.gz").write_bytes(gzip.compress(b"key,body\na,The FDA approved X.\n"))
    arguments = [argument.replace("news.jsonl.gz", "news.jsonl") for argument in arguments]
    if parts[0] == "cat":
        arguments.insert(1, "release.txt")
    assert command(arguments) == 0
    output = next((Path(a) for flag, a in zip(arguments, arguments[1:], strict=False) if flag == "-o"), None)
    assert output.stat().st_size if output else capsys.readouterr().out


def test_the_python_examples_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    tiny_model_dir(tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in codes:
        exec(compile(code, "README.md", "exec"), names)
    assert names["result"].keys() == {"entities", "relations", "records"}
    assert "indications" in names["frame"]
    assert isinstance(names["doc"]._.records, list)


def test_links_lead_to_files() -> None:
    for page in ("README.md", "MODEL_CARD.md", "CONTRIBUTING.md", "data/README.md"):
        folder = (ROOT / page).parent
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            assert (folder / target).exists(), f"{page}: {target}"
