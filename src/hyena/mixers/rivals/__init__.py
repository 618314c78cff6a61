"""The mixers that Hyena and attention are compared with, a file each: what stands here is known.

`hyena.mixers.mixer` says what one has to be, and tests/mixers/test_contract*.py test it.
"""

from importlib import import_module
from pkgutil import iter_modules

for _found in iter_modules(__path__):
    import_module(f"{__name__}.{_found.name}")
