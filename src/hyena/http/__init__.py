"""A model behind HTTP: what its layers are, and the page that shows it. Needs the extra serve."""
