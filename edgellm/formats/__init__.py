"""What a converted model on disk is: GGUF files and ONNX folders, read within bounds.

Runs nothing. Start at artifact.py.
"""
