"""The recipes parse: scripts as bash, manifests as YAML, and every option in them is one that the command has."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (DOCS / "recipes.md").read_text(encoding="utf-8"), flags=re.DOTALL)
SCRIPTS = [text for kind, text in BLOCKS if kind == "sh"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda text: text.strip().splitlines()[-1][:40])
def test_a_script_is_one(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_option_of_run_is_there() -> None:
    reference = (DOCS / "cli.md").read_text(encoding="utf-8")
    (known,) = re.findall(r"## `tapfm-eval run`\n(.*?)\n## ", reference, flags=re.DOTALL)
    texts = [text.replace("\\\n", " ") for text in SCRIPTS]
    (job,) = [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml"]
    texts.append(job["spec"]["entrypoint"])
    calls = [call for text in texts for call in re.findall(r"tapfm[-_]eval run [^\n&]*", text)]
    assert len(calls) >= 5
    for call in calls:
        for option in re.findall(r"--[a-z][a-z-]*", call):
            assert f"`{option}" in known, call


def test_every_pod_of_the_job_sees_the_run_folder() -> None:
    (job,) = [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml"]
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert len(groups) == 2
    for group in groups:
        pod = group["template"]["spec"]
        assert [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]] == ["/study"]
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "study"


def test_the_guide_names_every_way_to_more_than_one_gpu() -> None:
    guide = (DOCS / "guide.md").read_text(encoding="utf-8")
    step = guide.partition("\n## 6. Run\n")[2].partition("\n## 7.")[0]
    for way in ("--executor ray`", "--executor ray --address auto", "torchrun ", "recipes.md"):
        assert way in step


def test_a_torchrun_job_has_time_for_its_checkpoint_and_ends_whole() -> None:
    (script,) = [text for text in SCRIPTS if "torchrun --nnodes" in text]
    notice = int(re.findall(r"--signal=TERM@(\d+)", script)[0])
    assert 60 <= int(re.findall(r"TORCH_ELASTIC_SHUTDOWN_TIMEOUT=(\d+)", script)[0]) < notice
    assert "srun --kill-on-bad-exit=1" in script
