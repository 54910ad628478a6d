"""Fields of a config that a user sets: names, misspellings, and what follows from them."""
