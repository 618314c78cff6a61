"""Files that are whole or not there, folders that one process uses at a time, and their digests.

Depends on nothing else of hyena: whatever writes a file or reads one back does it through here.
"""
