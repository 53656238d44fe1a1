"""Runtimes: what evaluates a denoiser network, behind the samplers and without their knowledge.

eager      PyTorch, operator by operator
compiled   torch.compile, with CUDA graphs where `mode` says so
openvino   OpenVINO on a CPU
onnx       ONNX Runtime on a CPU
"""
