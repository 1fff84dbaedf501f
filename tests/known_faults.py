"""One-line faults, each killed by the test file named beside it; re-anchored when code moves, never deleted.

A change that only moves code leaves every fault as it is but for its `symbol`. If a test file no longer kills its
fault, the tests have lost something. `test_known_faults.py` puts each into a copy of the project and runs that file.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A replacement that makes the code wrong.

    Attributes:
        symbol: full name of a module's function, class or constant, or of a class's method.
        old: a line, or part of one, that occurs once in the symbol's source.
        new: what stands there instead.
        test: the test file that fails then.
    """

    symbol: str
    old: str
    new: str
    test: str

    def __str__(self) -> str:
        return self.symbol


FAULTS = (
    Fault(
        symbol="utils.loss.match_anchors",
        old="torch.maximum(ratio, 1 / ratio).amax(dim=2)",
        new="ratio.amax(dim=2)",
        test="tests/test_loss.py",
    ),
    Fault(
        symbol="utils.loss.LossGains.scaled",
        old="(image_size / 640) ** 2",
        new="(image_size / 640)",
        test="tests/test_loss.py",
    ),
    Fault(
        symbol="utils.loss.view_loss",
        old="(views != UNKNOWN_VIEW).sum().clamp(min=1)",
        new="len(views)",
        test="tests/test_loss.py",
    ),
    Fault(
        symbol="utils.boxes.pairwise_iou",
        old="diou = iou - centre_distance2 / (hull.square().sum(dim=1) + EPSILON)",
        new="diou = iou - centre_distance2 / (hull.prod(dim=1) + EPSILON)",
        test="tests/test_boxes.py",
    ),
    Fault(
        symbol="utils.boxes._suppress",
        old="batched_nms(boxes_xyxy, score, label, iou)",
        new="batched_nms(boxes_xyxy, score, torch.zeros_like(label), iou)",
        test="tests/test_boxes.py",
    ),
    Fault(
        symbol="utils.labels._parse_detection",
        old="coordinates.clip(0, 1)",
        new="coordinates",
        test="tests/test_labels.py",
    ),
    Fault(
        symbol="utils.dataloaders.Letterbox.boxes",
        old="[self.pad_left, self.pad_top, 0, 0]",
        new="[self.pad_top, self.pad_left, 0, 0]",
        test="tests/test_data.py",
    ),
    Fault(
        symbol="utils.augment.geometry",
        old="flipped[0] = -1, 0, width",
        new="flipped[0] = -1, 0, width - 1",
        test="tests/test_augment.py",
    ),
    Fault(
        symbol="models.gradnorm.balance",
        old="mean_norm * rate**alpha",
        new="mean_norm * rate**-alpha",
        test="tests/test_gradnorm.py",
    ),
    Fault(
        symbol="models.gradnorm.GradNorm.wants_gradients",
        old="self._batches + 1 >= self.interval",
        new="self._batches + 1 > self.interval",
        test="tests/test_gradnorm.py",
    ),
    Fault(
        symbol="models.balancers.LossWeighting.__init__",
        old="if not weight > 0",
        new="if weight < 0",
        test="tests/test_gradnorm.py",
    ),
    Fault(
        symbol="utils.interference.TaskGradients.between",
        old="n / scales[task]",
        new="n * scales[task]",
        test="tests/test_interference.py",
    ),
    Fault(
        symbol="models.yolo.decode",
        old="torch.stack((x, y), dim=-1)",
        new="torch.stack((y, x), dim=-1)",
        test="tests/test_model.py",
    ),
    Fault(
        symbol="models.yolo.LayerGraph.ancestors",
        old="if layer >= 0 and",
        new="if layer > 0 and",
        test="tests/test_model.py",
    ),
    Fault(
        symbol="utils.checkpoint.transfer_weights",
        old="if name in own and own[name].shape == t.shape",
        new="if name in own",
        test="tests/test_checkpoint.py",
    ),
    Fault(
        symbol="utils.learner.Learner.load_state_dict",
        old='self.ema.updates = state["ema_updates"]',
        new="self.ema.updates = 0",
        test="tests/test_imbalance.py",
    ),
    Fault(
        symbol="utils.torch_utils.Schedule.factor",
        old="return 1 - progress * (1 - self.hyp.lrf)",
        new="return 1 - progress * self.hyp.lrf",
        test="tests/test_dual_backbone.py",
    ),
    Fault(
        symbol="utils.torch_utils.verified",
        old="(distances <= PRECISION_TOLERANCE).all()",
        new="(distances <= PRECISION_TOLERANCE).any()",
        test="tests/test_speed.py",
    ),
    Fault(
        symbol="utils.metrics._envelope",
        old="np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]",
        new="np.maximum.accumulate(precision, axis=-1)",
        test="tests/test_metrics.py",
    ),
    Fault(
        symbol="utils.metrics._view_rates",
        old="confusion.sum(-1), confusion.sum(-2)",
        new="confusion.sum(-2), confusion.sum(-1)",
        test="tests/test_metrics.py",
    ),
    Fault(
        symbol="utils.metrics.group_draws",
        old="np.unique(groups, return_inverse=True)",
        new="np.unique(np.arange(len(groups)), return_inverse=True)",
        test="tests/test_metrics.py",
    ),
    Fault(
        symbol="utils.screening._sensitivity",
        old='side="right"',
        new='side="left"',
        test="tests/test_screening.py",
    ),
    Fault(
        symbol="utils.reference._nearest",
        old="if frame[1] != image",
        new="if frame[1] is not None",
        test="tests/test_reference.py",
    ),
    Fault(
        symbol="utils.splits.Clip.view",
        old="> MAJORITY * sum(self.votes)",
        new=">= MAJORITY * sum(self.votes)",
        test="tests/test_splits.py",
    ),
    Fault(
        symbol="utils.audit.Audit.exit_code",
        old='finding.level != "doubt"',
        new='finding.level == "error"',
        test="tests/test_audit.py",
    ),
    Fault(
        symbol="utils.config.DualOptions.trained_epochs",
        old="else start + count)",
        new="else count)",
        test="tests/test_config.py",
    ),
    Fault(
        symbol="utils.imbalance.inverse_frequencies",
        old="(len(counts) * count)",
        new="count",
        test="tests/test_imbalance.py",
    ),
    Fault(
        symbol="utils.distributed.shares",
        old="count * world_size() / max(sums[name], 1)",
        new="count / max(sums[name], 1)",
        test="tests/test_distributed.py",
    ),
    Fault(
        symbol="utils.onnx_model.OnnxModel.forward",
        old='found["views"].log()',
        new='found["views"]',
        test="tests/test_export.py",
    ),
    Fault(
        symbol="utils.export.SUPPRESSION",
        old="low = Sub (xy, half_wh)",
        new="low = Sub (xy, wh)",
        test="tests/test_export.py",
    ),
    Fault(
        symbol="utils.download._chunks",
        old="if bar.n < total:",
        new="if bar.n > total:",
        test="tests/test_download.py",
    ),
    Fault(
        symbol="utils.sources._clip_of",
        old="return clip[0] if clip else None",
        new="return clip[1] if clip else None",
        test="tests/test_detect.py",
    ),
    Fault(
        symbol="utils.outputs.ClipViews.means",
        old="np.mean(found, axis=0)",
        new="np.max(found, axis=0)",
        test="tests/test_detect.py",
    ),
    Fault(
        symbol="utils.plots.RESULT_PANELS",
        old='"val/obj_loss"',
        new='"val/box_loss"',
        test="tests/test_plots.py",
    ),
    Fault(
        symbol="utils.verdict.delta_m",
        old="part in (own, other)",
        new="part in (other, own)",
        test="tests/test_verdict.py",
    ),
    Fault(
        symbol="utils.model_card._limits",
        old="if not data.group_pattern or",
        new="if not data.group_pattern and",
        test="tests/test_model_card.py",
    ),
    Fault(
        symbol="utils.monitor._left_s",
        old="(batch + 1) / batches",
        new="batch / batches",
        test="tests/test_monitor.py",
    ),
    Fault(
        symbol="utils.phantom._box_line",
        old="columns.max() + 1",
        new="columns.max()",
        test="tests/test_phantom.py",
    ),
    Fault(
        symbol="utils.autoanchor.judge_anchors",
        old="np.minimum(ratio, 1 / ratio).min(axis=2)",
        new="np.minimum(ratio, 1 / ratio).max(axis=2)",
        test="tests/test_autoanchor.py",
    ),
    Fault(
        symbol="utils.timing.epoch_ratio",
        old="epochs[0] / epochs[1], (25",
        new="epochs[1] / epochs[0], (25",
        test="tests/test_speed.py",
    ),
)
