"""Pre-annotation: predictions as Label Studio takes them, seen and accepted in a browser on the real server."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import browser  # noqa: F401
from pharmatriples import Document, Relation, load
from pharmatriples.labelstudio import read_export
from pharmatriples.preannotation import model_version, predictions
from pharmatriples.studio import connect
from server import Server, label_studio, script  # noqa: F401
from tiny import SCHEMA, acme, tiny_model_dir

TEXT = acme().text.partition(" (")[0]  # a bracket alone, which a random model marks, is refused at the import
SECONDS = 120  # a page of the server, on a machine that is busy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that finds something of every kind in TEXT."""
    return tiny_model_dir(tmp_path_factory.mktemp("preannotation") / "tiny", seed=8)


def predicted(extract: Any, id_: str, text: str) -> Document:
    return Document.from_dict({**extract(text), "id": id_, "text": text})


def accepted(id_: str, text: str, prediction: dict[str, Any]) -> Document:
    """The document of a prediction that an annotator took over as it is."""
    task = {"data": {"id": id_, "text": text}, "annotations": [{"result": prediction["result"]}]}
    (document,), report = read_export([task], SCHEMA)
    assert not report.of("repaired", "refused")
    return document


def unscored(document: Document) -> tuple[Document, set[Relation]]:
    """A document to compare: without scores, relations in any order."""
    mentions = tuple(replace(mention, score=None) for mention in document.mentions)
    return replace(document, mentions=mentions, relations=()), {replace(r, score=None) for r in document.relations}


def test_an_accepted_prediction_is_what_the_model_found(folder: Path) -> None:
    extract = load(folder)
    texts = [TEXT, "", "\ud800 NMPA \U0001f600 accepted \r\n the NDA", (TEXT + "\n") * 3]
    found = list(predictions(iter(texts), extract, "v1"))
    for number, (text, prediction) in enumerate(zip(texts, found, strict=True)):
        document = predicted(extract, str(number), text)
        assert unscored(accepted(str(number), text, prediction)) == unscored(document)
        assert prediction["model_version"] == "v1"
        scores = [mention.score for mention in document.mentions]
        assert prediction.get("score") == (pytest.approx(sum(scores) / len(scores)) if scores else None)
    assert {item["type"] for item in found[0]["result"]} == {"labels", "choices", "relation"}
    assert all(0 < item["score"] <= 1 for item in found[0]["result"] if item["type"] != "relation")
    assert any("score" in item for item in found[0]["result"] if item["type"] == "relation")


def test_the_version_names_the_model_and_its_weights(folder: Path, tmp_path: Path) -> None:
    version = model_version(load(folder))
    assert version.startswith("tiny-")
    assert model_version(load(folder)) == version
    assert model_version(load(tiny_model_dir(tmp_path / "tiny", seed=1))) != version


@pytest.mark.label_studio
def test_a_prediction_is_seen_in_the_browser_and_accepted_with_one_click(
    label_studio: Server,  # noqa: F811
    browser: Any,  # noqa: F811
    folder: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "acme.txt").write_text(TEXT)
    remote = ["--project", "pre-annotated", "--url", label_studio.url, "--api-key", label_studio.token]
    assert script.main(["push", str(tmp_path / "texts"), "--model", str(folder), *remote]) == 0
    found = predicted(load(folder), "acme", TEXT)
    events = [m for m in found.mentions if m.attributes]
    assert events
    assert found.relations

    page = browser.new_page(viewport={"width": 1500, "height": 2000})
    page.set_default_timeout(SECONDS * 1000)
    page.goto(f"{label_studio.url}/user/login")
    page.fill("input[name=email]", label_studio.email)
    page.fill("input[name=password]", label_studio.password)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(lambda url: "login" not in url)
    with connect(label_studio.url, label_studio.token) as studio:
        project = studio.project("pre-annotated")
        (task,) = studio.tasks(project)
    page.goto(f"{label_studio.url}/projects/{project.id}/data?task={task['id']}")

    regions = page.locator("[class*=outliner-item__title]")
    regions.first.wait_for()
    page.wait_for_load_state("networkidle")
    assert regions.count() == len(found.mentions)
    arrows = page.locator("[class*=relationItem]")
    assert arrows.count() >= len(found.relations)
    drawn = Counter(arrows.all_text_contents())
    assert {r.type: drawn[r.type] for r in found.relations} == Counter(r.type for r in found.relations)
    regions.nth(found.mentions.index(events[0])).click()
    chosen = page.locator("[class*=choice] input:checked")
    chosen.first.wait_for(state="attached")
    assert [chosen.nth(i).get_attribute("name") for i in range(chosen.count())] == list(events[0].attributes.values())
    page.screenshot(path=tmp_path / "regions.png")
    page.locator("[class*=panel-tabs__tab]:visible", has_text="Relations").click()
    listed = page.locator("[class*=relations__item]")
    listed.first.wait_for()
    assert listed.count() == arrows.count()
    page.screenshot(path=tmp_path / "relations.png")

    with page.expect_response(lambda answer: f"/tasks/{task['id']}/annotations" in answer.url) as answer:
        page.get_by_role("button", name="Submit").click()
    assert answer.value.status == 201
    assert script.main(["pull", "-o", str(tmp_path / "pulled.json"), *remote]) == 0
    (document,), report = read_export(tmp_path / "pulled.json", SCHEMA)
    assert not report.of("repaired", "refused")
    assert unscored(document) == unscored(found)
