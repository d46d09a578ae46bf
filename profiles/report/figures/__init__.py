"""The figures that reports show, whatever their format: chosen, scaled, named and held against each other.

Knows results and words, no format. Start at numbers.py (what every readable report shows) and llama_bench.py (rows).
"""
