"""One teacher for all worker processes of a machine, so that a GPU holds one model and reads images of many scenes at
once, while the workers decode the next ones."""

import contextlib
import multiprocessing
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from typing import TYPE_CHECKING, Any

import numpy as np

from hicl.errors import HiclError
from hicl.pipeline.teacher.features import IMAGES_AT_ONCE, FeatureReader, Features

if TYPE_CHECKING:  # a worker that asks a service loads no torch
    import torch

    from hicl.pipeline.teacher.clip import Teacher

_READERS = 2  # so that one batch is copied and handed over while another is computed


@dataclass
class _Request:
    pixels: np.ndarray  # uint8 [B, H, W, 3]
    features: Future[Features] = field(default_factory=Future)


class TeacherService:
    """Answers `feature_reader` of this machine's processes at `address`, until its context is left.

    What came in while the device computed is its next batch, as far as it has room and images are of one size: nothing
    waits for a batch to fill. A worker has one request here at a time, so the queue is never longer than the workers
    are many. Processes that don't share this one's `authkey`, as its children do, are turned away.
    """

    def __init__(self, teacher: "Teacher"):
        """teacher: a `clip.Teacher`."""
        self._teacher, self._room = teacher, teacher.batch or IMAGES_AT_ONCE
        self._queue: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        # An abstract name: no file that a long $TMPDIR could make too long a name, or that someone could remove.
        self.address = f"\0hicl-{secrets.token_hex(16)}"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.address)
        self._socket.listen(128)
        self._threads = [threading.Thread(target=self._accept)]
        streams = [_own_stream(teacher.device) for _ in range(_READERS)]
        self._threads += [threading.Thread(target=self._read, args=[stream]) for stream in streams]

    def __enter__(self) -> "TeacherService":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        for thread in self._threads:
            thread.join()
        self._socket.close()
        for request in self._queue:
            request.features.set_exception(_closed())

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
                connection = Connection(peer.detach())
                threading.Thread(target=self._answer, args=[connection], daemon=True).start()
            except (OSError, RuntimeError):  # no more files or threads just now: this one finds its connection closed
                if self._closed:
                    return
                time.sleep(0.1)

    def _answer(self, connection: Connection) -> None:
        # The worker is done, or was killed, or it is none of ours.
        gone = (EOFError, OSError, multiprocessing.AuthenticationError)
        with connection, contextlib.suppress(*gone):
            deliver_challenge(connection, _authkey())
            answer_challenge(connection, _authkey())
            connection.send(self._teacher.patches)
            while True:
                answer: Features | HiclError
                try:
                    answer = self._ask(connection.recv()).result()
                except HiclError as error:
                    answer = error
                connection.send(answer)

    def _ask(self, pixels: np.ndarray) -> Future[Features]:
        request = _Request(pixels)
        with self._changed:
            if self._closed:
                raise _closed()
            self._queue.append(request)
            self._changed.notify()
        return request.features

    def _read(self, stream: contextlib.AbstractContextManager) -> None:
        with stream:
            while requests := self._next():
                try:
                    pixels = np.concatenate([request.pixels for request in requests])
                    codes, scales = self._teacher.encode_pixels(pixels)
                except Exception as error:  # out of memory, say: it is the workers' to tell, scene by scene
                    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    failure = HiclError(f"the teacher failed on its device ({reason}); use --device cpu")
                    for request in requests:
                        request.features.set_exception(failure)
                    continue
                start = 0
                for request in requests:
                    own = slice(start, start + len(request.pixels))
                    request.features.set_result((codes[own], scales[own]))
                    start = own.stop

    def _next(self) -> list[_Request]:
        """The oldest request and as many others as fit beside it; none once the service is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if self._closed:
                return []
            taken: list[_Request] = []
            room = self._room
            left: deque[_Request] = deque()
            for request in self._queue:
                same = not taken or request.pixels.shape[1:] == taken[0].pixels.shape[1:]
                if not taken or (same and len(request.pixels) <= room):
                    taken.append(request)
                    room -= len(request.pixels)
                else:
                    left.append(request)
            self._queue = left
            return taken


@contextlib.contextmanager
def feature_reader(address: str) -> Iterator[FeatureReader]:
    """A reader of one scene's images by the service at an address. Raises `HiclError` where the teacher fails, or the
    service is gone."""
    try:
        connection = Client(address, authkey=_authkey())
    except OSError:
        raise _closed() from None
    with connection:

        def request(pixels: np.ndarray) -> Callable[[], Features]:
            connection.send(pixels)
            return receive

        def receive() -> Any:
            try:
                answer = connection.recv()
            except (EOFError, OSError):
                raise _closed() from None
            if isinstance(answer, HiclError):
                raise answer
            return answer

        yield FeatureReader(receive(), request)


def _closed() -> HiclError:
    return HiclError("the process that holds the teacher closed it; run the command again")


def _authkey() -> bytes:
    return multiprocessing.current_process().authkey


def _own_stream(device: "torch.device") -> contextlib.AbstractContextManager:
    """A GPU's stream of its own, to be entered by one thread; nothing on a CPU."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    import torch

    return torch.cuda.stream(torch.cuda.Stream(device))
