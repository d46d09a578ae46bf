"""Recipes found by measuring: how much each group of matrices hurts, what each type costs here, and the best mix.

matrices.py lists what there is to choose, noise.py how far each type moves a matrix's outputs, sensitivity.py what
that does to the model, speed.py how long the kernels take, solve.py picks, search.py runs it all and resumes.
"""
