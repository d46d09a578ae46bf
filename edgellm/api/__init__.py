"""The Python API behind `import edgellm`. Start at model.py."""
