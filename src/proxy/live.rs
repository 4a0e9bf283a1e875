//! What can be asked of a worker about its sessions while they run, and what it tells of them: questions and
//! answers, events, steps of traced sessions. Values only; `desk.rs` answers, `door.rs` carries.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::connect::AttemptError;
use super::dissect::Found;
use super::session::{Families, Stage, Target};
use crate::ids::SessionId;
use crate::logging::CloseReason;
use crate::resolver::{CacheEntryView, DomainName, Family, Outcome};
use crate::store::{User, UserLive};

/// Names a question to the workers; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionId(pub u64);

/// What a worker can be asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// The sessions that match, from the oldest on. Answered page by page, see [`Page`].
    Sessions(Arc<Filter>),
    /// One session in full.
    Session(SessionId),
    /// Follow every step of this session from now on.
    Trace(SessionId),
    /// End the sessions that are selected, or only count them.
    Kill(Arc<Selection>, Run),
    /// End sessions that began with a record of their user that is outdated.
    EndFormer(Whose),
    /// Answers in the resolver's cache, of one name or all. Answered page by page.
    Cache(Option<DomainName>),
    /// Forget answers in the resolver's cache, of one name or all.
    Flush(Option<DomainName>),
    /// Accept what waits in the backlogs, then no more.
    Rest,
    /// Accept again.
    Resume,
}

/// Whether a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// It is.
    Real,
    /// It is not; what it would touch is counted.
    Dry,
}

/// Which users' sessions.
#[derive(Clone, Debug)]
pub enum Whose {
    /// Of every user who was removed or changed.
    Everyone,
    /// Of this one.
    One(Arc<UserLive>),
}

/// Sessions by number, by filter, or both.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Numbers, ascending.
    pub ids: Vec<SessionId>,
    /// Others. An empty filter means all.
    pub filter: Option<Filter>,
}

impl Selection {
    /// Whether it holds a session.
    #[must_use]
    pub fn has(&self, id: SessionId, session: &Glimpse<'_>) -> bool {
        self.ids.binary_search(&id).is_ok()
            || self.filter.as_ref().is_some_and(|filter| filter.matches(session))
    }
}

/// Which sessions: every condition that is there must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this user, octet by octet.
    pub user: Option<Box<[u8]>>,
    /// From a client in this network: address and leading bits that count.
    pub source: Option<(IpAddr, u8)>,
    /// To this destination.
    pub destination: Option<DestinationPattern>,
    /// To this port.
    pub port: Option<u16>,
    /// At least so long since accept.
    pub age_min: Option<Duration>,
    /// At most so long since accept.
    pub age_max: Option<Duration>,
    /// At least so many bytes both ways together.
    pub bytes_min: Option<u64>,
    /// At most so many bytes both ways together.
    pub bytes_max: Option<u64>,
    /// In this stage.
    pub stage: Option<Stage>,
    /// At least so long without a byte.
    pub idle_min: Option<Duration>,
}

/// A destination as people write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationPattern {
    /// This address, as the client asked for it.
    Address(IpAddr),
    /// This name, upper and lower case alike.
    Name(Box<[u8]>),
    /// Any name that ends in this, which begins with a dot.
    Below(Box<[u8]>),
}

