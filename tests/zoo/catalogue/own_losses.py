"""Losses as users write them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.catalogue.losses import REAL, add, loss
from zoo.entry import Net, distributions, normal, parameter, several, three, uniform


def branching(p: Tensor, y: Tensor) -> Tensor:
    error = (p - y).square().mean()
    return error if error < 0.5 else error.sqrt()


def focal(p: Tensor, y: Tensor) -> Tensor:
    logp = p.log_softmax(-1).gather(1, y[:, None]).squeeze(1)
    return -((1 - logp.exp()) ** 2 * logp).mean()


def masked(p: Tensor, y: Tensor) -> Tensor:
    return (p - y)[y > -0.5].square().mean()


def hard_half(p: Tensor, y: Tensor) -> Tensor:
    each = F.cross_entropy(p, y, reduction="none")
    return each.topk(len(each) // 2 + 1).values.mean()


def dice(p: Tensor, y: Tensor) -> Tensor:
    s = p.softmax(-1)
    wanted = F.one_hot(y, 3).to(s)
    return 1 - (2 * (s * wanted).sum(0) / (s + wanted).sum(0)).mean()


def contrastive(p: Tensor, y: Tensor) -> Tensor:
    z = F.normalize(p, dim=-1)
    return F.cross_entropy(z @ z.mT / 0.5 - 1e3 * torch.eye(len(z)).to(z), torch.arange(len(z)) ^ 1
                           if len(z) % 2 == 0 else torch.arange(len(z)).roll(1))  # fmt: skip


def entropy_regularised(p: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(p, y) - 0.1 * torch.distributions.Categorical(logits=p).entropy().mean()


def decayed(p: Tensor, y: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(p, y) + 0.05 * sum(w.square().sum() for w in parameters.values())


def sparse(p: Tensor, y: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    return F.mse_loss(p, y) + 0.01 * parameters["0.weight"].abs().sum()


def quantile(p: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(0.9 * (y - p), -0.1 * (y - p)).mean()


def pairwise(p: Tensor, y: Tensor) -> Tensor:
    s = p[:, 0]
    return F.softplus(-(s[:, None] - s[None])[y[:, None] > y[None]]).sum()


def mixture(p: Tensor, y: Tensor) -> Tensor:
    weight, mean, scale = p.chunk(3, -1)
    each = torch.distributions.Normal(mean, scale.exp(), validate_args=False).log_prob(y[:, None])
    return -(weight.log_softmax(-1) + each).logsumexp(-1).mean()


def policy(p: Tensor, y: Tensor) -> Tensor:
    chosen = p.detach().argmax(-1)
    reward = (chosen == y).to(p) - 0.3
    return -(reward * p.log_softmax(-1).gather(1, chosen[:, None]).squeeze(1)).mean()


loss("own_branching", branching, REAL)
loss("own_focal", focal)
loss("own_masked", masked, normal(3))
loss("own_hard_half", hard_half)
loss("own_dice", dice)
loss("own_contrastive", contrastive)
loss("own_entropy_regularised", entropy_regularised)
loss("own_weight_decay", decayed, with_parameters=True)
loss("own_l1_of_weights", sparse, REAL, with_parameters=True)
loss("own_quantile", quantile, REAL)
loss("own_pairwise_ranking", pairwise, sizes=(7, 6))
loss("own_mixture_density", mixture, normal(), 9)
loss("own_policy_gradient", policy)
loss("own_charbonnier", lambda p, y: ((p - y).square() + 1e-3).sqrt().mean(), REAL)
loss("own_log_cosh", lambda p, y: (p - y).cosh().log().mean(), REAL)
loss("own_wasserstein", lambda p, y: (p.softmax(-1).cumsum(-1) - y.cumsum(-1)).square().sum(-1)
     .mean(), distributions(3))  # fmt: skip
loss("own_detached_target", lambda p, y: F.mse_loss(p[:, 0], 0.9 * p[:, 1:].detach().amax(-1)
     + y), normal())  # fmt: skip
loss("own_tuple_of_targets", lambda p, y: F.cross_entropy(p, y[0]) + F.mse_loss(p, y[1]),
     several(three, REAL))  # fmt: skip


class Physics(nn.Module):
    """Value, slope and curvature of a network of one variable."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            u = self.net(x)
            slope = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
            curvature = torch.autograd.grad(slope.sum(), x, create_graph=True)[0]
        return u, slope, curvature


def residual(p: tuple[Tensor, Tensor, Tensor], y: Tensor) -> Tensor:
    u, slope, curvature = p
    return (curvature + 2.0 * slope + u).square().mean() + (u - y).square().mean()


add("loss_physics_residual", Physics, residual, uniform(1), normal(1))
add("loss_inverse_problem", lambda: Net(lambda net, x: net.rate * x.cumsum(-1).exp(),
    rate=parameter()), F.mse_loss, uniform(3, high=0.3), normal(3))  # fmt: skip
