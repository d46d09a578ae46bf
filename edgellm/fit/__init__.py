"""What a type of a model takes and how fast it will be, told before it is made; and which one to take."""
