"""Tokenising by `dolma tokens` and by Hugging Face's tokenizers.

Request: {"tool": "dolma", "files", "destination", "tokenizer", "eos", "pad", "dtype", "processes"}, which is what the
command line calls, without the start of Python; or {"tool": "tokenizers", "files", "tokenizer", "parallel"}: the texts are
read before the clock starts and encoded 256 at a time. Answer: {"seconds", "tokens"}.
"""
import glob
import gzip
import json
import os
import shutil
import sys
import time

import numpy as np
from dolma.tokenizer import tokenize_in_parallel
from tokenizers import Tokenizer

BATCH = 256


def dolma(request):
    destination = request["destination"]
    shutil.rmtree(destination, ignore_errors=True)
    start = time.perf_counter()
    tokenize_in_parallel(
        sources=request["files"],
        destination=destination,
        metadata_dir=f"{destination}-done",
        num_writers=request["processes"],
        tokenizer_name_or_path=request["tokenizer"],
        eos_token_id=request["eos"],
        pad_token_id=request["pad"],
        dtype=request["dtype"],
    )
    seconds = time.perf_counter() - start
    size = np.dtype(request["dtype"]).itemsize
    tokens = sum(os.path.getsize(file) // size for file in glob.glob(f"{destination}/*.npy"))
    shutil.rmtree(f"{destination}-done", ignore_errors=True)
    return {"seconds": seconds, "tokens": tokens}


texts = []


def tokenizers(request):
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if request["parallel"] else "false"
    tokenizer = Tokenizer.from_file(request["tokenizer"])
    if not texts:
        for file in request["files"]:
            with gzip.open(file, "rt", encoding="utf-8") as lines:
                texts.extend(json.loads(line)["text"] for line in lines)
    tokens = 0
    start = time.perf_counter()
    for first in range(0, len(texts), BATCH):
        encodings = tokenizer.encode_batch(texts[first : first + BATCH], add_special_tokens=False)
        tokens += sum(len(encoding.ids) for encoding in encodings)
    return {"seconds": time.perf_counter() - start, "tokens": tokens}


def handle(request):
    return dolma(request) if request["tool"] == "dolma" else tokenizers(request)


# Processes that dolma starts import this file again.
if __name__ == "__main__":
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "pytorch"))
    from lines import serve

    serve(handle)
