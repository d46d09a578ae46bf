"""What a report found, in sentences that carry their own numbers. Start at findings.py; draws nothing."""
