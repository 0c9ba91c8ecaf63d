"""Made-up runs: workdirs with the files of a finished run and chosen numbers."""

import json
from pathlib import Path

from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.store.formats import as_json
from adv_jax.runner.store.provenance import provenance


def finish(training, error, *, sha="0" * 64, versions=None):
    """Writes config.json, metrics.jsonl and result.json for a `Training`.

    error: (replica, attack's eps or None) -> test error, a fraction.
    """
    runs = replicas(training.config)
    eps = list(training.config["evaluation"]["eps"])
    source = training.config["data"]["source"]
    made = provenance()
    result = {
        "experiment": training.config["experiment"],
        "data": {
            "name": training.config["data"]["name"],
            "source": source,
            "sha256": {"train": sha},
            "sizes": {"train": 60000, "labeled": 100, "test": 10000},
        },
        "replicas": [
            {
                "seed": replica.seed,
                "overrides": replica.overrides,
                "test_error": error(replica, None),
                "confidence": 1 - error(replica, None) / 2,
                "epochs": 4,
                "best_epoch": None,
            }
            for replica in runs
        ],
        "evaluation": {
            attack: {
                "eps": eps,
                "error": [[error(replica, e) for e in eps] for replica in runs],
                "confidence": [[0.5] * len(eps) for _ in runs],
            }
            for attack in training.config["evaluation"]["attacks"]
        },
        "seconds": 12.5,
        **made,
        "versions": made["versions"] | (versions or {}),
    }
    lines = [
        {"epoch": epoch, "replica": i, "seed": replica.seed, "loss": 2 / epoch, "test_error": 0.1}
        for epoch in range(1, 5)
        for i, replica in enumerate(runs)
    ]
    workdir = Path(training.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(as_json(training.config)))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (workdir / "result.json").write_text(json.dumps(result))
    return result
