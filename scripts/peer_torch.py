#!/usr/bin/env python3
# scripts/peer_torch.py: PyTorch's speed at what `shoal bench kernels` times on a GPU: same shapes, bytes and FLOPs.
"""PyTorch's speed at what `shoal bench kernels` times on a GPU: medians of runs back to back between CUDA events, on
normal random numbers. Bytes: every operand once. FLOPs: of attention the causal half, and for backward twice forward.
What this PyTorch cannot do is named with its reason. Needs PyTorch with CUDA and nothing else."""
import argparse
import functools
import json
import statistics
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

BF16, F32, E4M3 = torch.bfloat16, torch.float32, torch.float8_e4m3fn
ROWS, WIDTH, VOCAB = 16384, 7168, 102400
ones = functools.partial(torch.ones, device="cuda")
lines = []


def normals(*shape, dtype=BF16):
    return torch.randn(*shape, device="cuda", dtype=dtype)


def timed(run, runs):
    events = [torch.cuda.Event(enable_timing=True) for _ in range(runs + 1)]
    for _ in range(2):
        run()
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in zip(events, events[1:])) * 1e-3


def measure(op, shape, prepare, bytes=0, flops=0, dtype="bf16"):
    """prepare() makes the operands and returns what is timed."""
    line = {"op": op, "precision": dtype, "shape": shape}
    try:
        run = prepare()
        taken = timed(run, min(200, max(10, int(options.seconds / max(timed(run, 2), 1e-7)))))
        line |= {"us": taken * 1e6, "gb_per_s": bytes / taken * 1e-9, "tflops": flops / taken * 1e-12}
        figures = f"{line['us']:>10.1f} {line['gb_per_s']:>9.1f} {line['tflops']:>9.3f}"
    except Exception as error:  # another PyTorch has other functions
        line["error"] = str(error).strip().split("\n")[0][:160] or type(error).__name__
        figures = "not here: " + line["error"]
    print(f"{op:<32} {dtype:<5} {shape:<30} {figures}", flush=True)
    lines.append(line)
    torch.cuda.empty_cache()


