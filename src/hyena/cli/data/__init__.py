"""`hyena data verify`: prepared data sets."""
