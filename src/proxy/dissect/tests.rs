//! What is found in dialogues and what is not, whole, cut anywhere, and with a client that does not wait.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use Way::{Down, Up};

/// What is found, as `PROTOCOL USER PASSWORD`, and how it ended.
fn found_in(dialogue: &[(Way, &[u8])]) -> (Vec<String>, Option<End>) {
    let mut watch = Watch::new(Mode::Full);
    let mut found = Vec::new();
    for (way, bytes) in dialogue {
        if watch.wants(*way) {
            watch.see(*way, bytes);
        }
        found.append(&mut watch.take_found(Mode::Full));
    }
    (found.iter().map(text).collect(), watch.end())
}

fn text(found: &Found) -> String {
    let Credentials { user, password } = &found.credentials;
    format!("{} {} {}", found.protocol.name(), user.escape_ascii(), password.escape_ascii())
}

#[track_caller]
fn check(dialogue: &[(Way, &str)], found: &[&str], end: Option<End>) {
    let whole: Vec<(Way, &[u8])> = dialogue.iter().map(|(way, text)| (*way, text.as_bytes())).collect();
    assert_eq!(found_in(&whole), (found.iter().map(ToString::to_string).collect(), end), "{dialogue:?}");
    let single: Vec<(Way, &[u8])> =
        whole.iter().flat_map(|(way, bytes)| bytes.chunks(1).map(|byte| (*way, byte))).collect();
    assert_eq!(found_in(&single).0, found, "byte by byte: {dialogue:?}");
}

/// `al:pw` and `bo:x:y`.
const AL: &str = "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YWw6cHc=\r\n\r\n";
const BO: &str = "GET /2 HTTP/1.1\r\nauthorization:basic   Ym86eDp5\r\n\r\n";
const PLAIN: &str = "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const REFUSED: &str =
    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 2\r\n\r\nno";
const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n";

#[test]
fn http_credentials_are_found_with_a_success() {
    check(&[(Up, AL), (Down, OK)], &["HTTP al pw"], None);
    check(&[(Up, BO), (Down, CHUNKED)], &["HTTP bo x:y"], None);
    check(&[(Up, AL), (Down, "HTTP/1.0 206 \r\n\r\nuntil the end")], &["HTTP al pw"], Some(End::Done));
    check(
        &[(Up, AL), (Down, "HTTP/1.1 204\r\n\r\n"), (Up, BO), (Down, OK)],
        &["HTTP al pw", "HTTP bo x:y"],
        None,
    );
}

#[test]
fn http_credentials_are_not_found_without_a_success() {
    for status in ["301 Moved", "304 Not Modified", "401 Unauthorized", "403 No", "404 No", "500 No"] {
        let response = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        check(&[(Up, AL), (Down, &response)], &[], None);
    }
    check(&[(Up, AL)], &[], None);
    check(&[(Up, AL), (Down, "HTTP/1.1 100 Continue\r\n\r\n")], &[], None);
    check(&[(Up, AL), (Down, "HTTP/1.1 20")], &[], None);
    check(&[(Up, PLAIN), (Down, OK)], &[], None);
}

#[test]
fn http_tells_a_refusal_from_the_second_try() {
    check(&[(Up, PLAIN), (Down, REFUSED), (Up, AL), (Down, OK)], &["HTTP al pw"], None);
    check(&[(Up, BO), (Down, REFUSED), (Up, AL), (Down, OK)], &["HTTP al pw"], None);
    check(&[(Up, AL), (Down, OK), (Up, AL), (Down, OK)], &["HTTP al pw"], None);
}

#[test]
fn http_pipelining_keeps_the_order() {
    let (up, down) = ([PLAIN, AL, BO, AL].concat(), [OK, REFUSED, CHUNKED, OK].concat());
    check(&[(Up, &up), (Down, &down)], &["HTTP bo x:y", "HTTP al pw"], None);
    let (up, down) = ([AL, BO].concat(), ["HTTP/1.1 100 Continue\r\n\r\n", REFUSED, OK].concat());
    check(&[(Up, &up), (Down, &down)], &["HTTP bo x:y"], None);
}

