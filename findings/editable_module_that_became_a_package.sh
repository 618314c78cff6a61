#!/usr/bin/env bash
# scikit-build-core 1.1.0: in an editable install a module that became a package is not found.
#
# `pip install -e .` writes the paths of all modules into the environment. A new module or package
# beside them is found without another install, as one is used to from other build backends. But
# where room/door.py becomes room/door/__init__.py, under the same name, the import looks for the old
# file and ends with FileNotFoundError, no ImportError, until the project is installed again. So a
# checkout that only moved code breaks every development install that it is pulled into.
#
# Seen:
#   a new module: found
#   a module that became a package: FileNotFoundError
#   after another install: found
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" "$@" --quiet --disable-pip-version-check; }
pip install scikit-build-core==1.1.0
mkdir -p "$folder/project/src/room"
cd "$folder/project"
cat > pyproject.toml <<'TOML'
[build-system]
requires = ["scikit-build-core"]
build-backend = "scikit_build_core.build"
[project]
name = "room"
version = "1"
[tool.scikit-build]
wheel.cmake = false
wheel.packages = ["src/room"]
TOML
touch src/room/__init__.py src/room/door.py
pip install --no-build-isolation -e .

look() {  # how an import ends, in one word
  "$folder/venv/bin/python" - "$1" <<'PYTHON'
import importlib
import sys

try:
    importlib.import_module(sys.argv[1])
    print("found")
except Exception as error:
    print(type(error).__name__)
PYTHON
}

touch src/room/window.py
new=$(look room.window)
rm src/room/door.py
mkdir src/room/door
touch src/room/door/__init__.py
moved=$(look room.door)
pip install --no-build-isolation -e .
again=$(look room.door)
echo "a new module: $new"
echo "a module that became a package: $moved"
echo "after another install: $again"
[ "$new $moved $again" = "found FileNotFoundError found" ]