impl DestinationPattern {
    /// Reads an address, a name, or a dot and a name.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let address = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        match (address, text) {
            (Some(address), _) => Self::Address(address),
            (None, [b'.', ..]) => Self::Below(without_root(text).into()),
            (None, _) => Self::Name(without_root(text).into()),
        }
    }

    fn matches(&self, target: &Target) -> bool {
        match (self, target) {
            (Self::Address(wanted), Target::Address(asked)) => wanted.to_canonical() == asked.to_canonical(),
            (Self::Name(wanted), Target::Name(asked)) => wanted.eq_ignore_ascii_case(without_root(asked)),
            (Self::Below(end), Target::Name(asked)) => {
                let asked = without_root(asked);
                // A name of its own is before the dot.
                let start = asked.len().checked_sub(end.len()).filter(|&start| start > 0);
                start.and_then(|start| asked.get(start..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
            }
            (Self::Address(_), Target::Name(_) | Target::Unknown)
            | (Self::Name(_) | Self::Below(_), Target::Address(_) | Target::Unknown) => false,
        }
    }
}

/// A name without the dot of the root.
fn without_root(name: &[u8]) -> &[u8] {
    name.strip_suffix(b".").unwrap_or(name)
}

impl Filter {
    /// Whether a session fits.
    #[must_use]
    pub fn matches(&self, session: &Glimpse<'_>) -> bool {
        fn holds<T>(condition: Option<&T>, test: impl FnOnce(&T) -> bool) -> bool {
            condition.is_none_or(test)
        }
        holds(self.stage.as_ref(), |stage| *stage == session.stage)
            && holds(self.port.as_ref(), |port| *port == session.port && *session.target != Target::Unknown)
            && holds(self.user.as_ref(), |user| **user == *session.user)
            && holds(self.source.as_ref(), |(network, bits)| is_within(session.source, *network, *bits))
            && holds(self.age_min.as_ref(), |min| session.age >= *min)
            && holds(self.age_max.as_ref(), |max| session.age <= *max)
            && holds(self.idle_min.as_ref(), |min| session.idle >= *min)
            && holds(self.bytes_min.as_ref(), |min| session.bytes >= *min)
            && holds(self.bytes_max.as_ref(), |max| session.bytes <= *max)
            && holds(self.destination.as_ref(), |pattern| pattern.matches(session.target))
    }
}

/// Whether an address is in a network; an IPv4 address that IPv6 carries is an IPv4 address.
fn is_within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    fn equal(ip: u128, network: u128, width: u8, bits: u8) -> bool {
        let ignored = u32::from(width.saturating_sub(bits));
        (ip ^ network).checked_shr(ignored).is_none_or(|rest| rest == 0)
    }
    match (ip.to_canonical(), network.to_canonical()) {
        (IpAddr::V4(ip), IpAddr::V4(inner)) => {
            let bits = if network.is_ipv6() { bits.saturating_sub(96) } else { bits };
            equal(ip.to_bits().into(), inner.to_bits().into(), 32, bits)
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => equal(ip.to_bits(), network.to_bits(), 128, bits),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// What a filter looks at.
#[derive(Clone, Copy, Debug)]
pub struct Glimpse<'a> {
    /// Whose it is.
    pub user: &'a [u8],
    /// Where the client is.
    pub source: IpAddr,
    /// Where to, as asked.
    pub target: &'a Target,
    /// Where to, as asked.
    pub port: u16,
    /// Where in the dialogue it stands.
    pub stage: Stage,
    /// Since accept.
    pub age: Duration,
    /// Since the last byte; before the relay, since accept.
    pub idle: Duration,
    /// Payload both ways together.
    pub bytes: u64,
}

/// One session in a list or an event.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its number.
    pub id: SessionId,
    /// Whose it is.
    pub user: Arc<User>,
    /// Where the client is.
    pub client: SocketAddr,
    /// Where to, as asked.
    pub target: Target,
    /// Where to, as asked.
    pub port: u16,
    /// The origin, once connected.
    pub resolved: Option<SocketAddr>,
    /// Where in the dialogue it stands.
    pub stage: Stage,
    /// Since accept.
    pub age: Duration,
    /// Since the last byte; before the relay, since accept.
    pub idle: Duration,
    /// Payload from client to origin.
    pub bytes_up: u64,
    /// Payload from origin to client.
    pub bytes_down: u64,
}

/// One session in full.
#[derive(Clone, Debug)]
pub struct Details {
    /// What a list shows.
    pub row: Row,
    /// The listener that it came in by.
    pub listener: SocketAddr,
    /// Our address towards the origin.
    pub outgoing: Option<SocketAddr>,
    /// When it was accepted.
    pub accepted: SystemTime,
    /// The command as asked, once asked.
    pub command: Option<u8>,
    /// The reply as sent.
    pub reply: Option<u8>,
    /// Time spent on names.
    pub dns: Option<Duration>,
    /// Time spent connecting.
    pub connect: Option<Duration>,
    /// Addresses that the cache has for the name.
    pub candidates: Vec<IpAddr>,
    /// Connect attempts so far.
    pub attempts_count: u8,
    /// How bytes of a relay travel at the moment.
    pub mover: Option<&'static str>,
    /// Bytes of the client that the origin has not got yet.
    pub held_up_bytes: usize,
    /// Bytes of the origin that the client has not got yet.
    pub held_down_bytes: usize,
    /// Who has sent its end.
    pub ended: EndedSides,
    /// Time until its next time limit.
    pub deadline: Option<Duration>,
}

/// Which sides of a session have sent their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndedSides {
    /// The client has.
    pub client: bool,
    /// The origin has.
    pub origin: bool,
}

