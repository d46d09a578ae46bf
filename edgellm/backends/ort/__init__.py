"""ONNX Runtime: our decoder loop, KV cache, sampler and tokenizer around it. Start at session.py."""

#: What it runs.
FORMAT = "onnx"
