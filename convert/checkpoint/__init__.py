"""What a Hugging Face checkpoint says: weights, tokenizer, names.

Knows no output format. Start at folder.py.
"""
