"""PyTorch on the CPU. Where it offers several forms of a kernel, each is timed and the fastest answers."""
import math

import numpy as np
import torch
import torch.nn.functional as F

from serve import argument_threads, inputs, samples, serve

torch.set_num_threads(argument_threads())
torch.set_grad_enabled(False)


def tensors(job):
    made = {}
    for name, array in inputs(job).items():
        t = torch.from_numpy(array.copy())
        made[name] = t.view(torch.bfloat16) if array.dtype == np.uint16 else t
    return made


def scan(t):
    """The recurrence token by token over whole channels: what models fall back to without a fused kernel."""
    u, delta, z, B, C = (t[name][0] for name in ("u", "delta", "z", "B", "C"))
    A, D = t["A"], t["D"]

    def run():
        dt = F.softplus(delta + t["deltaBias"])
        decay = torch.exp(dt[:, :, None] * A)
        added = (dt * u)[:, :, None] * B[:, None, :]
        h = torch.zeros_like(A)
        y = torch.empty_like(u)
        for i in range(u.shape[0]):
            h = decay[i] * h + added[i]
            y[i] = h @ C[i]
        return (y + D * u) * F.silu(z)

    return {"token by token": run}


def conv(t):
    x = t["x"][0].T.contiguous()[None]
    weight, width = t["weight"][:, None, :], t["weight"].shape[1]
    length = x.shape[2]

    def run():
        return F.silu(F.conv1d(x, weight, t["bias"], padding=width - 1, groups=x.shape[1])[..., :length])

    return {"conv1d": run}, lambda y: y[0].T


def linear(t):
    x = t["x"].to(t["weight"].dtype)
    return {"linear": lambda: F.linear(x, t["weight"])}


def attention(t):
    q, k, v = (t[name].transpose(1, 2).contiguous() for name in ("q", "k", "v"))
    return {"scaled_dot_product_attention": lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)}, (
        lambda y: y.transpose(1, 2))


def ssd_chunked(x, dt, A, B, C, chunk):
    """Mamba-2 in chunks by batched products: inside a chunk, the states that chunks leave, and what they give later."""
    length, heads, width = x.shape
    chunks = length // chunk
    fold = lambda v: v.reshape(chunks, chunk, *v.shape[1:])
    decay = fold(dt * A).permute(2, 0, 1).cumsum(-1)  # (heads, chunks, chunk)
    weighted, B, C = fold(x * dt[:, :, None]), fold(B), fold(C)
    gap = decay[..., :, None] - decay[..., None, :]
    inside = torch.exp(gap.masked_fill(torch.ones(chunk, chunk).triu(1).bool(), -math.inf))
    scores = torch.einsum("cin,cjn->cij", C, B) * inside
    y = torch.einsum("hcij,cjhp->cihp", scores, weighted)
    to_end = torch.exp(decay[..., -1:] - decay)
    left = torch.einsum("cjn,hcj,cjhp->chpn", B, to_end, weighted)
    whole = torch.exp(decay[..., -1])
    state, before = torch.zeros_like(left[0]), []
    for c in range(chunks):
        before.append(state)
        state = whole[:, c, None, None] * state + left[c]
    y = y + torch.einsum("cin,chpn,hci->cihp", C, torch.stack(before), torch.exp(decay))
    return y.reshape(length, heads, width)


def ssd(t):
    x, dt, B, C = t["x"][0], t["dt"][0], t["B"][0, :, 0], t["C"][0, :, 0]
    forms = {}
    for chunk in (64, 128, 256):
        if x.shape[0] % chunk == 0:
            forms[f"chunks of {chunk}"] = (
                lambda chunk=chunk: ssd_chunked(x, dt, t["A"], B, C, chunk) + t["D"][:, None] * x)
    return forms


def retention(t):
    q, k, v = (t[name][0].transpose(0, 1).contiguous() for name in ("q", "k", "v"))
    heads, length, width = q.shape
    gamma = torch.log1p(-(2.0 ** (-5.0 - torch.arange(heads))))[:, None, None]
    gap = (torch.arange(length)[:, None] - torch.arange(length)[None, :]).float()
    mask = torch.exp(gamma * gap).masked_fill(gap < 0, 0.0)
    return {"parallel form": lambda: (q @ k.transpose(1, 2) * mask) @ v / math.sqrt(width)}, (
        lambda y: y.transpose(0, 1))


