"""Over-parameterised training: the same function before, an equal one after, the plain network at the end."""

import torch
from torch.nn.utils import parametrize

from kdmri_lib.models.base import build_model
from kdmri_lib.models.expansion import collapse, expand


def test_it_begins_as_the_network_was_and_collapsed_computes_the_same_as_a_plain_one(mask, measurement):
    """Outputs to 1e-5, on weights as training might leave them; the state of a network that was never expanded."""
    torch.manual_seed(0)
    network, plain = (build_model("dccnn", mask, cascades=2, convolutions=3, features=4) for _ in range(2))
    before = network(*measurement)
    expand(network, 16)
    assert sum(map(parametrize.is_parametrized, network.modules())) == 6 and torch.equal(network(*measurement), before)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    expanded = network(*measurement)
    collapse(network)
    assert not any(map(parametrize.is_parametrized, network.modules()))
    plain.load_state_dict(network.state_dict())
    torch.testing.assert_close(plain(*measurement), expanded, rtol=0, atol=1e-5)
