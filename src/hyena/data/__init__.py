"""Text in, batches out: tokenizers, sources, token files and training windows."""

from .documents import Document, TokenDocument, tokenize
from .load_tokenizer import load_tokenizer
from .manifest import Manifest, SplitRecord, TokenizerRecord, read_manifest
from .prepare import Prepared, prepare
from .prepare_config import PrepareConfig
from .sources import Source, TextFields, find_source
from .token_file import TokenFile, open_tokens
from .tokenizer import BytesTokenizer, Tokenizer
from .windows import Windows, WindowSampler

__all__ = [
    "BytesTokenizer",
    "Document",
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
    "WindowSampler",
    "Windows",
    "find_source",
    "load_tokenizer",
    "open_tokens",
    "prepare",
    "read_manifest",
    "tokenize",
]
