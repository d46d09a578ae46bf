"""The language model of Qwen2-VL and Qwen2.5-VL: Qwen2's, turned by time, height and width, which in a text are one.

The vision tower is left out; llama.cpp reads it from a file of its own (mmproj), which goes with what is written here.
Source: transformers/models/qwen2_5_vl/modeling_qwen2_5_vl.py.
"""

from __future__ import annotations

from dataclasses import replace

from edgellm.models.families import qwen2

ARCHITECTURE = replace(
    qwen2.ARCHITECTURE,
    name="qwen2vl",
    class_names=("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"),
    base_names=(),
    model_types=("qwen2_vl", "qwen2_5_vl"),
    mrope_section=(16, 24, 24),
    mrope_interleaved=False,
    towers=True,
)
