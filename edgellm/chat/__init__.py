"""Conversation and terminal chat."""