def lightning(t):
    """The blocks of MiniMax's own code, and all pairs of tokens at once."""
    q, k, v = (t[name][0].transpose(0, 1).contiguous() for name in ("q", "k", "v"))
    length, slope = q.shape[1], t["slope"][:, None, None]

    def inside(n):
        gap = (torch.arange(n)[:, None] - torch.arange(n)[None, :]).float()
        return torch.exp(-slope * gap).masked_fill(gap < 0, 0.0)

    def blocks(size):
        at = torch.arange(1, size + 1)[None, :, None]
        into, out, whole, pairs = torch.exp(-slope * at), torch.exp(-slope * (size - at)), torch.exp(-slope * size), inside(size)
        state, parts = torch.zeros(q.shape[0], q.shape[2], v.shape[2]), []
        for s in range(0, length, size):
            a, b, c = (x[:, s:s + size] for x in (q, k, v))
            parts.append((a @ b.transpose(1, 2) * pairs) @ c + (a * into) @ state)
            state = whole * state + (b * out).transpose(1, 2) @ c
        return torch.cat(parts, 1)

    mask = inside(length)
    forms = {"parallel form": lambda: (q @ k.transpose(1, 2) * mask) @ v}
    if length % 256 == 0:
        forms["blocks of 256"] = lambda: blocks(256)
    return forms, lambda y: y.transpose(0, 1)


def rg_lru(t):
    """Gates of all tokens at once, the recurrence token by token, as transformers has it."""
    x = t["x"][0]
    heads, width = t["inputGateWeight"].shape[:2]

    def gate(name):
        rows = x.reshape(-1, heads, width).transpose(0, 1)
        y = torch.baddbmm(t[name + "GateBias"][:, None], rows, t[name + "GateWeight"])
        return torch.sigmoid(y.transpose(0, 1).reshape(x.shape))

    def run():
        log_a = -8 * gate("recurrent") * F.softplus(t["recurrentParam"])
        factor = torch.sqrt(1 - torch.exp(2 * log_a))
        factor[0] = 1
        a, given = torch.exp(log_a), x * gate("input") * factor
        y, state = torch.empty_like(x), torch.zeros(x.shape[1])
        for i in range(x.shape[0]):
            state = a[i] * state + given[i]
            y[i] = state
        return y

    return {"token by token": run}


def short_conv(t):
    b, c, x = (t[name].transpose(1, 2).contiguous() for name in ("b", "c", "x"))
    weight = t["weight"][:, None]
    width = weight.shape[2]
    return {"conv1d": lambda: c * F.conv1d(b * x, weight, padding=width - 1, groups=weight.shape[0])[..., :x.shape[2]]}, (
        lambda y: y.transpose(1, 2))


def wkv6(t):
    r, k, v, w = (t[name][0] for name in ("r", "k", "v", "w"))
    u = t["u"]

    def run():
        decay = torch.exp(w)
        state = torch.zeros(r.shape[1], r.shape[2], v.shape[2])
        y = torch.empty_like(v)
        for i in range(r.shape[0]):
            pair = k[i][:, :, None] * v[i][:, None, :]
            y[i] = (r[i][:, None, :] @ (state + u[:, :, None] * pair))[:, 0]
            state = decay[i][:, :, None] * state + pair
        return y

    return {"token by token": run}


def wkv7(t):
    r, w, k, v, a, b = (t[name][0] for name in ("r", "w", "k", "v", "a", "b"))

    def run():
        decay = torch.exp(w)
        state = torch.zeros(r.shape[1], v.shape[2], r.shape[2])
        y = torch.empty_like(v)
        for i in range(r.shape[0]):
            removed = state @ a[i][:, :, None]
            state = state * decay[i][:, None, :] + removed * b[i][:, None, :] + v[i][:, :, None] * k[i][:, None, :]
            y[i] = (state @ r[i][:, :, None])[:, :, 0]
        return y

    return {"token by token": run}


def by_token(t, delta):
    """One state a head, decayed by head or by key; the delta rule writes what the state does not hold yet."""
    q, k, v = (t[name][0] for name in ("q", "k", "v"))
    g = t["g"][0] if "g" in t else torch.zeros(v.shape[:2])
    beta = t["beta"][0] if delta else None
    scale = 1 / math.sqrt(q.shape[2])

    def run():
        decay = torch.exp(g).reshape(g.shape[0], g.shape[1], -1, 1)
        state = torch.zeros(q.shape[1], q.shape[2], v.shape[2])
        y = torch.empty_like(v)
        for i in range(q.shape[0]):
            state = decay[i] * state
            written = v[i]
            if delta:
                written = beta[i][:, None] * (v[i] - (k[i][:, None, :] @ state)[:, 0])
            state = state + k[i][:, :, None] * written[:, None, :]
            y[i] = (q[i][:, None, :] @ state)[:, 0] * scale
        return y

    return {"token by token": run}


