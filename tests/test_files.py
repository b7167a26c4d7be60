"""files: what is written takes its name when it is whole."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from pharmatriples.files import OutputError, write_text, writing


def test_an_error_on_the_way_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text("before", path)

    def half() -> None:
        with writing(path) as out:
            out.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_half_a_surrogate_pair_is_its_escape(tmp_path: Path) -> None:
    write_text("a\ud800b", tmp_path / "a.json.gz")
    assert gzip.decompress((tmp_path / "a.json.gz").read_bytes()) == b"a\\ud800b"


def test_a_place_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere/a: cannot be written \(No such file"):
        write_text("x", tmp_path / "nowhere" / "a")
