"""Commands on other machines than this one: options that name them (options.py), a plan on all of them."""
