"""Over-parameterised training: the same function before, an equal one after, the plain network at the end."""

import io

import onnx
import pytest
import torch
from torch.nn.utils import parametrize

from kdmri_lib.models.base import build_model, parameter_count
from kdmri_lib.models.expansion import collapse, expand
from kdmri_study.profile import Study


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


def test_its_weight_is_the_sum_of_the_plain_one_and_the_product():
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3))
    plain = layer[0].weight.detach().clone()
    expand(layer, 8)
    first, second = layer[0].parametrizations.weight[0].inner, layer[0].parametrizations.weight[0].outer
    with torch.no_grad():
        second.normal_()
    expected = plain.double() + torch.einsum("ok,kn->on", second.double(), first.double()).reshape(5, 3, 3, 3)
    torch.testing.assert_close(layer[0].weight.detach().double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("which", "count"), [("teacher", 141_765), ("student", 49_285)])
def test_in_the_end_the_papers_networks_have_the_papers_size_and_the_same_onnx_graph(which, count):
    declared = getattr(Study("quick").profile, which)
    networks = [build_model(declared.kind, torch.ones(8, 8, dtype=bool).numpy(), **declared.options) for _ in range(2)]
    expand(networks[1], 128)
    assert parameter_count(networks[1]) > 2 * count
    collapse(networks[1])
    assert parameter_count(networks[1]) == count
    graphs = []
    for network in networks:
        file = io.BytesIO()
        image = torch.zeros(1, 1, 8, 8)
        torch.onnx.export(network.eval(), (image, image), file, dynamo=False)
        graph = onnx.load_from_string(file.getvalue()).graph
        graphs.append([(node.op_type, list(node.input), list(node.output)) for node in graph.node])
    assert graphs[0] == graphs[1]
