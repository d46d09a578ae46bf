"""`edgellm parity`: our float32 graph of a checkpoint against optimum's export of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgellm.terminal import say

if TYPE_CHECKING:
    from edgellm.session import Logits

_MAX_ERROR = 1e-4  # relative error of the logits, root of the NMSE


@click.command(short_help="Compare our ONNX graph with optimum's on one checkpoint.")
@click.argument("source", metavar="SRC")
@click.option("--offline", is_flag=True, help="Use what is on this machine; download nothing.")
def command(source: str, offline: bool) -> None:
    """Convert SRC to float32 ONNX twice, with our writer and with optimum, and compare logits on a short text.

    Needs edgellm[optimum], here or in the environment whose Python EDGELLM_OPTIMUM_PYTHON names. Exits 3 when
    the relative error is over 1e-4. Both graphs are written to a temporary folder and deleted.
    """
    from edgellm.catalog import models
    from edgellm.convert import optimum
    from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
    from edgellm.convert.verify import logits
    from edgellm.errors import CheckFailedError

    folder = models.checkpoint_folder(source, offline=offline)
    optimum.interpreter()
    with tempfile.TemporaryDirectory() as scratch:
        ours = convert_onnx(OnnxRequest(folder, "onnx-fp32", Path(scratch) / "ours", hash_sources=False))
        theirs = optimum.export(folder, Path(scratch) / "optimum", "onnx-fp32")
        fidelity = logits.compare(_logits(theirs.path), _logits(ours.path))
    say(f"ours against optimum: relative error {fidelity.nmse**0.5:.2g}, {fidelity.text}")
    if fidelity.nmse**0.5 > _MAX_ERROR:
        raise CheckFailedError(f"the relative error is {fidelity.nmse**0.5:.2g}, over {_MAX_ERROR:g}")


def _logits(path: Path) -> Logits:
    from edgellm import backends
    from edgellm.convert.verify import logits
    from edgellm.formats.artifact import Artifact
    from edgellm.session import EngineOptions

    options = EngineOptions(n_ctx=64, repack=False, device="cpu")
    with backends.open_session(Artifact.open(path), options) as session:
        return session.eval_all(session.tokenize(logits.TEXT)[: logits.N_TOKENS])