def dense(m, k, n):
    def product(a, b):
        return lambda: a @ b

    def fp8(tiles=False, fast=False):
        x, w, scale_x, scale_w = normals(m, k).to(E4M3), normals(n, k).to(E4M3), ones(()), ones(())
        if tiles:  # 1 x 128 and 128 x 128, laid out as cuBLASLt reads them
            scale_x, scale_w = ones(k // 128, m).t(), ones(n // 128, (k // 128 + 3) // 4 * 4)[:, : k // 128].t()
        return lambda: torch._scaled_mm(x, w.t(), scale_x, scale_w, out_dtype=BF16, use_fast_accum=fast)

    shape, flops = f"{m} x {k} -> {n}", 2 * m * k * n
    measure("mm.forward", shape, lambda: product(normals(m, k), normals(n, k).t()), flops=flops)
    measure("mm.backward_input", shape, lambda: product(normals(m, n), normals(n, k)), flops=flops)
    measure("mm.backward_weight, to bf16", shape, lambda: product(normals(m, n).t(), normals(m, k)), flops=flops)
    measure("_scaled_mm, one scale, fast sums", shape, lambda: fp8(fast=True), flops=flops, dtype="e4m3")
    measure("_scaled_mm, one scale", shape, fp8, flops=flops, dtype="e4m3")
    measure("_scaled_mm, tiles", shape, lambda: fp8(tiles=True), flops=flops, dtype="e4m3")


def grouped(experts, rows, k, n):
    def bf16():
        x, w = normals(experts * rows, k), normals(experts, n, k)
        return lambda: torch._grouped_mm(x, w.transpose(-2, -1), offs=ends)

    def fp8():
        x, w = normals(experts * rows, k).to(E4M3), normals(experts, n, k).to(E4M3)
        a, b = ones(experts * rows), ones(experts, n)
        return lambda: torch._scaled_grouped_mm(x, w.transpose(-2, -1), a, b, offs=ends, out_dtype=BF16)

    ends = torch.arange(1, experts + 1, device="cuda", dtype=torch.int32) * rows
    shape, flops = f"{experts} x {rows} x {k} -> {n}", 2 * experts * rows * k * n
    measure("_grouped_mm.forward", shape, bf16, flops=flops)
    measure("_scaled_grouped_mm, row scales", shape, fp8, flops=flops, dtype="e4m3")


def attention(sequences, length, heads, kv_heads, qk, v):
    def prepare(backend, backward):
        widths = ((heads, qk), (kv_heads, qk), (kv_heads, v))
        operands = [normals(sequences, h, length, width).requires_grad_(backward) for h, width in widths]

        def forward():
            with sdpa_kernel([backend]):
                return F.scaled_dot_product_attention(*operands, is_causal=True, enable_gqa=kv_heads != heads)

        if not backward:
            return forward
        out = forward()
        d_out = torch.randn_like(out)
        return lambda: torch.autograd.grad(out, operands, d_out, retain_graph=True)

    shape = f"{sequences} x {length}, {heads}/{kv_heads} heads {qk}/{v}"
    flops = sequences * heads * length**2 * (qk + v)
    for name, backend in (("cudnn", SDPBackend.CUDNN_ATTENTION), ("flash", SDPBackend.FLASH_ATTENTION)):
        measure(f"sdpa.forward, {name}", shape, lambda: prepare(backend, False), flops=flops)
        measure(f"sdpa.backward, {name}", shape, lambda: prepare(backend, True), flops=2 * flops)


def memory_bound():
    def copy(x, y):
        return lambda: y.copy_(x)

    def norm():
        x, weight = normals(*matrix), normals(WIDTH)
        return lambda: F.rms_norm(x, (WIDTH,), weight, 1e-6)

    def cross_entropy():
        logits, targets = normals(1024, VOCAB, dtype=F32).requires_grad_(), torch.randint(VOCAB, (1024,), device="cuda")
        return lambda: torch.autograd.grad(F.cross_entropy(logits, targets, reduction="sum"), logits)

    def adamw():
        master = torch.nn.Parameter(normals(n // 2, dtype=F32))
        master.grad = normals(*master.shape, dtype=F32)
        return torch.optim.AdamW([master], lr=1e-4, fused=True).step

    n, matrix = ROWS * WIDTH, (ROWS, WIDTH)
    measure("copy", "1024 MiB", lambda: copy(normals(2**28, dtype=F32), normals(2**28, dtype=F32)), 2 * 2**30, 0, "f32")
    measure("cast", f"{ROWS} x {WIDTH} to bf16", lambda: copy(normals(*matrix, dtype=F32), normals(*matrix)), 6 * n)
    measure("rms_norm.forward", f"{ROWS} x {WIDTH}", norm, 4 * n)
    measure("cross_entropy, to f32", f"1024 x {VOCAB}", cross_entropy, 8 * 1024 * VOCAB, 0, "f32")
    measure("adamw, fused, no bf16 copy", f"{n // 2}", adamw, 28 * n // 2, 0, "f32")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--json", metavar="FILE", help="write the lines there too")
parser.add_argument("--seconds", type=float, default=0.05, help="how long to time each (default 0.05)")
options = parser.parse_args()
print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}\n"
      f"{'op':<32} {'in':<5} {'shape':<30} {'us':>10} {'GB/s':>9} {'TFLOP/s':>9}")
memory_bound()
for size in ((4, 4096, 16, 4, 128, 128), (2, 8192, 16, 4, 128, 128), (4, 4096, 16, 16, 192, 128)):
    attention(*size)
for size in ((8192, 8192, 8192), *((4096, 7168, n) for n in (2048, 4096, 7168, 18432))):
    dense(*size)
for size in ((32, 512, 1024, 2048), (32, 1024, 1024, 2048), (32, 512, 7168, 2048), (32, 1024, 7168, 2048)):
    grouped(*size)
if options.json:
    Path(options.json).write_text(json.dumps(lines, indent=1))
