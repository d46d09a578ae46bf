"""llama.cpp through llama-cpp-python's C bindings.

Start at session.py; canary.py says when the library is trusted.
"""

#: What it runs.
FORMAT = "gguf"