def gated_delta(t):
    return by_token(t, delta=True)


def gla(t):
    return by_token(t, delta=False)


def mamba3(t):
    """Of any rank; what does not depend on the state is computed for all tokens at once."""
    x, dt, adt, trap, angles = (t[name][0] for name in ("x", "dt", "adt", "trap", "angles"))
    length, heads, channels = x.shape
    mimo, states = "mimoX" in t, t["BBias"].shape[-1]
    pairs = angles.shape[1]
    first = torch.arange(pairs) * (1 if mimo else 2)
    second = first + (states // 2 if mimo else 1)

    def rotated(projected, bias, theta):
        ranks = projected[:, :, 0] if mimo else projected  # (L, R, N)
        out = ranks[:, None] + bias.reshape(heads, -1, states)  # (L, H, R, N)
        a, b = out[..., first], out[..., second]
        cos, sin = theta.cos()[:, :, None], theta.sin()[:, :, None]
        out[..., first], out[..., second] = a * cos - b * sin, a * sin + b * cos
        return out

    def run():
        theta = torch.cumsum(math.pi * torch.tanh(angles)[:, None] * dt[:, :, None], 0)
        k, c = rotated(t["B"][0], t["BBias"], theta), rotated(t["C"][0], t["CBias"], theta)
        v = x[:, :, None] * t["mimoX"] if mimo else x[:, :, None]  # (L, H, R, P)
        tau, decay = torch.sigmoid(trap), torch.exp(adt)
        now, before = (tau * dt)[:, :, None, None] * v, ((1 - tau) * dt * decay)[:, :, None, None]
        state = torch.zeros(heads, channels, states)
        y = torch.empty_like(v)
        for i in range(length):
            state = decay[i][:, None, None] * state + now[i].mT @ k[i]
            if i > 0:
                state = state + (before[i] * v[i - 1]).mT @ k[i - 1]
            y[i] = c[i] @ state.mT
        y = y + t["D"][:, None, None] * v
        return (y * t["mimoO"]).sum(2) if mimo else y[:, :, 0]

    return {"token by token": run}


def moe(t):
    """Expert by expert over the tokens that chose it."""
    dtype = t["gateUp"].dtype
    x, top = t["x"][0].to(dtype), t["topK"]

    def run():
        p = torch.softmax(x.float() @ t["router"].T, -1)
        weights, chosen = torch.topk(p, top, -1)
        y = torch.zeros_like(x)
        for e in range(t["down"].shape[0]):
            token, slot = (chosen == e).nonzero(as_tuple=True)
            if token.numel() == 0:
                continue
            gate, up = F.linear(x[token], t["gateUp"][e]).chunk(2, -1)
            out = F.linear(F.silu(gate) * up, t["down"][e])
            y.index_add_(0, token, out * weights[token, slot, None].to(dtype))
        return y

    return {"expert by expert": run}


def fft_conv(t):
    x, kernel = t["x"][0].T.contiguous(), t["kernel"]
    length = x.shape[1]

    def run():
        spectrum = torch.fft.rfft(x, 2 * length) * torch.fft.rfft(kernel, 2 * length)
        return torch.fft.irfft(spectrum, 2 * length)[:, :length] + t["D"][:, None] * x

    return {"rfft": run}, lambda y: y.T


KERNELS = {"scan": scan, "conv": conv, "linear": linear, "attention": attention, "ssd": ssd, "retention": retention,
           "wkv6": wkv6, "wkv7": wkv7, "gatedDelta": gated_delta, "kda": gated_delta,
           "deltaRule": gated_delta, "lightning": lightning, "rgLru": rg_lru, "shortConv": short_conv,
           "gla": gla, "mamba3": mamba3, "moe": moe, "fftConv": fft_conv}


def answer(job):
    t = tensors(job)
    t.update(job["attributes"])
    made = KERNELS[job["kernel"]](t)
    forms, layout = made if isinstance(made, tuple) else (made, lambda y: y)
    if not forms:
        return {"unsupported": "no form of it takes this shape"}
    best = None
    for form, run in forms.items():
        y = run()
        seconds = samples(run, job["reps"])
        if best is None or np.median(seconds) < np.median(best["seconds"]):
            layout(y).float().contiguous().numpy().tofile(job["result"])
            best = {"form": form, "seconds": seconds}
    return best


serve({"peer": f"PyTorch {torch.__version__}", "kernels": list(KERNELS), "dtypes": ["f32", "bf16", "f16"]}, answer)
