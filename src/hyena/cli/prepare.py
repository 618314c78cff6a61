"""`hyena prepare`: text to token files."""

import sys

from hyena.data import PrepareConfig, Prepared, prepare

Config = PrepareConfig
POSITIONAL = "source"


def run(config: PrepareConfig) -> None:
    """Writes the token files and prints what is in them."""
    if not sys.stderr.isatty():
        print(_summary(prepare(config)))
        return
    with _Progress() as progress:
        prepared = prepare(config, progress=progress)
    print(_summary(prepared))


def _summary(prepared: Prepared) -> str:
    manifest = prepared.manifest
    state = "written" if prepared.fresh else "there already, made the same way: nothing to do"
    lines = [f"{prepared.directory}: {state} (tokenizer {manifest.tokenizer.name})"]
    for name, split in manifest.splits.items():
        lines.append(
            f"  {name:10}  {split.documents:>9,} documents  {split.tokens:>14,} tokens  "
            f"{split.bytes:>14,} bytes"
        )
    if manifest.skipped:
        lines.append(f"  {manifest.skipped:,} documents without text were left out")
    return "\n".join(lines)


class _Progress:
    """A bar on the terminal, by bytes of text; of unknown length if the source's size is."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("preparing", total=None)

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()  # without it the terminal's cursor stays hidden

    def __call__(self, documents: int, done: int, total: int | None) -> None:
        self._bar.update(
            self._task, completed=done, total=total, description=f"{documents:,} documents"
        )
