//! The examples of version 1, written by hand from the facts of the wire, against the codec in both directions.

use pipo_protocol::v1::{
    Asked, Login, LoginStatus, Modification, ModificationStatus, NumberQuery, Privilege, Query, QueryFailure,
    Reply, Request, Switch, UserEntry, decode_login, decode_login_reply, encode_login,
};
use pipo_protocol::{Name, Password, Version};

use crate::spec_file::examples;

fn name(octets: &str) -> Name {
    Name::new(octets.as_bytes()).unwrap()
}

fn password(octets: &str) -> Password {
    Password::new(octets.as_bytes()).unwrap()
}

#[test]
fn the_login_is_the_one_specified() {
    let mut found = 0;
    for example in examples("v1") {
        if example.name == "login" {
            let login = Login { name: name("admin"), password: password("secret") };
            assert_eq!(Version::choose(&example.octets), Some(Version::V1));
            assert_eq!(encode_login(&login), example.octets);
            assert_eq!(decode_login(&example.octets), Ok(Some((login, example.octets.len()))));
            found += 1;
        } else if let Some(status) = example.name.strip_prefix("login-") {
            let status = match status {
                "accepted" => LoginStatus::Accepted,
                "refused" => LoginStatus::Refused,
                "unsupported-version" => LoginStatus::UnsupportedVersion,
                other => panic!("unknown example {other}"),
            };
            assert_eq!(status.encode().as_slice(), example.octets);
            assert_eq!(decode_login_reply(&example.octets), Ok(Some((status, 2))));
            found += 1;
        }
    }
    assert_eq!(found, 4);
}

/// What a request of the specification means; what only a server meets is not encoded.
fn request(name_of_example: &str) -> Option<Request> {
    let (kind, what) = name_of_example.split_once(' ')?;
    Some(match (kind, what) {
        ("query", "list-users") => Request::Query(Query::ListUsers),
        ("query", "user-connections") => Request::Query(Query::UserConnections(name("ada"))),
        ("query", what) => Request::Query(Query::Number(number(what)?)),
        ("modification", what) => Request::Modification(modification(what)?),
        ("invalid", "user-connections") => Request::Invalid(Asked::Query(0x0b)),
        ("invalid", "remove-user") => Request::Invalid(Asked::Modification(0x01)),
        ("invalid", "idle-cleanup") => Request::Invalid(Asked::Modification(0x03)),
        ("unknown", "type") => Request::UnknownType(2),
        ("unknown", "query") => Request::UnknownCommand(Asked::Query(0x0c)),
        ("unknown", "modification") => Request::UnknownCommand(Asked::Modification(0x07)),
        _ => return None,
    })
}

fn number(what: &str) -> Option<NumberQuery> {
    Some(match what {
        "historic-connections" => NumberQuery::HistoricConnections,
        "current-connections" => NumberQuery::CurrentConnections,
        "maximum-connections" => NumberQuery::MaximumConnections,
        "bytes-sent" => NumberQuery::BytesSent,
        "bytes-received" => NumberQuery::BytesReceived,
        "connected-users" => NumberQuery::ConnectedUsers,
        "registered-users" => NumberQuery::RegisteredUsers,
        "buffer-size" => NumberQuery::BufferSize,
        "selector-timeout" => NumberQuery::SelectorTimeout,
        "idle-timeout" => NumberQuery::IdleTimeout,
        "user-connections" => NumberQuery::UserConnections,
        _ => return None,
    })
}

fn modification(what: &str) -> Option<Modification> {
    Some(match what {
        "add-user" => Modification::AddUser {
            name: name("ada"),
            password: password("\u{1F980}"),
            privilege: Privilege::User,
        },
        "add-administrator" => Modification::AddUser {
            name: name("root"),
            password: password("pw"),
            privilege: Privilege::Administrator,
        },
        "remove-user" => Modification::RemoveUser(name("ada")),
        "dissector-on" => Modification::Dissector(Switch::On),
        "idle-cleanup-off" => Modification::IdleCleanup(Switch::Off),
        "buffer-size" => Modification::BufferSize(65_536),
        "selector-timeout" => Modification::SelectorTimeout(10),
        "idle-timeout" => Modification::IdleTimeout(60),
        _ => return None,
    })
}

