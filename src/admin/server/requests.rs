//! What associations ask for, and the answers that go back to them.

use std::time::Instant;

use pipo_protocol::Name;
use pipo_protocol::v1::{Login, Reply, Request};
use pipo_protocol::v2::messages::{Notice, NoticeKind};
use pipo_protocol::v2::{self as wire, Header, Status};

use super::Server;
use crate::admin::answer::{Answer, Asked, Asker, Outcome, Refusal};
use crate::admin::core::Core;
use crate::admin::dispatch;
use crate::admin::dispatch::v2::role_of;
use crate::admin::inquiry::Trouble;
use crate::admin::notes::{Note, PeerKey};
use crate::admin::peer::{Life, Link, Peer};
use crate::admin::session::{Input, v2};
use crate::admin::users::{self, Change};
use crate::metrics::Counter;
use crate::store::{Check, Door, KEY_BYTES, RefusedBecause, Verdict};

// ---- log-in ---------------------------------------------------------------------------------------------

impl Server {
    pub(super) fn check(&mut self, key: PeerKey, login: &Login, core: &Core, now: Instant) {
        let Some(source) = self.peers.get(&key).map(|peer| peer.source) else { return };
        let (name, password) = (login.name.as_bytes(), login.password.as_bytes());
        let notes = core.notes.clone();
        let reply = move |verdict| notes.leave(Note::Verdict(key, verdict));
        let check = core.store.check_at(Door::Admin, source.ip(), name, password, now, reply);
        self.checked(key, check, core, now);
    }

    pub(super) fn challenge(&mut self, key: PeerKey, user: &Name, core: &Core, now: Instant) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let mut nonce = [0; v2::NONCE_BYTES];
        if let Err(error) = getrandom::fill(&mut nonce) {
            // Without randomness nobody may log in; the time limit of log-ins ends the association.
            return log::error!("the kernel gave no random nonce: error=\"{error}\"");
        }
        let challenge = core.store.challenge(user.as_bytes());
        let seasoning = v2::Seasoning { salt: challenge.salt, iterations: challenge.iterations, nonce };
        peer.session.handle(Input::Seasoning(&seasoning), now);
    }

    pub(super) fn prove(
        &mut self,
        key: PeerKey,
        user: &Name,
        auth_message: &[u8],
        proof: [u8; KEY_BYTES],
        core: &Core,
        now: Instant,
    ) {
        let Some(source) = self.peers.get(&key).map(|peer| peer.source) else { return };
        let notes = core.notes.clone();
        let reply = move |verdict| notes.leave(Note::Verdict(key, verdict));
        let (door, name) = (Door::Admin, user.as_bytes());
        let check = core.store.check_proof(door, source.ip(), name, auth_message, proof, now, reply);
        self.checked(key, check, core, now);
    }

    fn checked(&mut self, key: PeerKey, check: Check, core: &Core, now: Instant) {
        match check {
            Check::Accepted(user) => self.verdict(key, Verdict::Accepted(user), core, now),
            Check::Refused(because) => self.verdict(key, Verdict::Refused(because), core, now),
            Check::Pending => {}
        }
    }

    /// Takes a verdict on a log-in.
    pub(in crate::admin) fn verdict(&mut self, key: PeerKey, verdict: Verdict, core: &Core, now: Instant) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let source = peer.source;
        let because = match &verdict {
            Verdict::Accepted(_) => None,
            Verdict::Refused(because) => Some(*because),
        };
        peer.session.handle(Input::Verdict(verdict, core.events.sequence()), now);
        match (peer.session.user(), because) {
            (Some(user), _) => {
                self.counters.count(Counter::AdminLoginAccepted);
                log::info!("admin log-in: source={source} user={}", user.name());
            }
            (None, Some(RefusedBecause::Throttled | RefusedBecause::QueueFull)) => {
                self.counters.count(Counter::AdminLoginThrottled);
                log::debug!("admin log-in refused unchecked: source={source}");
            }
            // The password, or the role of who showed the right one.
            (None, Some(RefusedBecause::Credentials) | None) => {
                log::warn!("admin log-in refused: source={source}");
            }
        }
        self.enqueue(key);
    }
}

// ---- requests -------------------------------------------------------------------------------------------

impl Server {
    pub(super) fn ask(&mut self, key: PeerKey, request: Request, core: &mut Core, now: Instant) {
        self.counters.count(Counter::AdminRequests);
        match &request {
            Request::Query(_) | Request::Modification(_) => {}
            Request::Invalid(_) => self.counters.count(Counter::AdminInvalidRequests),
            Request::UnknownCommand(_) | Request::UnknownType(_) => {
                self.counters.count(Counter::AdminUnknownRequests);
            }
        }
        let Some(asker) = self.asker(key, Asked::V1) else { return };
        self.begin_v1(asker, request, core, now);
    }

    pub(super) fn request(
        &mut self,
        key: PeerKey,
        header: Header,
        request: wire::Request,
        core: &mut Core,
        now: Instant,
    ) {
        self.counters.count(Counter::AdminRequests);
        let Some(asker) = self.asker(key, Asked::V2(header)) else { return };
        self.begin_v2(asker, request, core, now);
    }

    /// Counts what a dialogue of version 2 has refused by itself.
    pub(super) fn count_refused(&mut self, key: PeerKey) {
        let dialogue = self.peers.get_mut(&key).and_then(|peer| peer.session.v2());
        let refused = dialogue.map(v2::Dialogue::take_refused).unwrap_or_default();
        self.counters.add(Counter::AdminUnknownRequests, refused.unknown);
        self.counters.add(Counter::AdminInvalidRequests, refused.invalid);
    }

