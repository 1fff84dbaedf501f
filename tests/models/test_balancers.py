"""Fixed weights stay as they are."""

from two_tasks import MISSION, losses

from models.balancers import fixed_weights


def test_fixed_weights_combine_and_never_change():
    balancer = fixed_weights(1.0, 0.01)
    assert balancer.combine(losses(2, 100)).item() == 3.0
    assert not balancer.wants_gradients
    assert balancer.observe(losses(2, 100), None) is None
    assert balancer.weights == MISSION
