"""One sequence in a llama.cpp context: its state read and put back, draft tokens, sampling, being ended. No model."""