#[test]
fn http_bodies_are_stepped_over() {
    let post = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{AL}", AL.len());
    check(&[(Up, &[&post, BO].concat()), (Down, &[OK, OK].concat())], &["HTTP bo x:y"], None);
    let chunked =
        format!("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{AL}\r\n0\r\n\r\n", AL.len());
    check(&[(Up, &[&chunked, BO].concat()), (Down, &[OK, OK].concat())], &["HTTP bo x:y"], None);
    let head = AL.replacen("GET", "HEAD", 1);
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n";
    check(
        &[(Up, &[&head, BO].concat()), (Down, &[answer, OK].concat())],
        &["HTTP al pw", "HTTP bo x:y"],
        None,
    );
}

#[test]
fn http_gives_up_with_the_head_of_a_download() {
    let download = "HTTP/1.1 200 OK\r\nContent-Length: 268435456\r\n\r\nsome";
    check(&[(Up, PLAIN), (Down, download)], &[], Some(End::Limit));
    check(&[(Up, AL), (Down, download)], &["HTTP al pw"], Some(End::Limit));
    let upload = "PUT / HTTP/1.1\r\nContent-Length: 268435456\r\nAuthorization: Basic YWw6cHc\r\n\r\nsome";
    check(&[(Up, upload), (Down, OK)], &["HTTP al pw"], Some(End::Limit));
    check(&[(Up, &upload.replace("Authorization", "Other"))], &[], Some(End::Limit));
    let chunk = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        "1000\r\n".to_owned() + &"x".repeat(4096) + "\r\n"
    );
    let more = ("1000\r\n".to_owned() + &"x".repeat(4096) + "\r\n").repeat(20);
    check(&[(Up, AL), (Down, &chunk), (Down, &more)], &["HTTP al pw"], Some(End::Limit));
}

#[test]
fn http_looks_at_the_first_requests_only() {
    let up = [PLAIN.repeat(limits::DISSECTED_REQUESTS_MAX), AL.to_owned()].concat();
    check(&[(Up, &up)], &[], Some(End::Limit));
    let up = [PLAIN.repeat(limits::DISSECTED_REQUESTS_MAX - 1), AL.to_owned()].concat();
    check(
        &[(Up, &up), (Down, &OK.repeat(limits::DISSECTED_REQUESTS_MAX))],
        &["HTTP al pw"],
        Some(End::Limit),
    );
}

#[test]
fn http_upgrades_and_tunnels_are_left_alone() {
    let upgraded = ["HTTP/1.1 101 Switching Protocols\r\n\r\n", OK].concat();
    check(&[(Up, &[PLAIN, AL].concat()), (Down, &upgraded)], &[], Some(End::Switched));
    let tunnel = "CONNECT a:443 HTTP/1.1\r\n\r\n";
    check(&[(Up, &[tunnel, AL].concat()), (Down, &[OK, OK].concat())], &[], Some(End::Switched));
}

#[test]
fn http_that_breaks_the_rules_is_given_up() {
    let twice = AL.replace("Host: a", "Authorization: Basic Ym86eDp5");
    let smuggled = AL.replace("Host: a", "Content-Length: 3\r\nTransfer-Encoding: chunked");
    let lengths = AL.replace("Host: a", "Content-Length: 3\r\nContent-Length: 4");
    let folded = AL.replace("Host: a", "Host: a\r\n b");
    let bare = AL.replace("Host: a", "Host");
    let space = AL.replace("Host: a", "Host : a");
    let length = AL.replace("Host: a", "Content-Length: -3");
    for request in [twice, lengths, folded, bare, space, length] {
        check(&[(Up, &request), (Down, OK)], &[], Some(End::Malformed));
    }
    // The head was whole, so its response still counts; what follows it does not.
    check(
        &[(Up, &[&smuggled, BO].concat()), (Down, &[OK, OK].concat())],
        &["HTTP al pw"],
        Some(End::Malformed),
    );
    check(&[(Up, AL), (Down, "HTTP/1.1 2x0 OK\r\n\r\n")], &[], Some(End::Malformed));
    check(&[(Up, AL), (Down, "HTTP/2 200 OK\r\n\r\n")], &[], Some(End::Malformed));
    check(&[(Up, AL), (Down, &[OK, OK].concat())], &["HTTP al pw"], Some(End::Malformed));
    // A response before the request is complete is to nobody.
    check(&[(Up, &AL[..AL.len() - 2]), (Down, OK), (Up, "\r\n")], &[], Some(End::Malformed));
}

