"""Does one piece of genomics in one process and says what it took, as `hyena.bench.model.work`,
whose answer it gives. The file is run by its path.

Sizes: L bases.
"""

import gzip
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyena.bench.genomes.public import PublicModel
from hyena.bench.memory import forget_peak
from hyena.bench.model.work import Call, Works, main
from hyena.data import EvoTokenizer, HyenaDNATokenizer, PrepareConfig, Tokenizer, prepare
from hyena.model import LanguageModel, preset
from hyena.scoring import embed, score

_BASES = bytes.maketrans(bytes(range(4)), b"ACGT")
_RECORDS, _LINE = 12, 80  # of a file of sequences: records, and bases of a line
_KEPT = 4096  # log-probabilities that are handed back at most


def scored(request: dict[str, Any]) -> Call:
    """The log-likelihood of a sequence: the mean over its bases, and some of theirs."""
    model, text = _model(request), bases(request["length"]).decode()
    tokenizer = _tokenizer(request)

    def call() -> list[float]:
        (found,) = score(model, tokenizer, text, reduce="mean", positions=True)
        assert found.positions is not None
        return _numbers(torch.from_numpy(found.positions))

    return call


def publicly_scored(request: dict[str, Any]) -> Call:
    """The same by `PublicModel`: all logits, and of their softmax the bases' probabilities."""
    model = PublicModel(_model(request)).eval()
    tokenizer, text = _tokenizer(request), bases(request["length"]).decode()
    tokens = torch.tensor([[tokenizer.end_of_text, *tokenizer.encode(text)]])
    forget_peak()

    @torch.no_grad()
    def call() -> list[float]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=request["bf16"]):
            logs = model.token_scores(tokens[:, :-1], tokens[:, 1:])
        return _numbers(logs[0])

    return call


def embedded(request: dict[str, Any]) -> Call:
    """The mean vector of a sequence."""
    model, text = _model(request), bases(request["length"]).decode()
    tokenizer = _tokenizer(request)

    def call() -> list[float]:
        (found,) = embed(model, tokenizer, text)
        assert found.vectors is not None
        return [float(x) for x in found.vectors]

    return call


def prepared(request: dict[str, Any]) -> Call:
    """Token files of a packed file of sequences."""
    folder = Path(tempfile.mkdtemp())
    source, out = folder / "genome.fa.gz", folder / "tokens"
    write_fasta(source, request["length"])
    config = PrepareConfig(source, out, tokenizer="hyenadna", validation=0.0, test=0.0)
    forget_peak()

    def call() -> list[float]:
        prepare(config)
        return [float(sum(file.stat().st_size for file in out.glob("*.bin")))]

    weakref.finalize(call, shutil.rmtree, folder)
    return call


WORKS: Works = {
    "score": scored,
    "public_score": publicly_scored,
    "embed": embedded,
    "sequences": prepared,
}


def bases(length: int, seed: int = 1) -> bytes:
    """A random sequence, the same each time."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(4, (length,), generator=generator, dtype=torch.uint8)
    return drawn.numpy().tobytes().translate(_BASES)


def write_fasta(file: Path, length: int) -> None:
    """A FASTA file, packed with gzip, of some records with so many bases in all."""
    with gzip.open(file, "wb", compresslevel=6) as stream:  # what the program gzip takes
        for record in range(_RECORDS):
            size = length * (record + 1) // _RECORDS - length * record // _RECORDS
            text = bases(size, seed=record)
            stream.write(b">record%d\n" % record)
            for at in range(0, size, _LINE):
                stream.write(text[at : at + _LINE] + b"\n")


def _model(request: dict[str, Any]) -> LanguageModel:
    """With the same random weights each time, as `hyena.load` has them in this dtype: what filters
    are computed from stays in float32. What it took to make them is no part of the peak."""
    # The token that begins a sequence is read; its last one is not, unless all are embedded.
    length = request["length"] + (request["work"] == "embed")
    config = preset(request["preset"], max_length=length, **request["model"])
    model = LanguageModel(config, generator=torch.Generator().manual_seed(0)).eval()
    dtype = getattr(torch, request["dtype"])
    if dtype == torch.float64:
        model = model.double()
    elif dtype != torch.float32:
        for name, p in model.named_parameters():
            if ".filter." not in name or name.endswith(".skip"):
                p.data = p.data.to(dtype)
    forget_peak()
    return model


def _tokenizer(request: dict[str, Any]) -> Tokenizer:
    return HyenaDNATokenizer() if request["preset"].startswith("hyenadna") else EvoTokenizer()


def _numbers(logs: Tensor) -> list[float]:
    """The mean of log-probabilities (L,), and some of them, an odd number of positions apart: what
    goes wrong at one place of each block of a power of two is seen."""
    logs = logs.double()
    apart = -(-len(logs) // _KEPT) | 1
    return [float(logs.mean()), *logs[::apart].tolist()]


if __name__ == "__main__":
    main(WORKS)
