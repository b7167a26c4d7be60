"""A random two-layer model built in memory, for tests that need a model but not its judgement."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from pharmatriples import Document, Mention, Relation, Schema
from pharmatriples.configuration import TriplesConfig
from pharmatriples.evaluation import evaluate
from pharmatriples.measured import keep
from pharmatriples.modeling import TriplesModel
from pharmatriples.windows import Windower
from transformers import BertConfig, BertTokenizer, set_seed

ROOT = Path(__file__).parents[1]
SCHEMA = Schema.from_yaml(ROOT / "configs" / "schema.yaml")
# The same with two relations that may join one pair of types.
RIVALS = Schema.from_dict({**SCHEMA.to_dict(), "relations": {**SCHEMA.relations, "worsens": ["DRUG", "INDICATION"]}})
_WORDS = ["the", "nmpa", "fda", "accepted", "approved", "its", "nda", "for", "in", "acme", "said", "that", "lupus"]


def tiny_tokenizer() -> BertTokenizer:
    """An uncased word-piece tokenizer that knows single characters and a few words."""
    signs = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS, *signs, *(f"##{c}" for c in signs)]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, do_lower_case=True)


def tiny_encoder_config() -> BertConfig:
    return BertConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )


def tiny_model(
    schema: Schema = SCHEMA, window: int = 32, stride: int = 8, seed: int = 0, crf: bool = False
) -> TriplesModel:
    """The model in eval mode; its windows are short, so that small texts have several."""
    set_seed(seed)
    config = TriplesConfig(
        encoder_config=tiny_encoder_config(),
        schema=schema.to_json(),
        window=window,
        stride=stride,
        mention_size=32,
        pair_size=16,
        crf=crf,
    )
    model = TriplesModel(config).eval()
    if model.crf is not None:
        torch.nn.init.normal_(model.crf.transitions, std=0.05)
    return model


def tiny_windower(model: TriplesModel) -> Windower:
    return Windower(tiny_tokenizer(), model.config.window, model.config.stride)


def tiny_model_dir(path: Path, schema: Schema = SCHEMA, seed: int = 0, crf: bool = False) -> Path:
    """Save such a model with its tokenizer into a folder and return the folder.

    Its tags are about equally frequent, whatever the random weights are, so that it marks many mentions of all types: a
    test of what comes after needs some.
    """
    model = tiny_model(schema, seed=seed, crf=crf)
    windower = tiny_windower(model)
    with torch.no_grad():
        model.tagger.weight *= 40
        logits = model(**windower.batch([windower.encode(acme().text)], 1024)).tag_logits
        model.tagger.bias -= logits.mean(0)
        model.relation_head.score.bias += 1.0
    model.save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def tiny_run_dir(path: Path) -> Path:
    """The same as scripts/train.py and scripts/evaluate.py would leave it; its judgement was "measured" on one text."""
    tiny_model_dir(path)
    config = {"seed": 13, "encoder": "embedded:minilm", "data": "data/releases.json", "output_dir": str(path)}
    record = {"config": config, "schema": SCHEMA.to_json(), "data_sha256": "0123456789abcdef" * 4}
    (path / "training.json").write_text(json.dumps(record))
    scores = evaluate([acme()], [replace(acme(), relations=acme().relations[:5])], SCHEMA)
    figures = {"data": "releases.json", "split": "test", "scores": scores.to_dict()}
    keep(path, "test", figures)
    return path


def tiny_encoder_dir(path: Path) -> Path:
    """A bare encoder with its tokenizer, as a hub id would give it: what training starts from."""
    from transformers import BertModel

    set_seed(0)
    BertModel(tiny_encoder_config()).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def acme() -> Document:
    """A small release with every kind of annotation in it."""
    text = "Acme said that the NMPA has accepted its NDA for ACM-101 in lupus nephritis. ACM-101 binds CD19. (May 2025)"

    def mention(wording: str, type_: str, entity: str, nth: int = 0, **attributes: str) -> Mention:
        start = -1
        for _ in range(nth + 1):
            start = text.index(wording, start + 1)
        return Mention(start, start + len(wording), type_, entity, attributes)

    return Document(
        id="acme",
        text=text,
        mentions=(
            mention("Acme", "ORGANIZATION", "o1"),
            mention("NMPA", "ORGANIZATION", "o2"),
            mention("accepted", "EVENT", "e1", event_type="acceptance", status="occurred"),
            mention("ACM-101", "DRUG", "d1"),
            mention("lupus nephritis", "INDICATION", "i1"),
            mention("ACM-101", "DRUG", "d1", nth=1),
            mention("CD19", "TARGET", "g1"),
            mention("May 2025", "DATE", "t1"),
        ),
        relations=(
            Relation("targets", "d1", "g1"),
            Relation("treats", "d1", "i1"),
            Relation("event_drug", "e1", "d1"),
            Relation("event_indication", "e1", "i1"),
            Relation("event_organization", "e1", "o1"),
            Relation("event_organization", "e1", "o2"),
            Relation("event_date", "e1", "t1"),
        ),
        split="train",
    )


def copies(splits: Sequence[str]) -> list[Document]:
    """`acme` once for each split, with other blanks at the ends of the texts: no text may stand in two splits."""
    return [replace(acme(), id=f"d{i}", text=acme().text + " " * i, split=split) for i, split in enumerate(splits)]
