"""Which tests cover which modules, for `tools/mutation.py`: the fewer and faster they are, the less a fault costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

SOURCE = "src/otoscope"
NEEDS_A_GRAPHICS_CARD = ("_triton_max.py",)

_VMAP = ("tests/test_fit_many.py::test_max_cosine_under_vmap_takes_the_mask_of_each_set",)
_VMAP += ("tests/test_fit_many.py::test_max_cosine_under_vmap_equals_each_set_of_prototypes",)
_WEIGHTED = ("tests/test_fit_many.py::test_weighted_sum_equals_matmul_under_vmap",)
_WEIGHTED += ("tests/test_fit_many.py::test_weighted_sum_is_twice_differentiable",)
_SIGNS = ("tests/test_shipping.py::test_packed_signs_are_the_bits_of_numpy",)
_OPS = ("tests/test_ops.py",)
_LOGISTIC = ("tests/test_logistic.py", "tests/test_exact_probes.py")
_METRIC = ("tests/test_metrics.py", "tests/contract/test_metric_contract.py", "tests/test_main_metric.py")
_METRIC += ("tests/test_undefined_metrics.py",)
_STATISTICS = ("tests/test_exact_statistics.py", "tests/test_stats.py", "tests/test_rankings.py")
_BANK = ("tests/test_bank*.py",)
_ON_THE_FLY = ("tests/test_on_the_fly.py",)
_FIT = ("tests/test_loop.py", "tests/test_train.py", "tests/test_fit_many.py")
_EXACT = ("tests/test_logistic.py", "tests/test_exact_probes.py", "tests/test_convergence_training.py")

_SHARED = ("tests/test_dataclasses.py", "tests/test_memory_limits.py")
"""Tests of all modules."""

PACKAGES: dict[str, dict[str, tuple[str, ...]]] = {
    "ops": {
        "": (*_OPS, *_VMAP, "tests/test_int8.py", "tests/test_screening.py"),
        "_bounded": ("tests/test_bounded.py", *_OPS),
        "_cache": ("tests/test_own_files.py",),
        "_compiled": ("tests/test_own_files.py", *_OPS, "tests/test_bounded.py"),
        "int8": ("tests/test_int8.py", *_OPS),
        "screening": ("tests/test_screening.py",),
        "sign": (*_OPS, *_SIGNS),
        "weighted": (*_OPS, *_WEIGHTED),
        "logistic": _LOGISTIC,
    },
    "metrics": {
        "": _METRIC,
        "stats": _STATISTICS,
        "_bootstrap": _STATISTICS,
        "_exact": _STATISTICS,
        "_resampling": _STATISTICS,
        "_multiple": _STATISTICS,
        "frames": ("tests/test_frames.py",),
        "contract": ("tests/contract/test_metric_contract.py",),
    },
    "bank": {
        "": _BANK,
        "_batches": ("tests/test_extraction.py", *_BANK),
        "_clip_encoder": (*_ON_THE_FLY, "tests/test_extraction.py"),
        "_compile": ("tests/test_extraction.py", "tests/test_hf.py"),
        "_differences": ("tests/test_bank_identity.py",),
        "_encode": ("tests/test_bank_errors.py", "tests/test_extraction.py", *_BANK),
        "_loader": ("tests/test_bank_boundaries.py", "tests/test_extraction.py", *_ON_THE_FLY),
        "_manifest_values": (
            "tests/test_bank_boundaries.py",
            "tests/test_bank_damage.py",
            "tests/test_damaged_files.py",
        ),
        "_mirror": ("tests/test_remote.py", *_BANK),
        "_pipeline": ("tests/test_extraction.py", *_BANK),
        "_requirements": ("tests/test_bank_requirements.py",),
        "_shard": ("tests/test_bank_damage.py", "tests/test_damaged_files.py", "tests/test_remote.py", *_BANK),
        "_shuffle": ("tests/test_bank_order.py",),
        "_split_names": ("tests/test_bank_errors.py", "tests/test_names.py", *_BANK),
        "_store": ("tests/test_bank_errors.py", "tests/test_extraction.py", *_BANK),
        "_turns": ("tests/test_bank_boundaries.py", *_ON_THE_FLY),
        "default_folder": ("tests/test_encoder_weights.py", "tests/test_cli.py"),
        "extraction": ("tests/test_extraction.py", *_BANK),
        "identity": ("tests/test_bank_identity.py", "tests/test_identity.py", *_BANK),
        "manifest": ("tests/test_bank_damage.py", "tests/test_bank_identity.py", *_BANK, "tests/test_folds.py"),
        "on_the_fly": ("tests/test_bank_boundaries.py", *_ON_THE_FLY),
        "read": ("tests/test_bank.py", "tests/test_bank_damage.py", *_BANK, "tests/test_folds.py"),
        "size": ("tests/test_bank_boundaries.py", "tests/test_bank_size.py", "tests/test_bank.py"),
        "split": (*_BANK, "tests/test_loader.py"),
        "write": ("tests/test_bank_resume.py", "tests/test_bank_errors.py", *_BANK, "tests/test_folds.py"),
    },
    "train": {
        "": _FIT,
        "callbacks": ("tests/test_callbacks.py", *_FIT),
        "config": ("tests/test_training_config.py", "tests/test_train.py"),
        "errors": ("tests/test_training_config.py", *_FIT),
        "data": ("tests/test_learners.py", *_FIT, "tests/test_loader.py"),
        "learners": ("tests/test_learners.py", *_FIT, "tests/test_prototype_start.py"),
        "rng": ("tests/test_learners.py", *_FIT),
        "device": ("tests/test_exact_probes.py",),
        "losses": ("tests/test_train.py",),
        "optim": ("tests/test_optimiser.py", *_FIT),
        "batched": (*_FIT, "tests/test_prototype_start.py"),
        "once": (*_FIT, "tests/test_prototype_start.py", *_EXACT, "tests/test_frames.py"),
        "exact": _EXACT,
        "penalty_path": _EXACT,
        "_solutions": _EXACT,
        "_head_inputs": (*_EXACT, "tests/test_frames.py"),
        "_layer_features": ("tests/test_exact_probes.py", "tests/test_layers.py"),
        "convergence": ("tests/test_convergence.py", "tests/test_convergence_training.py"),
        "loader": ("tests/test_loader.py", "tests/test_train.py"),
        "together": _ON_THE_FLY,
        "shipping": ("tests/test_shipping.py",),
        "standardise": ("tests/test_standardise.py",),
        "fitted": ("tests/test_saved_probes.py", "tests/test_train.py", "tests/test_shipping.py"),
        "progress": ("tests/test_progress.py", *_ON_THE_FLY),
        "_splits": ("tests/test_training_splits.py", *_FIT, "tests/test_frames.py"),
        "_saved": (
            "tests/test_saved_probes.py",
            "tests/test_standardise.py",
            "tests/test_train.py",
            "tests/test_damaged_files.py",
        ),
        "protocol": (
            "tests/test_training_config.py",
            "tests/test_train.py",
            "tests/test_identity.py",
            "tests/test_execute.py",
        ),
    },
    "results": {
        "": ("tests/test_store.py", "tests/test_results.py", "tests/test_identity.py"),
        "activation_map": ("tests/test_activation_map.py",),
        "checked": ("tests/test_checked.py", "tests/test_results.py", "tests/test_damaged_files.py"),
        "migrate": ("tests/test_migration.py", "tests/test_results.py"),
        "sealed": ("tests/test_store.py", "tests/test_results.py", "tests/test_bank_damage.py"),
        "store": ("tests/test_store.py", "tests/test_results.py", "tests/test_damaged_files.py"),
        "convergence": ("tests/test_convergence.py", "tests/test_convergence_shown.py"),
    },
    "bench/plan": {"": ("tests/test_plan.py", "tests/test_controls.py")},
}
"""For each package, the tests of its modules by the beginning of their names; the longest beginning counts."""


def modules(root: Path, package: str) -> Iterator[Path]:
    """The files of a package, or the one of a module, in a fixed order."""
    path = root / SOURCE / package
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    yield from (file for file in files if file.name not in NEEDS_A_GRAPHICS_CARD)


def tests_of(root: Path, module: str) -> tuple[str, ...]:
    """The examples in a module and the tests that cover it, and those of all modules.

    Parameters
    ----------
    root : the repository.
    module : path of the module, relative to the repository.

    Returns
    -------
    Arguments of pytest, in the order in which the tests should run.

    Raises
    ------
    KeyError : for a module of another package.
    """
    inside = module.removeprefix(f"{SOURCE}/").removesuffix(".py")
    package = next(name for name in PACKAGES if f"{inside}/".startswith(f"{name}/"))
    name = inside.removeprefix(package).removeprefix("/")
    tests = PACKAGES[package][max((start for start in PACKAGES[package] if name.startswith(start)), key=len)]
    found = [module]
    for test in (*tests, *_SHARED):
        file, _, case = test.partition("::")
        found += [
            f"{path.relative_to(root).as_posix()}{'::' if case else ''}{case}" for path in sorted(root.glob(file))
        ]
    return tuple(dict.fromkeys(found))