#[test]
fn http_credentials_that_cannot_be_read_are_passed_over() {
    let with = |value: &str| AL.replace("Basic YWw6cHc=", value);
    let long = "QUFB".repeat(600);
    for value in [
        "Basic",
        "Basic ",
        "Basic ***",
        "Basic YWw=",
        "Basic Og==",
        "Bearer YWw6cHc=",
        "BasicYWw6cHc=",
        &format!("Basic {long}"),
        &format!("Basic Og{long}"),
    ] {
        check(&[(Up, &[&with(value), BO].concat()), (Down, &[OK, OK].concat())], &["HTTP bo x:y"], None);
    }
    let cut = with(&format!("Basic {}", "QUFB".repeat(1100)));
    check(&[(Up, &cut), (Down, OK)], &[], Some(End::Limit));
    let cookie = AL.replace("Host: a", &format!("Cookie: {}", "c".repeat(9000)));
    check(&[(Up, &cookie), (Down, OK)], &["HTTP al pw"], None);
}

const GREETING: &str = "+OK ready <1@x>\r\n";

#[test]
fn pop3_user_and_pass_are_found_with_an_ok() {
    let done = Some(End::Done);
    let usual = [
        (Down, GREETING),
        (Up, "USER al\r\n"),
        (Down, "+OK\r\n"),
        (Up, "PASS p w \r\n"),
        (Down, "+OK in\r\n"),
    ];
    check(&usual, &["POP3 al p w "], done);
    let pipelined = [
        (Down, GREETING),
        (Up, "CAPA\r\nuser al\npass pw\r\nSTAT\r\n"),
        (Down, "+OK\r\nUSER\r\nSASL PLAIN\r\n.\r\n+OK\r\n+OK\r\n+OK 0 0\r\n"),
    ];
    check(&pipelined, &["POP3 al pw"], done);
    // A client that does not wait for the greeting.
    check(
        &[(Up, "USER al\r\nPASS pw\r\n"), (Down, GREETING), (Down, "+OK\r\n+OK\r\n")],
        &["POP3 al pw"],
        done,
    );
}

#[test]
fn pop3_auth_plain_is_found_with_an_ok() {
    let done = Some(End::Done);
    // NUL al NUL pw.
    check(&[(Down, GREETING), (Up, "AUTH PLAIN AGFsAHB3\r\n"), (Down, "+OK\r\n")], &["POP3 al pw"], done);
    let continued =
        [(Down, GREETING), (Up, "auth plain\r\n"), (Down, "+ \r\n"), (Up, "AGFsAHB3\r\n"), (Down, "+OK\r\n")];
    check(&continued, &["POP3 al pw"], done);
    check(
        &[(Down, GREETING), (Up, "AUTH PLAIN\r\nAGFsAHB3\r\n"), (Down, "+\r\n+OK\r\n")],
        &["POP3 al pw"],
        done,
    );
    // As another user, and after something else was refused.
    let second = "AUTH CRAM-MD5\r\nbm8=\r\nAUTH\r\nAUTH PLAIN em8AYWwAcHc=\r\n";
    let replies = "+ PDE+\r\n-ERR no\r\n+OK\r\nPLAIN\r\n.\r\n+OK\r\n";
    check(&[(Down, GREETING), (Up, second), (Down, replies)], &["POP3 al pw"], done);
}

#[test]
fn pop3_refusals_are_not_found() {
    check(&[(Down, GREETING), (Up, "USER al\r\nPASS no\r\n"), (Down, "+OK\r\n-ERR\r\n")], &[], None);
    check(&[(Down, GREETING), (Up, "USER al\r\nPASS no\r\n"), (Down, "-ERR\r\n-ERR\r\n")], &[], None);
    check(&[(Down, GREETING), (Up, "AUTH PLAIN AGFsAG5v\r\n"), (Down, "-ERR\r\n")], &[], None);
    check(&[(Down, GREETING), (Up, "AUTH PLAIN\r\n*\r\n"), (Down, "+ \r\n-ERR\r\n")], &[], None);
    let second = "USER al\r\nPASS no\r\nUSER al\r\nPASS pw\r\n";
    check(
        &[(Down, GREETING), (Up, second), (Down, "+OK\r\n-ERR\r\n+OK\r\n+OK\r\n")],
        &["POP3 al pw"],
        Some(End::Done),
    );
}

