"""Methods of the field written out from their papers: start, step and penalty in plain PyTorch, and
what dense Jacobians and Hessians of them give.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call
from torch.nn import functional as F

import binomctl
from binomctl.contracts import Draws
from binomctl.episodes import TaskNumbers
from binomctl.flat import Layout
from binomctl.models import build_model

D = torch.float64
B, K, ALPHA, WAYS = 2, 4, 0.1, 3


class HeadFirst(nn.Module):
    """The head is registered before the body, and a norm after both."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, WAYS)
        self.body = nn.Linear(5, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.body(x))))


class WithContext(nn.Module):
    def __init__(self):
        super().__init__()
        self.context = nn.Parameter(torch.zeros(2))
        self.body = nn.Linear(7, 4)
        self.head = nn.Linear(4, WAYS)

    def forward(self, x):
        x = torch.cat([x, self.context.expand(len(x), -1)], 1)
        return self.head(torch.tanh(self.body(x)))


def data():
    torch.manual_seed(3)
    x = torch.randn(2, B, 6, 5, dtype=D)
    y = torch.arange(WAYS).repeat(2).expand(B, -1)
    return x[0], y, x[1], y


def model_of(cls):
    torch.manual_seed(1)
    model = cls().to(D)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


def parts_of(model, flat):
    named = list(model.named_parameters())
    split = flat.split([p.numel() for _, p in named])
    return {n: v.view_as(p) for (n, p), v in zip(named, split, strict=True)}


def join(model, parts):
    return torch.cat([parts[n].reshape(-1) for n, _ in model.named_parameters()])


def where(model, chosen):
    """1 at the parameters whose names `chosen` accepts."""
    return join(model, {n: torch.full_like(p, float(chosen(n)))
                        for n, p in model.named_parameters()})  # fmt: skip


# The methods, from their papers: (start(theta, m, x, y), step(k, m, phi, gamma)).


def at_theta(model):
    return lambda theta, m, x, y: theta


def anil(model):
    head = where(model, lambda n: n.startswith("head."))
    return at_theta(model), lambda k, m, phi, gamma: phi - ALPHA * head * gamma


def boil(model):
    body = where(model, lambda n: not n.startswith("head."))
    return at_theta(model), lambda k, m, phi, gamma: phi - ALPHA * body * gamma


def unicorn(model, zero=False):
    def start(theta, m, x, y):
        parts = parts_of(model, theta)
        for name in ("head.weight", "head.bias"):
            first = parts[name][0] * (0 if zero else 1)
            parts[name] = torch.stack([first] * WAYS)
        return join(model, parts)

    return start, lambda k, m, phi, gamma: phi - ALPHA * gamma


def cavia(model):
    context = where(model, lambda n: n == "context")
    return (lambda theta, m, x, y: theta * (1 - context),
            lambda k, m, phi, gamma: phi - ALPHA * context * gamma)  # fmt: skip


def alfa(model):
    shapes = [p.numel() for p in model.parameters()]
    n = 2 * len(shapes)

    def step(k, m, phi, gamma):
        means = torch.stack([p.mean() for v in (gamma, phi) for p in v.split(shapes)])
        W1, W2 = m[: n * n].view(n, n), m[n * n + n : 2 * n * n + n].view(n, n)
        b1, b2 = m[n * n : n * n + n], m[2 * n * n + n :]
        said = W2 @ torch.relu(W1 @ means + b1) + b2
        out, at = [], 0
        for i, size in enumerate(shapes):
            rate, decay = ALPHA * (1 + said[i]), 1 - ALPHA * said[len(shapes) + i]
            out.append(decay * phi[at : at + size] - rate * gamma[at : at + size])
            at += size
        return torch.cat(out)

    return at_theta(model), step


