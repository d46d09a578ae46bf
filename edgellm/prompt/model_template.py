"""A model's chat template, found in the model itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgellm.errors import UsageError, option

if TYPE_CHECKING:
    from edgellm.formats.artifact import Artifact
    from edgellm.formats.gguf.header import GgufFile
    from edgellm.prompt.template import ChatTemplate

#: The special tokens that templates may write, by name, as JSON. GGUF's own keys have ids only, and an id of BOS
#: even where the model's tokenizer knows none: such a template would begin with a token the model never saw.
NAMES_KEY = "edgellm.tokenizer.names"
TOOL_USE = "tool_use"  # the name of a template for prompts with tools


def template_of(artifact: Artifact) -> ChatTemplate:
    """The template `artifact` carries. Made before the session, its process starts while the model loads.

    Raises UsageError for a model that was not made to chat.
    """
    from edgellm.prompt.template import ChatTemplate

    if not artifact.chat_template:
        raise UsageError(f"{artifact.name} has no chat template: it only continues text; {option('raw')}")
    if artifact.format == "onnx":
        from edgellm.formats import onnx_folder

        folder = onnx_folder.read(artifact.path)
        return ChatTemplate(artifact.chat_template, folder.names, folder.named_templates.get(TOOL_USE))
    from edgellm.formats.gguf.reader import read_header

    header = read_header(artifact.path)
    tool_source = header.get(f"tokenizer.chat_template.{TOOL_USE}")
    return ChatTemplate(
        artifact.chat_template, names_of(header), tool_source if isinstance(tool_source, str) else None
    )


def names_of(header: GgufFile) -> Mapping[str, str]:
    """The special tokens a GGUF file's template may write. Other programs' files have ids only."""
    try:
        said = json.loads(header.get(NAMES_KEY, ""))
    except (TypeError, ValueError):
        said = None
    if isinstance(said, dict):
        return {key: text for key, text in said.items() if isinstance(text, str)}
    tokens = header.get("tokenizer.ggml.tokens", ())
    ids = {kind: header.get(f"tokenizer.ggml.{kind}_token_id", -1) for kind in ("bos", "eos")}
    return {f"{kind}_token": tokens[i] for kind, i in ids.items() if 0 <= i < len(tokens)}
