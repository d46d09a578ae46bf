"""Why a checkpoint of a known relation is none that can be converted: by its class, the reason. Knows names only."""

from __future__ import annotations

from collections.abc import Iterable

_HEAD = (
    "with a head (score.weight and its like) that the engines do not have for it, so that it gives no text"
)
#: What the name of a class or model type contains, in small letters without `_` -> why. The first that fits counts.
_REASONS = {
    "forsequenceclassification": f"it classifies or rates a whole text, {_HEAD}",
    "fortokenclassification": f"it labels every token, {_HEAD}",
    "forquestionanswering": f"it marks answers in a text, {_HEAD}",
    "rewardmodel": f"it rates answers, {_HEAD}",
    "formultiplechoice": f"it picks one of several texts, {_HEAD}",
    "mllama": "its layers attend to pictures in between (cross attention), so that the language model is not complete "
    "without the vision tower; Llama 3.1 8B is the language model it was made from",
    "llama4": "its layers are none of Llama 3's (chunked attention, routed experts); llama.cpp converts it",
    "omni": "it hears and speaks through parts that are not converted; llama.cpp converts its language model",
    "qwen3vlmoe": "its experts are stored the other way round than Qwen3-MoE's; llama.cpp converts it",
    "formaskedlm": "it sees its whole text at once, and only models that go on with a text are converted",
}


def reason(classes: Iterable[object]) -> str:
    """Why a checkpoint of these classes is not supported; empty where there is nothing to say but its name."""
    named = " ".join(str(name).lower().replace("_", "") for name in classes)
    return next((why for part, why in _REASONS.items() if part in named), "")
