"""Who is ahead in what, and whether that can be told. Start at verdict.py."""
