"""What edgellm's libraries would send home, switched off before they are imported.

The switches are environment variables, so children inherit them: workers, launches under meters, an exporter.
They hold whatever the user's environment says; nothing but a download that was asked for leaves the machine.
"""

from __future__ import annotations

import os
from typing import Any

from edgellm.errors import EngineError

#: By library; each is read once, when the library is loaded.
_SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime: uploads, event queue, device id (its Privacy.md, since 1.29)
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, transformers, optimum: counters, versions sent along
    "HF_XET_TELEMETRY_ENABLED": "0",  # hf_xet, which huggingface_hub downloads with: reports on transfers
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray: what a cluster is made of and what runs on it, every hour
    "DO_NOT_TRACK": "1",  # what others agree on (https://donottrack.sh)
}


def refuse_telemetry() -> None:
    """Set the switches, for this process and its children. Call before importing a library that has one."""
    os.environ.update(_SWITCHES)


def onnxruntime() -> Any:
    """The library `onnxruntime`; no other line of edgellm imports it. Raises EngineError when it cannot be."""
    refuse_telemetry()
    try:
        import onnxruntime as library
    except ImportError as error:
        raise EngineError(f"ONNX Runtime cannot be imported ({error}); pip install onnxruntime") from error
    if hasattr(
        library, "disable_telemetry_events"
    ):  # a program that uses edgellm may have imported it before
        library.disable_telemetry_events()
    return library
