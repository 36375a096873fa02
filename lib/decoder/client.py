"""Asking for a reading of foreign files, from any thread of any process of the server."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib import errors
from lib.decoder.protocol import MOST_SHARING, SHARING, Ended, Garbled, array_of, close_all, receive, send, told
from lib.opened import opened
from lib.volume import Array

LOG = logging.getLogger(__name__)

READINGS = "lib.decoder.readings"

TOGETHER, LARGE_TOGETHER = 8, 2
"""Readings that one process has done at once, and those among them that may take an image's share of the memory."""

READY = 2
"""Processes of each kind that wait for the next readings."""

SECONDS = 300.0
"""A reading that takes longer is ended."""

HOME = Path(__file__).parents[2]

REFUSALS = {
    kind.__name__: kind
    for kind in (
        errors.UnreadableImage, errors.GridMismatch, errors.UnknownStructure, errors.UnacceptableFile,
        errors.InvalidRequest, errors.TooLarge,
    )
}  # fmt: skip
"""Errors that a reading may end in; a message of the decoder makes no others."""

Result = tuple[dict[str, Any], list[Array]]


class Decoder:
    """The process that decodes, started when it is first asked; copies in other processes ask the same one."""

    def __init__(self, readings: str = READINGS) -> None:
        self._readings = readings
        self._guard = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: deque[_Reader] = deque()
        self._sharing: deque[_Reader] = deque()
        self._room = threading.BoundedSemaphore(TOGETHER)
        self._large_room = threading.BoundedSemaphore(LARGE_TOGETHER)
        self.is_confined = True

    def __getstate__(self) -> dict[str, Any]:
        """What a process that is being started gets of it."""
        self.start()
        return {"readings": self._readings, "control": self._control}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["readings"])  # type: ignore[misc]
        self._control = state["control"]

    def start(self) -> None:
        """Starts the process unless it runs."""
        self._started()

    def _started(self) -> socket.socket:
        with self._guard:
            if self._control is None:
                self._control = self._start()
            return self._control

    def stop(self) -> None:
        """Ends the process, if it was started here and nobody else asks it."""
        with self._guard:
            if self._control is not None:
                self._control.close()
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._close_ready()
            self._control = self._process = None

    def _close_ready(self) -> None:
        for kept in (self._ready, self._sharing):
            while kept:
                kept.pop().end()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lib.decoder.host", self._readings],
                stdin=theirs.fileno(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", env=_environment(),
                # Ctrl-C is for the server alone.
                start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        with self._process.stdout as first_words:
            state = first_words.readline()
        if not state:
            ours.close()
            raise errors.ComputationInterrupted("The process that reads files from clients does not start.")
        self.is_confined = state == b"confined\n"
        if not self.is_confined:
            LOG.warning(
                "This kernel has no Landlock: files from clients are read in a process of their own with limits, but "
                "what takes it over could open files. Linux 5.13 or newer has it; containers may switch it off."
            )
        return ours

    def ask(
        self,
        reading: str,
        paths: Sequence[Path],
        arguments: Mapping[str, Any],
        name: str = "",
        *,
        is_large: bool = False,
    ) -> Result:
        """Has files read.

        Args:
            reading: one of ``READINGS`` of the process.
            paths: the files; they are opened here, one by one, when the reading asks for them.
            arguments: of the reading.
            name: what to call all of it in messages; empty: as the files are called.
            is_large: it reads all voxels of an image: few do so at once.

        Returns:
            What the reading tells, and its arrays, which may be written to.

        Raises:
            UnreadableImage: if the files are damaged, need too much memory, or end the process that reads them.
            ComputationInterrupted: if it takes too long, or was ended from outside.
            GridMismatch, UnknownStructure, InvalidRequest, TooLarge, NoImage: as the reading raises them.
        """
        asked = _Asked(reading, paths, name)
        with self._large_room if is_large else contextlib.nullcontext(), self._room:
            try:
                return self._done(self._reader(reading), asked, arguments)
            # The system may have ended it, for want of memory; a file that does so does it again.
            except Ended:
                LOG.warning("The process that read %s ended; it is read once more.", asked.name)
            try:
                return self._done(self._new_reader(), asked, arguments)
            except Ended as error:
                raise errors.UnreadableImage(
                    f"{asked.name} ended the process that read it: it is damaged, or was made to do harm."
                ) from error

    def _done(self, reader: _Reader, asked: _Asked, arguments: Mapping[str, Any]) -> Result:
        """Has a process do a reading; it is kept for another one where it may do several, else ended."""
        may_go_on = False
        try:
            result = asked.result(reader, arguments)
            may_go_on = reader.may_go_on_after(asked.reading)
            return result
        finally:
            self._keep(reader) if may_go_on else reader.end()
            self._make_ready()

    def _reader(self, reading: str) -> _Reader:
        """A process for a reading; as a rule it is there already."""
        with self._guard:
            for kept in (self._sharing, self._ready) if reading in SHARING else (self._ready,):
                if kept:
                    return kept.pop()
        return self._new_reader()

    def _keep(self, reader: _Reader) -> None:
        with self._guard:
            if len(self._sharing) < READY:
                self._sharing.append(reader)
                return
        reader.end()

    def _make_ready(self) -> None:
        """Has a process made for the next reading, which then need not wait for it."""
        with contextlib.suppress(errors.ComputationInterrupted):
            if len(self._ready) < READY:
                self._ready.append(self._new_reader())

    def _new_reader(self) -> _Reader:
        for _ in range(2):
            control = self._started()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                with theirs:
                    socket.send_fds(control, [b"read"], [theirs.fileno()])
                return _Reader(ours)
            except OSError:
                ours.close()
                LOG.error("The process that reads files from clients ended; it is started again.")
                self._forget(control)
        raise errors.ComputationInterrupted("The process that reads files from clients ended. Send the request again.")

    def _forget(self, control: socket.socket) -> None:
        """Has the process started anew when somebody asks next, unless somebody did so already."""
        with self._guard:
            if self._control is not control:
                return
            control.close()
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._close_ready()
            self._control = self._process = None


class _Reader:
    """A process that does one reading, or several of those that may share one.

    Attributes:
        connection: to it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._process: int | None = None
        self._done = 0

    def begin(self) -> None:
        """Learns which process it is, before it has read anything.

        Raises:
            Ended: if it is gone.
        """
        if self._process is None:
            _, (self._process,) = receive(self.connection)

    def may_go_on_after(self, reading: str) -> bool:
        """Whether it may do another reading after one that went well."""
        self._done += 1
        return reading in SHARING and self._done < MOST_SHARING

    def end(self) -> None:
        """Ends it, whatever it does."""
        self.connection.close()
        if self._process is not None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            os.close(self._process)
            self._process = None


class _Asked:
    """One reading, from its question to its answer."""

    def __init__(self, reading: str, paths: Sequence[Path], name: str) -> None:
        self.reading = reading
        self._paths = paths
        self.name = name or (paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} others")

    def result(self, reader: _Reader, arguments: Mapping[str, Any]) -> Result:
        """Has it done by a process.

        Raises:
            Ended: if the process ended over it.
        """
        deadline = time.monotonic() + SECONDS
        connection = reader.connection
        connection.settimeout(SECONDS)
        try:
            reader.begin()
            names = [path.name for path in self._paths]
            with self._one_file() as first:
                send(connection, pickle.dumps((self.reading, names, arguments)), first)
            while True:
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                message, files = receive(connection)
                answer = told(message)
                if "open" not in answer:
                    return self._finished(answer, files)
                close_all(files)
                self._give_file(connection, answer["open"])
        except TimeoutError as error:
            raise errors.ComputationInterrupted(
                f"{self.name} was not read within {SECONDS:.0f} s. Send the request again; if that does not help, "
                "the file may be larger than this machine can read."
            ) from error
        except (Garbled, ValueError) as error:
            LOG.error("The process that read %s may have been taken over by it: %s", self.name, error)
            raise errors.UnreadableImage(f"{self.name} cannot be read: it is damaged.") from error

    @contextlib.contextmanager
    def _one_file(self) -> Iterator[list[int]]:
        """The file, open, where there is one only, which saves a question; what goes wrong is told when it is asked."""
        with contextlib.ExitStack() as files:
            try:
                sent = [
                    files.enter_context(opened(path)).file.fileno() for path in self._paths if len(self._paths) == 1
                ]
            except (OSError, errors.UnreadableImage):
                sent = []
            yield sent

    def _give_file(self, connection: socket.socket, number: Any) -> None:
        if not isinstance(number, int) or not 0 <= number < len(self._paths):
            raise Garbled(f"The decoder asks for the file {number!r}.")
        try:
            with opened(self._paths[number]) as found:
                send(connection, b"open", [found.file.fileno()])
        except (OSError, errors.UnreadableImage) as error:
            send(connection, (getattr(error, "strerror", "") or str(error)).encode(errors="replace")[:1000])

    def _finished(self, answer: dict[str, Any], files: list[int]) -> Result:
        try:
            if "done" not in answer:
                raise self._refusal(answer)
            about = answer.get("arrays")
            if not isinstance(answer["done"], dict) or not isinstance(about, list) or len(about) != len(files):
                raise Garbled("The decoder answers in another form.")
            return answer["done"], [array_of(what, file) for what, file in zip(about, files, strict=True)]
        finally:
            close_all(files)

    def _refusal(self, answer: dict[str, Any]) -> Exception:
        kind, message = answer.get("refused"), str(answer.get("message", ""))[:4000]
        if kind == "MemoryError":
            return errors.UnreadableImage(f"{self.name} needs more memory than one file may take on this machine.")
        if kind == "NoImage":
            return errors.NoImage(message, str(answer.get("modality", ""))[:16])
        if kind in REFUSALS:
            return REFUSALS[kind](message)
        LOG.error("Reading %s failed: %.4000s", self.name, ascii(answer.get("traceback", answer)))
        return errors.UnreadableImage(
            f"{self.name} cannot be read: {str(answer.get('unexpected', 'damaged'))[:300]}. Export it again."
        )


def _environment() -> dict[str, str]:
    """What the process needs to find the code; nothing that others hand to a server this way, such as passwords."""
    kept = {name: text for name, text in os.environ.items() if name.startswith(("OPENBLAS_", "LC_", "LANG", "PATH"))}
    return {**kept, "PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


_DECODER = Decoder()


def decoder() -> Decoder:
    """The one of this process."""
    return _DECODER


@atexit.register
def _stop() -> None:
    _DECODER.stop()


def use(shared: Decoder) -> None:
    """Lets this process ask the one that another process started."""
    global _DECODER
    _DECODER = shared
