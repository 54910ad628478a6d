"""The generated world of the demo: scenes, captions, a tiny CLIP and SLIP, pictures, the report."""
