"""One plan on many machines: nodes that edgellm reaches over ssh or as a Ray cluster. Start at run.py."""
