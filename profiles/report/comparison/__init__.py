"""A comparison of models rendered: as a table, Markdown, JSON or a page. Start at render.py."""
