//! A session's turn: reads what the client sent, lets the stage take its step, carries out what it asks for,
//! and moves bytes once the relay has begun.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::connect::AttemptError;
use super::inbox::{Message, SessionKey};
use super::live::Happened;
use super::loan::Heat;
use super::mover::Tools;
use super::relay::{Progress, Relay};
use super::session::{AttemptId, Context, Families, Input, Login, Output, Session, Target};
use super::side::{Fault, Side};
use super::slot::{Handshake, SideOf, Slot, Socket};
use super::trace::Before;
use super::wire::Reply;
use super::worker::{Weight, Worker};
use crate::limits;
use crate::logging::{AccessRecord, CloseReason, Destination};
use crate::metrics::{Counter, Counters, Gauge, Histogram};
use crate::resolver::{Answer, DomainName, Family, Waiter};
use crate::settings::{Dissector, LogFormat};
use crate::store::{Check, Door, RefusedBecause, UserLive, Verdict};
use crate::sys::socket;

impl Slot {
    pub(super) fn key(&self, index: usize) -> SessionKey {
        SessionKey::new(index, self.generation)
    }

    /// Was the session's user changed since, so that they have to log in again?
    pub(super) fn is_of_former_user(&self) -> bool {
        !self.facts.user.is_current(Door::Proxy)
    }
}

impl Worker {
    /// One turn of a session that events were noted for.
    pub(super) fn take_turn(&mut self, key: SessionKey) -> Weight {
        let Some(slot) = self.slot(key) else { return Weight::Light };
        match slot.handshake.as_ref().map(|handshake| handshake.outbox.is_empty()) {
            None => return self.relay(key),
            Some(true) => {}
            Some(false) => {
                self.send_outgoing(key);
                self.say_goodbye(key);
            }
        }
        self.finish_attempts(key);
        self.converse(key);
        self.arm(key);
        self.answer_lookups();
        match self.slot(key) {
            Some(slot) if slot.handshake.is_none() => self.relay(key),
            Some(_) | None => Weight::Light,
        }
    }

    /// Reads and steps until the stage has to wait.
    fn converse(&mut self, key: SessionKey) {
        for _ in 0..limits::HANDSHAKE_READS_PER_TURN {
            self.show_inbox(key);
            let Some(slot) = self.slot(key) else { return };
            let Some(handshake) = slot.handshake.as_mut() else { return };
            if !slot.session.as_ref().is_some_and(Session::wants_bytes) {
                if slot.client.as_ref().is_some_and(|client| client.ready.broken) {
                    self.step(key, Input::ClientReset);
                }
                return;
            }
            if handshake.client_closed {
                return self.step(key, Input::ClientClosed);
            }
            if !slot.client.as_ref().is_some_and(|client| client.ready.readable) {
                return;
            }
            if handshake.inbox.len() >= limits::EARLY_BYTES_MAX {
                // No stage leaves that much: its message is complete long before.
                self.counters.count(Counter::ProtocolMalformed);
                return self.end(key, CloseReason::ProtocolError);
            }
            self.read_client(key);
        }
        self.enqueue(key); // A client that talks without end gets its turn like the others.
    }

