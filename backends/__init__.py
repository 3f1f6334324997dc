"""The graph into ONNX, PyTorch and ONNX Runtime."""
