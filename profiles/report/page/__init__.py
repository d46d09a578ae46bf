"""The page: a section a file, as data (blocks.py), drawn by the Jinja templates in `templates/`. Start at report.py."""
