"""A Label Studio server on 127.0.0.1, in a virtual environment and a data folder of its own.

    python3 scripts/label_studio_server.py [--port 8080] [--data-dir label-studio]

Needs nothing but Python 3.10 or newer: what is missing is installed at the first start. Ctrl-C stops it.
Tests start one with `running`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENT = "label-studio==1.23.2"
CONSTRAINTS = ROOT / "configs" / "label-studio-constraints.txt"
VENV_VARIABLE = "PHARMATRIPLES_LABEL_STUDIO_VENV"
HOST = "127.0.0.1"
LOCAL_BACKENDS = {"LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "false", "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "false"}
START_SECONDS = 300  # the first start migrates the database, 30 to 60 s on two cores
STOP_SECONDS = 15


class ServerError(RuntimeError):
    """The server cannot be installed, started, or reached; one line says why."""


@dataclass(frozen=True)
class Server:
    """A running server and the account made at its first start."""

    url: str
    email: str
    password: str
    token: str
    process: subprocess.Popen[bytes]


@contextmanager
def running(
    data_dir: Path, python: Path | None = None, port: int | None = None, local_backends: bool = False
) -> Iterator[Server]:
    """A server on `data_dir`, healthy when the block begins and stopped when it ends.

    Args:
        data_dir: database, files, credentials and log; made where it is missing.
        python: the interpreter of the virtual environment with label-studio; by default that of `environment`.
        port: None takes a free one.
        local_backends: let projects connect to ML backends on this machine, which the server else refuses.

    Raises:
        ServerError: it does not come up, or the port is taken.
    """
    program = (python or environment()).parent / "label-studio"
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    account = _credentials(data_dir / "credentials.json")
    port = _port(port)
    log = data_dir / "server.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [program, "start", "--no-browser", "--internal-host", HOST, "--port", str(port), "--log-level", "WARNING"],
            env=_environment_variables(data_dir.resolve(), program.parent, account)
            | (LOCAL_BACKENDS if local_backends else {}),
            cwd=data_dir,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us to pass on
        )
    try:
        server = Server(f"http://{HOST}:{port}", **account, process=process)
        _wait_until_healthy(server, log)
        yield server
    finally:
        _stop(process)


def environment() -> Path:
    """The Python of the virtual environment with label-studio, made first where it is missing or half made.

    `.venv-label-studio` in the repository, or the folder that PHARMATRIPLES_LABEL_STUDIO_VENV names.
    """
    named = os.environ.get(VENV_VARIABLE)
    folder = Path(named) if named else ROOT / ".venv-label-studio"
    python = folder / "bin" / "python"
    mark = folder / "pharmatriples"  # there from the beginning, filled last: while it is empty the folder is half made
    wanted = hashlib.sha256(REQUIREMENT.encode() + CONSTRAINTS.read_bytes()).hexdigest()
    if mark.is_file() and mark.read_text() == wanted:
        return python
    if named and not mark.is_file():
        if (folder / "bin" / "label-studio").exists():
            return python  # somebody's own
        if folder.exists() and any(folder.iterdir()):
            raise ServerError(f"{folder} ({VENV_VARIABLE}) is not ours and has no label-studio; name another folder")
    print(f"Installing {REQUIREMENT} into {folder}, a minute or two ...", file=sys.stderr, flush=True)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    mark.touch()
    install = [str(python), "-m", "pip", "install", "--quiet", REQUIREMENT, "--constraint", str(CONSTRAINTS)]
    try:
        venv.create(folder, with_pip=True)
        subprocess.run(install, stdout=sys.stderr, check=True)
    except subprocess.CalledProcessError as error:
        raise ServerError(f"{REQUIREMENT} could not be installed into {folder}: {error}") from None
    mark.write_text(wanted)
    return python


def _credentials(path: Path) -> dict[str, str]:
    """Email, password and token, made at the first start; the file is its owner's alone."""
    if path.exists():
        try:
            account = json.loads(path.read_text())
            return {key: account[key] for key in ("email", "password", "token")}
        except (ValueError, KeyError, TypeError):
            raise ServerError(f"{path} is damaged; restore it, or remove the folder to start afresh") from None
    account = {
        "email": "admin@example.com",
        "password": secrets.token_urlsafe(16),
        "token": secrets.token_hex(20),
    }
    draft = path.with_suffix(".part")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(account, out, indent=2)
    draft.replace(path)
    return account


