"""Folders to the hub: one commit that is whole or not there, and errors that say in one line what to do.

A push that broke off is repeated by the same call: the hub keeps what was uploaded, and takes only the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

MODEL_TYPE = "pharmatriples"
_EVERYWHERE = {".gitattributes", "README.md"}
_AGAIN = "run the same command again: what is uploaded stays"


class HubError(ValueError):
    """The hub cannot be used so; the message says what to do."""


def check(repo_id: str, *, dataset: bool = False, private: bool = False) -> None:
    """Find out, before any work, whether a push can go there; nothing is made or changed.

    Args:
        repo_id: OWNER/NAME.
        dataset: a data set goes there, else a model.
        private: whether the repository must be private.

    Raises:
        HubError: the id is none, there is no token or no connection, or something else lies there.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubError(f"{repo_id!r} is no repository id ({_line(error)}); write OWNER/NAME") from None
    if repo_id.count("/") != 1:
        raise HubError(f"{repo_id!r} is no repository id; write OWNER/NAME, such as acme/{repo_id}")
    if get_token() is None:
        raise HubError("no token; log in with `hf auth login`, or set HF_TOKEN to one that may write")
    kind = "dataset" if dataset else "model"
    api = HfApi()
    with _explained(repo_id):
        api.whoami()
        try:
            info = api.repo_info(repo_id, repo_type=kind)
        except RepositoryNotFoundError:
            return
        if private and not info.private:
            raise HubError(f"{repo_id}: is there and public; make it private on the hub first, or choose another name")
        files = set(api.list_repo_files(repo_id, repo_type=kind)) - _EVERYWHERE
        if files and not (_is_dataset(files) if dataset else _is_model(api, repo_id, files)):
            raise HubError(f"{repo_id}: the name is taken by a {kind} of another kind; choose another name")


def push(
    folder: str | Path,
    repo_id: str,
    *,
    dataset: bool = False,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Make a repository hold what a folder holds, in one commit; the repository is made where it is missing.

    Args:
        folder: a bundle, or a data set that scripts/convert.py wrote.
        repo_id, dataset, private: as for `check`.
        revision: the branch; made where it is missing.
        message: of the commit.

    Returns:
        the address of the commit.

    Raises:
        HubError: as for `check`, or there is no right to write; the repository is as it was.
    """
    check(repo_id, dataset=dataset, private=private)
    folder, kind = Path(folder), "dataset" if dataset else "model"
    api = HfApi()
    with _explained(repo_id):
        api.create_repo(repo_id, repo_type=kind, private=private or None, exist_ok=True)
        if revision:
            api.create_branch(repo_id, branch=revision, repo_type=kind, exist_ok=True)
        paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        old = set(api.list_repo_files(repo_id, repo_type=kind, revision=revision)) - {".gitattributes"} - paths.keys()
        operations: list[Any] = [CommitOperationDelete(name) for name in sorted(old)]
        operations += [CommitOperationAdd(name, path) for name, path in paths.items()]
        # upload_folder may split a folder into several commits.
        commit = api.create_commit(
            repo_id,
            operations,
            commit_message=message or f"Push a {kind} of pharmatriples",
            repo_type=kind,
            revision=revision,
        )
    return commit.commit_url


def _is_model(api: HfApi, repo_id: str, files: set[str]) -> bool:
    """Whether the files of a repository are a model of this package."""
    if "config.json" not in files:
        return False
    config = json.loads(Path(api.hf_hub_download(repo_id, "config.json")).read_text(encoding="utf-8"))
    return isinstance(config, dict) and config.get("model_type") == MODEL_TYPE


def _is_dataset(files: set[str]) -> bool:
    """Whether the files of a repository are a data set that scripts/convert.py wrote."""
    return "schema.yaml" in files and any(name.endswith(".parquet") for name in files)


@contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    """What goes wrong with the hub in here is a HubError of one line."""
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        reason = _reason(error, repo_id)
        if reason is None:
            raise
        raise HubError(reason) from error


def _reason(error: BaseException | None, repo_id: str) -> str | None:
    """What to do about an error, by the first in its chain that is known."""
    if error is None:
        return None
    if isinstance(error, HfHubHTTPError):
        return _answer(error, repo_id)
    # huggingface_hub lets through the errors of its HTTP library, which is another from version to version.
    transport = type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2")
    if transport or isinstance(error, OfflineModeIsEnabled | ConnectionError | TimeoutError):
        return f"no connection to {constants.ENDPOINT} ({_line(error)}); check the network, and {_AGAIN}"
    found = _reason(error.__cause__, repo_id)
    return found or (_line(error) if isinstance(error, ValueError | RuntimeError | OSError) else None)


def _answer(error: HfHubHTTPError, repo_id: str) -> str:
    status = error.response.status_code
    if isinstance(error, RevisionNotFoundError):
        return f"{repo_id}: no such revision; name a branch that is there"
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return f"{repo_id}: not there, or not to be seen with this token; check the name and the token"
    if status == 401:
        return "the token is not accepted; log in again with `hf auth login`, or set HF_TOKEN to one that may write"
    if status == 403:
        return (
            f"{repo_id}: no right to write there; the name belongs to somebody else, or the token may only read. "
            "Choose a name of your own, or a token that may write"
        )
    if status == 409:
        return f"{repo_id}: the name is taken, or somebody pushes at the same time; choose another name, or {_AGAIN}"
    if status == 429 or status >= 500:
        return f"the hub cannot answer now (status {status}); {_AGAIN}"
    return f"the hub refuses (status {status}): {_line(error.server_message or error)}"


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200]
