"""The further axes by name, where nothing heavy is imported."""

#: What may be asked for beside likelihood and tasks.
AXES = ("language", "robustness", "response", "energy")