#[test]
fn pop3_that_hides_its_password_or_breaks_the_rules_is_given_up() {
    check(&[(Down, GREETING), (Up, "APOP al 0123\r\n"), (Down, "+OK\r\n")], &[], Some(End::Done));
    check(
        &[(Down, GREETING), (Up, "STLS\r\n"), (Down, "+OK\r\n"), (Up, "\x16\x03")],
        &[],
        Some(End::Switched),
    );
    check(&[(Down, GREETING), (Up, "QUIT\r\n"), (Down, "+OK\r\n")], &[], Some(End::Done));
    check(&[(Down, GREETING), (Up, "USER al\r\n"), (Down, "what?\r\n")], &[], Some(End::Malformed));
    check(&[(Down, GREETING), (Up, "USER al\r\n"), (Down, "+ go on\r\n")], &[], Some(End::Malformed));
    let long = format!("USER {}\r\n", "a".repeat(limits::DISSECTED_POP3_BYTES_MAX));
    check(&[(Down, GREETING), (Up, &long)], &[], Some(End::Limit));
    let long = format!("USER {}\r\nPASS pw\r\n", "a".repeat(300));
    check(&[(Down, GREETING), (Up, &long), (Down, "+OK\r\n+OK\r\n")], &[], Some(End::Done));
}

#[test]
fn other_protocols_are_given_up_with_their_first_bytes() {
    for (way, bytes) in [
        (Up, &b"\x16\x03\x01\x02\x00\x01"[..]),
        (Up, b"SSH-2.0-OpenSSH_9.2\r\n"),
        (Up, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (Up, b"EHLO me\r\n"),
        (Up, b"\0"),
        (Up, b"GET / HTTP/0.9\r\n"),
        (Up, b"GET /\r\n"),
        (Down, b"S"),
        (Down, b"220 mail ESMTP\r\n"),
        (Down, b"-ERR\r\n"),
        (Down, b"+OX"),
        (Down, b"HTTP/1.1 408 Request Timeout\r\n\r\n"),
    ] {
        assert_eq!(found_in(&[(way, bytes)]), (Vec::new(), Some(End::NotMine)), "{}", bytes.escape_ascii());
    }
}

#[test]
fn passwords_do_not_show_in_debug_output() {
    let mut watch = Watch::new(Mode::Full);
    watch.see(Up, BO.replace("Ym86eDp5", "Ym86c2VjcmV0cGFzcw==").as_bytes());
    watch.see(Down, OK.as_bytes());
    let found = format!("{:?}", watch.take_found(Mode::Full));
    assert!(found.contains("***") && !found.contains(&format!("{:?}", b"secretpass")), "{found}");
}

#[test]
fn a_password_shows_only_where_both_moments_allow_it() {
    for (begun, now, shown) in [
        (Mode::Full, Mode::Full, &["HTTP al pw"][..]),
        (Mode::Full, Mode::Mask, &["HTTP al ***"]),
        (Mode::Mask, Mode::Full, &["HTTP al ***"]),
        (Mode::Full, Mode::Off, &[]),
    ] {
        let mut watch = Watch::new(begun);
        watch.see(Up, AL.as_bytes());
        watch.see(Down, OK.as_bytes());
        let found: Vec<_> = watch.take_found(now).iter().map(text).collect();
        assert_eq!(found, shown, "{begun:?} {now:?}");
        assert!(watch.take_found(now).is_empty());
    }
}

/// Pieces that dialogues are made of; what they come to does not matter.
fn piece() -> impl Strategy<Value = (Way, Vec<u8>)> {
    let login = "GET / HTTP/1.1\r\nAuthorization: Basic YWw6cHc=\r\nContent-Length: 2\r\n\r\nab";
    let texts = prop_oneof![
        8 => prop::sample::select(vec![
            (Up, AL), (Up, BO), (Up, PLAIN), (Up, login), (Down, OK), (Down, REFUSED), (Down, CHUNKED),
            (Down, "HTTP/1.1 100 Continue\r\n\r\n"), (Down, "HTTP/1.1 204 No\r\n\r\n"),
            (Down, GREETING), (Up, "USER al\r\n"), (Up, "PASS pw\r\n"), (Up, "AUTH PLAIN\r\n"), (Up, "AGFsAHB3\r\n"),
            (Up, "AUTH PLAIN AGFsAHB3\r\n"), (Up, "CAPA\r\n"), (Up, "STLS\r\n"), (Up, "NOOP\r\n"), (Down, "+OK\r\n"),
            (Down, "-ERR\r\n"), (Down, "+ \r\n"), (Down, ".\r\n"), (Up, "\r\n"), (Down, "\r\n"),
        ]).prop_map(|(way, text)| (way, text.as_bytes().to_vec())),
        1 => (prop::sample::select(vec![Up, Down]), vec(any::<u8>(), 0..6)),
    ];
    (texts, prop::option::weighted(0.1, (any::<prop::sample::Index>(), any::<u8>()))).prop_map(
        |((way, mut bytes), change)| {
            if let (Some((at, octet)), false) = (change, bytes.is_empty()) {
                let at = at.index(bytes.len());
                bytes[at] = octet;
            }
            (way, bytes)
        },
    )
}

/// A dialogue that goes well: each piece of the origin answers what came before it.
fn good_dialogue() -> impl Strategy<Value = Vec<(Way, Vec<u8>)>> {
    let http = vec(
        prop::sample::select(vec![(AL, OK), (BO, REFUSED), (BO, CHUNKED), (PLAIN, OK), (AL, REFUSED)]),
        1..9,
    );
    let pop3 = vec(
        prop::sample::select(vec![
            ("USER al\r\n", "+OK\r\n"),
            ("USER bo\r\n", "-ERR\r\n"),
            ("PASS pw\r\n", "-ERR\r\n"),
            ("PASS pw\r\n", "+OK\r\n"),
            ("CAPA\r\n", "+OK\r\nUSER\r\n.\r\n"),
            ("AUTH PLAIN\r\nAGFsAHB3\r\n", "+ \r\n+OK\r\n"),
            ("AUTH X\r\n", "-ERR\r\n"),
            ("AUTH PLAIN AGFsAG5v\r\n", "-ERR\r\n"),
            ("NOOP\r\n", "-ERR\r\n"),
        ]),
        1..9,
    );
    prop_oneof![
        http.prop_map(|turns| (None, turns)),
        pop3.prop_map(|turns| (Some((Down, GREETING.as_bytes().to_vec())), turns)),
    ]
    .prop_map(|(greeting, turns)| {
        let turns = turns.into_iter().flat_map(|(up, down)| [(Up, up), (Down, down)]);
        greeting.into_iter().chain(turns.map(|(way, text)| (way, text.as_bytes().to_vec()))).collect()
    })
}

/// Cuts every piece where the numbers say.
fn cut<'a>(dialogue: &'a [(Way, Vec<u8>)], sizes: &[usize]) -> Vec<(Way, &'a [u8])> {
    let mut sizes = sizes.iter().cycle();
    let mut parts = Vec::new();
    for (way, bytes) in dialogue {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (part, left) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            parts.push((*way, part));
            rest = left;
        }
    }
    parts
}

