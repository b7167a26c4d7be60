"""Training on several processes: the losses of one with the same batches, and one whole model at the end.

Run as a script (CONFIG.yaml FOLDER) this is what each of the processes does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import PartialState
from accelerate.utils import DistributedType
from pharmatriples import load
from pharmatriples.arguments import TrainingConfig, TrainingError, load_config
from pharmatriples.dataset import read_documents
from pharmatriples.documents import Document, write_jsonl
from pharmatriples.modeling import TriplesModel
from pharmatriples.runs import read_splits
from pharmatriples.training import evaluate_model, make_trainer, train
from safetensors.torch import load_file
from tiny import ROOT, SCHEMA, tiny_encoder_dir, tiny_model_dir, tiny_windower

STEPS = 4  # in a pass over seven documents, two a step
README = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
FSDP = README.partition("accelerate launch --use_fsdp ")[2].partition(" scripts/train.py")[0].split()


def run(path: str, folder: str) -> None:
    """Train by a configuration, then once more from the middle; kept are the losses of all steps, and some scores."""
    config = load_config(path)
    schema, documents = read_splits(config)
    for name, checkpoint in (("whole", None), ("resumed", f"{folder}/whole/checkpoint-{STEPS}")):
        own = Path(folder) / name
        trainer = make_trainer(config, schema, documents, own, logging_steps=1, save_total_limit=None)
        trainer.train(resume_from_checkpoint=checkpoint)
        model = trainer.whole()
        if trainer.is_world_process_zero():
            model.save_pretrained(own)
            (own / "log.json").write_text(json.dumps(trainer.state.log_history))
    marking = TriplesModel.from_pretrained(Path(config.encoder).parent / "marking")
    scores = evaluate_model(marking, tiny_windower(marking), documents["train"])
    if trainer.is_world_process_zero():
        (Path(folder) / "scores.json").write_text(json.dumps(scores.to_dict()))


def take_the_cpu_for_an_accelerator() -> None:
    """Have accelerate share a model out, which it does among accelerators only, among processes on the CPU."""
    make = PartialState.__init__

    def made(self: PartialState, *arguments: Any, **keywords: Any) -> None:
        make(self, *arguments, **keywords)
        if self.distributed_type == DistributedType.MULTI_CPU:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU

    PartialState.__init__ = made  # type: ignore[method-assign]


def steps(folder: Path) -> np.ndarray:
    """[steps, 2] loss and norm of the gradients."""
    log = json.loads((folder / "log.json").read_text())
    return np.array([(entry["loss"], entry["grad_norm"]) for entry in log if "loss" in entry])


def launch(*arguments: object, way: Sequence[str] = ("--multi_gpu",)) -> subprocess.CompletedProcess[str]:
    """Two processes; `--cpu` would start one, and without a GPU `--multi_gpu` starts two on the CPU."""
    options = ["--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *way, *options, *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    """Of a tiny encoder on seven releases, one of which gives the heads of pairs nothing to learn."""
    folder = tmp_path_factory.mktemp("processes")
    tiny_encoder_dir(folder / "encoder")
    tiny_model_dir(folder / "marking")
    short = [d for d in read_documents(ROOT / "data" / "releases.json", SCHEMA) if len(d.text) < 1200]
    chosen = [d for d in short if d.split == "train"][:6] + [d for d in short if d.split == "validation"][:3]
    write_jsonl([*chosen, Document("bare", "The weather was fine.", split="train")], folder / "data.jsonl")
    return TrainingConfig(
        encoder=str(folder / "encoder"),
        data=str(folder / "data.jsonl"),
        schema=str(ROOT / "configs" / "schema.yaml"),
        output_dir=str(folder / "model"),
        window=64,
        stride=16,
        mention_size=16,
        pair_size=8,
        batch_size=2,
        epochs=2.0,
        precision="fp32",
    )


def written(config: TrainingConfig, path: Path) -> Path:
    path.write_text(json.dumps({f.name: getattr(config, f.name) for f in fields(config)}))
    return path


@pytest.fixture(scope="module")
def alone(config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A configuration without chance, whose documents are read in one to several calls, and what one process made."""
    folder = tmp_path_factory.mktemp("alone")
    path = written(replace(config, varied=0.0, head_dropout=0.0, token_budget=128), folder / "config.yaml")
    run(str(path), str(folder))
    return path, folder


@pytest.mark.parametrize("way", [["--multi_gpu"], ["--use_fsdp", *FSDP]], ids=["ddp", "fsdp"])
def test_two_processes_learn_as_one_does_step_by_step(
    alone: tuple[Path, Path], way: Sequence[str], tmp_path: Path
) -> None:
    path, one = alone
    launch(__file__, path, tmp_path, way=way)
    wanted = steps(one / "whole")
    assert len(wanted) == 2 * STEPS
    scores = [json.loads((folder / "scores.json").read_text()) for folder in (one, tmp_path)]
    assert scores[0]["mentions_relaxed"]["micro"]["tp"] > 0
    assert scores[1] == scores[0]
    for name in ("whole", "resumed"):
        np.testing.assert_allclose(steps(tmp_path / name), wanted, rtol=1e-5)
        weights = [load_file(folder / name / "model.safetensors") for folder in (one, tmp_path)]
        assert weights[0].keys() == weights[1].keys()
        assert all(value.allclose(weights[1][key], rtol=0, atol=1e-5) for key, value in weights[0].items())


def test_two_processes_leave_one_model_and_say_its_scores_once(config: TrainingConfig, tmp_path: Path) -> None:
    output = tmp_path / "model"
    done = launch(ROOT / "scripts" / "train.py", written(replace(config, output_dir=str(output)), tmp_path / "c.yaml"))
    assert done.stdout.count(f"{output}: ") == 1
    assert not (tmp_path / "model.partial").exists()
    assert load(output)("NMPA accepted the NDA.").keys() == {"entities", "relations", "records"}
    record = json.loads((output / "training.json").read_text())
    assert [entry["step"] for entry in record["history"]] == [STEPS, 2 * STEPS]


def test_a_batch_that_the_processes_cannot_share_is_refused(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(TrainingError, match="batch_size 2 cannot be shared evenly by 3"):
        train(config)


if __name__ == "__main__":
    if "ACCELERATE_USE_FSDP" in os.environ:
        take_the_cpu_for_an_accelerator()
    run(*sys.argv[1:])
