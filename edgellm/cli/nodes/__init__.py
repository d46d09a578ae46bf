"""Commands on other machines: options that name them, a plan on all of them, conversions spread over them."""
