#!/usr/bin/env python3
# scripts/peer_torch_train.py: PyTorch's training step of the model in configs/dense_124m.textproto, on a CPU.
"""The peer of `shoal bench train configs/dense_124m.textproto` on a CPU: the same dense model (123.6M parameters,
1 x 1024 random tokens a step), forward, backward, gradient clipping and AdamW in PyTorch. bf16 is autocast: weights and
moments in f32, as Shoal's masters. FLOPs as Shoal counts them: causal attention, backward twice forward. Needs PyTorch
and nothing else."""
import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

VOCAB, WIDTH, LAYERS, HEADS, FFN, TOKENS = 50257, 768, 12, 12, 2048, 1024


def rotated(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm, self.ffn_norm = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.gate_up, self.down = nn.Linear(WIDTH, 2 * FFN, bias=False), nn.Linear(FFN, WIDTH, bias=False)

    def forward(self, x, cos, sin):
        batch, tokens, _ = x.shape
        heads = self.qkv(self.attention_norm(x)).view(batch, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = rotated(heads[0], cos, sin), rotated(heads[1], cos, sin), heads[2]
        mixed = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, WIDTH))
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH)
        angles = torch.outer(torch.arange(TOKENS), 10000 ** (-torch.arange(0, WIDTH // HEADS, 2) / (WIDTH // HEADS)))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, ids, targets):
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (1)")
    parser.add_argument("--steps", type=int, default=8, help="timed, after two to warm up (8)")
    parser.add_argument("--precision", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--compile", action="store_true", help="by torch.compile, which takes minutes at first")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    model = Model()
    parameters = sum(p.numel() for p in model.parameters())
    step_model = torch.compile(model) if options.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step():
        text = torch.randint(VOCAB, (1, TOKENS + 1))
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            loss = step_model(text[:, :-1], text[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    seconds = []
    for _ in range(2 + options.steps):
        start = time.perf_counter()
        loss = step()
        seconds.append(time.perf_counter() - start)
    taken = statistics.median(seconds[2:])
    matrices = sum(p.numel() for p in model.parameters() if p.dim() == 2)
    flops = TOKENS * 6 * (matrices + LAYERS * TOKENS * WIDTH)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    if options.precision == "bf16":
        a, b = a.bfloat16(), b.bfloat16()
    products = []
    for _ in range(50):
        start = time.perf_counter()
        a @ b
        products.append(time.perf_counter() - start)
    rate = 2 * 1024**3 / statistics.median(products)
    print(f"PyTorch {torch.__version__}{', compiled' if options.compile else ''}, {options.precision}, {options.threads} thread(s): "
          f"{parameters:,} parameters, loss {loss:.3f}")
    print(f"step {taken * 1e3:,.0f} ms, {TOKENS / taken:,.0f} tokens/s, {flops / taken * 1e-9:,.0f} GFLOP/s; "
          f"a product of 1024^3 {rate * 1e-9:,.0f} GFLOP/s")


main()
