//! Properties of version 1: round trips, any split equals the whole, noise.

use proptest::prelude::*;

use super::*;
use crate::limits::{V1_LOGIN_BYTES_MAX, V1_REPLY_BYTES_MAX, V1_REQUEST_BYTES_MAX};
use crate::{Name, Password};

fn name() -> impl Strategy<Value = Name> {
    prop::collection::vec(any::<u8>(), 1..=255).prop_map(|octets| Name::new(octets).unwrap())
}

fn password() -> impl Strategy<Value = Password> {
    prop::collection::vec(any::<u8>(), 1..=255).prop_map(|octets| Password::new(octets).unwrap())
}

fn switch() -> impl Strategy<Value = Switch> {
    prop_oneof![Just(Switch::Off), Just(Switch::On)]
}

fn privilege() -> impl Strategy<Value = Privilege> {
    prop_oneof![Just(Privilege::User), Just(Privilege::Administrator)]
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Query(Query::ListUsers)),
        (0..10_usize).prop_map(|place| Request::Query(Query::Number(NumberQuery::ALL[place]))),
        name().prop_map(|name| Request::Query(Query::UserConnections(name))),
        modification().prop_map(Request::Modification),
    ]
}

fn modification() -> impl Strategy<Value = Modification> {
    prop_oneof![
        (name(), password(), privilege()).prop_map(|(name, password, privilege)| Modification::AddUser {
            name,
            password,
            privilege
        }),
        name().prop_map(Modification::RemoveUser),
        switch().prop_map(Modification::Dissector),
        switch().prop_map(Modification::IdleCleanup),
        any::<u32>().prop_map(Modification::BufferSize),
        any::<u8>().prop_map(Modification::SelectorTimeout),
        any::<u8>().prop_map(Modification::IdleTimeout),
    ]
}

/// A reply and the request that it answers.
fn reply() -> impl Strategy<Value = (Asked, Reply)> {
    let users = prop::collection::vec((name(), privilege()), 0..300).prop_map(|users| {
        let entry = |(name, privilege)| UserEntry { name, privilege };
        (Asked::Query(0), Reply::Users(users.into_iter().map(entry).collect()))
    });
    prop_oneof![
        1 => users,
        4 => (0..11_usize, any::<u64>()).prop_map(|(place, value)| {
            let query = NumberQuery::ALL[place];
            (Asked::Query(query.cmd()), Reply::Number { query, value })
        }),
        1 => (0..12_u8, any::<u8>()).prop_map(|(cmd, code)| {
            let failure = [
                QueryFailure::InvalidParameter,
                QueryFailure::ServerError,
                QueryFailure::Unassigned(code.min(0xfd)),
            ];
            (Asked::Query(cmd), Reply::QueryFailed(failure[usize::from(code % 3)]))
        }),
        4 => (0..7_u8, any::<u8>()).prop_map(|(cmd, code)| {
            let status = ModificationStatus::from_code(cmd, code);
            (Asked::Modification(cmd), Reply::Modified { cmd, status })
        }),
        1 => (0..7_u8).prop_map(|cmd| (Asked::Query(cmd), Reply::UnknownCommand(Asked::Query(0xff)))),
        1 => (0..7_u8).prop_map(|cmd| (Asked::Modification(cmd), Reply::UnknownType)),
    ]
}

/// What a receiver reads back: numbers at most their field's maximum, at most 255 users.
fn as_received(reply: Reply) -> Reply {
    match reply {
        Reply::Number { query, value } => Reply::Number { query, value: value.min(query.value_max()) },
        Reply::Users(users) => Reply::Users(users.into_iter().take(255).collect()),
        other @ (Reply::QueryFailed(_)
        | Reply::Modified { .. }
        | Reply::UnknownCommand(_)
        | Reply::UnknownType) => other,
    }
}

proptest! {
    #[test]
    fn a_login_survives_the_wire(name in name(), password in password()) {
        let login = Login { name, password };
        let octets = encode_login(&login);
        prop_assert!(octets.len() <= V1_LOGIN_BYTES_MAX);
        prop_assert_eq!(decode_login(&octets), Ok(Some((login, octets.len()))));
        for end in 0..octets.len() {
            prop_assert_eq!(decode_login(&octets[..end]), Ok(None));
        }
    }

    #[test]
    fn every_request_survives_the_wire(request in request()) {
        let mut octets = Vec::new();
        prop_assert!(request.encode(&mut octets));
        prop_assert!(octets.len() <= V1_REQUEST_BYTES_MAX);
        for end in 0..octets.len() {
            prop_assert_eq!(Request::decode(&octets[..end]), None);
        }
        prop_assert_eq!(Request::decode(&octets), Some((request, octets.len())));
    }

    #[test]
    fn every_reply_survives_the_wire((asked, reply) in reply()) {
        let octets = reply.encode();
        prop_assert!(octets.len() <= V1_REPLY_BYTES_MAX);
        for end in [0, 1, octets.len() / 2, octets.len() - 1] {
            prop_assert_eq!(Reply::decode(asked, &octets[..end]), Ok(None));
        }
        prop_assert_eq!(Reply::decode(asked, &octets), Ok(Some((as_received(reply), octets.len()))));
    }

    /// Octets that are often requests, never mind whether they make sense: cut at any places, the requests read
    /// from the pieces are those read from the whole.
    #[test]
    fn any_split_of_a_stream_equals_the_whole(
        requests in prop::collection::vec(request(), 0..8),
        noise in prop::collection::vec(0..9_u8, 0..200),
        cuts in prop::collection::vec(1..50_usize, 1..60),
    ) {
        let mut stream = Vec::new();
        for request in &requests {
            request.encode(&mut stream);
        }
        stream.extend(&noise);
        let (whole, rest) = read_all(&stream);
        prop_assert_eq!(&whole[..requests.len()], &requests[..]);
        let (mut found, mut buffer, mut later) = (Vec::new(), Vec::new(), stream.as_slice());
        for cut in cuts.into_iter().cycle() {
            let (piece, after) = later.split_at(cut.min(later.len()));
            (buffer, later) = ([buffer.as_slice(), piece].concat(), after);
            let (more, left) = read_all(&buffer);
            found.extend(more);
            buffer = left;
            if later.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, whole);
        prop_assert_eq!(buffer, rest);
    }

    /// Octets that often are requests and replies.
    #[test]
    fn noise_that_looks_like_requests_never_panics(octets in prop::collection::vec(0..13_u8, 0..200)) {
        crate::fuzz::version1(&octets);
    }

    #[test]
    fn noise_never_panics(octets in prop::collection::vec(any::<u8>(), 0..1000), cmd: u8) {
        crate::fuzz::version1(&octets);
        let _ = read_all(&octets);
        let _ = Reply::decode(Asked::Query(cmd), &octets);
        let _ = Reply::decode(Asked::Modification(cmd), &octets);
        let _ = Reply::decode(Asked::Query(0), &[&[0, 0], octets.as_slice()].concat());
    }
}

fn read_all(mut octets: &[u8]) -> (Vec<Request>, Vec<u8>) {
    let mut requests = Vec::new();
    while let Some((request, taken)) = Request::decode(octets) {
        assert!(
            (2..=V1_REQUEST_BYTES_MAX).contains(&taken),
            "every request is consumed, and none is endless"
        );
        requests.push(request);
        octets = &octets[taken..];
    }
    assert!(octets.len() < V1_REQUEST_BYTES_MAX, "what is incomplete is shorter than the longest request");
    (requests, octets.to_vec())
}
