"""A checkpoint to an ONNX folder, in one pass. Start at writer.py, then decoder.py."""


def is_onnx(quant: str) -> bool:
    """Whether a `--quant` name means an ONNX folder. Here, because asking must not load the writer."""
    return quant.strip().lower().startswith("onnx")
