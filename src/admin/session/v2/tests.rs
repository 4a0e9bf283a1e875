//! The dialogue of version 2 as a value: pieces, order, and what may be asked beside what.

use pipo_protocol::v2::messages::{Cancel, Credit, HelloRequest, ListRequest, SettingGet, SettingSet};
use pipo_protocol::v2::{ErrorBody, Message};
use proptest::prelude::*;

use super::*;
use crate::admin::session::tests::user;
use crate::store::Door;

fn request(number: u32, channel: u32, request: &Request) -> Vec<u8> {
    let header = Header { channel, ..Header::request(request.command().code(), number) };
    encode_raw(&header, &request.encode()).unwrap()
}

fn hello() -> Vec<u8> {
    let body = HelloRequest { client: Word::cut("test"), features: Vec::new() };
    request(1, 0, &Request::Hello(body))
}

/// A dialogue whose log-in is done.
fn open() -> Dialogue {
    Dialogue { stage: Stage::Open(user("admin", Door::Admin)), ..Dialogue::default() }
}

fn give(dialogue: &mut Dialogue, message: &[u8]) {
    dialogue.piece(message);
    dialogue.message_ended();
}

/// What comes out until nothing does: the status and number of each record, `ask` for what is carried out.
fn outputs(dialogue: &mut Dialogue) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(step) = dialogue.next_output(7, Instant::now()) {
        seen.push(match step {
            Step::Output(Output::Send(record)) => {
                let header = Record::decode(&record).unwrap().header;
                format!("{} {}", header.request, header.status.name())
            }
            Step::Output(Output::Request(header, _)) => format!("{} ask", header.request),
            Step::Output(other) => format!("{other:?}"),
            Step::End(records, ending) => {
                seen.push(format!("{ending:?} after {}", records.len()));
                break;
            }
        });
    }
    seen
}

fn get(number: u32) -> Vec<u8> {
    request(number, 0, &Request::SettingGet(SettingGet { name: Word::cut("auth") }))
}

fn set(number: u32) -> Vec<u8> {
    let body = SettingSet { name: Word::cut("auth"), value: Text::cut("none"), base: None };
    request(number, 0, &Request::SettingSet(body))
}

fn list(number: u32, channel: u32) -> Vec<u8> {
    request(number, channel, &Request::ServerWorkers(ListRequest { credit: 4096 }))
}

#[test]
fn nothing_is_begun_while_a_change_is_under_way() {
    let mut dialogue = open();
    for message in [get(1), set(2), get(3), set(4)] {
        give(&mut dialogue, &message);
    }
    assert_eq!(outputs(&mut dialogue), ["1 ask", "2 ask"]);
    assert!(dialogue.answered(1) && dialogue.is_changing());
    assert_eq!(outputs(&mut dialogue), [""; 0]);
    assert!(dialogue.answered(2));
    assert_eq!(outputs(&mut dialogue), ["3 ask", "4 ask"]);
    assert!(!dialogue.answered(2), "answered once");
}

#[test]
fn numbers_of_requests_and_channels_are_not_used_twice() {
    let mut dialogue = open();
    for message in [get(5), get(5), get(0), list(6, 1), list(7, 1), list(8, 0), get(9)] {
        give(&mut dialogue, &message);
    }
    let expected =
        ["5 ask", "5 malformed", "0 malformed", "6 ask", "7 bad-channel", "8 bad-channel", "9 ask"];
    assert_eq!(outputs(&mut dialogue), expected);
    assert_eq!(dialogue.take_refused(), Refused { unknown: 0, invalid: 4 });
    assert_eq!(dialogue.waiting_count(), 3);
}

#[test]
fn a_query_that_waits_is_cancelled_and_a_change_goes_on() {
    let mut dialogue = open();
    let cancel =
        |number, request_number| request(number, 0, &Request::Cancel(Cancel { request: request_number }));
    for message in [list(1, 1), cancel(2, 1), cancel(3, 1), get(4), cancel(5, 4)] {
        give(&mut dialogue, &message);
    }
    let expected = ["1 ask", "1 cancelled", "2 ok", "3 ok", "4 ask", "4 cancelled", "5 ok"];
    assert_eq!(outputs(&mut dialogue), expected);
    assert!(!dialogue.answered(4), "an answer that comes later is dropped");
    assert_eq!(dialogue.waiting_count(), 0);
}

#[test]
fn credit_is_never_answered() {
    let mut dialogue = open();
    let credit = Request::Credit(Credit { channel: 9, bytes: 4096 });
    for _ in 0..100 {
        give(&mut dialogue, &request(0, 0, &credit));
    }
    give(&mut dialogue, &get(1));
    assert_eq!(outputs(&mut dialogue), ["1 ask"]);
    assert_eq!(dialogue.backlog_bytes(), 0);
}

#[test]
fn a_message_that_is_no_record_is_the_end() {
    for message in [&[2, 1][..], &[3; 20], &[hello(), hello()].concat(), &vec![2; 5000]] {
        let mut dialogue = open();
        give(&mut dialogue, message);
        give(&mut dialogue, &get(1));
        assert_eq!(outputs(&mut dialogue), ["Malformed after 1"], "{} octets", message.len());
    }
}

#[test]
fn refusals_say_what_is_allowed() {
    let mut dialogue = open();
    give(&mut dialogue, &request(1, 1, &Request::ServerWorkers(ListRequest { credit: 1 })));
    let Some(Step::Output(Output::Send(record))) = dialogue.next_output(0, Instant::now()) else { panic!() };
    let error = ErrorBody::decode(Record::decode(&record).unwrap().body).unwrap();
    assert_eq!(error.field, Some(0));
    assert_eq!(error.sentence.as_str(), "Allowed credit is 4096 to 262144 octets.");
}

proptest! {
    #[test]
    fn pieces_of_messages_come_to_the_same_as_whole_ones(
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let (mut whole, mut pieces) = (Dialogue::default(), Dialogue::default());
        for message in [hello(), get(2), hello()] {
            give(&mut whole, &message);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(message.len())).collect();
            cuts.extend([0, message.len()]);
            cuts.sort_unstable();
            cuts.windows(2).for_each(|pair| pieces.piece(&message[pair[0]..pair[1]]));
            pieces.message_ended();
        }
        let expected = ["1 ok", "2 out-of-order", "1 out-of-order"];
        prop_assert_eq!(outputs(&mut whole), expected);
        prop_assert_eq!(outputs(&mut pieces), expected);
    }
}
