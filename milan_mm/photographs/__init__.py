"""The proof on photographs: a small CLIP of some classes teaches a student of others."""
