"""NeMo Curator's audio stages: manifest, resampling (ffmpeg), a recogniser that does nothing, manifest.

python nemo_example.py MANIFEST OUT ray_data|xenna
"""

import os
import sys
from pathlib import Path

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
os.environ["PYTHONPATH"] = HERE  # workers import `nemo_no_model`

import ray  # noqa: E402
from nemo_curator.pipeline import Pipeline  # noqa: E402
from nemo_curator.stages.audio.common import ManifestReader, ManifestWriterStage  # noqa: E402
from nemo_curator.stages.audio.inference.asr.stage import ASRStage  # noqa: E402
from nemo_curator.stages.audio.tagging.resample_audio import ResampleAudioStage  # noqa: E402
from nemo_curator.stages.resources import Resources  # noqa: E402

# One more than ours on two cores: with four, its stages do not fit beside each other in the mode `xenna`.
CPUS = {"ray_data": 4, "xenna": 5}
BATCH = 16


def main() -> None:
    """Run the pipeline."""
    manifest, out, backend = sys.argv[1], Path(sys.argv[2]).absolute(), sys.argv[3]
    out.mkdir(parents=True, exist_ok=True)
    ray.init(
        "local",
        num_cpus=CPUS[backend],
        include_dashboard=backend == "xenna",
        dashboard_host="127.0.0.1",
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        object_store_memory=2**30,
    )
    if backend == "xenna":
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        from nemo_curator.backends.xenna import XennaExecutor as Executor
    else:
        from nemo_curator.backends.ray_data import RayDataExecutor as Executor
    resampled = ResampleAudioStage(resampled_audio_dir=str(out / "resampled"))
    recogniser = ASRStage(
        adapter_target="nemo_no_model.NoModel",
        model_id="none",
        resources=Resources(cpus=0.5),
        batch_size=BATCH,
    )
    written = ManifestWriterStage(output_path=str(out / "result.jsonl"))
    pipeline = Pipeline(name="bulk")
    pipeline.add_stage(ManifestReader(manifest_path=str(Path(manifest).absolute())))
    pipeline.add_stage(resampled.with_(resources=Resources(cpus=1.0)))
    pipeline.add_stage(recogniser)
    pipeline.add_stage(written.with_(resources=Resources(cpus=0.5)))
    pipeline.run(Executor())


main()
