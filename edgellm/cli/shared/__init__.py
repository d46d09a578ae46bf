"""What several commands share: options, opening a model, views. Knows no command."""
