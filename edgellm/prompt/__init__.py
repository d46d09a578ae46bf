"""Messages to text and back: chat templates, tools, markup in answers.

Knows no engine. Start at template.py.
"""