    fn asker(&self, peer: PeerKey, asked: Asked) -> Option<Asker> {
        let Peer { source, session, link, .. } = self.peers.get(&peer)?;
        let transport = match link {
            Link::Kernel(_) => "kernel",
            Link::Udp(..) => "udp",
        };
        Some(Asker { peer, user: session.user()?.clone(), source: *source, transport, asked })
    }

    /// Takes the answer to a request of version 1 from a note.
    pub(in crate::admin) fn replied(&mut self, key: PeerKey, reply: Reply, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.session.handle(Input::Reply(reply), now);
            self.enqueue(key);
        }
    }

    /// Takes the answer to a request of version 2: at once, or from a note.
    pub(in crate::admin) fn answer(&mut self, asker: &Asker, answer: Answer, now: Instant) {
        let (key, Asked::V2(header)) = (asker.peer, asker.asked) else { return };
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(dialogue) = peer.session.v2() else { return };
        let record = match answer {
            Ok(Outcome::Later) => return,
            Ok(Outcome::Reply(reply)) => {
                dialogue.answered(header.request).then(|| v2::reply(&header, &reply))
            }
            Ok(Outcome::Open(content)) => {
                dialogue.open(&header, content);
                None
            }
            Ok(Outcome::Follow(reply, content)) => {
                dialogue.open(&header, content).then(|| v2::reply(&header, &reply))
            }
            Err(refusal) => dialogue.answered(header.request).then(|| v2::refusal_record(&header, &refusal)),
        };
        if let Some(record) = record {
            peer.queue(record, now);
        }
        self.enqueue(key);
    }
}

// ---- changes of users -----------------------------------------------------------------------------------

impl Server {
    /// Answers a change of users that was asked for, and has every association follow it.
    pub(in crate::admin) fn user_changed(
        &mut self,
        asker: &Asker,
        change: &Change,
        ended: Result<u64, Trouble>,
        core: &Core,
        now: Instant,
    ) {
        match asker.asked {
            Asked::V1 => {
                if let Some(peer) = self.peers.get_mut(&asker.peer) {
                    peer.session.handle(Input::Reply(dispatch::v1::changed(change, ended)), now);
                    self.enqueue(asker.peer);
                }
            }
            Asked::V2(_) => self.answer(asker, users::changed(core, change, ended), now),
        }
        self.follow_users(core, now);
    }

    /// Who changed the own password stays, to read the reply.
    pub(in crate::admin) fn spare(&mut self, asker: &Asker, change: &Change) {
        if let Ok(user) = &change.result
            && change.deed == users::Deed::Password
            && change.name == *asker.user.name()
            && let Some(peer) = self.peers.get_mut(&asker.peer)
            && let Some(dialogue) = peer.session.v2()
        {
            dialogue.set_user(user.clone());
        }
    }

    /// Has every association follow what has become of its user: those of users who may not be here any more get
    /// a turn, which closes them, and others learn of their new role.
    pub(in crate::admin) fn follow_users(&mut self, core: &Core, now: Instant) {
        let mut to_serve = Vec::new();
        for (key, peer) in &mut self.peers {
            if is_former(*key, peer, core) || has_new_role(peer, core, now) {
                to_serve.push(*key);
            }
        }
        to_serve.into_iter().for_each(|key| self.enqueue(key));
    }

    /// Tells everybody who has logged in.
    pub(in crate::admin) fn notify(&mut self, said: &Notice, core: &Core, now: Instant) {
        self.notify_where(said, core, now, |_| true);
    }

    /// Tells those who have logged in and are of such a role.
    pub(super) fn notify_where(
        &mut self,
        said: &Notice,
        core: &Core,
        now: Instant,
        is_meant: impl Fn(wire::Role) -> bool,
    ) {
        let keys: Vec<_> = self.peers.keys().copied().collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            let is_v2 = peer.life == Life::Open && peer.session.as_v2().is_some();
            if is_v2 && peer.session.user().is_some_and(|user| is_meant(role_of(user))) {
                peer.queue(v2::notice(said.clone(), core.events.sequence()), now);
                self.enqueue(key);
            }
        }
    }
}

/// Whether who logged in could not do so any more. Who is changing the own password may be on the way from one
/// record to the next: that shows when the store has answered.
pub(super) fn is_former(key: PeerKey, peer: &Peer, core: &Core) -> bool {
    if core.config.is_asking(key) {
        return false;
    }
    let Some(user) = peer.session.user() else { return false };
    if peer.session.is_changing() {
        return false; // The note about the change is on its way.
    }
    let present = core.store.directory().present(user);
    !user.is_current(Door::Admin) || !present.is_some_and(|now| peer.session.admits(now.role()))
}

/// Takes the user's present record up. Whether that has another role, which is told.
fn has_new_role(peer: &mut Peer, core: &Core, now: Instant) -> bool {
    let Some(user) = peer.session.user().cloned() else { return false };
    let Some(present) = core.store.directory().present(&user) else { return false };
    let Some(dialogue) = peer.session.v2() else { return false };
    let (before, after) = (role_of(&user), role_of(&present));
    dialogue.set_user(present);
    if before == after {
        return false;
    }
    let sequence = core.events.sequence();
    let is_over = |command: wire::Command| !command.row().is_some_and(|row| row.permits(Some(after)));
    dialogue.channels.end_where(&Refusal::of(Status::NotAllowed), sequence, is_over);
    let sentence = wire::Text::new(format!("Your role is {} now.", after.name()));
    let said = Notice { kind: NoticeKind::RoleChanged, sentence, left_ms: None, revision: None };
    peer.queue(v2::notice(said, sequence), now);
    true
}
