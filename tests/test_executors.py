"""Where workers run: processes of this machine, a SLURM array, actors of Ray. All end in the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from helpers_units import SLOW_TOY, plan_toy, serial_bank, start, visible_files, work
from otoscope.bench import executors
from otoscope.bench.executors import WorkerOptions
from otoscope.bench.executors.base import variables_of_workers
from otoscope.bench.executors.local import Local, _devices
from otoscope.bench.executors.ray import OnRay, _wait
from otoscope.bench.executors.slurm import Slurm
from otoscope.bench.units import PlanFolder, Status

pytestmark = [
    pytest.mark.usefixtures("plugin_folder", "toy_plugins"),
    pytest.mark.skipif(os.name != "posix", reason="needs POSIX"),
]
TOY = WorkerOptions(plugins=(Path("toy.py"),), threads=1, loader_workers=0, progress=False)


@pytest.mark.parametrize("text", ["local", "local:0", "local:two", "mars", "slurm:partition=a", "slurm:array=0", ""])
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"allowed are local:N, slurm|slurm needs array=N"):
        executors.create(text)


@pytest.mark.parametrize(
    ("text", "executor"),
    [
        ("local:3", Local(3)),
        ("ray", OnRay()),
        ("ray:ray://head:10001", OnRay("ray://head:10001")),
        ("slurm:array=5,nodelist=a;b", Slurm(5, {"nodelist": "a,b"})),
        ("slurm:array=units,limit=3,grace=9", Slurm(None, {}, 3, 9)),
    ],
)
def test_texts_name_executors(text: str, executor: Any) -> None:
    assert executors.create(text) == executor


# Processes of this machine


def test_local_workers_write_the_bytes_of_a_serial_extraction(tmp_path: Path) -> None:
    plan = plan_toy(tmp_path / "plan")
    assert Local(2).launch(plan, TOY) == 0
    assert visible_files(plan.bank_path(0)) == visible_files(serial_bank(tmp_path / "serial"))


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(SLOW_TOY)
    plan_toy(tmp_path / "plan")
    arguments = ["launch", "plan", "--on", "local:2", "--plugin", "toy.py", "--quiet", "--loader-workers", "0"]
    with start(*arguments, folder=tmp_path) as parent:
        pids = wait_for_workers(tmp_path / "plan", 2)
        parent.kill()
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in pids)
    (tmp_path / "toy.py").write_text(SLOW_TOY.replace("0.1", "0"))
    assert work(PlanFolder.read(tmp_path / "plan")).remaining == 0
    assert visible_files(tmp_path / "plan/bank") == visible_files(serial_bank(tmp_path / "serial"))


def test_a_worker_that_is_killed_is_replaced_by_the_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "toy.py").write_text(SLOW_TOY)
    plan = plan_toy(tmp_path / "plan")
    arguments = ["launch", "plan", "--on", "local:2", "--plugin", "toy.py", "--quiet", "--loader-workers", "0"]
    with start(*arguments, folder=tmp_path) as parent:
        os.kill(wait_for_workers(plan.path, 2)[0], signal.SIGKILL)
        assert parent.wait(120) == 0
    assert "killed: otoscope-worker-" in capfd.readouterr().err
    assert visible_files(plan.bank_path(0)) == visible_files(serial_bank(tmp_path / "serial"))


def test_sigterm_ends_the_workers_after_their_shard(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(SLOW_TOY)
    plan = plan_toy(tmp_path / "plan")
    arguments = ["launch", "plan", "--on", "local:2", "--plugin", "toy.py", "--quiet", "--loader-workers", "0"]
    with start(*arguments, folder=tmp_path) as parent:
        wait_for_workers(plan.path, 2)
        parent.terminate()
        assert parent.wait(60) == 75
    assert 0 < len(list(plan.bank_path(0).glob("*/shard-*"))) < 12
    assert list(plan.bank_path(0).glob("*/.*")) == []
    assert list(plan.claims.iterdir()) == []


def test_an_interruption_by_the_keyboard_ends_the_workers_after_their_shard(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toy.py").write_text(SLOW_TOY)
    plan = plan_toy(tmp_path / "plan")
    arguments = ["launch", "plan", "--on", "local:2", "--plugin", "toy.py", "--quiet", "--loader-workers", "0"]
    handled = signal.signal(signal.SIGINT, signal.default_int_handler)  # inherited, also if this process ignores it
    with start(*arguments, folder=tmp_path, start_new_session=True) as parent:
        signal.signal(signal.SIGINT, handled)
        wait_for_workers(plan.path, 2)
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.wait(60) == 130
    assert "Traceback" not in capfd.readouterr().err
    assert 0 < len(list(plan.bank_path(0).glob("*/shard-*"))) < 12
    assert list(plan.bank_path(0).glob("*/.*")) == []
    assert list(plan.claims.iterdir()) == []


class Killable:
    """A process that receives a SIGTERM of its parent only once it has a number, and then ends."""

    started: ClassVar[list[str]] = []

    def __init__(self, *, name: str, **_: Any) -> None:
        self.name, self.pid, self.exitcode = name, None, None

    def start(self) -> None:
        self.started.append(self.name)
        os.kill(os.getpid(), signal.SIGTERM)  # to the process that starts it
        self.pid = os.getpid()

    def is_alive(self) -> bool:
        return self.pid is not None and self.exitcode is None

    def terminate(self) -> None:
        self.exitcode = -signal.SIGTERM

    def join(self, *_: Any) -> None:
        assert not self.is_alive()


def test_a_worker_that_is_being_started_at_a_sigterm_is_ended_and_no_other_one_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Killable, "started", [])
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: SimpleNamespace(Process=Killable))
    assert Local(2).launch(plan_toy(tmp_path / "plan"), TOY) == 75
    assert Killable.started == ["otoscope-worker-0"]
    assert "killed" not in capsys.readouterr().err  # this process has asked it to end


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (signal.SIGKILL, "by signal 9; the usual cause is that memory ran out. Run the same command again"),
        (signal.SIGTERM, "by signal 15. Run the same command again for what is left"),
    ],
)
def test_a_worker_that_a_signal_has_killed_is_named_with_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, message: str
) -> None:
    monkeypatch.setattr(Killable, "start", lambda self: setattr(self, "exitcode", -code))
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: SimpleNamespace(Process=Killable))
    assert Local(1).launch(plan_toy(tmp_path / "plan"), TOY) == 75
    assert f"killed: otoscope-worker-0 {message}" in capsys.readouterr().err


def test_cards_are_used_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert _devices("cuda", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert _devices("cuda:1", 2) == ["cuda:1", "cuda:1"]
    assert _devices(None, 1) == [None]


def wait_for_workers(plan: Path, count: int) -> list[int]:
    """The numbers of the processes that have claimed units, once there are `count` and the first shard is written."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        owners = Status.of(PlanFolder.read(plan)).running.values()
        if len(owners) >= count and list((plan / "bank").glob("*/shard-*")):
            return [owner.pid for owner in owners]
        time.sleep(0.05)
    raise TimeoutError(f"{len(Status.of(PlanFolder.read(plan)).running)} workers have started")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# SLURM


