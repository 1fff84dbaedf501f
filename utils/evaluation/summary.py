"""The result of `utils.evaluation.metrics.summarise`, which `metrics.json` holds, key by key.

A figure that is undefined, such as the recall of a class without a true box, is None. Numbers of
groups (patients) are None where no groups are known. Intervals are of 95 %, [low, high].
"""

# No `annotations` from `__future__`: as text, NotRequired would not be seen
from typing import NotRequired, TypedDict

Figure = float | None
Interval = list[Figure]

# Keys that are no names of Python are declared here, all others in the classes below
_ClassAP = TypedDict("_ClassAP", {"AP_0.5": Figure, "AP_0.5:0.95": Figure, "AP_0.3": Figure})
_MeanAP = TypedDict(
    "_MeanAP",
    {
        "mAP_0.5": Figure,
        "mAP_0.5:0.95": Figure,
        "mAP_0.3": Figure,
        "yolov5_mAP_0.5": Figure,
        "yolov5_mAP_0.5:0.95": Figure,
    },
)
_Gains = TypedDict("_Gains", {"delta_mAP_0.5": dict[str, Figure]})  # kind of error -> gain


class Intervals(TypedDict):
    """Of a part's metrics, by their keys; empty where none were asked for."""

    intervals: dict[str, Interval]
    effective_groups: dict[str, float]  # Kish's number of groups
    incomplete_resamples: int  # that lack a class or view


class ClassMetrics(_ClassAP):
    """Of one class of boxes."""

    name: str
    images: int  # that show it
    groups: int | None
    boxes: int
    precision: Figure
    recall: Figure
    f1: Figure


class PrCurve(TypedDict):
    """Precision at IoU 0.5 over COCO's 101 recalls."""

    recall: list[float]
    precision: list[list[Figure]]  # a curve for every class


class Errors(_Gains):
    """See `utils.evaluation.error_kinds`."""

    counts: dict[str, int]  # kind -> boxes
    per_class: list[dict[str, object]]  # `name`, and the counts of the class


class FrocCurve(TypedDict):
    """Sensitivity over false positives a frame, finely."""

    false_positives: list[float]
    sensitivity: list[list[Figure]]  # a curve for every class


class FrocClass(TypedDict):
    """Sensitivity of one class at the seven rates."""

    name: str
    sensitivity: list[Figure]
    mean: Figure


class Froc(TypedDict):
    """See `utils.evaluation.screening.froc`."""

    false_positives: list[float]  # the seven rates, a frame
    sensitivity: list[Figure]
    mean: Figure
    per_class: list[FrocClass]
    curve: FrocCurve
    any: NotRequired[FrocClass]  # by clip: of any finding


class FrameRates(TypedDict):
    """Sensitivity and specificity of whole frames."""

    name: str
    positives: int
    positive_groups: int | None
    sensitivity: Figure
    sensitivity_interval: Interval
    negatives: int
    negative_groups: int | None
    specificity: Figure
    specificity_interval: Interval
    note: NotRequired[str | None]  # of any finding only


class ImageLevel(TypedDict):
    """See `utils.evaluation.screening.frame_rates`."""

    any: FrameRates
    per_class: list[FrameRates]


class Detection(_MeanAP, Intervals):
    """The metrics of the boxes, means over classes."""

    precision: Figure
    recall: Figure
    f1: Figure
    confidence: float | None  # the threshold; None where none finds a box
    confidence_source: str
    mse_xywhn: Figure
    matched_share: Figure
    per_class: list[ClassMetrics]
    confusion: list[list[int]]  # rows predicted, columns true, the last of each background
    pr_curve: PrCurve
    errors: Errors
    froc: Froc
    image_level: ImageLevel


class ViewMetrics(TypedDict):
    """Of one view."""

    name: str
    images: int
    groups: int | None
    recall: Figure
    precision: Figure
    f1: Figure


