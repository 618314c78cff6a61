"""`hyena tasks list | show | run | sweep | table`: recall and reasoning."""