def maml_plus_plus(model):
    named = list(model.named_parameters())

    def step(k, m, phi, gamma):
        n, before, after = len(named), parts_of(model, phi), {}
        moves = m[K * n :].view(K, -1)[k]
        slopes, at = parts_of(model, gamma), 0
        for i, (name, p) in enumerate(named):
            if "norm" in name:
                after[name] = before[name] - ALPHA * moves[at : at + p.numel()].view_as(p)
                at += p.numel()
            else:
                after[name] = before[name] - ALPHA * m[k * n + i] * slopes[name]
        return join(model, after)

    return at_theta(model), step


def protonet(model):
    def start(theta, m, x, y):
        parts = parts_of(model, theta)
        body = {n: p for n, p in parts.items() if not n.startswith("head.")}
        norm = F.layer_norm(F.linear(x, body["body.weight"], body["body.bias"]), (4,),
                            body["norm.weight"], body["norm.bias"])  # fmt: skip
        means = torch.stack([torch.tanh(norm)[y == c].mean(0) for c in range(WAYS)])
        return join(model, {**parts, "head.weight": 2 * means, "head.bias": -(means**2).sum(1)})

    return start, lambda k, m, phi, gamma: phi


def mt_net(model, noise):
    """One mask a unit: rows of a layer with their bias; the norm's entries have one each."""

    def step(k, m, phi, gamma):
        mask, at, rows = torch.sigmoid((m + noise) / 0.5), 0, {}
        for module, units in (("head", WAYS), ("body", 4), ("norm", 4)):
            rows[module] = mask[at : at + units]
            at += units
        slopes = parts_of(model, gamma)
        for name, p in slopes.items():
            row = rows[name.partition(".")[0]]
            slopes[name] = p * (row[:, None] if p.dim() == 2 else row)
        return phi - ALPHA * join(model, slopes)

    return at_theta(model), step


def leo(model, noise):
    h, latent, features = 3, 2, 5
    z_only, offset_only = (where(model, lambda n, own=own: n == f"head.{own}")
                           for own in ("z", "offset"))  # fmt: skip

    def code(theta, m, x, y):
        sizes = [(h, features), (2 * h, 2 * h), (2 * h, 2 * h), (2 * latent, 2 * h)]
        E, R1, R2, R3 = (w.view(s) for w, s in zip(
            m[:-2].split([a * b for a, b in sizes]), sizes, strict=True))  # fmt: skip
        means, logs = [], []
        for c in range(WAYS):
            total, count = 0, 0
            for i in range(len(x)):
                if y[i] != c:
                    continue
                for j in range(len(x)):
                    pair = torch.cat([E @ x[i], E @ x[j]])
                    total = total + R3 @ torch.relu(R2 @ torch.relu(R1 @ pair))
                    count += 1
            mean, log = (total / count).split(latent)
            means.append(mean)
            logs.append(log)
        return torch.stack(means), 0.1 * torch.stack(logs).exp()

    def start(theta, m, x, y):
        mean, std = code(theta, m, x, y)
        e_z, e_w = noise.split([WAYS * latent, WAYS * features])
        parts = parts_of(model, theta)
        parts["head.z"] = mean + std * e_z.view(WAYS, latent)
        parts["head.noise"] = e_w.view(WAYS, features)
        parts["head.offset"] = torch.zeros(WAYS, features, dtype=D)
        return join(model, parts)

    def step(k, m, phi, gamma):
        return phi - ALPHA * (m[-2] * z_only if k < 2 else m[-1] * offset_only) * gamma

    def penalty(theta, m, x, y, end):
        mean, std = code(theta, m, x, y)
        kl = sum((s**2 + a**2 - 1) / 2 - torch.log(s)
                 for a, s in zip(mean.flatten(), std.flatten(), strict=True))  # fmt: skip
        z = mean + std * noise[: WAYS * latent].view(WAYS, latent)
        away = (parts_of(model, end)["head.z"] - z).square().sum()
        decoder = parts_of(model, theta)["head.decoder.weight"].T
        cosines = torch.stack([torch.stack([F.cosine_similarity(a, b, 0) for a in decoder])
                               for b in decoder])  # fmt: skip
        return 0.2 * kl + 0.3 * away + 0.4 * (cosines - torch.eye(latent)).square().mean()

    return start, step, penalty


