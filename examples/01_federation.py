"""The federation in one process, without FLARE: the demo's six sites, three rounds, one question across them.

    python examples/01_federation.py

Each site has one kind of data and its own model around the shared base. Between all of them travel B and Gram
matrices; the four image sites also learn their adapter and head together, because their own files say so.
"""

import tempfile
from pathlib import Path

import fedgram
from fedgram import JobConfig, SiteSession, open_site
from fedgram.config.jobfolder import client_names, read_server, settings_in
from fedgram.config.site import find_site_config
from fedgram.config.strict import from_dict
from fedgram.training.server import Round, agree

ROOT = Path(__file__).resolve().parents[1]
JOB = ROOT / "jobs/few-labels"


def read_job(folder: Path, rounds: int, steps: int) -> JobConfig:
    """The settings in a job folder, shortened."""
    settings = settings_in(read_server(folder))
    settings["training"] |= {"rounds": rounds, "local_steps": steps}
    return from_dict(JobConfig, settings, str(folder))


def main(folder: Path, rounds: int = 3, steps: int = 4) -> None:
    job = read_job(JOB, rounds, steps)
    local = ROOT / "provisioning/simulator-few/local"
    sessions = {
        name: SiteSession(open_site(name, find_site_config(local, name), job), folder / name)
        for name in client_names(JOB)
    }

    # Round 0: everybody shows the same base and the same anchors, and the geometry that it starts from.
    state, _ = agree([session.introduce() for session in sessions.values()], job)
    while state.state.round < rounds:
        current = Round(state, job, sessions)
        for session in sessions.values():
            update = session.train(state.run, state.state)  # ΔB, G, a weight, what a group shares: all that leaves
            current.add(update)
        state = current.close()  # B += the weighted mean of ΔB; Ḡ = the mean of G
        print(f"round {state.state.round}/{rounds}", {k: round(v, 2) for k, v in state.records[-1].shares.items()})

    for name, session in sessions.items():
        evaluation = session.evaluate(state.run, state.state)  # also keeps the site's own result
        print(name, {k: round(v, 2) for k, v in evaluation.metrics.items() if k == "accuracy"})

    image, dna = (fedgram.load(folder / name) for name in ("hosp-image-1", "hosp-genomics"))
    bear = ROOT / "anchors/carnivora/heldout/image/Ursidae-1.png"
    print("the picture of a bear finds", [match.concept for match in image.retrieve([bear], dna, k=3)[0]])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
