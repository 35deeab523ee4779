"""The protocol of a study, as a suite declares it, before anything is trained."""

from __future__ import annotations

import dataclasses

from otoscope import probes
from otoscope.bench.plan import Study
from otoscope.bench.resolved_pair import ResolvedPair
from otoscope.bench.specs import FinetuneSpec, ProbeSpec
from otoscope.bench.suites import Suite
from otoscope.finetuning.protocol import finetune_protocol
from otoscope.results import Protocol, Sampling
from otoscope.sampling import VALIDATION_CUT, mixup_settings
from otoscope.search import NEAR_BEST
from otoscope.train.loader import choose_layers
from otoscope.train.protocol import probe_protocol, training_settings


def study_protocol(suite: Suite, study: Study, resolved: ResolvedPair) -> Protocol:
    """Everything that decides the runs of a study, apart from their seeds.

    Parameters
    ----------
    suite : the suite that declares the study.
    study : probe, fold and few-shot draw.
    resolved : the encoder and data set on this machine.

    Returns
    -------
    Protocol. A record with this protocol and the labels of the study is a result of it.
    """
    spec = suite.probe(study.probe)
    views = suite.dataset(study.pair.dataset).views
    sampling = Sampling(
        shots=study.shots,
        draw=study.draw,
        views=mixup_settings(views) if views else None,
        validation_cut=None if "validation" in resolved.size.clips else VALIDATION_CUT,
    )
    if isinstance(spec, FinetuneSpec):
        protocol = finetune_protocol(
            spec.recipe,
            encoder_digest=resolved.identity.encoder_identity,
            dataset_digest=resolved.identity.dataset_identity,
            task=resolved.task,
            control=resolved.control,
            sampling=sampling,
            lrs=spec.lrs,
        )
        return dataclasses.replace(protocol, fold=study.pair.fold)
    protocol = _probe_protocol(suite, spec, resolved, sampling)
    search = spec.chosen_search(suite.search)
    settings = dataclasses.replace(search.describe(), near_best=NEAR_BEST) if search else None
    return dataclasses.replace(protocol, fold=study.pair.fold, search=settings)


def _probe_protocol(suite: Suite, spec: ProbeSpec, resolved: ResolvedPair, sampling: Sampling) -> Protocol:
    identity = resolved.identity
    kind = probes.registry.get(spec.name)
    return probe_protocol(
        spec.name,
        identity,
        task=resolved.task,
        control=resolved.control,
        layers=choose_layers(spec.layer, kind.uses_all_layers, identity.shape),
        options=spec.options,
        training=training_settings(suite.training_config(spec)),
        standardise=suite.training_config(spec).standardise,
        sampling=sampling,
    )
