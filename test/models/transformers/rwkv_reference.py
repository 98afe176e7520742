"""RWKV 6 and 7 token by token, by the formulas of their papers, over the tensors of a GGUF file in f64."""
import torch
from torch.nn.functional import group_norm, layer_norm, normalize, silu

HEAD_EPS = 64e-5


def shifted(x):
    return torch.cat((torch.zeros_like(x[:1]), x[:-1])) - x


class Rwkv:
    def __init__(self, tensors, layers, head, eps, every=0):
        self.t, self.layers, self.head, self.eps, self.every = tensors, layers, head, eps, every

    def norm(self, x, name):
        return layer_norm(x, x.shape[-1:], self.t[f"{name}.weight"], self.t[f"{name}.bias"], self.eps)

    def product(self, x, name):
        return x @ self.t[f"{name}.weight"].T

    def heads(self, x):
        return x.unflatten(-1, (-1, self.head))

    def head_norm(self, x, blk):
        return group_norm(x.flatten(1), x.shape[1], self.t[f"{blk}.time_mix_ln.weight"], self.t[f"{blk}.time_mix_ln.bias"],
                          HEAD_EPS)

    def logits(self, ids):
        x = self.norm(self.t["token_embd.weight"][ids], "token_embd_norm")
        for i in range(self.layers):
            blk = f"blk.{i}"
            divided = 2 ** (i // self.every) if self.every else 1  # what writes to the stream, in the file alone
            x = x + divided * self.time_mix(self.norm(x, f"{blk}.attn_norm"), blk)
            x = x + divided * self.channel_mix(self.norm(x, f"{blk}.attn_norm_2"), blk)
        return self.product(self.norm(x, "output_norm"), "output")


class Rwkv6(Rwkv):
    def time_mix(self, x, blk):
        t = {name.removeprefix(f"{blk}.time_mix_").removesuffix(".weight"): value for name, value in self.t.items()}
        past = shifted(x)
        low = torch.tanh((x + past * t["lerp_x"]) @ t["w1"].T).unflatten(-1, (5, -1))
        mix = torch.einsum("tnr,ncr->ntc", low, t["w2"]) + t["lerp_fused"].reshape(5, 1, -1)
        w, k, v, r, g = x + past * mix
        w = torch.exp(-torch.exp(t["decay"] + torch.tanh(w @ t["decay_w1"].T) @ t["decay_w2"].T))
        r, k, v, w = (self.heads(a) for a in (r @ t["receptance"].T, k @ t["key"].T, v @ t["value"].T, w))
        state, rows = torch.zeros(r.shape[1], self.head, self.head, dtype=x.dtype), []
        for i in range(len(x)):
            new = k[i, :, :, None] * v[i, :, None]
            rows.append(torch.einsum("hk,hkv->hv", r[i], t["first"][..., None] * new + state))
            state = w[i, ..., None] * state + new
        return (self.head_norm(torch.stack(rows), blk) * silu(g @ t["gate"].T)) @ t["output"].T

    def channel_mix(self, x, blk):
        past = shifted(x)
        k = x + past * self.t[f"{blk}.channel_mix_lerp_k.weight"]
        r = x + past * self.t[f"{blk}.channel_mix_lerp_r.weight"]
        value = self.product(torch.relu(self.product(k, f"{blk}.channel_mix_key")) ** 2, f"{blk}.channel_mix_value")
        return torch.sigmoid(self.product(r, f"{blk}.channel_mix_receptance")) * value


class Rwkv7(Rwkv):
    first = None

    def time_mix(self, x, blk):
        t = {name.removeprefix(f"{blk}.time_mix_").removesuffix(".weight"): value for name, value in self.t.items()}
        low = lambda x, name: x @ t[f"{name}1"].T @ t[f"{name}2"].T
        r, w, k, v, a, g = x + shifted(x) * t["lerp_fused"].reshape(6, 1, -1)
        w = torch.exp(-torch.exp(torch.tensor(-0.5)) * torch.sigmoid(t["w0"] + torch.tanh(w @ t["w1"].T) @ t["w2"].T))
        r, k, value = r @ t["receptance"].T, k @ t["key"].T, v @ t["value"].T
        if blk == "blk.0":
            self.first = value
        else:
            value = value + (self.first - value) * torch.sigmoid(t["v0"] + low(v, "v"))
        a = torch.sigmoid(t["a0"] + low(a, "a"))
        g = torch.sigmoid(g @ t["g1"].T) @ t["g2"].T
        removed = normalize(self.heads(k * t["k_k"]), dim=-1)
        k = k * (1 + (a - 1) * t["k_a"])
        r, k, v, w, a = (self.heads(b) for b in (r, k, value, w, a))
        state, rows = torch.zeros(r.shape[1], self.head, self.head, dtype=x.dtype), []
        for i in range(len(x)):
            old = torch.einsum("hvk,hk->hv", state, removed[i])
            state = state * w[i, :, None] - old[..., None] * (removed[i] * a[i])[:, None] + v[i, ..., None] * k[i, :, None]
            rows.append(torch.einsum("hvk,hk->hv", state, r[i]))
        bonus = (r * k * self.heads(t["r_k"])).sum(-1, keepdim=True) * v
        return (self.head_norm(torch.stack(rows), blk) + bonus.flatten(1)) * g @ t["output"].T

    def channel_mix(self, x, blk):
        k = x + shifted(x) * self.t[f"{blk}.channel_mix_lerp_k.weight"]
        return self.product(torch.relu(self.product(k, f"{blk}.channel_mix_key")) ** 2, f"{blk}.channel_mix_value")