/// Lets parts of the client overtake parts of the origin, which keep their own order.
fn hurry<'a>(mut parts: Vec<(Way, &'a [u8])>, swaps: &[prop::sample::Index]) -> Vec<(Way, &'a [u8])> {
    for swap in swaps {
        let at = swap.index(parts.len().max(2) - 1);
        if let Some([(Down, _), (Up, _)]) = parts.get(at..at + 2) {
            parts.swap(at, at + 1);
        }
    }
    parts
}

proptest! {
    #[test]
    fn any_cut_finds_the_same(dialogue in vec(piece(), 0..12), sizes in vec(1usize..40, 1..20)) {
        let whole: Vec<(Way, &[u8])> = dialogue.iter().map(|(way, bytes)| (*way, &bytes[..])).collect();
        prop_assert_eq!(found_in(&cut(&dialogue, &sizes)).0, found_in(&whole).0);
    }

    #[test]
    fn a_client_that_does_not_wait_changes_nothing(
        dialogue in good_dialogue(),
        sizes in vec(1usize..40, 1..20),
        swaps in vec(any::<prop::sample::Index>(), 0..200),
    ) {
        let whole: Vec<(Way, &[u8])> = dialogue.iter().map(|(way, bytes)| (*way, &bytes[..])).collect();
        let expected = found_in(&whole).0;
        prop_assert_eq!(found_in(&hurry(cut(&dialogue, &sizes), &swaps)).0, expected);
    }

    #[test]
    fn anything_is_borne_and_the_end_comes(parts in vec((any::<bool>(), vec(any::<u8>(), 0..300)), 0..20)) {
        let mut watch = Watch::new(Mode::Full);
        for (is_up, bytes) in &parts {
            watch.see(if *is_up { Up } else { Down }, bytes);
        }
        for way in [Up, Down, Up, Down] {
            watch.see(way, &vec![b'x'; 128 * 1024]);
        }
        prop_assert!(watch.end().is_some());
        prop_assert!(!watch.wants(Up) && !watch.wants(Down));
    }
}
