"""Text in, batches out: tokenizers, sources, token files and training windows."""

from .documents import Document, TokenDocument, tokenize
from .load_tokenizer import load_tokenizer
from .nucleotide_tokenizers import EvoTokenizer, HyenaDNATokenizer
from .prepare import Prepared, prepare
from .prepare_config import PrepareConfig
from .sources import Source, find_source
from .text_fields import TextFields
from .token_file import (
    Manifest,
    SplitRecord,
    TokenFile,
    TokenizerRecord,
    is_prepared,
    open_tokens,
    read_manifest,
)
from .tokenizer import BytesTokenizer, Tokenizer
from .verify import Verified, verify
from .windows import Windows, WindowSampler

__all__ = [
    "BytesTokenizer",
    "Document",
    "EvoTokenizer",
    "HyenaDNATokenizer",
    "Manifest",
    "PrepareConfig",
    "Prepared",
    "Source",
    "SplitRecord",
    "TextFields",
    "TokenDocument",
    "TokenFile",
    "Tokenizer",
    "TokenizerRecord",
    "Verified",
    "WindowSampler",
    "Windows",
    "find_source",
    "is_prepared",
    "load_tokenizer",
    "open_tokens",
    "prepare",
    "read_manifest",
    "tokenize",
    "verify",
]