class MajorityBaseline(TypedDict):
    """The most frequent view of training, said of every frame."""

    view: str
    accuracy: Figure


class LookupBaseline(TypedDict):
    """The most frequent view of the box's class in training."""

    accuracy: Figure
    table: dict[str, str]  # class -> view


class Views(Intervals):
    """The metrics of the view."""

    images: int  # with a known and a predicted view
    accuracy: Figure
    balanced_accuracy: Figure
    macro_f1: Figure
    auroc: Figure
    ece: Figure
    per_view: list[ViewMetrics]
    confusion: list[list[int]]  # rows true, columns predicted
    majority_baseline: MajorityBaseline | None
    class_lookup_baseline: LookupBaseline | None


class Reference(TypedDict):
    """See `utils.curation.reference.same_clip_reference`; None where the data has no such task."""

    boxes: dict[str, object] | None
    views: dict[str, object] | None


class ClipRates(FrameRates):
    """Of clips or patients, one class or any finding."""

    auroc: Figure
    auroc_interval: Interval


class RocCurve(TypedDict):
    """Its points, from (0, 0) to (1, 1)."""

    name: str
    auroc: float
    false_positive_rate: list[float]
    sensitivity: list[float]


class Calibration(TypedDict):
    """In bins of equal width, None in an empty one."""

    said: list[Figure]  # mean probability, or evidence
    true: list[Figure]  # share
    count: list[int]


class ClipFindings(TypedDict):
    """By clip, or by patient."""

    count: int
    rows: list[ClipRates]  # any finding first, then the classes
    notes: list[str]  # what cannot be measured
    roc: list[RocCurve]  # of those that have positives and negatives
    calibration: Calibration  # of the evidence, over all classes


class Kept(TypedDict):
    """What a threshold from elsewhere leaves of the answers."""

    threshold: float
    coverage: float  # share that is answered
    accuracy: Figure  # of these


class ClipView(TypedDict):
    """Against the majority of the clip's labels."""

    clips: int  # with such a majority
    accuracy: Figure
    accuracy_interval: Interval
    contradicting: int  # with labels of several views
    undecided: int  # of these, without a majority
    unlabelled: int
    kept: Kept | None  # of the clips with a majority
    calibration: Calibration  # of the most probable view


class Clips(TypedDict):
    """See `utils.evaluation.clip_metrics.clip_metrics`; None for a task that there is not."""

    count: int
    frames_outside: int  # in no clip
    threshold: float  # from which evidence on something is called
    threshold_source: str
    strength: float
    by_clip: ClipFindings | None
    by_patient: ClipFindings | None
    froc: Froc | None  # by clip, see `utils.evaluation.clip_metrics.froc_by_clip`
    with_evidence: dict[str, Figure] | None  # frame AP, boxes rescored by their clip
    view: ClipView | None


class AtAccuracy(TypedDict):
    """The lowest threshold at which so many of the answered are right."""

    accuracy: float
    threshold: Figure  # None where no threshold reaches it
    coverage: float


class RiskCoverage(TypedDict):
    """See `utils.evaluation.risk_coverage`."""

    area: float
    threshold: list[float]
    coverage: list[float]
    risk: list[float]
    at_accuracy: list[AtAccuracy]
    kept: Kept | None


class Summary(TypedDict):
    """All that an evaluation reports; `detection` and `views` for the tasks that it has only."""

    names: list[str]
    view_names: list[str]
    cls_title: str  # what the data set calls a view
    images: int
    groups: int | None
    boxes: int
    detection: NotRequired[Detection]
    views: NotRequired[Views]
    interval_unit: str
    resamples: int
    fitness: float
    reference: NotRequired[Reference | None]  # added by val.py
    clips: NotRequired[Clips | None]  # likewise
    risk_coverage: NotRequired[RiskCoverage | None]  # likewise, of the view
    # Added by a training, see `utils.evaluation.thresholds`
    thresholds: NotRequired[dict[str, float | None]]
