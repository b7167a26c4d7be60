"""README.md of a model on the hub: the model card of this repository under the header that the hub reads.

No figure in it is typed by hand: the part of the card between RESULTS gives way to what was measured of this model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from .blocks import markdown

RESULTS = ("<!-- results -->", "<!-- /results -->")
# The encoders that a package brings, by their name on the hub.
_BASE_MODELS = {"embedded:minilm": "sentence-transformers/all-MiniLM-L6-v2"}
_TAGS = ["pharmatriples", "named-entity-recognition", "relation-extraction", "biomedical", "press-releases"]
_TASKS = {
    "mentions": ("token-classification", "Mentions, exact characters"),
    "relations": ("relation-extraction", "Relations, both entities right"),
    "records": ("information-extraction", "Records of drug, event, status and indication"),
}
_METRICS = ("f1", "precision", "recall")


class HubCardError(ValueError):
    """The model card cannot be used; the message says what is missing."""


def readme(
    card: str,
    repo_id: str,
    training: Mapping[str, Any],
    sets: Mapping[str, Mapping[str, Any]],
    versions: Mapping[str, str],
    data_ids: list[str],
) -> str:
    """README.md with its header.

    Args:
        card: the model card, in Markdown; what stands between RESULTS is replaced.
        repo_id: where the model goes, for the commands that the page shows.
        training: training.json of the run.
        sets: name of a set -> its figures, as `measured.kept` gives them.
        versions: those of the libraries.
        data_ids: hub ids of the data that it was trained on.

    Raises:
        HubCardError: the card has not one place for the results.
    """
    begin, end = RESULTS
    if card.count(begin) != 1 or card.count(end) != 1 or card.index(begin) > card.index(end):
        raise HubCardError(f"the model card needs one part, for the results, between the lines {begin} and {end}")
    before, _, rest = card.partition(begin)
    after = rest.partition(end)[2]
    # A link into the repository of the code leads nowhere from the hub.
    before, after = (re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", part) for part in (before, after))
    parts = [before.strip(), _results(sets), after.strip(), _usage(repo_id), _made(training, versions)]
    header = _header(repo_id, training, sets, data_ids)
    return f"---\n{header}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _header(repo_id: str, training: Mapping[str, Any], sets: Mapping[str, Any], data_ids: list[str]) -> str:
    learned_from = Path(training["config"]["data"])
    results = [
        EvalResult(
            task_type=task,
            task_name=task_name,
            dataset_type=_slug(figures["data"], data_ids if Path(figures["data"]).name == learned_from.name else []),
            dataset_name=name,
            dataset_split=figures["split"],
            metric_type=metric,
            metric_name=f"{part} {metric}",
            metric_value=round(rates[metric], 4),
        )
        for name, figures in sets.items()
        for part, (task, task_name) in _TASKS.items()
        if (rates := _rates(figures["scores"][part]))
        for metric in _METRICS
    ]
    return ModelCardData(
        language="en",
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="token-classification",
        tags=_TAGS,
        base_model=base_model(str(training["config"]["encoder"])),
        datasets=data_ids or [_slug(str(learned_from), [])],
        model_name=repo_id.rpartition("/")[2] if results else None,
        eval_results=results or None,
    ).to_yaml()


def base_model(encoder: str) -> str | None:
    """The hub id of the encoder of a configuration; None where it was a folder."""
    if encoder in _BASE_MODELS:
        return _BASE_MODELS[encoder]
    try:
        validate_repo_id(encoder)
    except HFValidationError:
        return None
    return None if Path(encoder).exists() else encoder


def _rates(figures: Mapping[str, Any]) -> Mapping[str, float] | None:
    """The rates over all labels; None where the set has nothing of the kind."""
    rates = figures.get("micro", figures)
    return rates if rates["tp"] + rates["fn"] else None


def _slug(data: str, data_ids: list[str]) -> str:
    """What the header calls a data set: its hub id, else a name made of its file's."""
    return data_ids[0] if data_ids else f"pharmatriples-{re.sub(r'[^a-z0-9]+', '-', Path(data).stem.lower())}"


def _results(sets: Mapping[str, Mapping[str, Any]]) -> str:
    if not sets:
        return "**Results.** This model was not evaluated."
    parts = ["**Results.** Measured of this model by `scripts/evaluate.py`; rates in per cent."]
    for name, figures in sets.items():
        split = f", split `{figures['split']}`" if figures["split"] else ""
        parts.append(f"`{name}` (`{Path(figures['data']).name}`{split}, {figures['scores']['documents']} documents):")
        parts.append(markdown(figures["scores"]))
    return "\n\n".join(parts)


def _usage(repo_id: str) -> str:
    return f'''**Use.** With the package: `pharmatriples extract release.txt --model {repo_id}`, or

```python
from pharmatriples import load

extract = load("{repo_id}")  # verify=True recomputes the golden inputs of the model
records = extract("Acme said that the NMPA has accepted its NDA for ACM-101.")["records"]
```

Without it (transformers 5, torch and python-dateutil), by the code in this repository, which you should read first:

```python
from transformers import AutoModel, AutoTokenizer, pipeline

extract = pipeline(model="{repo_id}", trust_remote_code=True)
records = extract("Acme said that the NMPA has accepted its NDA for ACM-101.")["records"]

model = AutoModel.from_pretrained("{repo_id}", trust_remote_code=True)  # the same results
tokenizer = AutoTokenizer.from_pretrained("{repo_id}")
records = model.extract("Acme said that the NMPA has accepted its NDA for ACM-101.", tokenizer)["records"]
```

After `import pharmatriples`, `AutoModel` needs no trust flag.'''


def _made(training: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    config = training["config"]
    encoder = config["encoder"] if base_model(config["encoder"]) else Path(config["encoder"]).name
    layers = f", its lowest {config['encoder_layers']} layers" if config.get("encoder_layers") else ""
    return (
        f"**How it was made.** Encoder `{encoder}`{layers}; trained on `{Path(config['data']).name}` with the seed "
        f"{config['seed']}; the training data have the SHA-256 "
        f"`{training['data_sha256']}`. The configuration is in `training.json`, the figures are in `evaluation.json` "
        "where there was an evaluation, and what the model made of some texts is in `golden.json` "
        f"(`pharmatriples verify`). Versions: {', '.join(f'{name} {number}' for name, number in versions.items())}."
    )
