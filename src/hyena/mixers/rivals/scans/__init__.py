"""The recurrences behind the rivals, all positions at once."""
