"""The journal of a bulk run: what is done stands beside the output, and a run that was stopped goes on behind it.

`OUT.partial/` holds `run.json`, what the results depend on, and `results.jsonl`, a line for each document in the order
of the input. At the end it becomes OUT in one step. However a run ends, the next counts the whole lines and goes on.
"""

from __future__ import annotations

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
from .outputs import opened
from .releases import PARTIAL, Refusal, Release

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
        self.folder = self.output.with_name(self.output.name + PARTIAL)
        self._results = self.folder / "results.jsonl"
        self._run = self.folder / "run.json"
        self._settings = dict(settings)
        self._restart = restart
        self._lock = -1
        self._file = -1

    def __enter__(self) -> Journal:
        self._lock = self._locked()
        try:
            if self._restart or not self._run.exists():
                self._results.unlink(missing_ok=True)
                new = self.folder / "run.json.new"
                new.write_text(json.dumps(self._settings, indent=1) + "\n", encoding="utf-8")
                os.replace(new, self._run)
            self._check_settings()
            self._file = os.open(self._results, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            os.ftruncate(self._file, _whole(self._results))
            os.lseek(self._file, 0, os.SEEK_END)
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
        done = self.lines()
        for batch in batches:
            lines: list[Mapping[str, Any]] = list(islice(done, len(batch.items)))
            for item, line in zip(batch.items, lines, strict=False):
                self._check_same(item, line)
            if len(lines) < len(batch.items):
                # A batch that was cut off is answered as a whole, as it was the first time.
                fresh = answers(batch)[len(lines) :]
                self._append(fresh)
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
        os.close(self._file)
        self._file = -1
        whole = self._results
        if write:
            whole = self.folder / "converted"
            with opened(whole, self.output.suffix == ".gz") as out:
                write(self.lines(), out)
            with open(whole, "rb+") as written:
                os.fsync(written.fileno())
        os.replace(whole, self.output)
        self.discard()

    def discard(self) -> None:
        """Remove the folder and what is done."""
        shutil.rmtree(self.folder)

    def _append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        rest = b"".join(map(json_line, lines))
        while rest:
            rest = rest[os.write(self._file, rest) :]

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
        for file in (self._file, self._lock):
            if file >= 0:
                os.close(file)
        self._file = self._lock = -1

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
                raise JournalError(
                    f"{self.folder}: was begun with another {name} ({was:.60}, now {is_:.60}); go on with the same, or "
                    f"{_AGAIN}"
                )

    def _check_same(self, item: Release | Refusal, line: Mapping[str, Any]) -> None:
        same = item.id == line.get("id")
        if same and "error" not in line:
            same = isinstance(item, Release) and item.text == line.get("text")
        if not same:
            raise JournalError(
                f"{self.folder}: was made of other inputs: where it has {line.get('id')!r:.60}, they have "
                f"{item.id!r:.60}, or its text changed; {_AGAIN}"
            )


def json_line(line: Mapping[str, Any]) -> bytes:
    """Half a surrogate pair, which JSON may hold, is no UTF-8; its escape is JSON again."""
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _whole(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    end = path.stat().st_size
    with open(path, "rb") as file:
        while end > 0:
            start = max(0, end - (1 << 16))
            file.seek(start)
            if (at := file.read(end - start).rfind(b"\n")) >= 0:
                return start + at + 1
            end = start
    return 0
