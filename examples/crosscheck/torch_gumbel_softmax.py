"""``torch.nn.functional.gumbel_softmax(hard=True)`` checked against the exact law of ST-GS.

Needs PyTorch: ``pip install torch``; then ``python examples/crosscheck/torch_gumbel_softmax.py``.
"""

import torch

from rbst.crosscheck import check
from rbst.crosscheck.torch import from_function

implementation = from_function(torch.nn.functional.gumbel_softmax, hard=True)

if __name__ == "__main__":
    report = check(implementation, "st-gs", progress=True)
    print(report)
    raise SystemExit(not report.passed)
