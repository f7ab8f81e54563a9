"""Feed-forward modules as they are written elsewhere, with the names used there."""

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, HIDDEN = 16, 24


class Conv1D(nn.Module):
    """A linear map whose matrix is the other way round."""

    def __init__(self, n_outputs, n_inputs):
        super().__init__()
        self.nf = n_outputs
        self.weight = nn.Parameter(torch.randn(n_inputs, n_outputs) / 4)
        self.bias = nn.Parameter(torch.randn(n_outputs))

    def forward(self, x):
        out = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return out.view(*x.shape[:-1], self.nf)


class Gpt(nn.Module):
    def __init__(self, act=None, dropout=0.1):
        super().__init__()
        self.c_fc, self.c_proj = Conv1D(HIDDEN, WIDTH), Conv1D(WIDTH, HIDDEN)
        self.act = nn.GELU() if act is None else act
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return self.dropout(self.c_proj(self.act(self.c_fc(x))))


class Llama(nn.Module):
    def __init__(self, act=None):
        super().__init__()
        self.up_proj = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down_proj = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.gate_proj = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.act_fn = nn.SiLU() if act is None else act

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class Phi(nn.Module):
    def __init__(self, first=True):
        super().__init__()
        self.gate_up_proj = nn.Linear(WIDTH, 2 * HIDDEN)
        self.down_proj = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.first = first

    def forward(self, x):
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        if not self.first:
            gate, up = up, gate
        return self.down_proj(F.gelu(gate) * up)


class Clip(nn.Module):
    """As many hidden units as inputs, and the second map first."""

    def __init__(self, act=torch.relu):
        super().__init__()
        self.fc2, self.fc1 = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.act = act

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Careless(Clip):
    """Dropout by a function, which no module tells of."""

    def forward(self, x):
        return self.fc2(F.dropout(self.act(self.fc1(x)), 0.5, self.training))


class Intermediate(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(WIDTH, HIDDEN)

    def forward(self, x):
        return F.gelu(self.dense(x))


class Output(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(HIDDEN, WIDTH)
        self.LayerNorm, self.dropout = nn.LayerNorm(WIDTH), nn.Dropout(0.1)

    def forward(self, hidden, x):
        return self.LayerNorm(self.dropout(self.dense(hidden)) + x)


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.intermediate, self.output = Intermediate(), Output()

    def forward(self, x):
        x = self.mix(x)
        return self.output(self.intermediate(x), x)


class OneHead(nn.Module):
    """Three linear maps that are no feed-forward layer."""

    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        score = self.query(x) @ self.key(x).transpose(-1, -2)
        return score.softmax(-1) @ self.value(x)