/// What a worker answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Question::Sessions`].
    Sessions(Page<Row>),
    /// To [`Question::Session`]; `None`: it is not there.
    Session(Option<Box<Details>>),
    /// To [`Question::Cache`].
    Cache(Page<CacheEntryView>),
    /// To every question that counts: sessions that ended or would have, answers forgotten, sessions traced.
    Count(u64),
    /// To [`Question::Rest`] and [`Question::Resume`].
    Done,
    /// To any question: too many are under way.
    Busy,
}

impl Answer {
    /// Whether the question is answered in full.
    #[must_use]
    pub fn is_last(&self) -> bool {
        match self {
            Self::Sessions(page) => page.rest == Rest::Nothing,
            Self::Cache(page) => page.rest == Rest::Nothing,
            Self::Session(_) | Self::Count(_) | Self::Done | Self::Busy => true,
        }
    }
}

/// Some rows of an answer, at most [`crate::limits::DESK_PAGE_ROWS`].
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The next rows.
    pub rows: Vec<T>,
    /// Whether there are more.
    pub rest: Rest,
}

/// What follows a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// This was the last one.
    Nothing,
    /// Another one, once [`super::inbox::Message::More`] asks for it.
    Waits,
}

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It was accepted.
    Opened,
    /// Its origin was connected.
    Connected,
    /// It is over.
    Ended(CloseReason),
}

/// An event.
#[derive(Clone, Debug)]
pub struct News {
    /// What.
    pub happened: Happened,
    /// The session as it stands after it.
    pub row: Row,
    /// The reply, once sent.
    pub reply: Option<u8>,
}

/// Credentials that passed in clear.
#[derive(Clone, Debug)]
pub struct Noticed {
    /// In which session.
    pub session: SessionId,
    /// Whose session.
    pub user: Arc<User>,
    /// Where to, as asked.
    pub target: Target,
    /// Where to, as asked.
    pub port: u16,
    /// In which protocol, and what; stars stand for a password that is not to be shown.
    pub found: Found,
}

/// A step of a traced session.
#[derive(Clone, Debug)]
pub struct TraceStep {
    /// Which session.
    pub session: SessionId,
    /// Since accept.
    pub elapsed: Duration,
    /// Where the session stands after it.
    pub stage: Stage,
    /// What happened.
    pub what: Traced,
}

/// What can happen in a traced session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traced {
    /// It entered a stage.
    Stage,
    /// A name was asked for.
    DnsQuestion(DomainName, Families),
    /// One family's answer came.
    DnsAnswer(Family, Outcome),
    /// A connect attempt began.
    ConnectStart(SocketAddr),
    /// A connect attempt ended: connected, failed, or (`None`) was given up.
    ConnectEnd(Option<SocketAddr>, Option<Result<(), AttemptError>>),
    /// A reply was sent.
    Reply(u8),
    /// Bytes up and down since the last such step.
    Bytes(u64, u64),
    /// A side has sent its end.
    HalfClosed(EndedSides),
    /// A time limit has passed.
    Expired,
    /// It is over.
    Closed(CloseReason),
}

/// What a worker tells the control loop, in order.
#[derive(Clone, Debug)]
pub enum Told {
    /// An answer.
    Answer(QuestionId, Answer),
    /// An event; told while somebody wants them.
    News(Box<News>),
    /// Credentials in clear; told while somebody wants events.
    Noticed(Box<Noticed>),
    /// A step of a traced session.
    Step(Box<TraceStep>),
    /// Events and steps that found no room at this place, so many of each.
    Lost(u64, u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn name(text: &str) -> Target {
        Target::Name(text.as_bytes().into())
    }

    fn glimpse(target: &Target) -> Glimpse<'_> {
        Glimpse {
            user: b"ann",
            source: ip("192.0.2.77"),
            target,
            port: 443,
            stage: Stage::Relay,
            age: Duration::from_secs(10),
            idle: Duration::from_secs(3),
            bytes: 1000,
        }
    }

