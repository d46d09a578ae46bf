"""Lines of agents' system prompts that change with every request and tell a model nothing.

A prefix cache holds a prompt up to the first token that differs: such a line at the top costs a prefill of all that
follows it, tens of thousands of tokens each turn. One entry an agent, with where it was seen.
"""

from __future__ import annotations

import re

_LINES = (
    # Claude Code counts its requests in the first system block: "cc_version=...; cc_entrypoint=...; cch=..."
    # anthropics/claude-code#68900, waybarrios/vllm-mlx#277, vllm-project/vllm#36829
    re.compile(r"^x-anthropic-billing-header:[^\n]*\n?", re.MULTILINE),
)


def stable(system: str) -> str:
    """A system prompt, or a part of one, without such lines."""
    for line in _LINES:
        system = line.sub("", system)
    return system
