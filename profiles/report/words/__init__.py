"""Every word of a report, by language. Knows no figure."""