    /// Reads once from the client, into the inbox.
    fn read_client(&mut self, key: SessionKey) {
        let Some(slot) = self.sessions.get_mut(key.index()) else { return };
        let (Some(handshake), Some(client)) = (slot.handshake.as_mut(), slot.client.as_mut()) else { return };
        match client.receive(&mut self.incoming) {
            Ok(0) => handshake.client_closed = true,
            Ok(bytes) => {
                if bytes < self.incoming.len() {
                    client.ready.readable = client.ready.read_closed;
                }
                handshake.inbox.extend_from_slice(self.incoming.get(..bytes).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.ready.readable = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.step(key, Input::ClientReset),
        }
    }

    /// Shows the stage the bytes that it has not seen, for as long as it takes some of them.
    fn show_inbox(&mut self, key: SessionKey) {
        loop {
            let Some(slot) = self.slot(key) else { return };
            let Some(handshake) = slot.handshake.as_mut() else { return };
            let wanted = slot.session.as_ref().is_some_and(Session::wants_bytes);
            if !wanted || handshake.shown == handshake.inbox.len() {
                return;
            }
            let inbox = std::mem::take(&mut handshake.inbox);
            handshake.shown = inbox.len();
            let stage = slot.session.as_ref().map(Session::stage);
            let consumed = self.step_counting(key, Input::Bytes(&inbox));
            let Some(slot) = self.slot(key) else { return };
            let is_same_stage = slot.session.as_ref().map(Session::stage) == stage;
            let Some(handshake) = slot.handshake.as_mut() else { return };
            handshake.inbox = inbox;
            handshake.inbox.drain(..consumed);
            if consumed > 0 || !is_same_stage {
                handshake.shown = 0; // A new stage has seen nothing yet.
            }
        }
    }

    /// One step of the session, and everything that it asks for.
    pub(super) fn step(&mut self, key: SessionKey, input: Input<'_>) {
        self.step_counting(key, input);
    }

    /// The same; gives back how many bytes the stage took.
    fn step_counting(&mut self, key: SessionKey, input: Input<'_>) -> usize {
        let mut consumed = 0;
        let snapshot = Arc::clone(&self.snapshot);
        let mut outputs = std::mem::take(&mut self.outputs);
        let mut before = None;
        if let Some(slot) =
            self.sessions.get_mut(key.index()).filter(|slot| slot.generation == key.generation())
            && let Some(session) = slot.session.take()
        {
            if slot.traced {
                before = Some(Before::new(&session, &input));
            }
            let mut context = Context {
                now: self.now,
                epoch: self.shared.epoch,
                rules: &snapshot.rules,
                policy: &snapshot.policy,
                facts: &mut slot.facts,
                consumed: &mut consumed,
                out: &mut outputs,
            };
            slot.session = Some(session.step(input, &mut context));
        }
        if let Some(before) = before {
            self.trace_step(key, before, &outputs);
        }
        self.carry_out(key, &mut outputs);
        outputs.clear();
        self.outputs = outputs;
        consumed
    }

    fn carry_out(&mut self, key: SessionKey, outputs: &mut Vec<Output>) {
        let mut adopted = None;
        let mut closed = None;
        let mut followed_by = None;
        for output in outputs.drain(..) {
            match output {
                Output::Send(bytes, length) => {
                    self.outgoing.extend_from_slice(bytes.get(..usize::from(length)).unwrap_or_default());
                }
                Output::Verify(login) => followed_by = self.verify(key, &login),
                Output::Lookup(name, families) => self.look_up(key, &name, families),
                Output::Attempt(id, address) => {
                    if let Err(error) = self.attempt(key, id, address) {
                        followed_by = Some(Input::AttemptFailed(id, error));
                    }
                }
                Output::Abandon(id) => drop(self.take_attempt(key, id)),
                Output::Adopt(id) => adopted = Some(id),
                Output::Replied => {
                    self.measure_waits(key);
                    self.log(key, LogFormat::Tab, None);
                }
                Output::Count(counter) => self.counters.count(counter),
                Output::Close(reason) => closed = Some(reason),
            }
        }
        self.send_outgoing(key);
        if let Some(id) = adopted {
            self.begin_relay(key, id);
        }
        if let Some(reason) = closed {
            return self.end(key, reason);
        }
        self.say_goodbye(key);
        if let Some(input) = followed_by {
            if let Some(handshake) = self.slot(key).and_then(|slot| slot.handshake.as_mut()) {
                handshake.shown = 0; // A new stage has seen nothing yet.
            }
            self.step(key, input);
        }
    }

    /// Sends what the stage said; what the client does not take at once waits in the outbox.
    fn send_outgoing(&mut self, key: SessionKey) {
        let mut outgoing = std::mem::take(&mut self.outgoing);
        let slot = self.sessions.get_mut(key.index()).filter(|slot| slot.generation == key.generation());
        if let Some(slot) = slot
            && let (Some(handshake), Some(client)) = (slot.handshake.as_mut(), slot.client.as_mut())
            && !(outgoing.is_empty() && handshake.outbox.is_empty())
        {
            handshake.outbox.extend_from_slice(&outgoing);
            match client.send(&handshake.outbox) {
                Ok(sent) => drop(handshake.outbox.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.ready.writable = false,
                Err(_) => client.ready.broken = true,
            }
        }
        outgoing.clear();
        self.outgoing = outgoing;
    }

    /// After the last answer our side is closed, so that the client sees the end.
    fn say_goodbye(&mut self, key: SessionKey) {
        let Some(slot) = self.slot(key) else { return };
        let (Some(handshake), Some(client)) = (slot.handshake.as_mut(), slot.client.as_mut()) else { return };
        let closing = matches!(slot.session, Some(Session::Closing(_)));
        if closing && !handshake.said_goodbye && handshake.outbox.is_empty() {
            handshake.said_goodbye = true;
            if client.close_write().is_err() {
                client.ready.broken = true;
            }
            self.enqueue(key); // What the client sent meanwhile is to be thrown away.
        }
    }
}

// What stages ask for.
impl Worker {
    /// Checks a password: at once where that is cheap, else through the store's pool.
    fn verify(&mut self, key: SessionKey, login: &Login) -> Option<Input<'static>> {
        let source = self.slot(key)?.client_address.ip();
        let inbox = Arc::clone(&self.inbox);
        let reply = move |verdict: Verdict| {
            // Never refused: only connections are bounded.
            if inbox.send(Message::Verdict(key, verdict)).is_err() {
                log::error!("a verdict was lost");
            }
        };
        let store = Arc::clone(&self.shared.store);
        match store.check(source, &login.name, &login.password, self.now, reply) {
            Check::Accepted(user) => Some(Input::Verdict(Some(user))),
            Check::Refused(because) => {
                self.count_refusal(because);
                Some(Input::Verdict(None))
            }
            Check::Pending => None,
        }
    }

    /// The store's answer to a password that had to be hashed.
    pub(super) fn verdict(&mut self, key: SessionKey, verdict: Verdict) {
        let verdict = match verdict {
            Verdict::Accepted(user) => Some(user),
            Verdict::Refused(because) => {
                self.count_refusal(because);
                None
            }
        };
        let Some(handshake) = self.slot(key).and_then(|slot| slot.handshake.as_mut()) else { return };
        handshake.shown = 0;
        self.step(key, Input::Verdict(verdict));
        self.converse(key);
        self.arm(key);
        self.enqueue(key);
    }

    fn count_refusal(&self, because: RefusedBecause) {
        self.counters.count(match because {
            RefusedBecause::Credentials => Counter::AuthRefused,
            RefusedBecause::Throttled => Counter::AuthThrottled,
            RefusedBecause::QueueFull => Counter::AuthQueueFull,
        });
    }

    fn look_up(&mut self, key: SessionKey, name: &DomainName, families: Families) {
        self.counters.count(Counter::DnsLookups);
        if let Some(handshake) = self.slot(key).and_then(|slot| slot.handshake.as_mut()) {
            handshake.looking_up = true;
        }
        let registry = self.poll.registry();
        // AAAA first: where both are cached, IPv6 need not wait for the resolution delay.
        if families != Families::V4 {
            self.resolver.ask(Waiter(key.0), name, Family::V6, self.now, registry);
        }
        if families != Families::V6 {
            self.resolver.ask(Waiter(key.0), name, Family::V4, self.now, registry);
        }
    }

    /// Hands every answer that the resolver has to the session that waits for it.
    pub(super) fn answer_lookups(&mut self) {
        while let Some(Answer { waiter, family, outcome }) = self.resolver.next_answer() {
            let key = SessionKey(waiter.0);
            self.step(key, Input::Answer(family, outcome));
            self.arm(key);
        }
    }

    /// Begins to connect; what fails at once is an answer at once.
    fn attempt(&mut self, key: SessionKey, id: AttemptId, address: SocketAddr) -> Result<(), AttemptError> {
        let source = self.snapshot.policy.source_for(address.ip());
        let stream =
            socket::connect(address, source, &self.snapshot.tcp).map_err(|error| attempt_error(&error))?;
        let mut socket = Socket::new(mio::net::TcpStream::from_std(stream));
        socket
            .watch(self.poll.registry(), key.token(SideOf::Attempt(id)))
            .map_err(|error| attempt_error(&error))?;
        let place = self
            .slot(key)
            .and_then(|slot| slot.handshake.as_mut())
            .and_then(|handshake| handshake.attempts.get_mut(usize::from(id.0)));
        if let Some(place) = place {
            *place = Some(socket);
        }
        Ok(())
    }

    fn take_attempt(&mut self, key: SessionKey, id: AttemptId) -> Option<Socket> {
        self.slot(key)?.handshake.as_mut()?.attempts.get_mut(usize::from(id.0))?.take()
    }

    /// Tells the stage of attempts that have ended either way.
    fn finish_attempts(&mut self, key: SessionKey) {
        for place in 0_u8.. {
            let Some(slot) = self.slot(key) else { return };
            let Some(handshake) = slot.handshake.as_mut() else { return };
            let Some(attempt) = handshake.attempts.get_mut(usize::from(place)) else { return };
            let Some(socket) = attempt.as_mut().filter(|socket| socket.ready.writable) else { continue };
            let id = AttemptId(place);
            let input = match outcome(socket) {
                Ok(Some(local)) => Input::Connected(id, local),
                Ok(None) => continue,
                Err(error) => {
                    *attempt = None;
                    Input::AttemptFailed(id, attempt_error(&error))
                }
            };
            self.step(key, input);
            self.arm(key);
        }
    }

    /// The winner becomes the origin, and what only the handshake needed is given up.
    fn begin_relay(&mut self, key: SessionKey, id: AttemptId) {
        let Some(origin) = self.take_attempt(key, id) else { return };
        let Some(slot) = self.sessions.get_mut(key.index()) else { return };
        slot.origin = Some(origin);
        slot.origin_attempt = id;
        let Some(handshake) = slot.handshake.take() else { return };
        let Handshake { inbox, outbox, client_closed, looking_up, .. } = *handshake;
        if looking_up {
            self.resolver.forget(Waiter(key.0));
        }
        if self.snapshot.settings.dissector != Dissector::Off {
            slot.begin_watch(self.snapshot.settings.dissector, &inbox);
        }
        if let Some(Session::Relay(relay)) = slot.session.as_mut() {
            relay.preload(inbox, outbox, &mut self.tools);
            if client_closed {
                relay.client_closed();
            }
        }
        if slot.count_user() {
            self.counters.raise(Gauge::SessionsRelaying);
        }
        self.announce(key, Happened::Connected);
        // The user may have been removed while the session was on its way here.
        if self.slot(key).is_some_and(|slot| slot.is_of_former_user()) {
            self.end(key, CloseReason::Killed);
        }
    }
}

// Moving bytes, and the end.
impl Worker {
    /// A relay's turn.
    fn relay(&mut self, key: SessionKey) -> Weight {
        let Some(slot) =
            self.sessions.get_mut(key.index()).filter(|slot| slot.generation == key.generation())
        else {
            return Weight::Light;
        };
        let (Some(Session::Relay(relay)), Some(client), Some(origin)) =
            (slot.session.as_mut(), slot.client.as_mut(), slot.origin.as_mut())
        else {
            return Weight::Light;
        };
        let user = slot.facts.user.live();
        let (heat, reported) = (&mut slot.heat, &mut slot.reported);
        let turn = RelayTurn { relay, client, origin, heat, reported, user };
        let Moved { progress, weight, half_closed_now } =
            turn.take(&mut self.tools, &self.counters, self.now);
        let is_watched = relay.watch().is_some();
        let is_to_be_lent = slot.heat.is_hot() && !is_watched;
        if is_watched {
            self.notice(key);
        }
        match progress {
            Ok(Progress::Finished) => {
                self.end(key, CloseReason::Finished);
                Weight::Light
            }
            Ok(progress) => {
                if half_closed_now {
                    self.arm(key);
                }
                if is_to_be_lent {
                    self.lend(key);
                }
                if progress == Progress::Unfinished {
                    self.enqueue(key);
                }
                weight
            }
            Err(fault) => {
                self.break_off(key, fault);
                Weight::Light
            }
        }
    }

    /// A relay cannot go on.
    pub(super) fn break_off(&mut self, key: SessionKey, fault: Fault) {
        let (counter, reason) = match fault {
            Fault::Reset => (Counter::RelayReset, CloseReason::Reset),
            Fault::Failed => (Counter::RelayFailed, CloseReason::IoError),
        };
        self.counters.count(counter);
        self.end(key, reason);
    }

    /// Ends a session: passes a reset on where that is the truth, logs, counts, gives everything back.
    pub(super) fn end(&mut self, key: SessionKey, reason: CloseReason) {
        self.recall(key);
        let Some(slot) = self.slot(key) else { return };
        if slot.traced {
            self.trace_end(key, reason);
        }
        self.log(key, LogFormat::Json, Some(reason));
        self.announce(key, Happened::Ended(reason));
        self.skip(key.index());
        self.order.take_out(&mut self.sessions, key.index());
        let mut slot = self.sessions.remove(key.index());
        slot.report_all();
        self.counters
            .observe_time(Histogram::SessionDuration, self.now.saturating_duration_since(slot.begun));
        if slot.counted {
            slot.facts.user.live().close_session();
            self.counters.lower(Gauge::SessionsRelaying);
            let (up, down) = slot.bytes();
            self.counters.observe(Histogram::SessionUp, up);
            self.counters.observe(Histogram::SessionDown, down);
        }
        if slot.handshake.as_ref().is_some_and(|handshake| handshake.looking_up) {
            self.resolver.forget(Waiter(key.0));
        }
        if let Some(Session::Relay(mut relay)) = slot.session.take() {
            // Whoever is still connected must not take the cut for an orderly end.
            if reason != CloseReason::Finished {
                let sockets = slot.client.iter().chain(&slot.origin);
                sockets.for_each(|socket| socket::reset_on_close(&socket.stream));
            }
            relay.drop_held(&mut self.tools);
        }
        self.counters.count(Counter::SessionsClosed);
        if reason == CloseReason::Killed {
            self.counters.count(Counter::SessionsKilled);
        }
        if let Some(place) = slot.place.take() {
            self.leave(place);
        }
        log::trace!("session={} worker={} close={reason}", slot.id, self.id.0);
    }

    /// Measures what the client waited for until its reply.
    fn measure_waits(&self, key: SessionKey) {
        let Some(slot) = self.sessions.get(key.index()) else { return };
        let handshake = slot.facts.requested.map(|at| at.saturating_duration_since(slot.begun));
        let waits = [
            (Histogram::HandshakeDuration, handshake),
            (Histogram::DnsDuration, slot.facts.dns),
            (Histogram::ConnectDuration, slot.facts.connect),
        ];
        for (histogram, wait) in waits {
            if let Some(wait) = wait {
                self.counters.observe_time(histogram, wait);
            }
        }
    }

    /// Writes the access line, if this is the moment for the form that was chosen.
    fn log(&mut self, key: SessionKey, moment: LogFormat, close: Option<CloseReason>) {
        let format = self.snapshot.settings.log_format;
        if format != moment || !self.sink.enabled() {
            return;
        }
        let Some(slot) = self.sessions.get(key.index()) else { return };
        let (bytes_up, bytes_down) = slot.bytes();
        let record = AccessRecord {
            time: SystemTime::now(),
            session: slot.id,
            worker: self.id,
            listener: slot.listener,
            user: slot.facts.user.name().as_octets(),
            client: slot.client_address,
            command: slot.facts.command.code(),
            destination: slot.destination(),
            port: slot.facts.port,
            reply: slot.facts.reply.map(Reply::code),
            resolved: slot.facts.resolved,
            bytes_up,
            bytes_down,
            duration: self.now.saturating_duration_since(slot.begun),
            dns: slot.facts.dns,
            connect: slot.facts.connect,
            close,
        };
        self.sink.push(format, &record);
    }
}

impl Slot {
    /// Bytes up and down.
    pub(super) fn bytes(&self) -> (u64, u64) {
        match (&self.session, &self.loan) {
            (Some(Session::Relay(relay)), _) => (relay.up.bytes, relay.down.bytes),
            (_, Some(loan)) => loan.bytes(),
            (Some(_) | None, None) => (0, 0),
        }
    }

    /// Where the client asked to go.
    pub(super) fn destination(&self) -> Destination<'_> {
        match &self.facts.target {
            Target::Unknown => Destination::Unknown,
            Target::Name(name) => Destination::Name(name),
            Target::Address(ip) => Destination::Address(*ip),
        }
    }

    /// Adds what has moved since the last time to the user's statistics.
    fn report_all(&mut self) {
        let bytes = self.bytes();
        report_bytes(self.facts.user.live(), bytes, &mut self.reported, Report::All);
    }

    /// From here on the session counts among its user's; `false`: it did already.
    fn count_user(&mut self) -> bool {
        if self.counted {
            return false;
        }
        self.counted = self.facts.user.live().open_session(None);
        self.counted
    }
}

/// One turn at a relay, whoever has it: its session's worker, or a carrier.
pub(super) struct RelayTurn<'a> {
    pub(super) relay: &'a mut Relay,
    pub(super) client: &'a mut Socket,
    pub(super) origin: &'a mut Socket,
    pub(super) heat: &'a mut Heat,
    pub(super) reported: &'a mut (u64, u64),
    pub(super) user: &'a UserLive,
}

