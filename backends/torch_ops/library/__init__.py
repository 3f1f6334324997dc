"""What PyTorch has no call for: functions that a written `model.py` defines where it needs them.

Nothing here is imported by amcc; `backends.torch_ops.helpers` copies the text of a function, and of those it calls.
They use torch, `F` and each other alone, and have names of their own.
"""
