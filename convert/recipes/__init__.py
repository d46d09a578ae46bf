"""Recipes as files: which type each matrix of a converted model gets, by role and depth or by name."""
