"""A slow reference of every probe, written from its equation with loops over clips, layers, tokens and prototypes.

Each function takes the probe (for its parameters) and the tokens, and returns logits. Keys and values are computed for
every token, similarities one by one.
"""

import math

import torch
from torch.nn.functional import gelu

REFERENCES = {}
"""The reference of each probe by name: a function of probe and tokens."""


def equation(name):
    """Decorator: add a function to `REFERENCES`."""

    def add(function):
        REFERENCES[name] = function
        return function

    return add


def valid(tokens, b, layer=0):
    """The valid tokens of one clip, a list of vectors [D]."""
    _, _, T, F, _ = tokens.x.shape
    return [tokens.x[b, layer, t, f] for t in range(T) if tokens.mask[b, t] for f in range(F)]


def mean_of(vectors):
    return sum(vectors) / len(vectors)


def summary(tokens, b, layer=0):
    return mean_of(valid(tokens, b, layer)) if tokens.cls is None else tokens.cls[b, layer]


def affine(linear, h):
    rows = [row @ h for row in linear.weight]
    out = torch.stack(rows)
    return out if linear.bias is None else out + linear.bias


def layer_norm(h, norm):
    centred = h - h.mean()
    return centred / torch.sqrt((centred**2).mean() + norm.eps) * norm.weight + norm.bias


def softmax(scores):
    top = max(float(s.detach()) for s in scores)
    e = [torch.exp(s - top) for s in scores]
    return [x / sum(e) for x in e]


def normalised(v):
    return v / torch.sqrt((v**2).sum())


def shares(gate):
    return softmax(list(gate.weight))


def per_clip(function):
    return lambda probe, tokens: torch.stack([function(probe, tokens, b) for b in range(len(tokens))])


def layers_of(tokens):
    return range(tokens.x.shape[1])


def heads_of(v, heads):
    width = len(v) // heads
    return [v[h * width : (h + 1) * width] for h in range(heads)]


def attention(queries, keys, values, heads):
    """Scaled dot-product attention of one query [D], head by head, concatenated."""
    out = []
    for h in range(heads):
        q = heads_of(queries, heads)[h]
        a = softmax([heads_of(k, heads)[h] @ q / math.sqrt(len(q)) for k in keys])
        out.append(sum(w * heads_of(v, heads)[h] for w, v in zip(a, values, strict=True)))
    return torch.cat(out)


@equation("linear")
@per_clip
def linear(probe, tokens, b):
    return affine(probe.head.linear, torch.cat([summary(tokens, b, layer) for layer in layers_of(tokens)]))


@equation("mean")
@per_clip
def mean(probe, tokens, b):
    return affine(probe.head.linear, torch.cat([mean_of(valid(tokens, b, layer)) for layer in layers_of(tokens)]))


@equation("mlp")
@per_clip
def mlp(probe, tokens, b):
    return affine(probe.head, gelu(affine(probe.hidden, summary(tokens, b))))


@equation("linearc")
@per_clip
def linearc(probe, tokens, b):
    parts = []
    for layer in layers_of(tokens):
        parts.append(summary(tokens, b, layer))
        for f in range(tokens.x.shape[3]):
            parts.append(mean_of([tokens.x[b, layer, t, f] for t in range(tokens.x.shape[2]) if tokens.mask[b, t]]))
    return affine(probe.head.linear, torch.cat(parts))


@equation("conv")
@per_clip
def conv(probe, tokens, b):
    _, _, T, F, _ = tokens.x.shape
    out = []
    for t in range(T):
        for f in range(F):
            if not tokens.mask[b, t]:
                continue
            local = probe.depthwise.bias
            for i in (-1, 0, 1):
                for j in (-1, 0, 1):
                    if 0 <= t + i < T and 0 <= f + j < F and tokens.mask[b, t + i]:
                        local = local + probe.depthwise.weight[:, 0, i + 1, j + 1] * tokens.x[b, 0, t + i, f + j]
            out.append(gelu(affine(probe.pointwise, local)))
    return affine(probe.head, mean_of(out))


@equation("linpre")
@per_clip
def linpre(probe, tokens, b):
    return torch.log(mean_of([torch.exp(affine(probe.linear, z)) for z in valid(tokens, b)]))


@equation("mhca")
@per_clip
def mhca(probe, tokens, b):
    a = probe.attention
    z = valid(tokens, b)
    pooled = attention(a.query, [affine(a.key, x) for x in z], [affine(a.value, x) for x in z], a.heads)
    return affine(probe.head.linear, pooled)


