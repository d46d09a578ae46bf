"""The finalists of a recommendation, converted and measured here within a budget of time."""
