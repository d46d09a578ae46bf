"""A checkpoint to an ONNX folder, in one pass. Start at writer.py, then decoder.py."""
