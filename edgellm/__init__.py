"""edgellm: convert, run and measure Qwen and Llama 3 models on laptops and embedded boards."""

__version__ = "0.1.0"
