"""Benchmarks against implementations in PyTorch; each says in its docstring what it times."""
