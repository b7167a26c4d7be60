"""The package as its users import it: public names, what an import costs, and what transformers then knows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pharmatriples
import pytest
from tiny import ROOT, tiny_model_dir

# None of these is needed before a model is loaded.
HEAVY = ("torch", "transformers", "datasets", "pandas", "numpy", "spacy", "rich", "jinja2", "yaml")


def python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_import_takes_nothing_heavy() -> None:
    assert python(f"import sys, pharmatriples; print(*{set(HEAVY)} & set(sys.modules))") == ""


def test_a_document_takes_no_torch() -> None:
    assert python("import sys\nfrom pharmatriples import Document\nprint('torch' in sys.modules)") == "False"


def test_each_public_name_is_there_listed_and_described() -> None:
    for name in pharmatriples.__all__:
        assert getattr(pharmatriples, name).__doc__, f"{name} has no docstring"
    assert set(pharmatriples.__all__) <= set(dir(pharmatriples))
    assert sorted(pharmatriples.__all__) == pharmatriples.__all__


def test_dir_lists_public_names_before_they_are_used() -> None:
    assert python("import pharmatriples; print({*pharmatriples.__all__} <= {*dir(pharmatriples)})") == "True"


def test_a_type_checker_sees_each_public_name(tmp_path: Path) -> None:
    used = "".join(f"reveal_type(pharmatriples.{name})\n" for name in pharmatriples.__all__)
    (tmp_path / "use.py").write_text(f"import pharmatriples\n{used}")
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(tmp_path / "use.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    shown = [line for line in done.stdout.splitlines() if "Revealed type" in line]
    assert len(shown) == len(pharmatriples.__all__), done.stdout
    assert not [line for line in shown if '"Any"' in line]


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'pharmatriples' has no attribute 'laod'"):
        pharmatriples.laod  # noqa: B018


@pytest.mark.parametrize(
    "imports",
    [
        "import transformers, pharmatriples",
        "from transformers import AutoModel; import pharmatriples",
        "import pharmatriples, importlib.util as u; u.find_spec('transformers.models.auto.modeling_auto')",
        "from pharmatriples import TriplesModel",
        "from pharmatriples import TriplesConfig",
        "from pharmatriples import load",
    ],
)
def test_auto_model_reads_a_checkpoint_without_a_trust_flag(imports: str, tmp_path: Path) -> None:
    code = f"{imports}\nimport sys\nfrom transformers import AutoModel\nprint(AutoModel.from_pretrained(sys.argv[1]))"
    assert python(code, str(tiny_model_dir(tmp_path))).startswith("TriplesModel(")
