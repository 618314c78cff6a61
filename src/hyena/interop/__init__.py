"""Models and weights of other projects, read into ours."""