def test_the_script_of_slurm_has_the_options_and_requeues_itself(tmp_path: Path) -> None:
    plan = plan_toy(tmp_path / "plan")
    executor = Slurm.of("partition=gpu,array=500,gpus-per-task=1,time=4:00:00")
    script = executor.script(plan, TOY)
    for line in (
        "#SBATCH --job-name=otoscope-plan",
        "#SBATCH --requeue",
        "#SBATCH --signal=TERM@60",
        f"#SBATCH --output={tmp_path}/plan/slurm/%A_%a.log",
        "#SBATCH --partition=gpu",
        "#SBATCH --gpus-per-task=1",
        "#SBATCH --time=4:00:00",
        '    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"',
    ):
        assert line in script.splitlines()
    command = f"work {tmp_path}/plan --any --plugin {tmp_path}/toy.py --threads 1 --loader-workers 0"
    assert f"srun --ntasks=1 {sys.executable} -m otoscope {command}" in script
    assert executor.submissions(plan) == [["--array=0-6"]]  # not more workers than units
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_the_script_of_slurm_quotes_the_folder_of_the_plan(tmp_path: Path) -> None:
    plan = plan_toy(tmp_path / "50% of Zoë's plan")
    lines = Slurm.of("array=2").script(plan, TOY).splitlines()
    [output] = [shlex.split(line.removeprefix("#SBATCH ")) for line in lines if "--output" in line]
    assert output == [f"--output={tmp_path}/50%% of Zoë's plan/slurm/%A_%a.log"]


def test_a_task_requeues_itself_a_limited_number_of_times(
    tmp_path: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "100")
    assert Slurm(1).launch(plan_toy(tmp_path / "plan"), TOY) == 0
    assert not (stand_in / "requests").exists()


def test_one_task_for_each_unit_is_submitted_in_arrays_that_slurm_allows(tmp_path: Path) -> None:
    plan = plan_toy(tmp_path / "plan")
    executor = Slurm.of("array=units,limit=3")
    assert "--index-env" in executor.script(plan, TOY)
    assert executor.submissions(plan) == [
        ["--array=0-2", "--export=ALL,OTOSCOPE_UNIT_OFFSET=0"],
        ["--array=0-2", "--export=ALL,OTOSCOPE_UNIT_OFFSET=3"],
        ["--array=0-0", "--export=ALL,OTOSCOPE_UNIT_OFFSET=6"],
    ]


@pytest.mark.parametrize("text", ["array=5,output=x", "array=5,requeue=", "array=5,mem=4G # rm", "array=5,Q=1"])
def test_options_that_the_script_sets_or_that_are_no_words_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"slurm: \S+.* is not allowed"):
        Slurm.of(text)


def test_more_tasks_than_slurm_allows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="array=5000 is more than the 1001 tasks"):
        Slurm.of("array=5000").submissions(plan_toy(tmp_path / "plan"))