/// What a turn at a relay came to.
pub(super) struct Moved {
    pub(super) progress: Result<Progress, Fault>,
    pub(super) weight: Weight,
    /// A side has closed in this turn, the first of the two.
    pub(super) half_closed_now: bool,
}

impl RelayTurn<'_> {
    /// Moves what can be moved, and counts it wherever it counts.
    pub(super) fn take(self, tools: &mut Tools, counters: &Counters, now: Instant) -> Moved {
        let relay = self.relay;
        let was_half_closed = relay.is_half_closed();
        let before = (relay.up.bytes, relay.down.bytes);
        let progress = relay.turn(self.client, self.origin, tools, now);
        let bytes = (relay.up.bytes, relay.down.bytes);
        let (up, down) = (bytes.0 - before.0, bytes.1 - before.1);
        counters.add(Counter::BytesUp, up);
        counters.add(Counter::BytesDown, down);
        let weight = if tools.is_much(up + down) { Weight::Heavy } else { Weight::Light };
        self.heat.note(weight);
        report_bytes(self.user, bytes, self.reported, Report::WhenMuch);
        Moved { progress, weight, half_closed_now: relay.is_half_closed() && !was_half_closed }
    }
}

/// When bytes are added to the counters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Report {
    All,
    /// Once it is worth it: the user's counters are shared between workers.
    WhenMuch,
}