/// What a reply of the specification answers and means.
fn reply(what: &str) -> Option<(Asked, Reply)> {
    if let Some(query) = number(what) {
        let value = match query {
            NumberQuery::HistoricConnections => 4_294_967_298,
            NumberQuery::CurrentConnections => 300,
            NumberQuery::MaximumConnections => 65_535,
            NumberQuery::BytesSent => 1_000_000,
            NumberQuery::BytesReceived => u64::MAX,
            NumberQuery::ConnectedUsers => 3,
            NumberQuery::RegisteredUsers | NumberQuery::IdleTimeout => 255,
            NumberQuery::BufferSize => 262_144,
            NumberQuery::SelectorTimeout => 10,
            NumberQuery::UserConnections => 7,
        };
        return Some((Asked::Query(query.cmd()), Reply::Number { query, value }));
    }
    let modified = |cmd, status| (Asked::Modification(cmd), Reply::Modified { cmd, status });
    Some(match what {
        "list-users" => {
            let user = |user, privilege| UserEntry { name: name(user), privilege };
            let users = vec![user("anonymous", Privilege::User), user("admin", Privilege::Administrator)];
            (Asked::Query(0), Reply::Users(users))
        }
        "query-invalid-parameter" => (Asked::Query(0x0b), Reply::QueryFailed(QueryFailure::InvalidParameter)),
        "query-server-error" => (Asked::Query(0x04), Reply::QueryFailed(QueryFailure::ServerError)),
        "add-user-done" => modified(0, ModificationStatus::Done),
        "add-user-name-taken" => modified(0, ModificationStatus::NameTaken),
        "add-user-no-room" => modified(0, ModificationStatus::NoRoom),
        "remove-user-done" => modified(1, ModificationStatus::Done),
        "remove-user-no-such-user" => modified(1, ModificationStatus::NoSuchUser),
        "remove-user-invalid-parameter" => modified(1, ModificationStatus::InvalidParameter),
        "dissector-server-error" => modified(2, ModificationStatus::ServerError),
        "idle-cleanup-invalid-parameter" => modified(3, ModificationStatus::InvalidParameter),
        "buffer-size-unsupported" => modified(4, ModificationStatus::Unsupported),
        "selector-timeout-done" => modified(5, ModificationStatus::Done),
        "idle-timeout-unsupported" => modified(6, ModificationStatus::Unsupported),
        "unknown-type" => (Asked::Query(0), Reply::UnknownType),
        "unknown-query" => (Asked::Query(0x0c), Reply::UnknownCommand(Asked::Query(0xff))),
        "unknown-modification" => {
            (Asked::Modification(0x07), Reply::UnknownCommand(Asked::Modification(0xff)))
        }
        _ => return None,
    })
}

#[test]
fn every_request_and_reply_is_the_one_specified() {
    let (mut requests, mut replies) = (0, 0);
    for example in examples("v1") {
        let octets = &example.octets;
        if let Some(what) = example.name.strip_prefix("reply ") {
            let (asked, reply) = reply(what).unwrap_or_else(|| panic!("unknown example {what}"));
            assert_eq!(example.direction, "S->C");
            assert_eq!(&reply.encode(), octets, "{what}");
            assert_eq!(Reply::decode(asked, octets), Ok(Some((reply, octets.len()))), "{what}");
            replies += 1;
        } else if !example.name.starts_with("login") && example.name != "pipeline" {
            let request =
                request(&example.name).unwrap_or_else(|| panic!("unknown example {}", example.name));
            assert_eq!(example.direction, "C->S");
            let mut encoded = Vec::new();
            if request.encode(&mut encoded) {
                assert_eq!(&encoded, octets, "{}", example.name);
            } else {
                assert!(["invalid", "unknown"].contains(&example.name.split(' ').next().unwrap()));
            }
            assert_eq!(Request::decode(octets), Some((request, octets.len())), "{}", example.name);
            requests += 1;
        }
    }
    // 12 queries, 8 modifications, 3 invalid, 3 unknown; 12 values, 2 failures, 11 statuses, 3 unknown.
    assert_eq!((requests, replies), (26, 28));
}

#[test]
fn a_pipeline_is_read_request_by_request() {
    let pipeline = examples("v1").into_iter().find(|example| example.name == "pipeline").unwrap();
    let expected = [
        Request::Query(Query::Number(NumberQuery::CurrentConnections)),
        Request::UnknownType(2),
        Request::Modification(Modification::BufferSize(4096)),
        Request::Query(Query::Number(NumberQuery::RegisteredUsers)),
    ];
    let mut rest = pipeline.octets.as_slice();
    for expected in expected {
        let (request, taken) = Request::decode(rest).unwrap();
        assert_eq!(request, expected);
        rest = &rest[taken..];
    }
    assert!(rest.is_empty());
}
