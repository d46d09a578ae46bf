"""Settings of the whole test run."""

import os
import signal


def pytest_configure() -> None:
    """A shell without job control starts background jobs with Ctrl-C ignored; tests of Ctrl-C need it back."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["EDGELLM_NO_TUNE"] = "1"  # what a developer tuned must not change what a test sees
