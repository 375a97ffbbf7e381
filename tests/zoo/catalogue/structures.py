"""Whole architectures of many kinds, written the way one finds them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.entry import ce, mse, normal, parameter, registrar, several, three, uniform

add = registrar("architecture", loss=ce, x=normal(4), y=three)


class Siren(nn.Module):
    def __init__(self, omega: float = 3.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 6), nn.Linear(6, 6)])
        self.head, self.omega = nn.Linear(6, 1), omega

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sin(self.omega * layer(x))
        return self.head(x)


class Fourier(nn.Module):
    """A Fourier neural operator's layer, weights complex."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.skip, self.down = nn.Conv1d(1, 3, 1), nn.Conv1d(3, 3, 1), nn.Conv1d(3, 1, 1)
        self.modes = nn.Parameter(0.3 * torch.randn(3, 3, 3, dtype=torch.cdouble))

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x)
        spectrum = torch.fft.rfft(h)
        kept = torch.einsum("bix,iox->box", spectrum[..., :3], self.modes)
        padded = F.pad(torch.view_as_real(kept), (0, 0, 0, spectrum.shape[-1] - 3))
        mixed = torch.fft.irfft(torch.view_as_complex(padded), n=h.shape[-1])
        return self.down(F.gelu(mixed + self.skip(h)))


class FourierReal(nn.Module):
    """The same with real and imaginary parts as two parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.re, self.im = parameter(5), parameter(5)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.fft.irfft(torch.fft.rfft(x) * torch.complex(self.re, self.im)).tanh())


class DeepSets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 6))
        self.rho = nn.Linear(6, 3)

    def forward(self, points: Tensor, mask: Tensor) -> Tensor:
        weight = (mask > 0.3).to(points).unsqueeze(-1)
        return self.rho((self.phi(points) * weight).sum(1) / (weight.sum(1) + 1))


class Dueling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.value = nn.Linear(4, 6), nn.Linear(6, 1)
        self.advantage = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.body(x))
        a = self.advantage(h)
        return self.value(h) + a - a.mean(1, keepdim=True)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 3, 2, 2)
        self.c, self.out = nn.Conv2d(6, 3, 3, padding=1), nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.a(x))
        b = F.relu(self.b(F.max_pool2d(a, 2)))
        return self.out(F.relu(self.c(torch.cat([a, self.up(b)], 1))))


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(3), nn.LayerNorm(3)
        self.tokens = nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 5))
        self.channels = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.n1(x).transpose(1, 2)).transpose(1, 2)
        return (x + self.channels(self.n2(x))).mean(1)


class Capsules(nn.Module):
    """Two rounds of routing by agreement."""

    def __init__(self) -> None:
        super().__init__()
        self.w = parameter(4, 3, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        votes = torch.einsum("nid,ijde->nije", x, self.w)
        logits = x.new_zeros(len(x), 4, 3)
        for _ in range(2):
            s = (logits.softmax(-1).unsqueeze(-1) * votes).sum(1)
            size = s.square().sum(-1, keepdim=True)
            v = s * size / (1 + size) / (size + 1e-9).sqrt()
            logits = logits + (votes * v.unsqueeze(1)).sum(-1)
        return v.norm(dim=-1) * 3


class Highway(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.h, self.t, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            gate = torch.sigmoid(self.t(x))
            x = gate * torch.relu(self.h(x)) + (1 - gate) * x
        return self.out(x)


class Graph(nn.Module):
    """Two rounds over a dense adjacency, symmetrically normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 5), nn.Linear(5, 3)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        adjacency = (edges + edges.mT > 1.0).to(nodes) + torch.eye(nodes.shape[1]).to(nodes)
        d = adjacency.sum(-1).rsqrt()
        adjacency = d.unsqueeze(-1) * adjacency * d.unsqueeze(-2)
        return self.b(adjacency @ F.relu(self.a(adjacency @ nodes))).mean(1)


class Kan(nn.Module):
    """Learned univariate functions: hats on a grid and a base activation."""

    def __init__(self) -> None:
        super().__init__()
        self.coefficients, self.base = parameter(3, 4, 6), parameter(3, 4)
        self.register_buffer("grid", torch.linspace(-2, 2, 6))

    def forward(self, x: Tensor) -> Tensor:
        hats = F.relu(1 - (x.unsqueeze(-1) - self.grid).abs() / 0.8)
        return torch.einsum("nik,oik->no", hats, self.coefficients) + F.silu(x) @ self.base.mT


class Ode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.field, self.head = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4)), nn.Linear(4, 3)  # fmt: skip # noqa: E501

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(5):
            x = x + 0.2 * self.field(x)
        return self.head(x)


class OdeRunge(Ode):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            k1 = self.field(x)
            k2 = self.field(x + 0.25 * k1)
            x = x + 0.5 * k2
        return self.head(x)


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 3)
        self.experts = nn.ModuleList(nn.Linear(4, 3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        values, chosen = self.gate(x).topk(2, -1)
        gate = torch.zeros(len(x), 3).to(x).scatter(1, chosen, values.softmax(-1))
        return (gate.unsqueeze(-1) * torch.stack([e(x).tanh() for e in self.experts], 1)).sum(1)


class Prototypes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.centres = nn.Linear(4, 3), parameter(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return -torch.cdist(self.body(x).tanh(), self.centres).square()


IMAGE = normal(1, 6, 6)
add("siren", Siren, mse, uniform(2, low=-1), normal(1))
add("fourier_operator_complex", Fourier, mse, normal(1, 8), normal(1, 8), may_refuse=True)
add("fourier_two_reals", FourierReal, x=normal(8))
add("deep_sets", DeepSets, x=several(normal(5, 3), uniform(5)))
add("dueling_heads", Dueling)
add("u_net", UNet, mse, IMAGE, IMAGE)
add("mlp_mixer", Mixer, x=normal(5, 3))
add("capsules", Capsules, x=normal(4, 2))
add("highway", Highway)
add("graph_dense", Graph, x=several(normal(4, 3), uniform(4, 4)))
add("kan", Kan)
add("neural_ode_euler", Ode)
add("neural_ode_midpoint", OdeRunge)
add("experts_top_two", Experts)
add("prototype_head", Prototypes)