/// Adds what has moved since the last time to a user's statistics.
fn report_bytes(user: &UserLive, bytes: (u64, u64), reported: &mut (u64, u64), report: Report) {
    let (more_up, more_down) = (bytes.0 - reported.0, bytes.1 - reported.1);
    if report == Report::WhenMuch && more_up + more_down < limits::REPORT_BYTES {
        return;
    }
    user.add_bytes(more_up, more_down);
    *reported = bytes;
}

/// How an attempt stands: the local address once connected, `None` while it goes on.
fn outcome(socket: &mut Socket) -> io::Result<Option<SocketAddr>> {
    if socket.ready.broken || socket.ready.read_closed {
        if let Some(error) = socket.stream.take_error()? {
            return Err(error);
        }
        socket.ready.broken = false;
    }
    // Writable without an error is connected; asking for the peer as well would only catch a spurious event.
    socket.stream.local_addr().map(Some)
}

/// Which failure an error of connect(2) is. The one place where errors become reasons.
fn attempt_error(error: &io::Error) -> AttemptError {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => AttemptError::Refused,
        Some(libc::ETIMEDOUT) => AttemptError::TimedOut,
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => AttemptError::HostUnreachable,
        Some(libc::ENETUNREACH | libc::ENETDOWN | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => {
            AttemptError::NetworkUnreachable
        }
        Some(_) | None => AttemptError::Other,
    }
}
