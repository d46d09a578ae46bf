"""What quality is measured on and by, by name, where nothing heavy is imported."""

#: What may be asked for beside likelihood and tasks.
AXES = ("language", "robustness", "response", "energy")

#: Texts: edgellm's own suite of dialogues and tasks, or general text and choices, for models not made for that suite.
TEXTS = ("dialogues", "general")
