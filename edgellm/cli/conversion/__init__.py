"""What `convert` does for each format: options checked, conversions run or foretold, results told."""
