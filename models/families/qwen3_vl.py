"""The language model of Qwen3-VL: Qwen3's, turned by time, height and width, which in a text are one.

The vision tower is left out; llama.cpp reads it from a file of its own (mmproj), which goes with what is written here:
its pictures are added to the first layers, too, by the number of those that config.json tells of.
Source: transformers/models/qwen3_vl/modeling_qwen3_vl.py.
"""

from __future__ import annotations

from dataclasses import replace

from edgellm.models.families import qwen3

ARCHITECTURE = replace(
    qwen3.ARCHITECTURE,
    name="qwen3vl",
    class_names=("Qwen3VLForConditionalGeneration",),
    base_names=(),
    scorer_names=(),
    model_types=("qwen3_vl",),
    mrope_section=(24, 20, 20),
    towers=True,
)
