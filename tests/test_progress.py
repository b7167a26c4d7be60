"""progress: documents, their rate and the share of the input, on a terminal."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from pharmatriples.cli import main
from pharmatriples.progress import progress
from pharmatriples.releases import Meter
from tiny import tiny_model_dir


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """In place of standard error from here on; a fixture would come before pytest puts its own there."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    return found


def shown(screen: Terminal) -> list[str]:
    """The states of the line, without what steers the terminal."""
    return [line for line in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", screen.getvalue()).split("\n") if line.strip()]


@pytest.mark.parametrize(("size", "share"), [(40, "25%"), (0, "/s")])
def test_documents_and_the_share_of_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, share: str
) -> None:
    screen = terminal(monkeypatch)
    (tmp_path / "file").write_bytes(bytes(10))
    meter = Meter()
    with progress(meter, size) as done:
        with open(tmp_path / "file", "rb") as file, meter.over(file):
            file.read()
        done(1000)
        done(234)
    last = shown(screen)[-1]
    assert "1,234 documents" in last
    assert share in last


def test_the_command_shows_it_and_errors_stand_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    model = tiny_model_dir(tmp_path / "model")
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{\n{"text": "y"}\n')
    assert main(["extract", str(tmp_path / "a.jsonl"), "--model", str(model), "-o", str(tmp_path / "out.csv")]) == 1
    text = "\n".join(shown(screen))
    assert "3 documents" in text
    assert "100%" in text
    assert "a.jsonl:2: not JSON" in text
