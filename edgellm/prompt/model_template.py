"""A model's chat template, found in the model itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgellm.errors import UsageError

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact
    from edgellm.prompt.template import ChatTemplate


def template_of(artifact: Artifact) -> ChatTemplate:
    """The template `artifact` carries. Made before the session, its process starts while the model loads.

    Raises UsageError for a model that was not made to chat.
    """
    from edgellm.prompt.template import ChatTemplate

    if not artifact.chat_template:
        raise UsageError(
            f"{artifact.name} has no chat template: it only continues text; use edgellm run --raw MODEL PROMPT"
        )
    return ChatTemplate(artifact.chat_template, *_special_tokens(artifact))


def _special_tokens(artifact: Artifact) -> tuple[str | None, str | None]:
    """The model's BOS and EOS as text; None where it has none."""
    if artifact.format == "onnx":
        from edgellm.formats import onnx_folder

        folder = onnx_folder.read(artifact.path)
        return folder.bos_token or None, folder.eos_token or None
    from edgellm.formats.gguf.reader import read_header

    header = read_header(artifact.path)
    tokens = header.get("tokenizer.ggml.tokens", ())
    ids = (header.get(f"tokenizer.ggml.{kind}_token_id", -1) for kind in ("bos", "eos"))
    bos, eos = (tokens[i] if 0 <= i < len(tokens) else None for i in ids)
    return bos, eos