def _port(port: int | None) -> int:
    """A port that nobody listens on: the server would silently take the next one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port or 0))
        except OSError as error:
            raise ServerError(f"port {port} cannot be used ({error.strerror}); --port 0 takes a free one") from None
        except OverflowError:
            raise ServerError(
                f"port {port} cannot be used; it must be from 0 to 65535, --port 0 takes a free one"
            ) from None
        return int(probe.getsockname()[1])


def _environment_variables(data_dir: Path, programs: Path, account: dict[str, str]) -> dict[str, str]:
    """A clean environment: the server also reads bare names such as HOST, DEBUG or SECRET_KEY."""
    return {
        "PATH": f"{programs}{os.pathsep}{os.defpath}",
        "HOME": str(data_dir),
        "LANG": "C.UTF-8",
        "LABEL_STUDIO_BASE_DATA_DIR": str(data_dir),
        "LABEL_STUDIO_USERNAME": account["email"],
        "LABEL_STUDIO_PASSWORD": account["password"],
        "LABEL_STUDIO_USER_TOKEN": account["token"],
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
    }


def _wait_until_healthy(server: Server, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise ServerError(f"the server ended with {server.process.returncode} at its start:\n{_tail(log)}")
        status, answer = _get(f"{server.url}/health")
        if status == 200 and answer.get("status") == "UP":
            status, answer = _get(f"{server.url}/api/current-user/whoami", server.token)
            if status == 200 and answer.get("email") == server.email:
                return
            raise ServerError(f"{server.url} answers, but not as our server: {status} {str(answer)[:200]}")
        time.sleep(0.3)
    raise ServerError(f"the server did not come up within {START_SECONDS} s:\n{_tail(log)}")


def _get(url: str, token: str = "") -> tuple[int, dict[str, Any]]:
    """Status and JSON of an answer; 0 where there is none."""
    request = urllib.request.Request(url, headers={"Authorization": f"Token {token}"} if token else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # 127.0.0.1 is behind no proxy
    try:
        with opener.open(request, timeout=30) as response:
            answer = json.load(response)
            return response.status, answer if isinstance(answer, dict) else {}
    except urllib.error.HTTPError as error:
        return error.code, {}
    except (OSError, ValueError):
        return 0, {}


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    for signal_ in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_)
            process.wait(STOP_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return


class _Stopped(Exception):
    """Ctrl-C or SIGTERM."""


def _raise_stopped(*_: Any) -> None:
    for signal_ in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_, signal.SIG_IGN)  # the second Ctrl-C must not interrupt the clean end
    raise _Stopped


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a Label Studio server on 127.0.0.1 until Ctrl-C.")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "label-studio", help="default: %(default)s")
    parser.add_argument("--local-backends", action="store_true", help="let it ask ML backends on this machine")
    arguments = parser.parse_args()
    for signal_ in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_, _raise_stopped)
    try:
        python = environment()
        print("Starting Label Studio (the first start takes a minute) ...", file=sys.stderr, flush=True)
        with running(arguments.data_dir, python, arguments.port, arguments.local_backends) as server:
            print(f"Label Studio    {server.url}")
            print(f"email           {server.email}")
            print(f"password        {server.password}")
            print(f"token           {server.token}")
            print(f"They stay in    {arguments.data_dir / 'credentials.json'}")
            print("For the scripts:")
            print(f"  export LABEL_STUDIO_URL={server.url} LABEL_STUDIO_API_KEY={server.token}")
            print("Ctrl-C stops the server.", flush=True)
            server.process.wait()
        raise ServerError(f"the server ended by itself:\n{_tail(arguments.data_dir / 'server.log')}")
    except _Stopped:
        print("Stopped.", file=sys.stderr)
        return 0
    except (ServerError, OSError) as error:
        print(f"label_studio_server: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
