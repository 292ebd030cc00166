"""One teacher for all worker processes of a machine, so that a GPU holds one model and reads images of many scenes at
once, while the workers decode the next ones."""

import contextlib
import multiprocessing
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection, Listener

import numpy as np

from hicl.errors import HiclError
from hicl.pipeline.features import IMAGES_AT_ONCE, FeatureReader, Features

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

    def __init__(self, teacher):
        """teacher: a `maskclip.Teacher`."""
        self._teacher, self._room = teacher, teacher.batch or IMAGES_AT_ONCE
        self._queue: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._listener = Listener(family="AF_UNIX", backlog=128, authkey=_authkey())
        self.address: str = self._listener.address
        self._threads = [threading.Thread(target=self._accept)]
        self._threads += [threading.Thread(target=self._read) for _ in range(_READERS)]

    def __enter__(self) -> "TeacherService":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            Client(self.address, authkey=_authkey()).close()  # wakes the one that accepts
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection = self._listener.accept()
            except (OSError, EOFError, multiprocessing.AuthenticationError):
                continue  # it was gone again, or isn't one of ours
            threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        with connection, contextlib.suppress(EOFError, OSError):  # the worker is done, or was killed
            connection.send(self._teacher.patches)
            while True:
                request = _Request(connection.recv())
                with self._changed:
                    self._queue.append(request)
                    self._changed.notify()
                try:
                    connection.send(request.features.result())
                except HiclError as error:
                    connection.send(error)

    def _read(self) -> None:
        with _own_stream(self._teacher.device):
            while requests := self._next():
                try:
                    pixels = np.concatenate([request.pixels for request in requests])
                    codes, scales = self._teacher.encode_pixels(pixels)
                except Exception as error:  # out of memory, say: it is the workers' to tell, scene by scene
                    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    for request in requests:
                        request.features.set_exception(HiclError(f"the teacher failed on its device: {reason}"))
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
            taken: list[_Request] = []
            room, left = self._room, deque()
            for request in () if self._closed else self._queue:
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
    """A reader of one scene's images by the service at an address. Raises `HiclError` where the teacher fails."""
    with Client(address, authkey=_authkey()) as connection:

        def request(pixels: np.ndarray) -> Callable[[], Features]:
            connection.send(pixels)
            return receive

        def receive() -> Features:
            answer = connection.recv()
            if isinstance(answer, HiclError):
                raise answer
            return answer

        yield FeatureReader(connection.recv(), request)


def _authkey() -> bytes:
    return bytes(multiprocessing.current_process().authkey)


def _own_stream(device) -> contextlib.AbstractContextManager:
    if device.type != "cuda":
        return contextlib.nullcontext()
    import torch

    return torch.cuda.stream(torch.cuda.Stream(device))
