"""The journal of a bulk run: what is done stands beside the output, and a run that was stopped goes on behind it.

`OUT.partial/` holds `run.json`, what the results depend on, and `results.jsonl`, a line for each document in the order
of the input. At the end it becomes OUT in one step. `inputs.txt` has a digest of each document, against which the next
run compares its own. However a run ends, the next counts the whole lines and goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from .batches import Batch
from .files import opened
from .releases import PARTIAL, Refusal, Release

_DIGEST = 32  # hexadecimal digits
_AGAIN = "start it again with --restart to throw away what is done"


class JournalError(ValueError):
    """A run cannot go on from what is there; the message says what to do."""


class Journal:
    """The results of a run, as far as it is done.

    As a context it holds the folder for itself, so that no second run writes there.

    Args:
        output: a regular file, or one that is not there yet.
        settings: what the results depend on, in plain JSON types; a run with other settings is no continuation.
        restart: throw away what an earlier run left.

    Raises:
        JournalError: another run writes there, or what is there belongs to other settings.
        OSError: the folder cannot be written.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any], restart: bool = False):
        self.output = output.resolve()
        self._packed = output.suffix == ".gz"  # as it was called, where it is a link
        self.folder = self.output.with_name(self.output.name + PARTIAL)
        self._results = self.folder / "results.jsonl"
        self._inputs = self.folder / "inputs.txt"
        self._run = self.folder / "run.json"
        self._settings = dict(settings)
        self._restart = restart
        self._lock = self._file = self._digests = -1

    def __enter__(self) -> Journal:
        self._lock = self._locked()
        try:
            if self._restart or not self._run.exists():
                self._results.unlink(missing_ok=True)
                self._inputs.write_bytes(b"")
                new = self.folder / "run.json.new"
                new.write_text(json.dumps(self._settings, indent=1) + "\n", encoding="utf-8")
                os.replace(new, self._run)
            self._check_settings()
            if not self._inputs.exists():
                raise JournalError(
                    f"{self.folder}: was made of other inputs, or by a version that did not note them; {_AGAIN}"
                )
            self._file, self._digests = map(_to_append, (self._results, self._inputs))
            # Of a line that was cut off the other file may have the whole.
            count, size = _whole(self._results, self._inputs.stat().st_size // (_DIGEST + 1))
            os.ftruncate(self._file, size)
            os.ftruncate(self._digests, count * (_DIGEST + 1))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def lines(self) -> Iterator[dict[str, Any]]:
        """What is done, in order.

        Raises:
            JournalError: a line is damaged.
        """
        with open(self._results, "rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield json.loads(line)
                except ValueError:
                    raise JournalError(f"{self._results}:{number}: is damaged; {_AGAIN}") from None

    def fill(
        self, batches: Iterable[Batch], answers: Callable[[Batch], Sequence[Mapping[str, Any]]]
    ) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Answer the batches behind what is done, and append each answer.

        Yields:
            the lines of each batch, those of earlier runs, too.

        Raises:
            JournalError: what is done is not that of these documents.
            OSError: there is no room; what is done stays.
        """
        done = self._done()
        for batch in batches:
            lines: list[Mapping[str, Any]] = []
            for item, (line, digest) in zip(batch.items, done, strict=False):
                self._check_same(item, line, digest)
                lines.append(line)
            if len(lines) < len(batch.items):
                # A batch that was cut off is answered as a whole, as it was the first time.
                fresh = answers(batch)[len(lines) :]
                self._append(batch.items[len(lines) :], fresh)
                lines += fresh
            yield lines
        if next(done, None) is not None:
            raise JournalError(f"{self.folder}: holds more documents than the inputs; they changed: {_AGAIN}")

    def finish(self, write: Callable[[Iterator[dict[str, Any]], TextIO], None] | None) -> None:
        """Give the output its name, and remove the folder.

        Args:
            write: writes the lines in their format; None where they stay as they are.
        """
        os.fsync(self._file)  # a disk can turn out to be full as late as here
        for file in (self._file, self._digests):
            os.close(file)
        self._file = self._digests = -1
        whole = self._results
        if write:
            whole = self.folder / "converted"
            with opened(whole, self._packed) as out:
                write(self.lines(), out)
            with open(whole, "rb+") as written:
                os.fsync(written.fileno())
        os.replace(whole, self.output)
        self.discard()

    def discard(self) -> None:
        """Remove the folder and what is done."""
        shutil.rmtree(self.folder)

    def _done(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Each line, and the digest of its document."""
        with open(self._inputs, "rb") as digests:
            for line in self.lines():
                yield line, digests.read(_DIGEST + 1)

    def _append(self, items: Iterable[Release | Refusal], lines: Iterable[Mapping[str, Any]]) -> None:
        for file, rest in (
            (self._digests, b"".join(map(_digest, items))),
            (self._file, b"".join(map(json_line, lines))),
        ):
            while rest:
                rest = rest[os.write(file, rest) :]

    def _locked(self) -> int:
        """The file that is locked while the run lasts; -1 where files cannot be locked."""
        path = self.folder / "lock"
        while True:
            self.folder.mkdir(exist_ok=True)
            if fcntl is None:
                return -1
            try:
                lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue  # the run before removed the folder just now
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), os.stat(path)):
                    return lock
            except FileNotFoundError:
                pass
            except BlockingIOError:
                os.close(lock)
                raise JournalError(
                    f"{self.output}: another run is writing it; wait for its end, or write elsewhere"
                ) from None
            os.close(lock)

    def _close(self) -> None:
        for file in (self._file, self._digests, self._lock):
            if file >= 0:
                os.close(file)
        self._file = self._digests = self._lock = -1

    def _check_settings(self) -> None:
        try:
            found = json.loads(self._run.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise JournalError(f"{self._run}: is damaged; {_AGAIN}")
        wanted = json.loads(json.dumps(self._settings))
        for name in [*wanted, *found]:
            if found.get(name) != wanted.get(name):
                was, is_ = (json.dumps(value.get(name), ensure_ascii=False) for value in (found, wanted))
                other = "other" if name.endswith("s") else "another"
                raise JournalError(
                    f"{self.folder}: was begun with {other} {name} ({was:.60}, now {is_:.60}); go on with the same, or "
                    f"{_AGAIN}"
                )

    def _check_same(self, item: Release | Refusal, line: Mapping[str, Any], digest: bytes) -> None:
        if item.id != line.get("id") or _digest(item) != digest:
            raise JournalError(
                f"{self.folder}: was made of other inputs: where it has {line.get('id')!r:.60}, they have "
                f"{item.id!r:.60}, or its text, its release date or why it is refused changed; {_AGAIN}"
            )


def json_line(line: Mapping[str, Any]) -> bytes:
    """Half a surrogate pair, which JSON may hold, is no UTF-8; its escape is JSON again."""
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _digest(item: Release | Refusal) -> bytes:
    """A line for all that a document is: its id, text and release date, or its id and why it is refused."""
    return hashlib.sha256(json.dumps(item, default=str).encode()).hexdigest()[:_DIGEST].encode() + b"\n"


def _to_append(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)


def _whole(path: Path, most: int) -> tuple[int, int]:
    """The whole lines at the beginning of a file, up to `most`: how many, and their bytes."""
    count = size = 0
    with open(path, "rb") as file:
        for line in islice(file, most):
            if line.endswith(b"\n"):
                count += 1
                size += len(line)
    return count, size
