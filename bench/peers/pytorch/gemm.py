"""Matrix products by torch.matmul.

Request: {"threads", "m", "n", "k", "transposeA", "transposeB", "repeats"}; answer: {"seconds"} for all repeats together.
Transposed operands are stored as kernels.h has them: A as [k, m], B as [n, k].
"""
import time

import torch
from lines import serve

operands = {}


def matrix(rows, columns, transpose):
    stored = torch.rand((columns, rows) if transpose else (rows, columns)) - 0.5
    return stored.t() if transpose else stored


def handle(request):
    m, n, k, ta, tb = (request[key] for key in ("m", "n", "k", "transposeA", "transposeB"))
    torch.set_num_threads(request["threads"])
    key = (m, n, k, ta, tb)
    if key not in operands:
        operands.clear()
        operands[key] = (matrix(m, k, ta), matrix(k, n, tb), torch.empty(m, n))
    a, b, out = operands[key]
    start = time.perf_counter()
    for _ in range(request["repeats"]):
        torch.matmul(a, b, out=out)
    return {"seconds": time.perf_counter() - start}


torch.manual_seed(0)
with torch.inference_mode():
    serve(handle)