@equation("ep")
@per_clip
def ep(probe, tokens, b):
    z = valid(tokens, b)
    M, D = probe.queries.shape
    values = [affine(probe.value, x) for x in z]
    out = []
    for j in range(M):
        a = softmax([probe.queries[j] @ x / math.sqrt(D) for x in z])
        out.append(sum(w * v[j * D // M : (j + 1) * D // M] for w, v in zip(a, values, strict=True)))
    return affine(probe.head.linear, torch.cat(out))


@equation("simpool")
@per_clip
def simpool(probe, tokens, b):
    z = valid(tokens, b)
    normed = [layer_norm(x, probe.token_norm) for x in z]
    query = affine(probe.query, mean_of(z))
    a = softmax([query @ affine(probe.key, x) / math.sqrt(len(query)) for x in normed])
    return affine(probe.head.linear, sum(w * x for w, x in zip(a, normed, strict=True)))


@equation("abmilp")
@per_clip
def abmilp(probe, tokens, b):
    z = valid(tokens, b)
    first, _, last = probe.scorer
    a = softmax([affine(last, torch.tanh(affine(first, x)))[0] for x in z])
    return affine(probe.head.linear, sum(w * x for w, x in zip(a, z, strict=True)))


def latent_attention(probe, query, keys):
    a = probe.attention
    attended = attention(
        affine(a.query, query), [affine(a.key, x) for x in keys], [affine(a.value, x) for x in keys], a.heads
    )
    return affine(a.out, attended)


def with_mlp(probe, h):
    return h + affine(probe.mlp.contract, gelu(affine(probe.mlp.expand, layer_norm(h, probe.mlp_norm))))


@equation("vjepa")
@per_clip
def vjepa(probe, tokens, b):
    normed = [layer_norm(x, probe.token_norm) for x in valid(tokens, b)]
    h = probe.latent + latent_attention(probe, probe.latent, normed)
    return affine(probe.head.linear, with_mlp(probe, h))


@equation("map")
@per_clip
def map_head(probe, tokens, b):
    return affine(probe.head.linear, with_mlp(probe, latent_attention(probe, probe.latent, valid(tokens, b))))


@equation("coca")
@per_clip
def coca(probe, tokens, b):
    normed = [layer_norm(x, probe.token_norm) for x in valid(tokens, b)]
    return affine(probe.head.linear, latent_attention(probe, layer_norm(probe.latent, probe.latent_norm), normed))


def binary(p):
    """sign(p) with the gradient of p, divided by its length."""
    sign = torch.tensor([1.0 if x >= 0 else -1.0 for x in p], dtype=p.dtype)
    return (p - p.detach() + sign) / math.sqrt(len(p))


def max_similarity(z, prototypes):
    return torch.stack([torch.stack([normalised(x) @ p for x in z]).max() for p in prototypes])


@equation("protobin")
@per_clip
def protobin(probe, tokens, b):
    return affine(probe.head, max_similarity(valid(tokens, b), [binary(p) for p in probe.prototypes.weight]))


@equation("protofloat")
@per_clip
def protofloat(probe, tokens, b):
    return affine(probe.head, max_similarity(valid(tokens, b), [normalised(p) for p in probe.prototypes.weight]))


@equation("fixedproto")
@per_clip
def fixedproto(probe, tokens, b):
    s = [
        max_similarity(valid(tokens, b, layer), [normalised(p) for p in prototypes])
        for layer, prototypes in enumerate(probe.prototypes)
    ]
    return affine(probe.head.linear, torch.cat(s))


@equation("proto")
@per_clip
def proto(probe, tokens, b):
    C, J = probe.weight.shape
    s = max_similarity(valid(tokens, b), [normalised(p) for p in probe.prototypes.weight])
    logits = []
    for c in range(C):
        parts = [torch.relu(probe.weight[c, j]) * torch.relu(s[c * J + j]) for j in range(J)]
        logits.append(sum(parts) + probe.bias[c])
    return torch.stack(logits)


@equation("lcgp")
@per_clip
def lcgp(probe, tokens, b):
    a = shares(probe.layer_gate)
    mixed = sum(w * summary(tokens, b, layer) for layer, w in enumerate(a))
    return affine(probe.head.linear, layer_norm(mixed, probe.head.norm))


def gated_map(probe, tokens, b, t, f):
    a = shares(probe.layer_gate)
    return sum(w * normalised(tokens.x[b, layer, t, f]) for layer, w in enumerate(a))


@equation("cgp")
@per_clip
def cgp(probe, tokens, b):
    _, _, T, F, _ = tokens.x.shape
    z = [gated_map(probe, tokens, b, t, f) for t in range(T) if tokens.mask[b, t] for f in range(F)]
    if tokens.cls is None:
        middle = mean_of(z)
    else:
        middle = sum(w * normalised(tokens.cls[b, layer]) for layer, w in enumerate(shares(probe.layer_gate)))
    p = [normalised(v) for v in probe.prototypes.weight]
    low = [torch.stack([x @ v for x in z]).min() for v in p]
    high = [torch.stack([x @ v for x in z]).max() for v in p]
    return affine(probe.head, torch.stack([*low, *[middle @ v for v in p], *high]))


@equation("head2toe")
@per_clip
def head2toe(probe, tokens, b):
    joined = torch.cat([summary(tokens, b, layer) for layer in range(tokens.x.shape[1])])
    return affine(probe.head.linear, layer_norm(joined, probe.head.norm))


@equation("wsum")
@per_clip
def wsum(probe, tokens, b):
    a = shares(probe.layer_gate)
    layers = [valid(tokens, b, layer) for layer in range(len(a))]
    summed = [sum(w * z[n] for w, z in zip(a, layers, strict=True)) for n in range(len(layers[0]))]
    return affine(probe.head.linear, mean_of(summed))


@equation("selfattn")
@per_clip
def selfattn(probe, tokens, b):
    a = shares(probe.layer_gate)
    layers = [valid(tokens, b, layer) for layer in range(len(a))]
    x = [sum(w * z[n] for w, z in zip(a, layers, strict=True)) for n in range(len(layers[0]))]
    for block in probe.blocks:
        keys, values = [affine(block.key, y) for y in x], [affine(block.value, y) for y in x]
        attended = [affine(block.out, attention(affine(block.query, y), keys, values, block.heads)) for y in x]
        x = [layer_norm(y + h, block.norm) for y, h in zip(x, attended, strict=True)]
    return affine(probe.head.linear, mean_of(x))


@equation("stats")
@per_clip
def stats(probe, tokens, b):
    parts = []
    for layer in layers_of(tokens):
        z = valid(tokens, b, layer)
        mu = mean_of(z)
        variance = mean_of([(x - mu) ** 2 for x in z])
        deviation = torch.stack([torch.sqrt(v) if v > 1e-12 else v.new_tensor(1e-6) for v in variance])
        parts += [mu, deviation, torch.stack([torch.stack([x[d] for x in z]).max() for d in range(len(mu))])]
    return affine(probe.head.linear, torch.cat(parts))


@equation("knn")
@per_clip
def knn(probe, tokens, b):
    """The attribute `probe.training_clips` is the pair of tokens and targets that the probe has stored."""
    train, targets = probe.training_clips
    layers = range(tokens.x.shape[1])
    similarity = []
    for i in range(len(train)):
        cosines = [normalised(summary(tokens, b, layer)) @ normalised(summary(train, i, layer)) for layer in layers]
        similarity.append(float(mean_of(cosines)))
    nearest = sorted(range(len(train)), key=lambda i: -similarity[i])[: probe.k]
    weight = [math.exp(similarity[i] / probe.temperature) for i in nearest]
    share = sum(w * targets[i] for w, i in zip(weight, nearest, strict=True)) / sum(weight)
    share = share.clamp(1e-6, 1 - 1e-6)
    return torch.log(share / (1 - share))


def per_step(function):
    def run(probe, tokens):
        steps = range(tokens.x.shape[2])
        return torch.stack([torch.stack([function(probe, tokens, b, t) for t in steps]) for b in range(len(tokens))])

    return run


def column(tokens, b, t, layer=0):
    return list(tokens.x[b, layer, t])


@equation("linear-frame")
@per_step
def linear_frame(probe, tokens, b, t):
    features = [mean_of(column(tokens, b, t, layer)) for layer in layers_of(tokens)]
    return affine(probe.head.linear, torch.cat(features))


@equation("mhca-frame")
@per_step
def mhca_frame(probe, tokens, b, t):
    a, z = probe.attention, column(tokens, b, t)
    pooled = attention(a.query, [affine(a.key, x) for x in z], [affine(a.value, x) for x in z], a.heads)
    return affine(probe.head.linear, pooled)


@equation("protobin-frame")
@per_step
def protobin_frame(probe, tokens, b, t):
    return affine(probe.head, max_similarity(column(tokens, b, t), [binary(p) for p in probe.prototypes.weight]))


@equation("protofloat-frame")
@per_step
def protofloat_frame(probe, tokens, b, t):
    return affine(probe.head, max_similarity(column(tokens, b, t), [normalised(p) for p in probe.prototypes.weight]))


@equation("cgp-frame")
@per_step
def cgp_frame(probe, tokens, b, t):
    z = [gated_map(probe, tokens, b, t, f) for f in range(tokens.x.shape[3])]
    p = [normalised(v) for v in probe.prototypes.weight]
    products = [torch.stack([x @ v for x in z]) for v in p]
    features = [s.min() for s in products] + [s.mean() for s in products] + [s.max() for s in products]
    return affine(probe.head, torch.stack(features))
