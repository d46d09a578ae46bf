"""How the bundled models were made: the corpus, the tokenizers, training and evaluation.

Nothing here is imported by the toolkit itself. The corpus needs the standard library alone, `tokenizer` needs
`tokenizers`, and only `train` (and torch decoding in `evaluate`) needs torch and transformers.
"""
