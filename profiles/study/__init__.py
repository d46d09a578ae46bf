"""What to run, in which order, until when; interrupted studies go on. Start at run.py."""
