"""MODEL arguments of commands: what they name, converted on first use when it is a checkpoint."""

from edgellm.catalog.first_use import resolve

__all__ = ["resolve"]
