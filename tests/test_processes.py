"""Training on several processes: the losses of one with the same batches, and one whole model at the end.

Run as a script (CONFIG.yaml FOLDER) this is what each of the processes does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from pharmatriples import load
from pharmatriples.arguments import TrainingConfig, TrainingError, load_config
from pharmatriples.dataset import read_documents
from pharmatriples.documents import Document, write_jsonl
from pharmatriples.runs import read_splits
from pharmatriples.training import make_trainer, train
from safetensors.torch import load_file
from tiny import ROOT, SCHEMA, tiny_encoder_dir

STEPS = 4  # in a pass over seven documents, two a step


def run(path: str, folder: str) -> None:
    """Train by a configuration, then once more from the middle; the losses of all steps are kept."""
    config = load_config(path)
    for name, checkpoint in (("whole", None), ("resumed", f"{folder}/whole/checkpoint-{STEPS}")):
        own = Path(folder) / name
        trainer = make_trainer(config, *read_splits(config), own, logging_steps=1, save_total_limit=None)
        trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_model(str(own))
        if trainer.is_world_process_zero():
            (own / "log.json").write_text(json.dumps(trainer.state.log_history))


def steps(folder: Path) -> np.ndarray:
    """[steps, 2] loss and norm of the gradients."""
    log = json.loads((folder / "log.json").read_text())
    return np.array([(entry["loss"], entry["grad_norm"]) for entry in log if "loss" in entry])


def launch(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Two processes; `--cpu` would start one, and without a GPU `--multi_gpu` starts two on the CPU."""
    options = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    """Of a tiny encoder on seven releases, one of which gives the heads of pairs nothing to learn."""
    folder = tmp_path_factory.mktemp("processes")
    tiny_encoder_dir(folder / "encoder")
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


def test_two_processes_learn_as_one_does_step_by_step(config: TrainingConfig, tmp_path: Path) -> None:
    path = written(replace(config, varied=0.0, head_dropout=0.0), tmp_path / "config.yaml")
    run(str(path), str(tmp_path / "one"))
    launch(__file__, path, tmp_path / "two")
    one, two = (steps(tmp_path / name / "whole") for name in ("one", "two"))
    assert len(one) == 2 * STEPS
    np.testing.assert_allclose(two, one, rtol=1e-5)
    np.testing.assert_allclose(steps(tmp_path / "two" / "resumed"), one, rtol=1e-5)
    weights = [load_file(tmp_path / name / "whole" / "model.safetensors") for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    assert all(value.allclose(weights[1][name], rtol=0, atol=1e-5) for name, value in weights[0].items())


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
    run(*sys.argv[1:])
