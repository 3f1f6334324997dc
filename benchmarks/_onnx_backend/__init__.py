"""Parts of `onnx_backend.py`."""
