"""Inference engines behind `Session`."""
