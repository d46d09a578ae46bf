"""What a run-time LoRA adapter is to everybody: a file and how much of it. Light; reads nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lora:
    """A LoRA adapter file to put on the model. Two with the same content and scale compute the same."""

    path: str
    scale: float = 1.0
    sha256: str = ""  # of the file when it was chosen: saved states are told apart by it
