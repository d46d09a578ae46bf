"""The ways a model on a hub is written: `owner/name`, with a type or file, as an address, or as other programs have it.

Knows text alone; asks no server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HUGGINGFACE, MODELSCOPE = "huggingface", "modelscope"

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
#: How an address begins, after `https://` and `www.`, and the hub it is of.
_HOSTS = {
    "hf.co/": HUGGINGFACE,
    "huggingface.co/": HUGGINGFACE,
    "hf-mirror.com/": HUGGINGFACE,
    "modelscope.cn/models/": MODELSCOPE,
    "modelscope.ai/models/": MODELSCOPE,
    "modelscope:": MODELSCOPE,
    "huggingface:": HUGGINGFACE,
}
_IN_REPOSITORY = re.compile(r"/(?:blob|resolve|tree|file/view|files)(?:/[^/]+)?(?:/(?P<file>.+))?")

#: Ollama's names -> the hub ids of the same models; `{}` is the size as the hub writes it, the last its default.
_OLLAMA: dict[str, tuple[str, str]] = {
    "qwen3.5": ("Qwen/Qwen3.5-{}", "4B"),
    "qwen3": ("Qwen/Qwen3-{}", "8B"),
    "qwen2.5": ("Qwen/Qwen2.5-{}-Instruct", "7B"),
    "qwen2.5-coder": ("Qwen/Qwen2.5-Coder-{}-Instruct", "7B"),
    "qwen2": ("Qwen/Qwen2-{}-Instruct", "7B"),
    "qwen3-embedding": ("Qwen/Qwen3-Embedding-{}", "0.6B"),
    "llama3.3": ("meta-llama/Llama-3.3-{}-Instruct", "70B"),
    "llama3.2": ("meta-llama/Llama-3.2-{}-Instruct", "3B"),
    "llama3.1": ("meta-llama/Llama-3.1-{}-Instruct", "8B"),
    "llama3": ("meta-llama/Meta-Llama-3-{}-Instruct", "8B"),
    "deepseek-r1": ("deepseek-ai/DeepSeek-R1-Distill-Qwen-{}", "7B"),
    "smollm2": ("HuggingFaceTB/SmolLM2-{}-Instruct-GGUF", "1.7B"),
    "gemma3": ("ggml-org/gemma-3-{}-it-GGUF", "4b"),
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?[bm])(-a\d+(?:\.\d+)?b)?", re.IGNORECASE)


@dataclass(frozen=True)
class Reference:
    """A model on a hub."""

    repo_id: str
    wanted: str = ""  # a type, or a file's name; empty: what is usual
    hub: str | None = None  # huggingface | modelscope; None: the preferred one


def is_repo_id(text: str) -> bool:
    """Whether `text` has the form owner/name."""
    return bool(_REPO_ID.fullmatch(text)) and ".." not in text and "--" not in text


def read(text: str) -> Reference | None:
    """What `text` names on a hub; None when it has the form of no such name."""
    rest = re.sub(r"^https?://", "", text)
    rest = rest.removeprefix("www.")
    start = next((start for start in _HOSTS if rest.startswith(start)), "")
    hub = _HOSTS.get(start)
    if hub is None and rest != text:
        return None
    rest = rest.removeprefix(start)
    owner, _, tail = rest.rstrip("/").partition("/")
    name, slash, inside = tail.partition("/")
    if slash:  # a page of the repository
        place = _IN_REPOSITORY.fullmatch(f"/{inside.split('?')[0]}") if hub else None
        return Reference(f"{owner}/{name}", place["file"] or "", hub) if place else None
    name, _, wanted = name.partition(":")
    if hub is None and name.endswith(".gguf"):  # a file that is not there
        return None
    return Reference(f"{owner}/{name}", wanted, hub) if is_repo_id(f"{owner}/{name}") else None


def suggestion(text: str) -> str:
    """The hub id of a model that another program calls `text`; empty where none is known."""
    name, _, tag = text.lower().removeprefix("ollama.com/library/").partition(":")
    if name not in _OLLAMA:
        return ""
    pattern, usual = _OLLAMA[name]
    size = _SIZE.match(tag)
    written = "".join(part or "" for part in size.groups()).upper() if size else usual
    return pattern.format(written.lower() if usual.islower() else written)
