"""Runtimes: what evaluates a denoiser network, behind the samplers and without their knowledge.

eager      PyTorch, operator by operator
compiled   torch.compile, with CUDA graphs where `mode` says so
openvino   OpenVINO on a CPU
onnx       ONNX Runtime on a CPU

An exported policy (`exported`) runs a whole checkpoint by such an engine, without torch: `export`
and `recording` write its folder. Of the files here `engines`, `program` and those whose name begins
with `exported` import numpy only; they are part of the distribution `hotstart-runtime`.
"""
