"""One-line faults, each killed by the test file named beside it; re-anchored when code moves, never deleted.

A change that only moves code leaves every fault as it is but for its `symbol`. If a test file no
longer kills its fault, the tests have lost something. `test_known_faults.py` puts each into a copy
of the project and runs that file.
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
        symbol="utils.losses.targets.match_anchors",
        old="torch.maximum(ratio, 1 / ratio).amax(dim=2)",
        new="ratio.amax(dim=2)",
        test="tests/losses/test_targets.py",
    ),
    Fault(
        symbol="utils.losses.detection.LossGains.scaled",
        old="(image_size / 640) ** 2",
        new="(image_size / 640)",
        test="tests/losses/test_detection.py",
    ),
    Fault(
        symbol="utils.losses.joint.view_loss",
        old="(views != UNKNOWN_VIEW).sum().clamp(min=1)",
        new="len(views)",
        test="tests/losses/test_joint.py",
    ),
    Fault(
        symbol="utils.data.boxes.pairwise_iou",
        old="diou = iou - centre_distance2 / (hull.square().sum(dim=1) + EPSILON)",
        new="diou = iou - centre_distance2 / (hull.prod(dim=1) + EPSILON)",
        test="tests/data/test_boxes.py",
    ),
    Fault(
        symbol="utils.data.boxes._suppress",
        old="batched_nms(boxes_xyxy, score, label, iou)",
        new="batched_nms(boxes_xyxy, score, torch.zeros_like(label), iou)",
        test="tests/data/test_boxes.py",
    ),
    Fault(
        symbol="utils.data.labels._parse_detection",
        old="coordinates.clip(0, 1)",
        new="coordinates",
        test="tests/data/test_labels.py",
    ),
    Fault(
        symbol="utils.data.images.Letterbox.boxes",
        old="[self.pad_left, self.pad_top, 0, 0]",
        new="[self.pad_top, self.pad_left, 0, 0]",
        test="tests/data/test_images.py",
    ),
    Fault(
        symbol="utils.data.augment.geometry",
        old="flipped[0] = -1, 0, width",
        new="flipped[0] = -1, 0, width - 1",
        test="tests/data/test_augment.py",
    ),
    Fault(
        symbol="models.gradnorm.balance",
        old="mean_norm * rate**alpha",
        new="mean_norm * rate**-alpha",
        test="tests/models/test_gradnorm.py",
    ),
    Fault(
        symbol="models.gradnorm_balancer.GradNorm.wants_gradients",
        old="self._batches + 1 >= self.interval",
        new="self._batches + 1 > self.interval",
        test="tests/models/test_gradnorm_balancer.py",
    ),
    Fault(
        symbol="models.gradnorm_balancer.LossWeighting.__init__",
        old="if not 0 < weight < math.inf",
        new="if not 0 <= weight < math.inf",
        test="tests/models/test_gradnorm_balancer.py",
    ),
    Fault(
        symbol="models.gradients.task_gradients",
        old="n / scales[task]",
        new="n * scales[task]",
        test="tests/models/test_gradients.py",
    ),
    Fault(
        symbol="models.common.decode",
        old="torch.stack((x, y), dim=-1)",
        new="torch.stack((y, x), dim=-1)",
        test="tests/models/test_yolo.py",
    ),
    Fault(
        symbol="models.graph.LayerGraph.ancestors",
        old="if layer >= 0 and",
        new="if layer > 0 and",
        test="tests/checkpoints/test_model_file.py",
    ),
    Fault(
        symbol="utils.checkpoints.checkpoint.transfer_weights",
        old="if name in own and own[name].shape == t.shape",
        new="if name in own",
        test="tests/checkpoints/test_checkpoint.py",
    ),
    Fault(
        symbol="utils.training.learner.Learner.load_state_dict",
        old='ema.updates = state["ema_updates"]',
        new="ema.updates = 0",
        test="tests/training/test_imbalance.py",
    ),
    Fault(
        symbol="utils.training.optimiser.Schedule.factor",
        old="return 1 - progress * (1 - self.hyp.lrf)",
        new="return 1 - progress * self.hyp.lrf",
        test="tests/scripts/test_train_joint_dual_backbone.py",
    ),
    Fault(
        symbol="utils.core.device.verified",
        old="(distances <= HALF_TOLERANCE).all()",
        new="(distances <= HALF_TOLERANCE).any()",
        test="tests/core/test_device.py",
    ),
    Fault(
        symbol="utils.evaluation.average_precision._envelope",
        old="np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]",
        new="np.maximum.accumulate(precision, axis=-1)",
        test="tests/evaluation/test_average_precision.py",
    ),
    Fault(
        symbol="utils.evaluation.views._view_rates",
        old="confusion.sum(-1), confusion.sum(-2)",
        new="confusion.sum(-2), confusion.sum(-1)",
        test="tests/evaluation/test_views.py",
    ),
    Fault(
        symbol="utils.evaluation.results.group_draws",
        old="np.unique(groups, return_inverse=True)",
        new="np.unique(np.arange(len(groups)), return_inverse=True)",
        test="tests/evaluation/test_results.py",
    ),
    Fault(
        symbol="utils.evaluation.screening._sensitivity",
        old='side="right"',
        new='side="left"',
        test="tests/evaluation/test_screening.py",
    ),
    Fault(
        symbol="utils.curation.reference._nearest",
        old="if frame.path != image",
        new="if frame.path is not None",
        test="tests/curation/test_reference.py",
    ),
    Fault(
        symbol="utils.data.labels.majority_view",
        old="> MAJORITY * sum(votes)",
        new=">= MAJORITY * sum(votes)",
        test="tests/curation/test_clips.py",
    ),
    Fault(
        symbol="utils.curation.audit.Audit.exit_code",
        old='finding.level != "doubt"',
        new='finding.level == "error"',
        test="tests/curation/test_findings.py",
    ),
    Fault(
        symbol="utils.core.options.DualOptions.trained_epochs",
        old="range(start, start + self.classification_epochs)",
        new="range(start, self.classification_epochs)",
        test="tests/core/test_options.py",
    ),
    Fault(
        symbol="utils.data.sampling.inverse_frequencies",
        old="(len(counts) * count)",
        new="count",
        test="tests/data/test_sampling.py",
    ),
    Fault(
        symbol="utils.core.distributed.rank_weights",
        old="count * world_size() / max(sums[name], 1)",
        new="count / max(sums[name], 1)",
        test="tests/core/test_distributed.py",
    ),
    Fault(
        symbol="utils.checkpoints.onnx_model.OnnxModel.forward",
        old='found["views"].log()',
        new='found["views"]',
        test="tests/scripts/test_export.py",
    ),
    Fault(
        symbol="utils.inference.export.SUPPRESSION",
        old="low = Sub (xy, half_wh)",
        new="low = Sub (xy, wh)",
        test="tests/inference/test_export.py",
    ),
    Fault(
        symbol="utils.checkpoints.download._chunks",
        old="if bar.n < total:",
        new="if bar.n > total:",
        test="tests/checkpoints/test_download.py",
    ),
    Fault(
        symbol="utils.inference.sources._clip_of",
        old="return clip[0] if clip else None",
        new="return clip[1] if clip else None",
        test="tests/scripts/test_detect.py",
    ),
    Fault(
        symbol="utils.inference.outputs.ClipViews.means",
        old="total / self._frames[clip]",
        new="total",
        test="tests/inference/test_outputs.py",
    ),
    Fault(
        symbol="utils.plots.results.RESULT_PANELS",
        old='"val/obj_loss"',
        new='"val/box_loss"',
        test="tests/plots/test_results.py",
    ),
    Fault(
        symbol="utils.comparison.statistics.delta_m",
        old="1 / len(contrasts)",
        new="1.0",
        test="tests/comparison/test_statistics.py",
    ),
    Fault(
        symbol="utils.loggers.model_card._limits",
        old="if not data.group_pattern or",
        new="if not data.group_pattern and",
        test="tests/loggers/test_model_card.py",
    ),
    Fault(
        symbol="utils.loggers.monitor._left_s",
        old="(batch + 1) / batches",
        new="batch / batches",
        test="tests/loggers/test_monitor.py",
    ),
    Fault(
        symbol="utils.data.phantom.generate._box_line",
        old="columns.max() + 1",
        new="columns.max()",
        test="tests/data/test_phantom.py",
    ),
    Fault(
        symbol="utils.losses.anchors.anchor_fit",
        old="np.minimum(ratio, 1 / ratio).min(axis=1)",
        new="np.minimum(ratio, 1 / ratio).max(axis=1)",
        test="tests/losses/test_anchors.py",
    ),
    Fault(
        symbol="utils.training.timing.epoch_ratio",
        old="_epochs_by_block_s(a, block) / _epochs_by_block_s(b, block)",
        new="_epochs_by_block_s(b, block) / _epochs_by_block_s(a, block)",
        test="tests/training/test_timing.py",
    ),
    Fault(
        symbol="utils.comparison.out_of_fold.other_folds_thresholds",
        old="fold != number and ",
        new="",
        test="tests/comparison/test_out_of_fold.py",
    ),
    Fault(
        symbol="utils.curation.balance.Balance.of",
        old="np.hstack([content.counts, content.groups])",
        new="np.hstack([content.counts, content.counts])",
        test="tests/curation/test_balance.py",
    ),
    Fault(
        symbol="utils.comparison.protocol_file._check_number",
        old="protocol.planned > allowed",
        new="protocol.planned > allowed + 1",
        test="tests/comparison/test_protocol_file.py",
    ),
    Fault(
        symbol="utils.core.yaml_reader.PlainSafeLoader._extent",
        old="return 1 + values, 1 + depths",
        new="return 1, 1 + depths",
        test="tests/core/test_yaml_reader.py",
    ),
    Fault(
        symbol="utils.core.user_file.read_regular",
        old="size > most_bytes",
        new="size > 2 * most_bytes",
        test="tests/core/test_user_file.py",
    ),
    Fault(
        symbol="utils.data.image_list.list_content",
        old="if line != line.strip() or",
        new="if",
        test="tests/data/test_image_list.py",
    ),
    Fault(
        symbol="utils.data.labels._reaches_outside",
        old="(1 - MOST_OUTSIDE) * box_xywh[2:].prod()",
        new="MOST_OUTSIDE * box_xywh[2:].prod()",
        test="tests/data/test_cut_boxes.py",
    ),
    Fault(
        symbol="utils.core.terminal.Outlet._lose",
        old="if not isinstance(error, BrokenPipeError):",
        new="if error:",
        test="tests/core/test_terminal.py",
    ),
    Fault(
        symbol="utils.core.settings._within",
        old="if least <= value <= most:",
        new="if least <= value:",
        test="tests/core/test_settings.py",
    ),
    Fault(
        symbol="utils.plots.frames.best_first",
        old="np.argsort(-np.asarray(worth)",
        new="np.argsort(np.asarray(worth)",
        test="tests/plots/test_frames.py",
    ),
    Fault(
        symbol="utils.data.labels.without_repeats",
        old="centres + 2 * SAME",
        new="centres",
        test="tests/data/test_many_boxes.py",
    ),
    Fault(
        symbol="utils.data.dicom_colour.rendering_of",
        old="if plugin == PILLOW and markers.has_app14:",
        new="if plugin != PILLOW and markers.has_app14:",
        test="tests/data/test_dicom_colour.py",
    ),
    Fault(
        symbol="utils.data.dicom_header.regions_of",
        old="if fits_across and fits_down:",
        new="if fits_across or fits_down:",
        test="tests/data/test_dicom_header.py",
    ),
    Fault(
        symbol="utils.data.dicom._clip_of",
        old='header.get("NumberOfFrames") or 1',
        new='header.get("SamplesPerPixel") or 1',
        test="tests/data/test_dicom.py",
    ),
    Fault(
        symbol="utils.curation.pseudonyms._new_patients",
        old="generator = random.SystemRandom()",
        new="generator = random.Random(str(identities))",
        test="tests/curation/test_pseudonyms.py",
    ),
    Fault(
        symbol="utils.curation.extraction.extract",
        old="blackened = frame * mask[..., None]",
        new="blackened = frame",
        test="tests/curation/test_extraction.py",
    ),
    Fault(
        symbol="utils.evaluation.clips.class_evidence",
        old="np.mean(highest, axis=0)",
        new="np.max(highest, axis=0)",
        test="tests/evaluation/test_clips.py",
    ),
    Fault(
        symbol="utils.evaluation.clip_metrics._best_hits",
        old="hits[first]",
        new="hits",
        test="tests/evaluation/test_clip_metrics.py",
    ),
    Fault(
        symbol="docs.recipe.clips.of_other_folds",
        old="if other is not fold",
        new="if other",
        test="tests/scripts/test_recipe_clips.py",
    ),
    Fault(
        symbol="utils.core.flips.mirrored",
        old="other |= {first: second, second: first}",
        new="other |= {first: second}",
        test="tests/core/test_flips.py",
    ),
    Fault(
        symbol="utils.data.augment.Augmenter._named",
        old="if is_mirrored and len(",
        new="if len(",
        test="tests/data/test_augment.py",
    ),
    Fault(
        symbol="utils.core.data_config.DataConfig.unpaired_sides",
        old="if name not in paired",
        new="if not paired",
        test="tests/training/test_run.py",
    ),
    Fault(
        symbol="utils.core.title._WORD",
        old="(?![\\w-]|[/.]\\w)",
        new="",
        test="tests/core/test_title.py",
    ),
    Fault(
        symbol="utils.evaluation.matching._Pairs._take",
        old="taken[boxes[rows, columns] - first_box, columns] = True",
        new="taken[boxes[rows, columns] - first_box, columns] = False",
        test="tests/evaluation/test_matching.py",
    ),
    Fault(
        symbol="utils.evaluation.average_precision._least_hits",
        old="least += least / counts < COCO_RECALLS",
        new="least += 0",
        test="tests/evaluation/test_matching.py",
    ),
    Fault(
        symbol="utils.core.threads.Behind._call",
        old="self._has_failed = True",
        new="self._has_failed = False",
        test="tests/core/test_threads.py",
    ),
    Fault(
        symbol="utils.inference.outputs.Table.add",
        old="self._stream.flush()",
        new="pass",
        test="tests/inference/test_outputs.py",
    ),
    Fault(
        symbol="utils.inference.clips._predictions",
        old="others = attentive.predict(",
        new="others = predictor.predict(",
        test="tests/inference/test_clips.py",
    ),
    Fault(
        symbol="utils.data.frame_index._facts",
        old="found.st_ctime_ns",
        new="found.st_mtime_ns",
        test="tests/data/test_frame_index.py",
    ),
    Fault(
        symbol="utils.data.frame_index.FrameIndex.lasting_rows",
        old="changed_ns > self.looked_ns - YOUNG_NS",
        new="changed_ns > self.looked_ns",
        test="tests/data/test_frame_index.py",
    ),
    Fault(
        symbol="utils.data.frame_index.FrameIndex._read_label",
        old="return FrameLabels(view=UNREAD)",
        new="return FrameLabels()",
        test="tests/data/test_frame_index.py",
    ),
    Fault(
        symbol="utils.data.frame_index.read_frames",
        old="index.fill_from(file.read(label_of))",
        new="index.fill_from(kept)",
        test="tests/data/test_frame_index.py",
    ),
    Fault(
        symbol="utils.data.label_table.LabelTable.take",
        old="np.repeat(ends_here - ends, counts)",
        new="np.repeat(ends_here - counts, counts)",
        test="tests/data/test_label_table.py",
    ),
    Fault(
        symbol="utils.report.comparison.is_told",
        old='return row["low"] > 0 or row["high"] < 0',
        new='return row["low"] > 0',
        test="tests/report/test_comparison.py",
    ),
    Fault(
        symbol="utils.report.page._policy",
        old='"default-src": "\'none\'"',
        new='"default-src": "\'self\'"',
        test="tests/report/test_page.py",
    ),
    Fault(
        symbol="utils.evaluation.frame_kinds.frame_kinds",
        old="first_box += len(result.true_classes)",
        new="first_box += count",
        test="tests/evaluation/test_frame_kinds.py",
    ),
    Fault(
        symbol="utils.curation.doubts._Frame.evidence",
        old="_odds(score, support[label])",
        new="_odds(support[label], score)",
        test="tests/curation/test_doubts.py",
    ),
    Fault(
        symbol="utils.curation.doubts._Frame.evidence",
        old="kind == NOT_LABELLED and not len(support)",
        new="False",
        test="tests/curation/test_doubts.py",
    ),
    Fault(
        symbol="utils.curation.doubts._Frame.mistakes",
        old="_odds(support, rival)",
        new="_odds(rival, support)",
        test="tests/curation/test_doubts.py",
    ),
    Fault(
        symbol="utils.curation.doubts.share_of_mistakes",
        old="mistakes / counts, weights=counts",
        new="mistakes / counts",
        test="tests/curation/test_doubts.py",
    ),
    Fault(
        symbol="utils.curation.doubts._one_each",
        old="if not places & taken:",
        new="if True:",
        test="tests/curation/test_doubts.py",
    ),
    Fault(
        symbol="utils.report.curves._measured",
        old='table[f"norm/detection/{place}"] / table[f"norm/classification/{place}"]',
        new='table[f"norm/classification/{place}"] / table[f"norm/detection/{place}"]',
        test="tests/report/test_curves.py",
    ),
    Fault(
        symbol="utils.report.records._whole",
        old="np.rint(numbers).clip(0)",
        new="np.rint(numbers)",
        test="tests/report/test_records.py",
    ),
    Fault(
        symbol="utils.report.page._titled_in_chinese",
        old="if cls_title == DEFAULT_TITLE:",
        new="if cls_title != DEFAULT_TITLE:",
        test="tests/report/test_page.py",
    ),
    Fault(
        symbol="utils.report.run_page._cls_title",
        old="if len(titles) == 1:",
        new="if len(titles) == 2:",
        test="tests/report/test_run_page.py",
    ),
    Fault(
        symbol="utils.curation.decisions.corrected",
        old="kept + lines[view_at:]",
        new="lines[view_at:] + kept",
        test="tests/curation/test_decisions.py",
    ),
    Fault(
        symbol="utils.curation.held_out.refuse_seen",
        old="seen = set(own.trained.images) & set(own.split.images)",
        new="seen = set()",
        test="tests/curation/test_held_out.py",
    ),
    Fault(
        symbol="utils.comparison.arms.refuse_gone",
        old='if name == "tuned":',
        new='if name == "tuned-":',
        test="tests/comparison/test_protocol_file.py",
    ),
    Fault(
        symbol="utils.comparison.results.PAIRS",
        old='("gradnorm", "ratio-15")',
        new='("gradnorm", "ratio-4")',
        test="tests/comparison/test_results.py",
    ),
    Fault(
        symbol="docs.verdict.methods._joined",
        old="np.log([one.dose, other.dose]), weights=counts",
        new="np.log([one.dose, other.dose])",
        test="tests/scripts/test_verdict_curves.py",
    ),
    Fault(
        symbol="utils.comparison.ray_engine.RayEngine.begin",
        old="retry_exceptions=[Lost]",
        new="retry_exceptions=[Lost, UserError]",
        test="tests/comparison/test_ray_engine.py",
    ),
    Fault(
        symbol="utils.comparison.ray_engine.RayEngine.look",
        old="stop_if_asked()",
        new="pass",
        test="tests/comparison/test_ray_engine.py",
    ),
    Fault(
        symbol="utils.comparison.ray_engine._train",
        old="signal.signal(signal.SIGINT, signal.default_int_handler)",
        new="pass",
        test="tests/comparison/test_ray_engine.py",
    ),
    Fault(
        symbol="utils.comparison.engine.TrainingProcess.wait",
        old="self.process.terminate()",
        new="self.process.kill()",
        test="tests/comparison/test_ray_engine.py",
    ),
)
