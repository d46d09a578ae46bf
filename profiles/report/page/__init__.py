"""The sections that reports are made of. Pure functions of a report."""
