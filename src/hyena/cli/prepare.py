"""`hyena prepare`: text to token files."""

from hyena.arguments import plural
from hyena.cli.bar import bar
from hyena.data import PrepareConfig, prepare

Config = PrepareConfig
POSITIONAL = "source"


def run(config: PrepareConfig) -> None:
    """Writes the token files and prints what is in them."""
    with bar() as report:
        prepared = prepare(config, progress=lambda n, done, of: report(done, of, n))
    manifest = prepared.manifest
    state = "written" if prepared.fresh else "there already, made the same way: nothing to do"
    lines = [f"{prepared.directory}: {state} (tokenizer {manifest.tokenizer.name})"]
    for name, split in manifest.splits.items():
        lines.append(
            f"  {name:10}  {split.documents:>9,} {plural(split.documents, 'document'):9}  "
            f"{split.tokens:>14,} tokens  {split.bytes:>14,} {plural(split.bytes, 'byte')}"
        )
    if manifest.skipped:
        lines.append(f"  documents without text, left out: {manifest.skipped:,}")
    if manifest.duplicates:
        lines.append(f"  documents with the text of another, left out: {manifest.duplicates:,}")
    print("\n".join([*lines, *(f"  note: {note}" for note in prepared.notes)]))
