//! No wrong byte: sessions of every size and manner through a server, both ends in this process, every byte
//! compared with what it must be (stronger than a hash: the first wrong one is named).

pub(crate) mod peer;
pub(crate) mod plan;

use crate::origin::listener;
use crate::poller::{EDGE, Poller, Ready};
use crate::report::say;
use crate::socks::{Destination, Script};
use crate::target::{Proxy, connect_nonblocking};
use peer::{Fault, Outcome, Peer, Rules, Scratch, Turn};
use plan::{EarlyData, Ending, Plan, Side};
use rustix::event::epoll::EventFlags;
use rustix::net::{SocketFlags, accept_with};
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

/// A session that takes longer hangs: the slowest plan needs a few seconds.
const SESSION_MAX: Duration = Duration::from_secs(60);

/// How often hanging sessions are looked for.
const SWEEP: Duration = Duration::from_millis(500);

/// Faults that are printed one by one.
const FAULTS_SHOWN: usize = 20;

/// One read or write.
const PIECE_BYTES: usize = 64 * 1024;

const LISTENER_TOKEN: u64 = u64::MAX;

/// What the command line says.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) sessions: Range<u64>,
    pub(crate) at_once: usize,
    pub(crate) early: EarlyData,
    /// An end that hides a reset is a fault.
    pub(crate) resets: Resets,
}

/// How resets have to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resets {
    AsResets,
    AsTheServerLikes,
}

/// What happened, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    clients: u64,
    whole_at_client: u64,
    whole_at_origin: u64,
    killed: u64,
    broken: u64,
    cut_as_end: u64,
    nameless: u64,
    wrong: u64,
}

/// Runs all sessions through `proxy` (`None`: directly) and prints what came of it; `Ok(false)`: a fault.
pub(crate) fn run(proxy: Option<&Proxy>, options: &Options) -> io::Result<bool> {
    let begun = Instant::now();
    let mut run = Run::new(proxy, options)?;
    run.serve()?;
    let Tally { clients, whole_at_client, whole_at_origin, killed, broken, cut_as_end, nameless, wrong } =
        run.tally;
    say(&format!(
        "integrity: seed {}, {clients} sessions in {:.1} s: {whole_at_client} whole at the client, \
         {whole_at_origin} at the origin, {killed} killed by a side, {broken} seen broken by the other, \
         {cut_as_end} resets seen as an ordinary end, {nameless} without a number, {wrong} wrong",
        options.seed,
        begun.elapsed().as_secs_f64()
    ))?;
    let expected = options
        .sessions
        .clone()
        .filter(|number| Plan::new(options.seed, *number, options.early).ending == Ending::Whole)
        .count() as u64;
    let all_whole = whole_at_client >= expected && whole_at_origin >= expected;
    if !all_whole {
        say(&format!("integrity: {expected} sessions had to be whole at both ends"))?;
    }
    let resets_held = cut_as_end == 0 || options.resets == Resets::AsTheServerLikes;
    Ok(wrong == 0 && all_whole && resets_held)
}

struct Run<'a> {
    options: &'a Options,
    proxy: Option<&'a Proxy>,
    rules: Rules,
    listener: TcpListener,
    address: SocketAddr,
    poller: Poller,
    peers: Slab<Peer>,
    /// Peers that want another turn, and when.
    again: Vec<usize>,
    wakes: BinaryHeap<Reverse<(Instant, usize)>>,
    scratch: Scratch,
    next: u64,
    clients: usize,
    /// Numbers that an origin has read.
    seen: HashSet<u64>,
    tally: Tally,
}