    #[test]
    fn an_empty_filter_matches_and_every_condition_must_hold() {
        let target = name("www.example.org");
        let session = glimpse(&target);
        assert!(Filter::default().matches(&session));
        let second = Duration::from_secs(1);
        type Set = fn(&mut Filter, Duration);
        let cases: [(Set, Set); 10] = [
            (|f, _| f.user = Some(b"ann"[..].into()), |f, _| f.user = Some(b"an"[..].into())),
            (|f, _| f.source = Some((ip("192.0.2.0"), 24)), |f, _| f.source = Some((ip("192.0.2.0"), 26))),
            (
                |f, _| f.destination = Some(DestinationPattern::new(b"WWW.example.org.")),
                |f, _| f.destination = Some(DestinationPattern::new(b"example.org")),
            ),
            (|f, _| f.port = Some(443), |f, _| f.port = Some(80)),
            (|f, s| f.age_min = Some(10 * s), |f, s| f.age_min = Some(11 * s)),
            (|f, s| f.age_max = Some(10 * s), |f, s| f.age_max = Some(9 * s)),
            (|f, _| f.bytes_min = Some(1000), |f, _| f.bytes_min = Some(1001)),
            (|f, _| f.bytes_max = Some(1000), |f, _| f.bytes_max = Some(999)),
            (|f, _| f.stage = Some(Stage::Relay), |f, _| f.stage = Some(Stage::Connect)),
            (|f, s| f.idle_min = Some(3 * s), |f, s| f.idle_min = Some(4 * s)),
        ];
        let mut all = Filter::default();
        for (place, (fits, does_not)) in cases.into_iter().enumerate() {
            fits(&mut all, second);
            assert!(all.matches(&session), "condition {place}");
            let mut other = all.clone();
            does_not(&mut other, second);
            assert!(!other.matches(&session), "condition {place}");
        }
    }

    #[test]
    fn a_destination_is_matched_as_asked() {
        let cases = [
            ("example.org", name("EXAMPLE.org"), true),
            ("example.org", name("example.org."), true),
            ("example.org", name("www.example.org"), false),
            (".example.org", name("www.example.org"), true),
            (".example.org", name("a.b.Example.Org."), true),
            (".example.org", name("example.org"), false),
            (".example.org", name("badexample.org"), false),
            (".example.org", name(".example.org"), false),
            ("192.0.2.1", Target::Address(ip("192.0.2.1")), true),
            ("192.0.2.1", Target::Address(ip("::ffff:192.0.2.1")), true),
            ("192.0.2.1", Target::Address(ip("192.0.2.2")), false),
            ("192.0.2.1", name("192.0.2.1"), false),
            ("example.org", Target::Unknown, false),
        ];
        for (pattern, target, expected) in cases {
            let found = DestinationPattern::new(pattern.as_bytes()).matches(&target);
            assert_eq!(found, expected, "{pattern} {target:?}");
        }
    }

    #[test]
    fn a_network_is_its_leading_bits() {
        let cases = [
            ("192.0.2.1", "192.0.2.1", 32, true),
            ("192.0.2.1", "192.0.2.0", 32, false),
            ("192.0.2.1", "192.0.2.0", 31, true),
            ("203.0.113.9", "10.0.0.0", 0, true),
            ("::ffff:192.0.2.1", "192.0.2.0", 24, true),
            ("2001:db8::1", "2001:db8::", 64, true),
            ("2001:db8:0:1::1", "2001:db8::", 64, false),
            ("2001:db8::1", "::", 0, true),
            ("2001:db8::1", "0.0.0.0", 0, false),
            ("192.0.2.1", "192.0.2.1", 200, true),
            ("192.0.2.1", "::ffff:192.0.2.0", 120, true),
            ("192.0.3.1", "::ffff:192.0.2.0", 120, false),
        ];
        for (address, network, bits, expected) in cases {
            assert_eq!(is_within(ip(address), ip(network), bits), expected, "{address} {network}/{bits}");
        }
    }

    #[test]
    fn a_selection_has_its_numbers_and_what_its_filter_matches() {
        let target = name("example.org");
        let session = glimpse(&target);
        let id = SessionId::from_u64;
        let by_id = Selection { ids: vec![id(1), id(5), id(9)], filter: None };
        assert!(by_id.has(id(5), &session) && !by_id.has(id(6), &session));
        let all = Selection { ids: Vec::new(), filter: Some(Filter::default()) };
        assert!(all.has(id(6), &session));
        assert!(!Selection::default().has(id(6), &session));
    }
}
