"""A stand-in of the hub: as much of its HTTP API as huggingface_hub calls, over what lies in memory.

    with Hub() as hub:
        ... HF_ENDPOINT=hub.url HF_TOKEN=OWNER HF_HUB_DISABLE_XET=1 ...

A token is the name of its user, who may write to repositories of this name only. Files that the real hub keeps in
large file storage are here those of more than LARGE bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

LARGE = 4000
USERS = ("acme", "stranger")


@dataclass
class Repo:
    """A repository; a commit is the files that it holds: path -> id of the content."""

    private: bool = False
    commits: dict[str, dict[str, str]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def add(self, branch: str, files: dict[str, str], message: str) -> str:
        content = json.dumps([files, message, len(self.commits)], sort_keys=True)
        commit = hashlib.sha1(content.encode()).hexdigest()
        self.commits[commit], self.messages[commit], self.branches[branch] = files, message, commit
        return commit


class Answer(Exception):
    """Ends a request with an error of the hub."""

    def __init__(self, status: int, message: str, code: str = ""):
        super().__init__(message)
        self.status, self.code = status, code


class Hub:
    """The server.

    Attributes:
        repos: (kind, OWNER/NAME) -> repository.
        blobs: id -> content; stored: ids of large files, in the order in which they came.
        on_upload: is called with the number of an upload when half of it has come; True breaks the connection.
        status: where it is not 0, every request is answered with it.
        requests: "METHOD path" of all.
    """

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.stored: list[str] = []
        self.on_upload: Callable[[int], bool] = lambda number: False
        self.uploads = 0
        self.status = 0
        self.requests: list[str] = []
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def files(self, kind: str, name: str, branch: str = "main") -> dict[str, bytes]:
        """Path -> content of the newest commit."""
        repo = self.repos[kind, name]
        return {path: self.blobs[id_] for path, id_ in repo.commits[repo.branches[branch]].items()}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def answer(self) -> None:
        self.path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {self.path}")
        self.user = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        try:
            if self.command == "PUT":
                return self.upload()
            length = int(self.headers.get("Content-Length") or 0)
            self.body = self.rfile.read(length)
            if self.hub.status:
                raise Answer(self.hub.status, "out of order")
            with self.hub.lock:
                self.route()
        except Answer as answer:
            headers = {"X-Error-Message": str(answer)} | ({"X-Error-Code": answer.code} if answer.code else {})
            self.send(answer.status, {"error": str(answer)}, headers)

    def send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def route(self) -> None:
        parts = self.path.strip("/").split("/")
        if self.path == "/api/whoami-v2":
            return self.send(200, {"type": "user", "name": self.known(), "orgs": [], "auth": {"type": "access_token"}})
        if self.path == "/api/validate-yaml":
            return self.validate()
        if self.path == "/api/repos/create":
            return self.create()
        if parts[:2] == ["lfs", "verify"]:
            return self.send(200, {}) if self.json()["oid"] in self.hub.blobs else self.send(404, {})
        if parts[0] == "lfs":
            return self.send(200, self.hub.blobs[parts[1]], {"ETag": f'"{parts[1]}"'})
        if parts[0] == "api":
            kind, name, rest = parts[1].rstrip("s"), "/".join(parts[2:4]), parts[4:]
        else:
            kind, parts = ("dataset", parts[1:]) if parts[0] == "datasets" else ("model", parts)
            name, rest = "/".join(parts[:2]).removesuffix(".git"), parts[2:]
        repo = self.repo(kind, name)
        if not rest or rest[0] == "revision":
            commit = self.commit(repo, rest[1] if rest else "main")
            files = [{"rfilename": path} for path in repo.commits[commit]]
            return self.send(200, {"id": name, "sha": commit, "private": repo.private, "siblings": files, "tags": []})
        if rest[0] == "tree":
            return self.tree(repo, rest)
        if rest[0] == "resolve":
            return self.resolve(repo, rest[1], "/".join(rest[2:]))
        if self.known() != name.partition("/")[0]:
            raise Answer(403, "you do not have the right to write")
        if rest[0] == "branch":
            if rest[1] in repo.branches:
                raise Answer(409, "Reference already exists")
            repo.branches[rest[1]] = repo.branches["main"]
            return self.send(200, {})
        if rest[0] == "preupload":
            return self.preupload(repo, rest[1])
        if rest[:2] == ["info", "lfs"]:
            return self.batch()
        if rest[0] == "commit":
            return self.take(repo, rest[1], f"{self.hub.url}/{'datasets/' * (kind == 'dataset')}{name}")
        raise Answer(404, f"no such address: {self.path}")

    def json(self) -> Any:
        return json.loads(self.body)

    def known(self) -> str:
        if self.user not in USERS:
            raise Answer(401, "Invalid credentials in Authorization header")
        return str(self.user)

    def repo(self, kind: str, name: str) -> Repo:
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and self.user != name.partition("/")[0]):
            raise Answer(404 if self.user in USERS else 401, "Repository not found", "RepoNotFound")
        return repo

    def commit(self, repo: Repo, revision: str) -> str:
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            raise Answer(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def validate(self) -> None:
        content = self.json()["content"]
        try:
            header = yaml.safe_load(content.split("---\n")[1])
        except (yaml.YAMLError, IndexError) as error:
            return self.send(400, {"errors": [{"message": str(error)}], "warnings": []})
        for result in (result for index in header.get("model-index", []) for result in index["results"]):
            if not all(result[part]["type"] for part in ("task", "dataset")) or not result["metrics"]:
                return self.send(400, {"errors": [{"message": "model-index is not valid"}], "warnings": []})
        return self.send(200, {"errors": [], "warnings": []})

    def create(self) -> None:
        asked, user = self.json(), self.known()
        owner = asked["organization"] or user
        if owner != user:
            raise Answer(403, f"You don't have the rights to create a repository under the namespace {owner!r}")
        kind, name = asked.get("type", "model"), f"{owner}/{asked['name']}"
        url = f"{self.hub.url}/{'datasets/' * (kind == 'dataset')}{name}"
        if (kind, name) in self.hub.repos:
            return self.send(409, {"error": "You already created this repository", "url": url})
        repo = self.hub.repos[kind, name] = Repo(asked.get("visibility") == "private")
        repo.add("main", {".gitattributes": self.blob(b"*.safetensors filter=lfs\n")}, "initial commit")
        return self.send(200, {"url": url, "name": name})

    def blob(self, content: bytes) -> str:
        """Keep a small file under the id that git gives it."""
        id_ = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        self.hub.blobs[id_] = content
        return id_

    def tree(self, repo: Repo, rest: list[str]) -> None:
        files, folder = repo.commits[self.commit(repo, rest[1])], "/".join(rest[2:])
        if folder and not any(path.startswith(f"{folder}/") for path in files):
            raise Answer(404, "no such folder", "EntryNotFound")
        entries = []
        for path, id_ in files.items():
            entry = {"type": "file", "path": path, "oid": id_, "size": len(self.hub.blobs[id_])}
            if len(id_) == 64:
                entry["lfs"] = {"oid": id_, "size": entry["size"], "pointerSize": 130}
            entries.append(entry)
        self.send(200, [entry for entry in entries if entry["path"].startswith(folder)])

    def resolve(self, repo: Repo, revision: str, path: str) -> None:
        commit = self.commit(repo, revision)
        id_ = repo.commits[commit].get(path)
        headers = {"X-Repo-Commit": commit}
        if id_ is None:
            return self.send(404, {}, headers | {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        content = self.hub.blobs[id_]
        if len(id_) == 64:  # a large file lies on another host
            store = self.hub.url.replace("127.0.0.1", "localhost")
            headers |= {"X-Linked-Etag": f'"{id_}"', "X-Linked-Size": str(len(content))}
            return self.send(302, b"", headers | {"Location": f"{store}/lfs/{id_}"})
        return self.send(200, content, headers | {"ETag": f'"{id_}"'})

    def preupload(self, repo: Repo, revision: str) -> None:
        here = repo.commits[self.commit(repo, revision)]
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["size"] > LARGE else "regular",
                "shouldIgnore": False,
                "oid": here.get(file["path"]),
            }
            for file in self.json()["files"]
        ]
        self.send(200, {"files": modes})

    def batch(self) -> None:
        objects = []
        for asked in self.json()["objects"]:
            entry = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.blobs:
                entry["actions"] = {
                    "upload": {"href": f"{self.hub.url}/lfs/{asked['oid']}", "header": {}},
                    "verify": {"href": f"{self.hub.url}/lfs/verify", "header": {}},
                }
            objects.append(entry)
        self.send(200, {"transfer": "basic", "objects": objects})

    def upload(self) -> None:
        with self.hub.lock:
            self.hub.uploads += 1
            number = self.hub.uploads
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length // 2)
        if self.hub.on_upload(number):
            self.close_connection = True
            self.connection.close()
            return
        content += self.rfile.read(length - len(content))
        id_ = self.path.rpartition("/")[2]
        if hashlib.sha256(content).hexdigest() != id_:
            raise Answer(400, "the content is not what was announced")
        with self.hub.lock:
            self.hub.blobs[id_] = content
            self.hub.stored.append(id_)
        self.send(200, b"")

    def take(self, repo: Repo, branch: str, address: str) -> None:
        if branch not in repo.branches:
            raise Answer(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        lines = [json.loads(line) for line in self.body.splitlines()]
        files = dict(repo.commits[repo.branches[branch]])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = self.blob(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.blobs:
                    raise Answer(400, f"{value['path']} was not uploaded")
                files[value["path"]] = value["oid"]
            else:
                del files[value["path"]]
        commit = repo.add(branch, files, lines[0]["value"]["summary"])
        self.send(200, {"commitUrl": f"{address}/commit/{commit}", "commitOid": commit, "hookOutput": ""})
