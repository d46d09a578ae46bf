"""Token ids in, text out: streaming, structured output, speculative decoding, scores, embeddings.

Opens no model but a draft model. Start at generate.py.
"""
