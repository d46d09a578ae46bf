"""Session openers for launches that go wrong in their own ways; named by module:function in a launch request."""

import os
import signal

from edgellm import backends
from edgellm.errors import EngineError


def refuse(artifact, options):
    raise EngineError("this model is refused")


def crash(artifact, options):
    print("a last word", flush=True)
    os.kill(os.getpid(), signal.SIGABRT)


def chatty(artifact, options):
    """A library that prints to standard output, where results travel."""
    os.write(1, b"llama_model_loader: not JSON\n")
    print("not JSON either", flush=True)
    return backends.open_session(artifact, options)


def crash_on_second(artifact, options):
    """Works once per file, dies the next time: what a machine that runs out of memory looks like."""
    mark = artifact.path.with_suffix(".seen")
    if mark.exists():
        crash(artifact, options)
    mark.touch()
    return backends.open_session(artifact, options)
