from .data.boxes import crops
from .data.labels import read_labels
from .data.layouts import read_dataset
from .errors import (
    CardError,
    CheckpointError,
    DataError,
    DownloadError,
    EngineError,
    ImageError,
    MissingExtraError,
    MultiTaskNetError,
)
from .evaluation.pose import PoseEvaluation, evaluate_pose
from .evaluation.run import evaluate
from .gallery.comparing import Comparison, compare
from .gallery.gallery import Gallery, open_gallery
from .hub.card import Asset, ModelCard, load_card
from .hub.create_network import create_network
from .hub.download import fetch_asset
from .hub.install import hub_install
from .hub.publish import write_card
from .images import Picture, find_images, open_picture
from .inference.export import ExportReport, export
from .inference.pose import PoseEstimator
from .inference.prediction import EmbeddingOrigin, Prediction
from .inference.predictor import Predictor
from .inference.quantize import QuantizationReport, quantize
from .models.base import VARIANTS
from .models.multitasknet.network import MultiTaskNet
from .models.multitasknet.preprocessing import preprocess
from .models.multitasknet.spec import MultiTaskNetSpec
from .models.poseestnet.network import PoseEstNet
from .models.poseestnet.spec import PoseEstNetSpec
from .models.vehiclepose.network import VehiclePose
from .models.vehiclepose.spec import VehiclePoseSpec
from .models.vehiclereid.network import VehicleReID
from .models.vehiclereid.spec import VehicleReIDSpec
from .ranking.calibration import Calibration
from .ranking.metrics import evaluate_ranking
from .ranking.strangers import Rate, StrangerRates
from .training.adapt import adapt
from .training.batches import create_pipeline
from .training.finetune import FinetuneResult, finetune
from .training.losses import MultiTaskLoss
from .vehicle.attributes import COLORS, TYPES, ClassMaps
from .vehicle.pose import Pose
from .weights.convert import convert
from .weights.load import LoadReport, load_weights, save_weights
from .weights.read import Weights, read_weights

__all__ = [
    "COLORS",
    "TYPES",
    "VARIANTS",
    "Asset",
    "Calibration",
    "CardError",
    "CheckpointError",
    "ClassMaps",
    "Comparison",
    "DataError",
    "DownloadError",
    "EmbeddingOrigin",
    "EngineError",
    "ExportReport",
    "FinetuneResult",
    "Gallery",
    "ImageError",
    "LoadReport",
    "MissingExtraError",
    "ModelCard",
    "MultiTaskLoss",
    "MultiTaskNet",
    "MultiTaskNetError",
    "MultiTaskNetSpec",
    "Picture",
    "Pose",
    "PoseEstNet",
    "PoseEstNetSpec",
    "PoseEstimator",
    "PoseEvaluation",
    "Prediction",
    "Predictor",
    "QuantizationReport",
    "Rate",
    "StrangerRates",
    "VehiclePose",
    "VehiclePoseSpec",
    "VehicleReID",
    "VehicleReIDSpec",
    "Weights",
    "__version__",
    "adapt",
    "compare",
    "convert",
    "create_network",
    "create_pipeline",
    "crops",
    "evaluate",
    "evaluate_pose",
    "evaluate_ranking",
    "export",
    "fetch_asset",
    "find_images",
    "finetune",
    "hub_install",
    "load_card",
    "load_weights",
    "open_gallery",
    "open_picture",
    "preprocess",
    "quantize",
    "read_dataset",
    "read_labels",
    "read_weights",
    "save_weights",
    "write_card",
]

__version__: str
