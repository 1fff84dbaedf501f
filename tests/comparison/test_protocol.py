from utils.comparison.protocol import Contrast, Protocol


def test_a_contrast_names_two_arms_and_a_metric():
    contrast = Contrast("gradnorm", "fixed", "mAP50")
    assert Protocol((contrast,), {"mAP50": 0.08}).counted[0].reference == "fixed"
