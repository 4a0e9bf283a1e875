//! Draining and its end: the workers accept what has come so far and rest, then nobody is listening; the way
//! back is the other way around, so that whoever connects in between waits in the backlog.

use pipo_protocol::v2::messages::{DrainReply, Notice, NoticeKind, ServerState};
use pipo_protocol::v2::{Command, Reply, Status};

use super::answer::{Answer, Asker, Outcome, Refusal};
use super::core::Core;
use super::inquiry::Trouble;
use super::metrics;
use super::notes::Note;
use crate::proxy::live::Question;

/// Accepts no more sessions; those there are go on.
pub(super) fn drain(core: &mut Core, asker: &Asker) -> Answer {
    match core.state {
        ServerState::Draining if !core.is_turning => return Outcome::reply(Reply::ServerDrain(state(core))),
        ServerState::Running if !core.is_turning => {}
        ServerState::ShuttingDown => return Err(Refusal::of(Status::ShuttingDown)),
        ServerState::Running | ServerState::Paused | ServerState::Draining | ServerState::Unassigned(_) => {
            return Err(Refusal::of(Status::Busy));
        }
    }
    core.state = ServerState::Draining;
    core.is_turning = true;
    let asker = asker.clone();
    core.inquire(&Question::Rest, None, move |core, rested| {
        core.is_turning = false;
        let answer = match rested {
            Ok(_) => {
                core.plane.stop_listening();
                told(core, &asker, Command::ServerDrain, NoticeKind::Draining);
                Outcome::reply(Reply::ServerDrain(state(core)))
            }
            Err(trouble) => Err(give_up(core, trouble)),
        };
        core.notes.leave(Note::Answered(asker, answer));
    });
    Ok(Outcome::Later)
}

/// Not every worker rests: those who do go on.
fn give_up(core: &mut Core, trouble: Trouble) -> Refusal {
    if core.state == ServerState::Draining {
        core.state = ServerState::Running;
        core.inquire(&Question::Resume, None, |_, _| {});
    }
    trouble.into()
}

/// Accepts sessions again.
pub(super) fn undrain(core: &mut Core, asker: &Asker) -> Answer {
    match core.state {
        ServerState::Running if !core.is_turning => {
            return Outcome::reply(Reply::ServerUndrain(state(core)));
        }
        ServerState::Draining if !core.is_turning => {}
        ServerState::ShuttingDown => return Err(Refusal::of(Status::ShuttingDown)),
        ServerState::Running | ServerState::Paused | ServerState::Draining | ServerState::Unassigned(_) => {
            return Err(Refusal::of(Status::Busy));
        }
    }
    if let Err(error) = core.plane.listen_again() {
        log::error!("accepting cannot begin again: {error}");
        return Err(Refusal::saying(Status::Internal, &format!("{error}.")));
    }
    core.is_turning = true;
    let asker = asker.clone();
    core.inquire(&Question::Resume, None, move |core, resumed| {
        core.is_turning = false;
        let answer = resumed.map_err(Refusal::from).and_then(|_| {
            if core.state == ServerState::Draining {
                core.state = ServerState::Running;
            }
            told(core, &asker, Command::ServerUndrain, NoticeKind::Undrained);
            Outcome::reply(Reply::ServerUndrain(state(core)))
        });
        core.notes.leave(Note::Answered(asker, answer));
    });
    Ok(Outcome::Later)
}

fn told(core: &mut Core, asker: &Asker, command: Command, kind: NoticeKind) {
    core.noted(asker, command, "sessions");
    core.notes.leave(Note::Notify(Notice { kind, sentence: None, left_ms: None, revision: None }));
}

fn state(core: &Core) -> DrainReply {
    DrainReply { as_of: core.events.sequence(), sessions_count: metrics::sessions_current(core) }
}
