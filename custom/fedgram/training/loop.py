"""The whole run in one process without FLARE: the round to step through in a debugger.

FLARE adds transport, not mathematics: with the same sites it ends at the same global model, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedgram.config.job import JobConfig
from fedgram.errors import FedgramError
from fedgram.records import GlobalState, RoundRecord
from fedgram.training.admission import admit, forget
from fedgram.training.checkpoint import Checkpoint
from fedgram.training.directory import merged
from fedgram.training.masked.gathering import Ask
from fedgram.training.masked.messages import MASKED, SumCall
from fedgram.training.masked.rounds import first_consensus, masked_round
from fedgram.training.outcome import Outcome
from fedgram.training.server import Round, agree
from fedgram.training.session import SiteSession


def run_federation(
    sessions: Mapping[str, SiteSession],
    job: JobConfig,
    folder: Path,
    on_round: Callable[[RoundRecord], None] = lambda record: None,
) -> Outcome:
    """Train all sites in turn, round by round; an interrupted run is resumed from ``folder``.

    Args:
        sessions: by site name.
        job: what to compute.
        folder: the server's own state.
        on_round: called with the record of every round.

    Raises:
        RoundFailed: too few sites agree or reply.
    """
    saved = Checkpoint(folder, job)
    introductions, state = [session.introduce() for session in sessions.values()], saved.load()
    if state is None:
        state, _ = agree(introductions, job)
        state = first_consensus(state, job, asking(sessions)) if job.aggregation.masked else state
    else:
        known = [reply for reply in introductions if reply.site not in state.refused]
        state, _ = admit(forget(state), known, job)
    sessions = {name: session for name, session in sessions.items() if name in state.modalities}
    while state.state.round < job.training.rounds:
        if job.aggregation.masked:
            state = masked_round(state, job, sessions, asking(sessions, state.state))
        else:
            current = Round(state, job, sessions)
            for session in sessions.values():
                current.add(session.train(state.run, state.state))
            state = current.close()
        saved.save(state)
        on_round(state.records[-1])
    alone = {name: session.alone(state.run) for name, session in sessions.items()} if job.baseline else {}
    together = {name: session.evaluate(state.run, state.state) for name, session in sessions.items()}
    directory = merged(together, state.modalities, job)
    kept = {name: session.settle(state.run, state.state, directory) for name, session in sessions.items()}
    saved.finish()
    return Outcome(server=state, together=together, alone=alone, kept=kept, directory=directory)


def asking(sessions: Mapping[str, SiteSession], state: GlobalState | None = None) -> Ask:
    """A way to ask the sites of this process for their parts in a masked sum; one that fails is left out.

    Args:
        state: with which the sum's round begins.
    """

    def ask(
        phase: str,
        calls: Mapping[str, SumCall],
        receive: Callable[[Any], None],
        refuse: Callable[[str, str], None],
    ) -> None:
        for site, call in calls.items():
            with_state = (state,) if phase == MASKED else ()
            try:
                receive(getattr(sessions[site], phase)(call, *with_state))
            except FedgramError as error:
                refuse(site, str(error))

    return ask
