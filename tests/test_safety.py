"""What a model's folder can hold without harm: it is refused with its reason, or what is dangerous is not used."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pharmatriples import load
from pharmatriples.safety import ModelError
from tiny import ROOT, acme, tiny_model_dir
from transformers import AutoConfig


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy of a sound model, to be spoilt."""
    return Path(shutil.copytree(sound, tmp_path / "model"))


def edit(folder: Path, changes: dict[str, Any], file: str = "config.json") -> None:
    """Set values in a JSON file; a key may lead into an object, as in "encoder_config.vocab_size"."""
    path = folder / file
    data = json.loads(path.read_text())
    for key, value in changes.items():
        *way, last = key.split(".")
        inner = data
        for step in way:
            inner = inner[step]
        inner[last] = value
    path.write_text(json.dumps(data))


def refusal(folder: Path) -> str:
    """Why it is refused; the message begins with the folder."""
    with pytest.raises(ModelError) as refused:
        load(folder)
    message = str(refused.value)
    assert message.startswith(f"{folder}: ")
    assert "\n" not in message
    return message


class TestFiles:
    @pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
    def test_a_missing_file_is_named(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        assert f"{name} missing" in refusal(folder)

    def test_weights_in_pickle_are_refused_with_the_reason(self, folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        assert "pytorch_model.bin is pickle, which is never read: save the model as safetensors" in refusal(folder)

    def test_an_adapter_beside_the_weights_is_refused(self, folder: Path) -> None:
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        assert "adapter_config.json: adapters are not loaded; merge it into the weights, or remove it" in refusal(
            folder
        )

    def test_weights_in_several_files_are_refused_whatever_their_index_names(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        index = {"metadata": {}, "weight_map": {"tagger.weight": "../../elsewhere.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        assert "weights in several files are not read" in refusal(folder)

    @pytest.mark.parametrize("size", [0, 4, 1000, -1])
    def test_weights_that_are_cut_short_are_refused(self, folder: Path, size: int) -> None:
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:size])
        assert "is cut short or no safetensors file" in refusal(folder)

    @pytest.mark.parametrize(
        "content",
        [
            struct.pack("<Q", 2**62) + b"{}",
            struct.pack("<Q", 2) + b"[]",
            b"PK\x03\x04 a zip file, such as torch.save writes",
            (lambda h: struct.pack("<Q", len(h)) + h)(
                b'{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}'
            ),
        ],
        ids=["endless header", "no object", "zip", "endless tensor"],
    )
    def test_a_weight_file_with_an_absurd_header_is_refused(self, folder: Path, content: bytes) -> None:
        (folder / "model.safetensors").write_bytes(content)
        assert "no safetensors file" in refusal(folder)

    @pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("{", "is no JSON"),
            ("[]", "must be a JSON object, found list"),
            ("[" * 200_000, "is no JSON"),
            ("", "is no JSON"),
        ],
        ids=["cut short", "list", "deep", "empty"],
    )
    def test_what_is_no_json_object_is_refused(self, folder: Path, file: str, content: str, reason: str) -> None:
        (folder / file).write_text(content)
        assert f"{file} {reason}" in refusal(folder)

    def test_a_config_of_many_megabytes_is_not_parsed(self, folder: Path) -> None:
        edit(folder, {"schema": " " * 2**22})
        assert re.search(r"config.json has 4,\d+,\d+ bytes; more than 4,194,304 are not read", refusal(folder))

    def test_a_tokenizer_that_is_none_is_refused(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text('{"model": {"type": "Abacus"}}')
        assert "no model that can be loaded" in refusal(folder)


class TestConfigurations:
    @pytest.mark.parametrize(
        ("key", "value", "reason"),
        [
            ("model_type", "bert", "config.json is of a model of type 'bert', not 'pharmatriples'"),
            ("model_type", None, "of type None"),
            ("num_labels", 10**9, "num_labels is 1,000,000,000; more than 10,000 cannot be"),
            ("encoder_config.num_labels", 10**9, "num_labels is 1,000,000,000"),
            ("encoder_config.num_hidden_layers", 5000, "num_hidden_layers is 5,000; more than"),
            ("encoder_config.num_attention_heads", 10**12, "num_attention_heads is"),
            ("encoder_config.vocab_size", 10**9, "implies the shape [1000000000, 32] of encoder.embeddings"),
            ("encoder_config.hidden_size", 10**6, "implies the shape"),
            ("encoder_config.intermediate_size", 10**9, "implies the shape"),
            ("encoder_config.vocab_size", 10**30, "no model that can be loaded"),
            ("mention_size", 10**9, "implies the shape"),
            ("mention_size", "wide", "mention_size must be a whole number, found 'wide'"),
            ("stride", 64, "leaves no room beside a stride of 64"),
            ("stride", -1, "stride must be a whole number"),
            ("name_threshold", "low", "name_threshold must be a number, found 'low'"),
            ("thresholds", [1], "thresholds must map names to numbers from 0 to 1, found [1]"),
            ("thresholds", {"DRUG": 80}, "thresholds must map names to numbers from 0 to 1"),
            ("calibration", {"scale": {}}, "calibration is not as training leaves it; set it to null"),
            ("calibration", {"scales": {"DRUG": [1]}}, "calibration is not as training leaves it"),
            ("calibration", {"scales": {"DRUG": [1, "a"]}}, "calibration is not as training leaves it"),
            ("calibration", {"thresholds": {"DRUG": {"high": 0.5}}}, "calibration is not as training leaves it"),
            ("window", 10**9, "window 1000000000 is longer than the encoder's 64 positions"),
            ("schema", "{}", "no model that can be loaded"),
            ("schema", None, "holds no schema"),
            ("schema", 3, "no model that can be loaded"),
            ("encoder_config", None, "encoder_config names no encoder of texts"),
            (
                "encoder_config.model_type",
                "detr",
                "encoder_config names no encoder of texts that transformers knows: 'detr'",
            ),
            ("encoder_config.model_type", ["bert"], "encoder_config names no encoder of texts"),
            ("encoder_config.attn_implementation", "someone/kernel", "only those of transformers are used"),
            ("attn_implementation", {"encoder_config": "someone/kernel"}, "only those of transformers are used"),
            ("encoder_config.use_pretrained_backbone", True, "that is not loaded"),
            ("transformers_weights", "../../elsewhere.safetensors", "that is not loaded"),
            ("quantization_config", {"quant_method": "gptq"}, "that is not loaded"),
            ("dtype", "load", "dtype is 'load'; known are float32"),
            ("auto_map", {"AutoModel": "../../evil.Model"}, "auto_map has '../../evil.Model'"),
            ("auto_map", {"AutoModel": "/tmp/evil.Model"}, "a class is named as module.Class"),
            ("auto_map", {"AutoTokenizer": [None, "..\\evil.Model"]}, "a class is named as module.Class"),
            ("custom_pipelines", {"pharmatriples": {"impl": "../evil.Pipe"}}, "custom_pipelines has '../evil.Pipe'"),
        ],
    )
    def test_a_value_that_would_cost_or_run_too_much_is_refused(
        self, folder: Path, key: str, value: Any, reason: str
    ) -> None:
        edit(folder, {key: value})
        assert reason in refusal(folder)

    def test_labels_in_the_schema_that_the_weights_lack_are_refused(self, folder: Path) -> None:
        schema = json.loads(json.loads((folder / "config.json").read_text())["schema"])
        schema["entities"] |= {f"TYPE{n}": "" for n in range(1000)}
        edit(folder, {"schema": json.dumps(schema)})
        assert "of tagger.weight, model.safetensors has" in refusal(folder)

    @pytest.mark.parametrize(
        ("key", "value", "reason"),
        [
            ("auto_map", {"AutoTokenizer": ["evil.Tokenizer", None]}, "asks for code of its own, which is not run"),
            ("tokenizer_file", "../../elsewhere.json", "a file is named without a folder"),
            ("vocab_file", "/etc/hostname", "a file is named without a folder"),
        ],
    )
    def test_a_tokenizer_that_leads_elsewhere_is_refused(self, folder: Path, key: str, value: Any, reason: str) -> None:
        edit(folder, {key: value}, "tokenizer_config.json")
        assert reason in refusal(folder)


class Written:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.path,)


class TestCode:
    """A bundle full of code: none of it runs."""

    @pytest.fixture
    def bundle(self, folder: Path) -> Path:
        marker = folder.parent / "it-ran"
        for name in ("modeling", "configuration", "pipeline", "tokenization", "__init__"):
            (folder / f"{name}.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
        for name in ("pytorch_model.bin", "training_args.bin"):
            (folder / name).write_bytes(pickle.dumps(Written(marker)))
        classes = {
            "AutoConfig": "configuration.Evil",
            "AutoModel": "modeling.Evil",
            "AutoTokenizer": "tokenization.Evil",
        }
        pipes = {"pharmatriples": {"impl": "pipeline.Evil", "pt": ["AutoModel"], "type": "text"}}
        trusted = {"trust_remote_code": True, "auto_map": classes, "custom_pipelines": pipes}
        edit(folder, trusted | {f"encoder_config.{key}": value for key, value in trusted.items()})
        edit(folder, {"trust_remote_code": True}, "tokenizer_config.json")
        return folder

    def test_the_package_reads_the_model_with_its_own_code(self, bundle: Path, sound: Path) -> None:
        assert load(bundle)(acme().text) == load(sound)(acme().text)
        assert not (bundle.parent / "it-ran").exists()

    def test_the_code_would_run_if_it_were_trusted(self, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else the other tests would show nothing."""
        monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(bundle.parent / "modules"))
        edit(bundle, {"model_type": "evil"})
        with pytest.raises(AttributeError, match="Evil"):
            AutoConfig.from_pretrained(bundle, trust_remote_code=True)
        assert (bundle.parent / "it-ran").exists()

    @pytest.mark.parametrize("key", ["model_type", "encoder_config.model_type"])
    def test_a_type_that_only_its_code_knows_is_refused(self, bundle: Path, key: str) -> None:
        edit(bundle, {key: "evil"})
        refusal(bundle)
        assert not (bundle.parent / "it-ran").exists()

    def test_code_of_a_tokenizer_does_not_run(self, bundle: Path) -> None:
        edit(bundle, {"auto_map": ["tokenization.Evil", None]}, "tokenizer_config.json")
        refusal(bundle)
        assert not (bundle.parent / "it-ran").exists()

    def test_pickled_weights_are_not_opened_where_there_are_no_others(self, bundle: Path) -> None:
        (bundle / "model.safetensors").unlink()
        assert "pickle" in refusal(bundle)
        assert not (bundle.parent / "it-ran").exists()


class TestHub:
    """The cache of the hub, as a download leaves it: links from a snapshot to its blobs."""

    @pytest.fixture
    def cache(self, folder: Path, tmp_path: Path) -> Path:
        repository = tmp_path / "cache" / "models--someone--releases"
        snapshot = repository / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("a" * 40)
        folder.rename(repository / "blobs")
        for blob in (repository / "blobs").iterdir():
            (snapshot / blob.name).symlink_to(Path("..", "..", "blobs", blob.name))
        return tmp_path / "cache"

    def test_a_hub_id_is_loaded_from_the_cache(self, cache: Path, sound: Path) -> None:
        extract = load("someone/releases", cache_dir=cache, local_files_only=True)
        assert extract(acme().text) == load(sound)(acme().text)

    def test_a_hub_id_is_checked_like_a_folder(self, cache: Path) -> None:
        edit(cache / "models--someone--releases" / "blobs", {"num_labels": 10**9})
        with pytest.raises(ModelError, match="^someone/releases: config.json: num_labels is 1,000,000,000"):
            load("someone/releases", cache_dir=cache, local_files_only=True)

    def test_a_hub_id_that_is_not_there_is_named(self, cache: Path) -> None:
        with pytest.raises(ModelError, match="^someone/else: no model that can be loaded"):
            load("someone/else", cache_dir=cache, local_files_only=True)


@pytest.mark.parametrize(
    "path", [*(ROOT / "model").rglob("*.py"), *(ROOT / "scripts").glob("*.py")], ids=lambda p: p.name
)
def test_no_code_of_ours_reads_pickle(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not re.search(
        r"import (pickle|joblib|shelve|dill)|from (pickle|joblib|dill)|torch\.load|allow_pickle", source
    )
    assert "use_safetensors=False" not in source