class Uncertain(nn.Module):
    """Two draws of a perceptron's weights, and a prior."""

    activation = staticmethod(torch.relu)

    def __init__(self):
        super().__init__()
        self.inner = build_model("mlp", {"width": 2, "depth": 1, "bayesian": 2, "std": 0.4}, (5,),
                                 WAYS, 0)  # fmt: skip
        for name, child in self.inner.named_children():
            setattr(self, name, child)
        for name, p in list(self.inner.named_parameters(recurse=False)):
            self.register_parameter(name, p)
        del self.inner

    def forward(self, x):
        total = 0
        for s in range(2):
            w = {n: m + r.exp() * getattr(self.noise, n.replace(".", "__"))[s] for (n, m), r in zip(
                self.mean.named_parameters(), self.log_std.parameters(), strict=True)}  # fmt: skip
            hidden = self.activation(F.linear(x, w["0.weight"], w["0.bias"]))
            total = total + F.linear(hidden, w["2.weight"], w["2.bias"]).softmax(1)
        return torch.log(total / 2)


def ibaml(model, noise):
    parts = ("mean.", "log_std.")

    def prior_of(name):
        part, _, own = name.partition(".")
        return f"outer_{part}_{own.replace('.', '__')}"

    def start(theta, m, x, y):
        named, at = parts_of(model, theta), 0
        for name in named:
            if name.startswith(parts):
                named[name] = named[prior_of(name)]
            elif name.startswith("noise."):
                n = named[name].numel()
                named[name] = noise[at : at + n].view_as(named[name])
                at += n
        return join(model, named)

    def divergence(phi):
        named, total = parts_of(model, phi), 0
        for name in [n for n in named if n.startswith("mean.")]:
            other = name.replace("mean.", "log_std.")
            q = torch.distributions.Normal(named[name], named[other].exp())
            p = torch.distributions.Normal(named[prior_of(name)], named[prior_of(other)].exp())
            total = total + torch.distributions.kl_divergence(q, p).sum()
        return total

    def step(k, m, phi, gamma):
        pull = torch.func.grad(divergence)(phi)
        return phi - ALPHA * where(model, lambda n: n.startswith(parts)) * (gamma + 0.05 * pull)

    return start, step


class Decoding(nn.Module):
    """The network of LEO on embeddings, its parameters under their names."""

    def __init__(self):
        super().__init__()
        self.head = build_model("latent", {"latent": 2}, (5,), WAYS, 0)[0]

    def forward(self, x):
        return self.head(x)


def linear_head(model):
    _, step = anil(model)
    return lambda theta, m, x, y: theta * where(model, lambda n: not n.startswith("head.")), step


METHODS = {
    "linear-head": (HeadFirst, "linear-head", {"head": ("head.*",)}, linear_head),
    "anil": (HeadFirst, "anil", {}, anil),
    "boil": (HeadFirst, "boil", {}, boil),
    "unicorn": (HeadFirst, "unicorn", {}, unicorn),
    "unicorn, zero": (HeadFirst, "unicorn", {"initial_head": "zero"},
                      lambda model: unicorn(model, zero=True)),
    "cavia": (WithContext, "cavia", {}, cavia),
    "alfa": (HeadFirst, "alfa", {}, alfa),
    "maml++": (HeadFirst, "maml++", {"steps": K}, maml_plus_plus),
    "protonet": (HeadFirst, "protonet", {"head": "head"}, protonet),
    "ibaml": (Uncertain, "ibaml", {"kl": 0.05}, ibaml),
    "mt-net": (HeadFirst, "mt-net", {"temperature": 0.5}, mt_net),
    "leo": (Decoding, "leo", {"latent_steps": 2, "hidden": 3, "weights_rate": 0.7, "kl": 0.2,
                              "encoder": 0.3, "orthogonality": 0.4}, leo),
}  # fmt: skip
ESTIMATORS = {
    "maml": ({}, K, K), "fomaml": ({}, 0, K), "trunc": ({"L": 2}, 2, 2),
    "binom": ({"L": 2}, 2, K), "hybrid": ({"L": 1, "C": 3}, 1, 3),
}  # fmt: skip
"""Options, order L, and how many of the last steps the expansion reaches."""


