"""The version of edgellm, for everything that signs what it writes."""

__version__ = "0.1.0"
