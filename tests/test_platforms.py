"""The package on systems that lack some of Python's modules."""

import subprocess
import sys

# Modules of Python that Windows has not, and curses, which Python may be built without.
PROGRAM = """
import builtins, importlib
from pathlib import Path
import hyena

MISSING = {
    "crypt", "curses", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "readline",
    "resource", "spwd", "syslog", "termios", "tty",
}
found = builtins.__import__

def importing(name, globals=None, locals=None, fromlist=(), level=0):
    ours = ((globals or {}).get("__name__") or "").split(".")[0] == "hyena"
    if ours and level == 0 and name.split(".")[0] in MISSING:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return found(name, globals, locals, fromlist, level)

builtins.__import__ = importing
broken = []
package = Path(hyena.__file__).parent
for file in sorted(package.rglob("*.py")):
    name = ".".join(file.relative_to(package.parent).with_suffix("").parts)
    if file.name != "__main__.py":
        try:
            importlib.import_module(name.removesuffix(".__init__"))
        except ModuleNotFoundError as error:
            broken.append(f"{name}: {error}")
print(*broken, sep="; ")
"""


def test_every_module_is_imported_without_those_that_windows_lacks() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "\n"