impl<'a> Run<'a> {
    fn new(proxy: Option<&'a Proxy>, options: &'a Options) -> io::Result<Self> {
        let listener = listener(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let poller = Poller::new(1024)?;
        poller.add(&listener, LISTENER_TOKEN, EventFlags::IN)?;
        Ok(Self {
            options,
            proxy,
            rules: Rules { seed: options.seed, early: options.early, sessions_end: options.sessions.end },
            listener,
            address,
            poller,
            peers: Slab::new(),
            again: Vec::new(),
            wakes: BinaryHeap::new(),
            scratch: Scratch { bytes: vec![0; PIECE_BYTES], expected: Vec::new() },
            next: options.sessions.start,
            clients: 0,
            seen: HashSet::new(),
            tally: Tally::default(),
        })
    }

    /// Until every session has been begun and every end has ended.
    fn serve(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        let mut sweep_at = Instant::now() + SWEEP;
        loop {
            while self.clients < self.options.at_once && self.next < self.options.sessions.end {
                self.open()?;
            }
            if self.peers.is_empty() && self.next >= self.options.sessions.end {
                return Ok(());
            }
            let now = Instant::now();
            self.poller.wait(Some(self.wait_length(now, sweep_at)), &mut ready)?;
            self.turns(&ready)?;
            let now = Instant::now();
            if now >= sweep_at {
                self.sweep(now);
                sweep_at = now + SWEEP;
            }
        }
    }

    fn wait_length(&self, now: Instant, sweep_at: Instant) -> Duration {
        if !self.again.is_empty() {
            return Duration::ZERO;
        }
        let next = self.wakes.peek().map_or(sweep_at, |Reverse((at, _))| sweep_at.min(*at));
        next.saturating_duration_since(now)
    }

    /// Those with events, those who asked, those whose pause is over.
    fn turns(&mut self, ready: &[Ready]) -> io::Result<()> {
        let now = Instant::now();
        let mut due = std::mem::take(&mut self.again);
        while let Some(Reverse((at, key))) = self.wakes.peek().copied()
            && at <= now
        {
            self.wakes.pop();
            due.push(key);
        }
        for event in ready {
            if event.token == LISTENER_TOKEN {
                self.accept(now)?;
                continue;
            }
            let key = usize::try_from(event.token).map_err(io::Error::other)?;
            if let Some(peer) = self.peers.get_mut(key) {
                peer.unblock(*event);
                due.push(key);
            }
        }
        for key in due {
            self.turn(key, now);
        }
        Ok(())
    }

    fn turn(&mut self, key: usize, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let was_known = peer.number().is_some();
        let mut turn = peer.turn(now, &mut self.scratch);
        if let Some(number) = peer.number()
            && !was_known
            && !self.seen.insert(number)
        {
            turn = Turn::Done(Outcome::Wrong(Fault::Number(number)));
        }
        match turn {
            Turn::Wait => {}
            Turn::WaitUntil(at) => self.wakes.push(Reverse((at, key))),
            Turn::Again => self.again.push(key),
            Turn::Done(outcome) => self.done(key, outcome),
        }
    }

    fn done(&mut self, key: usize, outcome: Outcome) {
        let peer = self.peers.remove(key);
        let side = peer.side();
        if side == Side::Client {
            self.clients -= 1;
            self.tally.clients += 1;
        }
        match outcome {
            Outcome::Whole if side == Side::Client => self.tally.whole_at_client += 1,
            Outcome::Whole => self.tally.whole_at_origin += 1,
            Outcome::Killed => self.tally.killed += 1,
            Outcome::Broken => self.tally.broken += 1,
            Outcome::CutAsEnd => self.tally.cut_as_end += 1,
            Outcome::Nameless => self.tally.nameless += 1,
            Outcome::Wrong(fault) => {
                self.tally.wrong += 1;
                if self.tally.wrong <= FAULTS_SHOWN as u64 {
                    let number = peer.number().map_or("?".to_owned(), |number| number.to_string());
                    let plan =
                        peer.number().map(|number| Plan::new(self.rules.seed, number, self.rules.early));
                    eprintln!(
                        "integrity: seed={} session={number} side={side:?}: {fault}; {plan:?}",
                        self.rules.seed
                    );
                }
            }
        }
    }

    fn open(&mut self) -> io::Result<()> {
        let number = self.next;
        self.next += 1;
        let first_hop = self.proxy.map_or(self.address, |proxy| proxy.address);
        let script = self.proxy.map(|proxy| {
            let destination = match &proxy.name {
                Some(name) => Destination::Name(name.clone(), self.address.port()),
                None => Destination::Address(self.address),
            };
            Script::new(proxy.credentials.as_ref(), &destination)
        });
        let stream = connect_nonblocking(first_hop)?;
        let peer = |stream| Peer::client(stream, number, self.rules, script, Instant::now());
        add(&self.poller, &mut self.peers, stream, peer)?;
        self.clients += 1;
        Ok(())
    }

    fn accept(&mut self, now: Instant) -> io::Result<()> {
        while let Ok(socket) = accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            let rules = self.rules;
            add(&self.poller, &mut self.peers, socket.into(), |stream| Peer::origin(stream, rules, now))?;
        }
        Ok(())
    }

    fn sweep(&mut self, now: Instant) {
        let hanging: Vec<usize> = self
            .peers
            .iter()
            .filter(|(_, peer)| now.saturating_duration_since(peer.begun) > SESSION_MAX)
            .map(|(key, _)| key)
            .collect();
        for key in hanging {
            let outcome = self.peers.get(key).map(Peer::hangs);
            if let Some(outcome) = outcome {
                self.done(key, outcome);
            }
        }
    }
}

/// Without TCP_NODELAY the fragments of a plan would be joined again before they leave.
fn add(
    poller: &Poller,
    peers: &mut Slab<Peer>,
    stream: TcpStream,
    peer: impl FnOnce(TcpStream) -> Peer,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let entry = peers.vacant_entry();
    poller.add(&stream, entry.key() as u64, EDGE)?;
    entry.insert(peer(stream));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_tcp_passes() {
        let options = Options {
            seed: 11,
            sessions: 0..150,
            at_once: 32,
            early: EarlyData::Sent,
            resets: Resets::AsResets,
        };
        assert!(run(None, &options).unwrap());
    }
}