def test_a_dry_run_writes_the_script_and_submits_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    plan = plan_toy(tmp_path / "plan")
    assert Slurm(2, dry_run=True).launch(plan, TOY) == 0
    assert capsys.readouterr().out == f"sbatch --parsable --array=0-1 {plan.path}/slurm/work.sh\n"
    with pytest.raises(FileNotFoundError, match="sbatch is not installed on this machine; submit"):
        Slurm(2).launch(plan, TOY)


STAND_IN = """#!/bin/bash
# Runs each task of an array once more whenever it was requeued; its first argument is --parsable.
here=$(dirname "$0"); shift
for argument in "$@"; do
    case $argument in
        --array=*) range=${argument#--array=} ;;
        --export=ALL,*) export "${argument#--export=ALL,}" ;;
        *) script=$argument ;;
    esac
done
export SLURM_ARRAY_JOB_ID=7
for task in $(seq ${range%-*} ${range#*-}); do
    export SLURM_ARRAY_TASK_ID=$task
    touch "$here/requeued"
    while [ -e "$here/requeued" ]; do rm "$here/requeued"; bash "$script" >&2; done
done
echo 7
"""
SCONTROL = '#!/bin/bash\ntouch "$(dirname "$0")/requeued"; echo "$2" >> "$(dirname "$0")/requests"\n'
SRUN = """#!/bin/bash
shift
if [ ! -e "$(dirname "$0")/first" ]; then touch "$(dirname "$0")/first"; exec "$@" --deadline 0.001; fi
if [ ! -e "$(dirname "$0")/second" ]; then touch "$(dirname "$0")/second"; exit 143; fi
exec "$@"
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with stand-ins for sbatch, srun and scontrol, first in PATH. The first task has no time for its unit."""
    folder = tmp_path / "slurm-bin"
    folder.mkdir()
    for name, text in (("sbatch", STAND_IN), ("scontrol", SCONTROL), ("srun", SRUN)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder


def test_a_task_that_had_no_time_or_was_terminated_requeues_itself(tmp_path: Path, stand_in: Path) -> None:
    plan = plan_toy(tmp_path / "plan", unit_clips=48)
    assert Slurm.of("array=units,limit=2").launch(plan, TOY) == 0
    assert (stand_in / "requests").read_text() == "7_0\n7_0\n"
    assert Status.of(plan).complete
    assert visible_files(plan.bank_path(0)) == visible_files(serial_bank(tmp_path / "serial"))


# Ray


@pytest.fixture
def ray_cluster() -> Iterator[Any]:
    """A cluster of Ray of two nodes of one core on this machine."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_actors_of_ray_write_the_bytes_of_a_serial_extraction(
    tmp_path: Path, ray_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}")
    plan = plan_toy(tmp_path / "plan")
    assert OnRay(ray_cluster.address).launch(plan, TOY) == 0
    assert visible_files(plan.bank_path(0)) == visible_files(serial_bank(tmp_path / "serial"))


def test_workers_elsewhere_find_data_sets_and_weights_in_the_same_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OTOSCOPE_DATA", "OTOSCOPE_MODELS", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, f"/somewhere/{name}")
    script = Slurm.of("array=2").script(plan_toy(tmp_path / "plan"), TOY)
    for name in ("OTOSCOPE_DATA", "OTOSCOPE_MODELS", "XDG_CONFIG_HOME"):
        assert f"export {name}=/somewhere/{name}\n" in script
        assert variables_of_workers()[name] == f"/somewhere/{name}"


def test_a_plan_that_is_done_ends_the_launch_although_no_actor_answers(tmp_path: Path) -> None:
    plan, calls = plan_toy(tmp_path / "plan"), 0

    def never_ready(pending: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:  # noqa: ARG001
        nonlocal calls
        calls += 1
        assert calls < 4
        work(plan, *range(2 * calls)) if calls < 3 else work(plan)
        return [], pending

    _wait(_cluster(never_ready, alive=[True] * 2), plan, ["a", "b"], progress=False)
    assert (calls, Status.of(plan).complete) == (3, True)


def test_a_launch_whose_node_was_lost_ends_with_a_message(tmp_path: Path) -> None:
    plan = plan_toy(tmp_path / "plan")
    cluster = _cluster(lambda pending, timeout: ([], pending), alive=[True, False])  # noqa: ARG005
    with pytest.raises(ConnectionError, match=r"the node of this process was lost.* after 0 of 7 units; launch .*plan"):
        _wait(cluster, plan, ["a", "b"], progress=False)


def _cluster(wait: Any, alive: list[bool]) -> Any:
    """What `_wait` needs of Ray: the results that arrive, and whether the own node is alive in each look."""
    states = iter(alive)

    def nodes() -> list[dict[str, Any]]:
        return [{"NodeID": "own", "Alive": next(states)}, {"NodeID": "other", "Alive": True}]

    context = SimpleNamespace(get_node_id=lambda: "own")
    return SimpleNamespace(wait=wait, nodes=nodes, get_runtime_context=lambda: context)


def test_without_ray_a_sentence_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'pip install "otoscope\[ray\]", or use --on local:N'):
        OnRay().launch(plan_toy(tmp_path / "plan"), TOY)