def parameters_of(rule, model):
    """m, away from where it starts."""
    m = rule.initial(Layout.of(model)).to(D)
    torch.manual_seed(9)
    return m + 0.1 * torch.randn_like(m)


def written(write, model, rule, b):
    """The method of task b, with the noise that it draws: (start, step, penalty)."""
    if not isinstance(rule, Draws):
        return (*write(model), None)
    (random,) = TaskNumbers(0, "train", [b]).generators("noise")
    method = write(model, rule.noise(Layout.of(model), random, training=True))
    return method if len(method) == 3 else (*method, None)


def expansion(model, method, m, task, L, C):
    """The estimate for theta of one task, densely."""
    x_trn, y_trn, x_val, y_val = task
    start, step, penalty = method

    def loss(phi, x=x_trn, y=y_trn):
        return F.cross_entropy(functional_call(model, parts_of(model, phi), (x,)), y)

    theta = join(model, dict(model.named_parameters())).detach()
    phi, factors = start(theta, m, x_trn, y_trn).detach(), []
    for k in range(K):
        at = phi.clone().requires_grad_()
        (gamma,) = torch.autograd.grad(loss(at), at)
        P, G = jacobian(lambda p, g, k=k: step(k, m, p, g), (phi, gamma))
        factors.append((P, G @ hessian(loss, phi)))
        phi = step(k, m, phi, gamma).detach()
    at = phi.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(at, x_val, y_val), at)
    sums = [g] + [torch.zeros_like(g)] * L
    for k in reversed(range(K)):
        P, GH = factors[k]
        reached = k >= K - C
        sums = [P.T @ s + (GH.T @ sums[j - 1] if j and reached else 0) for j, s in enumerate(sums)]
    found = sum(sums) @ jacobian(lambda t: start(t, m, x_trn, y_trn), theta)
    if penalty is not None:
        found = found + jacobian(lambda t: penalty(t, m, x_trn, y_trn, phi), theta)
    return found


def unrolled(model, method, m, task):
    """The exact meta-gradients of theta and m of one task, by automatic differentiation."""
    x_trn, y_trn, x_val, y_val = task
    start, step, penalty = method
    theta = join(model, dict(model.named_parameters())).detach().requires_grad_()
    m = m.clone().requires_grad_()
    phi = start(theta, m, x_trn, y_trn)
    for k in range(K):
        out = functional_call(model, parts_of(model, phi), (x_trn,))
        (gamma,) = torch.autograd.grad(F.cross_entropy(out, y_trn), phi, create_graph=True)
        phi = step(k, m, phi, gamma)
    loss = F.cross_entropy(functional_call(model, parts_of(model, phi), (x_val,)), y_val)
    if penalty is not None:
        loss = loss + penalty(theta, m, x_trn, y_trn, phi.detach())
    return torch.autograd.grad(loss, (theta, m), allow_unused=True, materialize_grads=True)


def ours(model, rule, m, episodes, estimator, **options):
    found = binomctl.meta_gradient(
        model, F.cross_entropy, episodes, estimator=estimator, rule=rule,
        rule_parameters=m if len(m) else None, K=K, alpha=ALPHA, per_task=True,
        allow_unused=True, tasks=range(B), **options,
    )  # fmt: skip
    flat = torch.cat([found[n].reshape(B, -1) for n, _ in model.named_parameters()], 1)
    return flat, found.get("rule.m", torch.zeros(B, 0, dtype=D))
