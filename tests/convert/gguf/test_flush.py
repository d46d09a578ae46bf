"""A write that fails while rows are still being converted: Linux says so once, and then never again.

fsync(2): "a subsequent fsync() may succeed" after EIO - whoever drops that one error keeps a file with holes.
"""

import errno
import os
import threading

import pytest
import tinymodels

from edgellm.convert.gguf import stream
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.errors import EdgellmError


def test_an_error_that_the_system_tells_once_is_not_lost(tmp_path, monkeypatch):
    source = tinymodels.write(tinymodels.CASES["llama-256"], tmp_path / "source")
    real, failed = os.fsync, threading.Event()

    def fsync(fd: int) -> None:
        if threading.current_thread() is not threading.main_thread() and not failed.is_set():
            failed.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    rows = stream._Worker.convert

    def convert_slowly(self, *block) -> None:
        rows(self, *block)
        failed.wait(10)  # the flusher wakes by the clock; rows take their time until it has

    monkeypatch.setattr(stream, "_FLUSH_BYTES", 1)
    monkeypatch.setattr(stream.os, "fsync", fsync)
    monkeypatch.setattr(stream._Worker, "convert", convert_slowly)
    output = tmp_path / "out.gguf"
    with pytest.raises((EdgellmError, OSError), match="Input/output error"):
        convert(ConvertRequest(source, "Q8_0", output))
    assert failed.is_set() and not output.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["source"], "nothing is left beside it"
