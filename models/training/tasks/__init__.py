"""The tasks that the bundled models are trained on, one a file, and the tables of facts they draw from."""
