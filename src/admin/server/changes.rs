//! Changes of settings and users in the order in which they came: while the store is at one the others wait, so
//! that each sees what those before it did. And what administrators are told of commits.

use std::time::Instant;

use pipo_protocol::v1::{self, ModificationStatus, Reply};
use pipo_protocol::v2::{self as wire, Role, Status};

use super::Server;
use super::requests::is_former;
use crate::admin::answer::{Answer, Asker, Outcome, Refusal};
use crate::admin::commit::{self, Effect, Underway, Waiting};
use crate::admin::core::Core;
use crate::admin::dispatch;
use crate::admin::dispatch::v2::role_of;
use crate::admin::session::Input;
use crate::store::{ChangesError, UserDelta, UserError};

impl Server {
    /// Carries a request of version 1 out, or has it wait for its turn.
    pub(super) fn begin_v1(&mut self, asker: Asker, request: v1::Request, core: &mut Core, now: Instant) {
        let v1::Request::Modification(modification) = &request else {
            let reply = dispatch::v1::dispatch(request, &asker, core);
            return self.reply_v1(&asker, reply, now);
        };
        let cmd = modification.cmd();
        if !core.config.has_to_wait(asker.peer, Effect::Change) {
            let reply = dispatch::v1::dispatch(request, &asker, core);
            if reply.is_none() {
                core.config.underway = Some(Underway::Users(Some(asker.peer)));
            }
            return self.reply_v1(&asker, reply, now);
        }
        if core.config.wait(Waiting::V1(asker.clone(), request)).is_err() {
            let reply = Reply::Modified { cmd, status: ModificationStatus::ServerError };
            self.reply_v1(&asker, Some(reply), now);
        }
    }

    fn reply_v1(&mut self, asker: &Asker, reply: Option<Reply>, now: Instant) {
        if let (Some(reply), Some(peer)) = (reply, self.peers.get_mut(&asker.peer)) {
            peer.session.handle(Input::Reply(reply), now);
            self.enqueue(asker.peer);
        }
    }

    /// Carries a request of version 2 out, or has it wait for its turn.
    pub(super) fn begin_v2(&mut self, asker: Asker, request: wire::Request, core: &mut Core, now: Instant) {
        let effect = commit::effect_of(request.command());
        let answer = if core.config.has_to_wait(asker.peer, effect) {
            let waiting = Waiting::V2(asker.clone(), Box::new(request));
            core.config.wait(waiting).map(|()| Outcome::Later)
        } else {
            let answer = dispatch::v2::dispatch(request, &asker, core);
            let is_begun = effect == Effect::Change && matches!(answer, Ok(Outcome::Later));
            if is_begun && core.config.underway.is_none() {
                core.config.underway = Some(Underway::Users(Some(asker.peer)));
            }
            answer
        };
        self.answer(&asker, answer, now);
    }

    /// The store has answered: gives those who wait their turns, until one of them takes time again.
    pub(in crate::admin) fn resume_changes(&mut self, core: &mut Core, now: Instant) {
        while let Some(waiting) = core.config.next_waiting() {
            let (Waiting::V1(asker, _) | Waiting::V2(asker, _)) = &waiting;
            // Who asked may be gone meanwhile, or not be who it was.
            let Some(peer) = self.peers.get(&asker.peer).filter(|peer| !is_former(asker.peer, peer, core))
            else {
                continue;
            };
            let Some(user) = peer.session.user().cloned() else { continue };
            match waiting {
                Waiting::V1(asker, request) => self.begin_v1(Asker { user, ..asker }, request, core, now),
                Waiting::V2(asker, request) => {
                    let asker = Asker { user, ..asker };
                    let role = role_of(&asker.user);
                    if request.command().row().is_some_and(|row| row.permits(Some(role))) {
                        self.begin_v2(asker, *request, core, now);
                    } else {
                        self.answer(&asker, Err(Refusal::of(Status::NotAllowed)), now);
                    }
                }
            }
        }
    }

    /// The store has made the users of a commit, or not.
    pub(in crate::admin) fn committed(
        &mut self,
        result: Result<Vec<UserDelta>, ChangesError>,
        core: &mut Core,
        now: Instant,
    ) {
        let made = result.clone().unwrap_or_default();
        let Some((asker, answer)) = commit::committed(core, result, now) else { return };
        self.spare_all(&asker, &made);
        self.conclude(Some(&asker), answer, core, now);
    }

    /// The store has taken the users of a commit back, or has no time.
    pub(in crate::admin) fn taken_back(
        &mut self,
        result: Result<Vec<UserDelta>, UserError>,
        core: &mut Core,
        now: Instant,
    ) {
        let made = result.clone().unwrap_or_default();
        let Some((asker, answer)) = commit::store_has_taken_back(core, result, now) else { return };
        if let Some(asker) = &asker {
            self.spare_all(asker, &made);
        }
        self.conclude(asker.as_ref(), answer, core, now);
    }

    fn conclude(&mut self, asker: Option<&Asker>, answer: Answer, core: &Core, now: Instant) {
        if let Some(asker) = asker {
            self.answer(asker, answer, now);
        }
        self.follow_users(core, now);
    }

    /// Who changed the own password stays, to read the reply.
    fn spare_all(&mut self, asker: &Asker, made: &[UserDelta]) {
        let own = made.iter().find(|delta| delta.name == *asker.user.name());
        let Some(after) = own.and_then(|delta| delta.after.clone()).filter(|after| after.doors().admin)
        else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&asker.peer)
            && let Some(dialogue) = peer.session.v2()
        {
            dialogue.set_user(after);
        }
    }

    /// Tells administrators what happened to commits.
    pub(super) fn tell_administrators(&mut self, core: &mut Core, now: Instant) {
        for said in std::mem::take(&mut core.notices) {
            self.notify_where(&said, core, now, |role| role.includes(Role::Admin));
        }
    }
}
